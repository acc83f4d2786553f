//! The cryptography against an independent implementation: OpenSSL's command line, which must be installed;
//! and decoding of anything.

mod agent_files;
mod assertions;
mod channel;
#[path = "../../../../fuzz/checks/protocol.rs"]
mod checks;
mod decoding;
mod keys;
mod openssl;
mod sessions;
