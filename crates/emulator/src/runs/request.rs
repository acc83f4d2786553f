//! Runs of pipelines: what one is queued with, what is told while it goes on, and what is left when it is
//! done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use dayfly_pipelines::Plan;
use dayfly_pipelines::message::EnvironmentContext;
use dayfly_protocol::job::ServiceEndpoint;
use dayfly_protocol::timeline::{TimelineRecord, VariableValue};
use dayfly_protocol::{BuildId, JobId, LogId, PlanId, RecordId, TaskResult};
use jiff::Timestamp;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::events::{Event, JobOfRun, PendingValidation, RunChange};
use crate::state::runs::{Placement, RunReason, RunRepository};

/// A run to be queued.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The project, by name or id.
    pub project: String,
    /// The pipeline's name. One is made if there is none of that name.
    pub pipeline: String,
    /// The pipeline's file, compiled.
    pub plan: Arc<Plan>,
    /// Arguments for the file's parameters, as they were compiled in; only for show.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// What `checkout: self` gets, and what the predefined variables say of it.
    pub repository: RunRepository,
    /// What checkouts of other repositories get, by the names that the file has for them: an alias of
    /// `resources.repositories`, or all that stands behind `checkout:`. Aliases that are not among them stand
    /// for the repositories that are served under the names that the file declares.
    pub repositories: BTreeMap<String, RunRepository>,
    /// Folders with the artifacts of other pipelines, a folder for each artifact, by aliases of
    /// `resources.pipelines`. Other aliases stand for the newest run of the pipeline here.
    pub pipelines: BTreeMap<String, PathBuf>,
    /// Variables given when the run is queued; secrets among them are masked and kept out of environments.
    pub variables: BTreeMap<String, VariableValue>,
    /// Service connections that jobs may name.
    pub endpoints: Vec<ServiceEndpoint>,
    /// Environments that deployment jobs may name; others have a name and nothing else.
    pub environments: Vec<EnvironmentContext>,
    /// Secure files that jobs may name, and where they are.
    pub secure_files: Vec<(String, PathBuf)>,
    /// Only these stages, by name; all if empty.
    pub stages: Vec<String>,
    /// Only these jobs, by name (`job` or `stage.job`); all if empty.
    pub jobs: Vec<String>,
    /// Where the jobs go.
    pub placement: Placement,
    /// Why the run was queued.
    pub reason: RunReason,
    /// For whom, as `Build.RequestedFor` shows it.
    pub requested_for: String,
}

impl RunRequest {
    /// A run of all stages without variables, asked for by hand.
    #[must_use]
    pub fn new(
        project: impl Into<String>,
        pipeline: impl Into<String>,
        plan: Arc<Plan>,
        repository: RunRepository,
    ) -> Self {
        Self {
            project: project.into(),
            pipeline: pipeline.into(),
            plan,
            parameters: BTreeMap::new(),
            repository,
            repositories: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            variables: BTreeMap::new(),
            endpoints: Vec::new(),
            environments: Vec::new(),
            secure_files: Vec::new(),
            stages: Vec::new(),
            jobs: Vec::new(),
            placement: Placement::AsWritten,
            reason: RunReason::Manual,
            requested_for: "dayfly".to_owned(),
        }
    }
}

/// Something that happened in a run, in order: a job's lines and records come before its completion.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RunEvent {
    /// The run has begun.
    RunStarted {
        /// The run.
        build: BuildId,
        /// The pipeline's name.
        pipeline: String,
        /// Its number, such as `20261124.1`.
        number: String,
    },
    /// A step changed the run's number.
    RunNumberChanged {
        /// The run.
        build: BuildId,
        /// The new number.
        number: String,
    },
    /// A stage has begun.
    StageStarted {
        /// The run.
        build: BuildId,
        /// The stage's name.
        stage: String,
        /// What people read.
        display_name: String,
    },
    /// A stage has ended, or was skipped.
    StageCompleted {
        /// The run.
        build: BuildId,
        /// The stage's name.
        stage: String,
        /// What people read.
        display_name: String,
        /// How it ended.
        result: TaskResult,
        /// Why it was skipped, or failed before it had jobs.
        reason: Option<String>,
    },
    /// A job waits for an agent.
    JobQueued {
        /// The run.
        build: BuildId,
        /// The job.
        job: JobOfRun,
    },
    /// An agent has the job.
    JobStarted {
        /// The run.
        build: BuildId,
        /// The job.
        job: JobOfRun,
        /// The agent's name.
        agent: String,
    },
    /// A record of a job was made or changed: a step, or the job's own.
    Record {
        /// The run.
        build: BuildId,
        /// The job.
        job: JobId,
        /// The record as it is now.
        record: Box<TimelineRecord>,
    },
    /// Console lines of a step.
    Lines {
        /// The run.
        build: BuildId,
        /// The job.
        job: JobId,
        /// The step's record.
        record: RecordId,
        /// The lines.
        lines: Arc<[String]>,
    },
    /// A job has ended, or was skipped. What fails before it has jobs (a matrix that cannot be evaluated) is
    /// told as one.
    JobCompleted {
        /// The run.
        build: BuildId,
        /// The job.
        job: JobOfRun,
        /// How it ended.
        result: TaskResult,
        /// When an agent began it.
        started: Option<Timestamp>,
        /// When it ended.
        finished: Timestamp,
        /// Why it was skipped, or failed without an agent.
        reason: Option<String>,
    },
    /// A job waits for somebody's answer; see [`Emulator::answer_validation`](crate::Emulator).
    ValidationPending {
        /// The run.
        build: BuildId,
        /// What is to be answered.
        validation: PendingValidation,
    },
    /// The job does not wait for the answer any longer: it was cancelled, or the time is over.
    ValidationWithdrawn {
        /// The run.
        build: BuildId,
        /// The validation.
        id: Uuid,
    },
    /// The run has ended. The last event of the run.
    RunCompleted {
        /// The run.
        build: BuildId,
        /// Its number.
        number: String,
        /// How it ended.
        result: TaskResult,
    },
}

