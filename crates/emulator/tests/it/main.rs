//! Tests of the emulator through its public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod core;
mod faults;
mod git_program;
mod service;
mod snapshot;
