//! What happens in a run, in the words that are shown. The same values are `--json`'s lines.

use serde::Serialize;

use dayfly_pipelines::Location;
use dayfly_protocol::TaskResult;

/// Something that happened. Jobs are named by their identifier, such as `build.greet.english`,
/// of which only the names that the file has are shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Change {
    /// Something to know of the pipeline or of what this machine does with it. Before the first event.
    Warning(Warning),
    /// The run began. First event.
    RunStarted {
        /// The run's number, from the pipeline's `name`.
        run: String,
        /// The file.
        pipeline: String,
    },
    /// A job may run and waits for an agent.
    JobQueued {
        /// Its identifier.
        job: String,
        /// What people read.
        display_name: String,
        /// The stage's name.
        #[serde(skip_serializing_if = "is_implicit")]
        stage: String,
    },
    /// A stage began.
    StageStarted {
        /// Its name.
        stage: String,
        /// What people read.
        display_name: String,
    },
    /// A stage ended or was skipped.
    StageCompleted {
        /// Its name.
        stage: String,
        /// What people read.
        display_name: String,
        /// How.
        result: TaskResult,
    },
    /// A job was given to an agent.
    JobStarted {
        /// Its identifier.
        job: String,
        /// What people read.
        display_name: String,
        /// The stage's name.
        #[serde(skip_serializing_if = "is_implicit")]
        stage: String,
        /// The agent.
        agent: String,
    },
    /// A job ended, or was skipped.
    JobCompleted {
        /// Its identifier.
        job: String,
        /// What people read.
        display_name: String,
        /// The stage's name.
        #[serde(skip_serializing_if = "is_implicit")]
        stage: String,
        /// How.
        result: TaskResult,
        /// How long it ran.
        seconds: f64,
        /// Errors of the job itself, such as a lost worker.
        errors: Vec<String>,
        /// Warnings of the job itself, such as parts of its log that are lost.
        warnings: Vec<String>,
    },
    /// A step began.
    StepStarted {
        /// Its job.
        job: String,
        /// Its place among the job's steps, from 1.
        number: usize,
        /// What people read.
        step: String,
        /// What kind of step it is, for how much of it is shown.
        #[serde(skip)]
        kind: StepKind,
    },
    /// A step told how far it is.
    StepProgress {
        /// Its job.
        job: String,
        /// Its place.
        number: usize,
        /// Percent, if it told.
        #[serde(skip_serializing_if = "Option::is_none")]
        percent: Option<i32>,
        /// What it does, if it told.
        #[serde(skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
    },
    /// A line of a step.
    Line {
        /// The step's job.
        job: String,
        /// The step's place.
        number: usize,
        /// The line, masked.
        line: String,
    },
    /// A step ended, or was skipped.
    StepCompleted {
        /// Its job.
        job: String,
        /// Its place.
        number: usize,
        /// What people read.
        step: String,
        /// How.
        result: TaskResult,
        /// How long it ran.
        seconds: f64,
        /// Its errors, ten at the most.
        errors: Vec<String>,
        /// Its warnings, ten at the most.
        warnings: Vec<String>,
    },
    /// The run ended. Last event.
    RunCompleted {
        /// The run's number; steps may have changed it.
        run: String,
        /// How.
        result: TaskResult,
        /// How long it took.
        seconds: f64,
    },
}

impl Change {
    /// Whether it is about the stage of a file without stages, which nobody has written.
    pub(crate) fn is_of_implicit_stage(&self) -> bool {
        match self {
            Self::StageStarted { stage, .. } | Self::StageCompleted { stage, .. } => is_implicit(stage),
            _ => false,
        }
    }

    /// The job it is about.
    pub(crate) fn job(&self) -> Option<&str> {
        match self {
            Self::JobQueued { job, .. }
            | Self::JobStarted { job, .. }
            | Self::JobCompleted { job, .. }
            | Self::StepStarted { job, .. }
            | Self::StepProgress { job, .. }
            | Self::Line { job, .. }
            | Self::StepCompleted { job, .. } => Some(job),
            Self::Warning(_)
            | Self::RunStarted { .. }
            | Self::StageStarted { .. }
            | Self::StageCompleted { .. }
            | Self::RunCompleted { .. } => None,
        }
    }
}

/// Whether a stage is that of a file without stages.
pub(crate) fn is_implicit(stage: &str) -> bool {
    stage == dayfly_pipelines::identifiers::DEFAULT_NAME
}

/// Something to know before a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Warning {
    /// One sentence.
    pub(crate) message: String,
    /// Where in the pipeline's files, if it is about a place.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<Place>,
}

/// A place in a file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    #[serde(flatten)]
    pub(crate) location: Location,
    pub(crate) end_line: usize,
    pub(crate) end_column: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) help: Vec<String>,
}

/// How much of a step is of interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// The worker's own: `Initialize job`, `Finalize job`, post-job steps. Shown when it fails.
    Own,
    /// Named, its lines shown when it fails: checkout.
    Quiet,
    /// A built-in script step: what stands before its own output is shown when it fails.
    Script,
    /// Shown whole.
    #[default]
    Task,
}
