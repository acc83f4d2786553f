//! What the tests of several parts need. Only their tests are built with it.
//!
//! A test that uses something of this crate fails by a panic that says what was waited for or what did not
//! work, so nothing here returns an error.
#![expect(clippy::unwrap_used, reason = "it is part of tests")]

mod authority;
mod front;
mod service;
mod skip;
mod wait;

pub use authority::Authority;
pub use front::{Proxy, TlsFront};
pub use service::{PAT, Service};
pub use skip::skip;
pub use wait::{PATIENCE, bounded, eventually};
