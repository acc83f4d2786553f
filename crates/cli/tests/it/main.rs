//! Tests of the built binary, as a user would run it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod architecture;
mod artifacts;
mod bad_input;
mod built_in;
mod caches;
mod catalogue;
mod chaos;
mod conditions;
mod config;
mod emulator;
mod engines;
mod eval;
mod handover;
mod hostile;
mod installers;
mod machine_containers;
mod outage;
mod project;
mod reference;
mod repositories;
mod run;
mod service;
mod stages;
mod state;
mod surroundings;
mod tasks;
mod templates;
mod terminal;
mod tls;
mod trust;
mod usage;
mod validations;
mod variables;
mod watching;
mod width;
