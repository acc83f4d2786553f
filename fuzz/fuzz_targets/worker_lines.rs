//! Any text as what a step prints: logging commands, and secrets to be hidden.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/worker_lines.rs"]
#[allow(dead_code, reason = "each target calls its own check")]
mod checks;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    checks::command(&text);
    checks::output(&text);
});
