//! Runs of pipelines, from a request to a result: `compile` reads the file and compiles it, `control` carries
//! the ends of jobs to the orchestrations, which `state::engine` drives.

pub(crate) mod compile;
pub(crate) mod control;
mod predefined;
mod request;

pub use crate::events::{JobOfRun, RunChange};
pub use crate::state::runs::{Placement, RunReason, RunRepository};
pub use predefined::Predefined;
pub use request::{RunArtifact, RunEvent, RunEvents, RunLog, RunRequest};
