//! An Azure DevOps on this machine: pools, agents, sessions, queue, plans, logs, tasks, repositories.

pub mod containers;
pub mod git;
pub mod snapshot;
pub mod tasks;
