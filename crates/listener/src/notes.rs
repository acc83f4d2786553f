//! What is heard of a job's place and of its course.

use dayfly_protocol::channel::{LostContainer, StepStarted};

/// What an executor says on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Something about the place that people should read.
    Noted(Note),
    /// A container of the job's pod is of no use; who waits for it is to know why.
    ContainerLost(LostContainer),
    /// A worker has the job.
    Claimed,
    /// A step began.
    Step(StepStarted),
    /// Something went wrong beside the steps; masked by the worker.
    Warning(String),
}

/// What an executor says of a place, for people: it goes into the job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One word for what it is about, such as "scheduling" or "image-pull"; for metrics and to tell notes
    /// apart.
    pub word: &'static str,
    /// What is so.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// Whether the job suffers from it.
    pub is_problem: bool,
}
