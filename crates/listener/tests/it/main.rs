//! Tests of the listener through its public API.
#![cfg(unix)]

mod agents;
mod jobs;
mod messages;
mod placing;
mod polls;
mod process;
mod stages;
mod takeover;
mod world;
