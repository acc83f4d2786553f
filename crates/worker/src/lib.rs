//! Runs one job message: steps, variables, logging commands, logs, timeline.

pub mod mask;
pub mod platform;
pub mod process;
pub mod report;
