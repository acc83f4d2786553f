//! Runs one job message: steps, variables, logging commands, logs, timeline.
//!
//! [`run`] takes a message and answers how the job ended; [`serve`] does the same for a listener on the other
//! side of a job channel, which is how `dayfly worker` is used. What a job does is what Microsoft's worker
//! would do with the same message; each module names the source it follows.
//!
//! A job's way: `message` completes the message and registers its secrets, `initialize` prepares folders,
//! variables and records, `run_step` decides about each step and runs it by `steps`, whose output passes
//! `commands`, the masker and `report`, and `job` sends the result once everything else has been sent.

pub mod artifacts;
mod code_coverage;
pub mod commands;
mod conditions;
mod containers;
mod context;
mod dial;
mod directories;
mod environment;
mod files;
mod initialize;
mod job;
mod link;
mod message;
pub mod platform;
pub mod process;
pub mod report;
mod run_step;
mod serve;
mod service;
mod step_host;
mod steps;
mod surroundings;
mod test_results;
mod trust;
mod variables;

pub use containers::{NoEngine, container_engine};
pub use dial::{Dial, DialError, Once, Tls, Unix};
pub use directories::remove_all;
pub use job::{Abandoned, Control, Outcome, run};
pub use link::Connection;
pub use serve::{ServeError, serve};
pub use step_host::{ServeHostError, StepUser, UserError, become_user, serve_steps};
pub use steps::{TaskError, can_run, can_stand_in, is_left_out, is_looked_for, keep_task};
pub use surroundings::Surroundings;
pub use trust::{TrustError, trust};

/// The version of the official agent whose behaviour this worker follows. Tasks and demands compare it
/// (`Agent.Version`).
pub const AGENT_VERSION: &str = "4.260.0";
