//! Runs of pipelines, from a request to a result: `compile` reads the file and compiles it, `control` carries
//! the ends of jobs to the orchestrations, which `state::engine` drives. `server` runs the jobs that need no
//! agent, `upstream` finds the runs of other pipelines.

pub(crate) mod compile;
pub(crate) mod control;
mod predefined;
mod request;
pub(crate) mod server;
mod upstream;

pub use crate::events::{JobOfRun, PendingValidation, RunChange};
pub use crate::state::runs::{Placement, RunReason, RunRepository};
pub use crate::state::server_jobs::{SERVER, Verdict};
pub use predefined::Predefined;
pub use request::{RunArtifact, RunEvent, RunEvents, RunLog, RunRequest};
pub use server::runs_on_server;
