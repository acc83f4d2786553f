//! Tests of the worker through its public API.

mod plan_service;
mod process;
mod report;
