//! Jobs that need no agent (`pool: server`): whoever runs them takes them here, and says how they end. And
//! what such jobs wait for: validations, and the end of work that others do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dayfly_pipelines::JobInstance;
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::timeline::TimelineRecord;
use dayfly_protocol::{BuildId, DateTime, JobId, RecordId, TaskResult};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::records::{IN_PROGRESS, completed};
use super::{Error, Result, State};
use crate::events::{PendingValidation, RunChange};

/// What a job has in place of an agent's name when the service runs it itself.
pub const SERVER: &str = "server";

/// A job of a run that the service runs itself.
#[derive(Debug)]
pub(crate) struct ServerJob {
    pub(crate) build: BuildId,
    /// What an agent would get.
    pub(crate) message: Box<AgentJobRequestMessage>,
    /// How long it may run; then it is cancelled. None means without limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel: CancellationToken,
}

/// What somebody decided on a validation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether the job goes on.
    pub approved: bool,
    /// What the person has to say of it.
    #[serde(default)]
    pub comment: String,
}

/// The jobs that are not taken yet, and the validations that wait.
#[derive(Debug, Default)]
pub(crate) struct ServerJobs {
    waiting: VecDeque<ServerJob>,
    more: Arc<Notify>,
    /// Those without a result, also when they were taken.
    unfinished: usize,
    validations: BTreeMap<Uuid, Asked>,
    /// The steps that end when somebody says so.
    callbacks: BTreeMap<(JobId, RecordId), oneshot::Sender<TaskResult>>,
}

#[derive(Debug)]
struct Asked {
    validation: PendingValidation,
    answer: oneshot::Sender<Verdict>,
}

impl ServerJobs {
    /// Told when there are jobs to take.
    pub(crate) fn more(&self) -> Arc<Notify> {
        Arc::clone(&self.more)
    }

    /// The jobs to run.
    pub(crate) fn take(&mut self) -> VecDeque<ServerJob> {
        std::mem::take(&mut self.waiting)
    }

    /// The validations that wait.
    pub(crate) fn validations(&self) -> Vec<PendingValidation> {
        self.validations.values().map(|asked| asked.validation.clone()).collect()
    }
}

impl State {
    /// Hands a job to whoever runs those that need no agent.
    pub(super) fn queue_server_job(&mut self, id: BuildId, instance: &JobInstance) -> Result<()> {
        let limit = self.rules.limits.unfinished_requests;
        if self.server_jobs.unfinished >= limit {
            return Err(Error::LimitReached { what: "unfinished server jobs", limit: limit as u64 });
        }
        let message = Box::new(self.job_message(id, instance)?);
        let cancel = CancellationToken::new();
        if let Some(job) = self.runs.any_mut(id)?.jobs.get_mut(&instance.job.id) {
            job.on_server = Some(cancel.clone());
        }
        let minutes = instance.timeout_in_minutes;
        let timeout = (minutes > 0).then(|| Duration::from_secs(60 * u64::from(minutes)));
        self.server_jobs.unfinished += 1;
        self.server_jobs.waiting.push_back(ServerJob { build: id, message, timeout, cancel });
        self.server_jobs.more.notify_one();
        Ok(())
    }

    /// A job that needs no agent begins.
    pub(crate) fn server_job_started(&mut self, id: BuildId, job: JobId, now: Timestamp) {
        let Ok(run) = self.runs.any_mut(id) else { return };
        let Some(begun) = run.jobs.get_mut(&job) else { return };
        begun.started = Some(now);
        let shown = begun.shown.clone();
        let record = TimelineRecord {
            id: job.into(),
            state: IN_PROGRESS,
            start_time: Some(DateTime(now)),
            ..TimelineRecord::default()
        };
        self.write_record(id, record, now);
        self.tell(id, RunChange::JobStarted { job: shown, agent: SERVER.to_owned() });
    }

    /// A job that needs no agent has ended.
    pub(crate) fn server_job_ended(&mut self, id: BuildId, job: JobId, result: TaskResult, now: Timestamp) {
        self.server_jobs.unfinished = self.server_jobs.unfinished.saturating_sub(1);
        let Ok(run) = self.runs.any(id) else { return };
        let plan = run.plan_id;
        let record = TimelineRecord { id: job.into(), ..TimelineRecord::default() };
        self.write_record(id, completed(record, result, None, now), now);
        self.tokens.end_job(plan, job, now);
        self.job_ended(id, job, result, BTreeMap::new(), None, now);
        self.advance_run(id, now);
    }

    /// Asks for a validation: gives its id, and what brings the answer. Whoever waits for the answer
    /// withdraws the validation in the end.
    pub(crate) fn ask_for_validation(
        &mut self,
        id: BuildId,
        job: JobId,
        instructions: String,
    ) -> Result<(Uuid, oneshot::Receiver<Verdict>)> {
        let run = self.runs.any(id)?;
        let shown = run.jobs.get(&job).map(|job| job.shown.clone());
        let job = shown.ok_or(Error::PlanJobNotFound { plan: run.plan_id, job })?;
        let (answer, answered) = oneshot::channel();
        let validation = PendingValidation { id: Uuid::new_v4(), build: id, job, instructions };
        let asked = Asked { validation: validation.clone(), answer };
        let key = validation.id;
        self.server_jobs.validations.insert(key, asked);
        self.tell(id, RunChange::ValidationPending { validation });
        Ok((key, answered))
    }

    /// Nobody waits for the answer any longer.
    pub(crate) fn withdraw_validation(&mut self, id: Uuid) {
        if let Some(asked) = self.server_jobs.validations.remove(&id) {
            let Asked { validation, .. } = asked;
            self.tell(validation.build, RunChange::ValidationWithdrawn { id });
        }
    }

    /// Has a step wait until somebody says how it ended. Whoever waits withdraws that in the end.
    pub(crate) fn wait_for_callback(&mut self, job: JobId, step: RecordId) -> oneshot::Receiver<TaskResult> {
        let (ended, told) = oneshot::channel();
        self.server_jobs.callbacks.insert((job, step), ended);
        told
    }

    /// Nobody waits for the end of the step any longer.
    pub(crate) fn withdraw_callback(&mut self, job: JobId, step: RecordId) {
        self.server_jobs.callbacks.remove(&(job, step));
    }

    /// Whether the step waits until somebody says how it ended.
    pub(crate) fn waits_for_callback(&self, job: JobId, step: RecordId) -> bool {
        self.server_jobs.callbacks.contains_key(&(job, step))
    }

    /// Somebody says how a step ended. Only the first word counts.
    pub(crate) fn complete_task(&mut self, job: JobId, step: RecordId, result: TaskResult) -> Result<()> {
        let missing = || Error::TaskNotWaiting(step);
        let waiting = self.server_jobs.callbacks.remove(&(job, step)).ok_or_else(missing)?;
        waiting.send(result).map_err(|_| missing())
    }

    /// Answers a validation. Only the first answer counts.
    pub(crate) fn answer_validation(&mut self, id: Uuid, verdict: Verdict) -> Result<()> {
        let missing = || Error::ValidationNotFound(id);
        let asked = self.server_jobs.validations.remove(&id).ok_or_else(missing)?;
        asked.answer.send(verdict).map_err(|_| missing())
    }
}
