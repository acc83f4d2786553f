//! Tests of the worker through its public API.

mod process;
