//! Tests of the listener through its public API.
#![cfg(unix)]

mod process;
