//! Tests of the listener through its public API.
#![cfg(unix)]

mod agents;
mod jobs;
mod process;
mod world;
