//! One file per command.

pub(crate) mod agent;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod controller;
pub(crate) mod crds;
pub(crate) mod deliver;
pub(crate) mod emulator;
pub(crate) mod eval;
mod health;
pub(crate) mod logs;
mod metrics;
pub(crate) mod run;
pub(crate) mod step_host;
pub(crate) mod tasks;
pub(crate) mod worker;
