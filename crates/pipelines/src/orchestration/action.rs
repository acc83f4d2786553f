//! What the owner of a run has to do, and how stages, phases and jobs are named to it.

use dayfly_protocol::{JobId, TaskResult};
use serde::Serialize;
use uuid::Uuid;

use super::JobInstance;

/// A stage as actions name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReference {
    /// The name in the file.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// The identifier of its timeline record.
    pub identifier: String,
    /// The id of its timeline record.
    pub record_id: Uuid,
    /// Its place among the stages, from 1.
    pub order: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// A phase (a job of the file, before it unfolds) as actions name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseReference {
    /// The name in the file.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// The identifier of its timeline record.
    pub identifier: String,
    /// The id of its timeline record.
    pub record_id: Uuid,
    /// Its place among the jobs of the stage, from 1.
    pub order: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// A job as actions name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReference {
    /// Its id within the run, which is that of its timeline record too.
    pub id: JobId,
    /// The name of the leg; `__default` for a job without legs.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// `Stage.Job.leg`.
    pub identifier: String,
    /// Its place among the jobs of the phase, from 1.
    pub order: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// What the owner of a run has to do, or to show.
#[derive(Debug, Clone)]
pub enum Action {
    /// A stage begins.
    StageStarted {
        /// Which one.
        stage: StageReference,
    },
    /// A stage is done. One that was skipped, or whose beginning failed, was not started before.
    StageCompleted {
        /// Which one.
        stage: StageReference,
        /// How it ended.
        result: TaskResult,
        /// Why it was skipped or failed without a job.
        reason: Option<String>,
    },
    /// A job of the file begins; its instances follow.
    PhaseStarted {
        /// Its stage.
        stage: StageReference,
        /// Which one.
        phase: PhaseReference,
    },
    /// A job of the file is done, with all its instances.
    PhaseCompleted {
        /// Its stage.
        stage: StageReference,
        /// Which one.
        phase: PhaseReference,
        /// How it ended.
        result: TaskResult,
        /// Why it was skipped or failed without a job.
        reason: Option<String>,
    },
    /// A job has to be queued. Answer with
    /// [`Orchestration::job_completed`](super::Orchestration::job_completed), once.
    StartJob(Box<JobInstance>),
    /// A job that never starts: its phase was skipped or has no hooks to run, or the run was cancelled
    /// before.
    JobSkipped {
        /// Its stage.
        stage: StageReference,
        /// Its phase.
        phase: PhaseReference,
        /// Which one.
        job: JobReference,
        /// `Skipped` or `Canceled`; `Succeeded` when there is nothing to run.
        result: TaskResult,
        /// Why.
        reason: Option<String>,
    },
    /// A job that was started has to be cancelled. It still answers with its result.
    CancelJob(JobId),
    /// Everything is done.
    RunCompleted {
        /// How the run ended.
        result: TaskResult,
    },
}
