//! Tests of the emulator through its public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod git_program;
mod snapshot;
