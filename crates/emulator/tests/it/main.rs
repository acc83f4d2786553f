//! Tests of the emulator through its public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod artifacts;
mod core;
mod faults;
mod git_program;
mod pipeline;
mod repositories;
mod runs;
mod service;
mod snapshot;
mod tasks;
