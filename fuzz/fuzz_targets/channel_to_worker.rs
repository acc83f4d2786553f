//! Any bytes as what a listener says to its worker.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/protocol.rs"]
#[allow(dead_code, reason = "each target calls its own check")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::frames_to_worker(bytes));
