//! The pod of a job: what it looks like. Nothing here talks to a cluster.

mod shape;

pub(crate) use self::shape::{AGENT_CONTAINER, WORK_DIRECTORY};
pub use self::shape::{CaConfigMap, Facts, Job, ShapeError, shape};