/// The events of all runs since it was made. While nobody takes them out, those who report lines and records
/// wait.
#[derive(Debug)]
pub struct RunEvents {
    events: mpsc::Receiver<Event>,
    /// One change may bring several records.
    waiting: VecDeque<RunEvent>,
    builds: HashMap<PlanId, BuildId>,
}

impl RunEvents {
    pub(crate) fn new(events: mpsc::Receiver<Event>) -> Self {
        Self { events, waiting: VecDeque::new(), builds: HashMap::new() }
    }

    /// The next event; `None` when the emulator has stopped. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<RunEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let event = self.events.recv().await?;
            self.translate(event);
        }
    }

    fn translate(&mut self, event: Event) {
        match event {
            Event::RunChanged { build, plan, change } => {
                if matches!(change, RunChange::Completed { .. }) {
                    self.builds.remove(&plan);
                } else {
                    self.builds.insert(plan, build);
                }
                self.waiting.push_back(public_event(build, change));
            }
            Event::RecordsChanged { plan, records, .. } => {
                let Some(build) = self.builds.get(&plan).copied() else { return };
                for record in records.iter() {
                    if let Some(job) = job_of(record) {
                        let record = Box::new(record.clone());
                        self.waiting.push_back(RunEvent::Record { build, job, record });
                    }
                }
            }
            Event::Lines { plan, job, record, lines, .. } => {
                if let Some(build) = self.builds.get(&plan).copied() {
                    self.waiting.push_back(RunEvent::Lines { build, job, record, lines });
                }
            }
            _ => {}
        }
    }
}

/// The job a record belongs to: a job's own record has its id, a step's has it as parent.
fn job_of(record: &TimelineRecord) -> Option<JobId> {
    match record.record_type.as_deref() {
        Some("Job") => Some(JobId(record.id.0)),
        Some("Task") => record.parent_id.map(|parent| JobId(parent.0)),
        _ => None,
    }
}

fn public_event(build: BuildId, change: RunChange) -> RunEvent {
    match change {
        RunChange::Started { pipeline, number } => RunEvent::RunStarted { build, pipeline, number },
        RunChange::NumberChanged { number } => RunEvent::RunNumberChanged { build, number },
        RunChange::StageStarted { stage, display_name } => {
            RunEvent::StageStarted { build, stage, display_name }
        }
        RunChange::StageCompleted { stage, display_name, result, reason } => {
            RunEvent::StageCompleted { build, stage, display_name, result, reason }
        }
        RunChange::JobQueued { job } => RunEvent::JobQueued { build, job },
        RunChange::JobStarted { job, agent } => RunEvent::JobStarted { build, job, agent },
        RunChange::JobCompleted { job, result, started, finished, reason } => {
            RunEvent::JobCompleted { build, job, result, started, finished, reason }
        }
        RunChange::ValidationPending { validation } => RunEvent::ValidationPending { build, validation },
        RunChange::ValidationWithdrawn { id } => RunEvent::ValidationWithdrawn { build, id },
        RunChange::Completed { number, result } => RunEvent::RunCompleted { build, number, result },
    }
}

/// A log of a run, for those who want to keep it.
#[derive(Clone, Debug)]
pub struct RunLog {
    /// Its number in the run.
    pub id: LogId,
    /// The job whose log it is, or to which its step belongs.
    pub job: Option<JobOfRun>,
    /// The step's place among its siblings and what people read; none for the job's own log.
    pub step: Option<(i32, String)>,
    /// The file that holds it, until the run is forgotten or the emulator stops.
    pub file: PathBuf,
}

/// An artifact of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunArtifact {
    /// Its name.
    pub name: String,
    pub(crate) container: i64,
    pub(crate) path: String,
}
