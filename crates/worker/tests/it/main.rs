//! Tests of the worker through its public API.

mod artifacts;
mod checkout;
#[path = "../../../../fuzz/checks/worker_lines.rs"]
mod checks;
mod commands;
mod emulator;
mod job;
mod lines;
mod local_objects;
mod plan_service;
mod process;
mod programs;
mod report;
mod serve;
mod service;
mod step_host;
mod steps;
mod variables;
