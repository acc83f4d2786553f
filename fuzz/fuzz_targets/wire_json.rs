//! Any bytes as each document of the wire.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/protocol.rs"]
#[allow(dead_code, reason = "each target calls its own check")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::document(bytes));
