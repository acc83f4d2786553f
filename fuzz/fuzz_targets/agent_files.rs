//! Any bytes as the files of a registered agent.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/protocol.rs"]
#[allow(dead_code, reason = "each target calls its own check")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::agent_files(bytes));
