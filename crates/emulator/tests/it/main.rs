//! Tests of the emulator through its public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod agents;
mod artifacts;
mod bodies;
mod connection;
mod core;
mod disk;
mod faults;
mod git_program;
mod jobs;
mod keda;
mod oauth;
mod pipeline;
mod plans;
mod repositories;
mod runs;
mod scopes;
mod server_jobs;
mod service;
mod sessions;
mod snapshot;
mod tasks;
