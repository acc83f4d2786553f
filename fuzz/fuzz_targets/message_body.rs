//! Any bytes as an encrypted message, a session's key, a client assertion.
#![no_main]

use std::sync::LazyLock;

use dayfly_protocol::crypto::AgentKey;
use libfuzzer_sys::fuzz_target;

#[path = "../checks/protocol.rs"]
#[allow(dead_code, reason = "each target calls its own check")]
mod checks;

static AGENT: LazyLock<AgentKey> = LazyLock::new(|| AgentKey::generate().expect("a key can be generated"));

fuzz_target!(|bytes: &[u8]| {
    checks::message_body(bytes);
    checks::keys(bytes, &AGENT);
});
