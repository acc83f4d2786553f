//! Tests of the worker through its public API.

mod checkout;
mod commands;
mod emulator;
mod job;
mod plan_service;
mod process;
mod report;
mod serve;
mod service;
mod steps;
