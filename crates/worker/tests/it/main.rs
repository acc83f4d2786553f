//! Tests of the worker through its public API.

mod commands;
mod job;
mod plan_service;
mod process;
mod report;
mod service;
mod steps;
