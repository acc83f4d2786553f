//! The pod of a job: what it looks like. Nothing here talks to a cluster.

mod shape;

pub use self::shape::{AUDIENCE, CaConfigMap, Facts, Job, ShapeError, shape};
