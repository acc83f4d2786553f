//! Any text as what a step prints: logging commands, and secrets to be hidden.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/mask.rs"]
#[allow(dead_code, reason = "the separator is for those who make up texts")]
mod mask;
#[path = "../checks/worker_lines.rs"]
mod worker_lines;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    worker_lines::command(&text);
    mask::output(&text);
});
