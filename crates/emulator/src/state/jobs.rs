//! The life of a job: queued, received, renewed, cancelled, finished. Exactly one result for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::message::{JobCancelMessage, JobMetadataMessage};
use dayfly_protocol::plan::TaskOrchestrationOwner;
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState};
use dayfly_protocol::{AgentId, DateTime, JobId, PlanId, PoolId, RequestId, TaskResult, TimeSpan};
use jiff::Timestamp;
use secrecy::SecretString;

use super::deadlines::Deadline;
use super::demands::Demands;
use super::requests::{Cancellation, Request};
use super::{Error, Result, State};
use crate::clock::after;
use crate::events::{CompletionReason, Event, JobChange, JobSignal, Place};

/// A job for the queue of a pool.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The pool.
    pub pool: PoolId,
    /// What the agent has to offer, as in YAML: `name`, `name -equals value`, `name -gtVersion 1.2.3`.
    pub demands: Vec<String>,
    /// The message for the agent. Its plan must exist; request number and lock are filled in.
    pub message: Box<AgentJobRequestMessage>,
    /// The pipeline, for lists of requests.
    pub definition: Option<TaskOrchestrationOwner>,
    /// The run, for lists of requests.
    pub owner: Option<TaskOrchestrationOwner>,
    /// How long it may run; then it is cancelled. None means without limit.
    pub timeout: Option<Duration>,
    /// How long it may take to end when it is cancelled for its timeout.
    pub cancel_timeout: Duration,
}

/// How long the emulator waits for a cancelled job beyond the time the job was given: a worker gets a minute
/// at the least, and a minute more before it is killed (`JobDispatcher.cs`).
const CANCEL_MARGIN: Duration = Duration::from_secs(2 * 60);

impl State {
    /// Queues a job. Fails at once when no agent of the pool could ever run it, as the service does.
    pub(crate) fn queue_job(&mut self, job: NewJob, now: Timestamp) -> Result<RequestId> {
        let NewJob { pool, demands, mut message, definition, owner, timeout, cancel_timeout } = job;
        let demands = Demands::parse(&demands)?;
        let home = self.pools.get(pool)?;
        if !home.agents.values().any(|agent| demands.are_met_by(&agent.capabilities())) {
            let pool = home.name.clone();
            return Err(Error::NoAgentMatches { pool, demands: demands.texts().join(", ") });
        }
        let limit = self.rules.limits.unfinished_requests;
        if self.requests.unfinished_count() >= limit {
            return Err(Error::LimitReached { what: "unfinished job requests", limit: limit as u64 });
        }
        let id = self.requests.next_id();
        message.request_id = id;
        message.locked_until = Some(DateTime(after(now, self.rules.lock_duration)));
        let body = dayfly_protocol::json::to_string(&*message)
            .map_err(|error| Error::Invalid { what: "job message", reason: error.to_string() })?;
        let orchestration_id = message
            .variables
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("system.jobIdentifier"))
            .and_then(|(_, variable)| variable.value.as_deref())
            .map(|identifier| format!("{}.{}", message.plan.plan_id, identifier.to_lowercase()));
        let plan = message.plan.plan_id;
        self.add_job(plan, &message, id, now)?;
        self.requests.insert(Request {
            id,
            pool,
            project: message.plan.scope_identifier,
            plan,
            plan_type: message.plan.plan_type.clone(),
            plan_group: message.plan.plan_group.clone(),
            job: message.job_id,
            job_name: message.job_display_name.clone(),
            orchestration_id,
            definition: definition.or(message.plan.definition),
            owner: owner.or(message.plan.owner),
            demands,
            queue_time: DateTime(now),
            assign_time: None,
            receive_time: None,
            finish_time: None,
            result: None,
            locked_until: None,
            agent: None,
            message: Some(Arc::new(SecretString::from(body))),
            timeout,
            cancel_timeout,
            cancelled: None,
            status_message: None,
        });
        self.enqueue(id, now);
        Ok(id)
    }

    /// Posts a step in a job's life.
    pub(crate) fn signal(&self, id: RequestId, change: JobChange) {
        let Some(request) = self.requests.get(id) else { return };
        let signal = JobSignal { plan: request.plan, job: request.job, request: id, change };
        // Nobody drives runs while the emulator stops; then nobody needs the signal.
        let _ = self.signals.send(signal.clone());
        self.hub.send(Event::JobChanged(signal), Place::default());
    }

    /// The agent has the job.
    pub(crate) fn receive(&mut self, id: RequestId, now: Timestamp) {
        let Some(request) = self.requests.unfinished_mut(id) else { return };
        if request.receive_time.is_some() {
            return;
        }
        request.receive_time = Some(DateTime(now));
        let agent = request.agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default();
        if let Some(timeout) = request.timeout {
            self.deadlines.set(after(now, timeout), Deadline::Timeout(id));
        }
        self.signal(id, JobChange::Started { agent });
    }

    /// Prolongs the lock of a request for the agent that has it.
    pub(crate) fn renew(
        &mut self,
        pool: PoolId,
        id: RequestId,
        by: Option<AgentId>,
        now: Timestamp,
    ) -> Result<()> {
        self.check_holder(pool, id, by)?;
        let locked_until = after(now, self.rules.lock_duration);
        if let Some(request) = self.requests.unfinished_mut(id) {
            request.locked_until = Some(locked_until);
        }
        self.receive(id, now);
        Ok(())
    }

    /// Finishes a request for the agent that has it.
    pub(crate) fn finish_request(
        &mut self,
        pool: PoolId,
        id: RequestId,
        by: Option<AgentId>,
        result: TaskResult,
        now: Timestamp,
    ) -> Result<()> {
        let settled = self.request(pool, id)?;
        if settled.result.is_some() {
            let (plan, job) = (settled.plan, settled.job);
            self.plans.count_refused_completion(plan, job);
            return Err(Error::JobNotFound(id));
        }
        self.check_holder(pool, id, by)?;
        self.finish(id, result, CompletionReason::Request, now);
        Ok(())
    }

    /// Refuses those who do not hold the request: it is finished, waits, or was given to another agent.
    /// `None` is an administrator, who may act on any assigned request.
    fn check_holder(&self, pool: PoolId, id: RequestId, by: Option<AgentId>) -> Result<()> {
        let request = self.request(pool, id)?;
        if request.result == Some(TaskResult::Abandoned) {
            return Err(Error::JobLockLost(id));
        }
        let holder = request.agent.as_ref().map(|agent| agent.id);
        let is_held = request.result.is_none() && holder.is_some() && by.is_none_or(|by| holder == Some(by));
        if is_held { Ok(()) } else { Err(Error::JobNotFound(id)) }
    }

    /// The worker says that its job ended. Only the first word counts.
    pub(crate) fn complete_job(
        &mut self,
        plan: PlanId,
        job: JobId,
        result: TaskResult,
        now: Timestamp,
    ) -> Result<()> {
        let request = self.plans.get(plan)?.job(job)?.request;
        if self.requests.unfinished_mut(request).is_none() {
            self.plans.count_refused_completion(plan, job);
            return Err(Error::JobCompleted { plan, job });
        }
        self.finish(request, result, CompletionReason::Event, now);
        Ok(())
    }

    /// Cancels a job. One that no agent has received ends at once; otherwise its agent is told, and has
    /// `timeout`.
    pub(crate) fn cancel_job(
        &mut self,
        plan: PlanId,
        job: JobId,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<()> {
        let id = self.plans.get(plan)?.job(job)?.request;
        let Some(request) = self.requests.unfinished_mut(id) else {
            return Err(Error::JobCompleted { plan, job });
        };
        let holder = request.agent.as_ref().map(|agent| agent.id);
        let (Some(agent), true) = (holder, request.receive_time.is_some()) else {
            self.finish(id, TaskResult::Canceled, CompletionReason::CanceledInQueue, now);
            return Ok(());
        };
        let deadline = after(now, timeout.saturating_add(CANCEL_MARGIN));
        request.cancelled = Some(Cancellation { timeout, deadline });
        let (pool, body) = (request.pool, JobCancelMessage { job_id: job, timeout: TimeSpan(timeout) });
        self.deadlines.set(deadline, Deadline::Cancel(id));
        self.push_cancellation(pool, agent, &body);
        Ok(())
    }

    /// Tells the worker of a running job how often console lines are wanted.
    pub(crate) fn set_feed_pace(&mut self, plan: PlanId, job: JobId, pace: Duration) -> Result<()> {
        let id = self.plans.get(plan)?.job(job)?.request;
        let Some(request) = self.requests.get(id).filter(|request| request.result.is_none()) else {
            return Err(Error::JobCompleted { plan, job });
        };
        if let Some(agent) = request.agent.as_ref().map(|agent| agent.id) {
            let pace = i64::try_from(pace.as_millis()).unwrap_or(i64::MAX);
            let body = JobMetadataMessage { job_id: job, post_lines_frequency_millis: Some(pace) };
            self.push_metadata(request.pool, agent, &body);
        }
        Ok(())
    }

    /// The lock of a request may have run out: then its agent is lost and the job abandoned.
    pub(crate) fn expire_lock(&mut self, id: RequestId, now: Timestamp) {
        let Some(request) = self.requests.unfinished_mut(id) else { return };
        // No lock: the request went back into the queue. A later one: it was renewed, or assigned again.
        let Some(locked_until) = request.locked_until else { return };
        if locked_until > now {
            self.deadlines.set(locked_until, Deadline::Lock(id));
            return;
        }
        let agent = request.agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default();
        self.add_issue(
            id,
            format!(
                "We stopped hearing from agent {agent}. Verify the agent machine is running and has a \
                 healthy network connection. Anything that terminates an agent process, starves it for CPU, \
                 or blocks its network access can cause this error."
            ),
            now,
        );
        self.finish(id, TaskResult::Abandoned, CompletionReason::LockLost, now);
    }

    /// The job has run for as long as it may: it is cancelled, and ends `canceled`, not failed. So the
    /// service has it: the timeline's record of such a job has `result: canceled` and the issue below
    /// (microsoft/winappCli, pull request 775).
    pub(crate) fn time_out(&mut self, id: RequestId, now: Timestamp) {
        let Some(request) = self.requests.unfinished_mut(id) else { return };
        if request.cancelled.is_some() {
            return;
        }
        let (plan, job, cancel_timeout) = (request.plan, request.job, request.cancel_timeout);
        let agent = request.agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default();
        let minutes = request.timeout.unwrap_or_default().as_secs() / 60;
        self.add_issue(
            id,
            format!(
                "The job running on agent {agent} ran longer than the maximum time of {minutes} minutes. \
                 For more information, see https://go.microsoft.com/fwlink/?linkid=2077134"
            ),
            now,
        );
        // The request was unfinished a moment ago, under the same lock.
        let _ = self.cancel_job(plan, job, cancel_timeout, now);
    }

    /// A cancelled job has not ended in the time it had.
    pub(crate) fn end_cancelled(&mut self, id: RequestId, now: Timestamp) {
        let cancellation = self.requests.unfinished_mut(id).and_then(|request| request.cancelled);
        let Some(cancellation) = cancellation else { return };
        if cancellation.deadline <= now {
            self.add_issue(
                id,
                "The job was canceled and did not end in the time given to it.".to_owned(),
                now,
            );
            self.finish(id, TaskResult::Canceled, CompletionReason::CancelTimeout, now);
        }
    }

    /// Adds an error to the job's record.
    fn add_issue(&mut self, id: RequestId, message: String, now: Timestamp) {
        let Some(request) = self.requests.get(id) else { return };
        let (plan, job) = (request.plan, request.job);
        let issue = Issue {
            issue_type: IssueType::Error,
            category: Some("General".to_owned()),
            message,
            data: BTreeMap::new(),
        };
        if let Err(error) = self.add_record_issue(plan, job, issue, now) {
            tracing::debug!(%error, "no record for an issue of a job");
        }
    }

    /// Gives the job its result. The caller has made sure that it has none.
    fn finish(&mut self, id: RequestId, result: TaskResult, reason: CompletionReason, now: Timestamp) {
        let Some(request) = self.requests.unfinished_mut(id) else { return };
        request.result = Some(result);
        request.finish_time = Some(DateTime(now));
        let (pool, plan, job) = (request.pool, request.plan, request.job);
        let demands = request.demands.clone();
        let agent = request.agent.clone();
        match &agent {
            Some(agent) => {
                let agent_id = agent.id;
                self.requests.count_assigned(-1);
                self.withdraw_job_message(pool, agent_id, id);
                if let Ok(agent) = self.agent_mut(pool, agent_id) {
                    agent.active = None;
                    agent.last_completed = Some(id);
                }
            }
            None => {
                if let Ok(pool) = self.pools.get_mut(pool) {
                    pool.queue.withdraw(&demands, id);
                }
            }
        }
        self.complete_record(plan, job, result, now);
        let outputs = self.plans.complete_job(plan, job, result);
        self.tokens.end_job(plan, job, now);
        let name = agent.as_ref().map(|agent| agent.name.clone());
        self.signal(id, JobChange::Completed { result, outputs, agent: name, reason });
        self.requests.settle(id, self.rules.limits.finished_requests);
        self.retire_plan_if_done(plan);
        self.forget_deadline();
        match agent {
            Some(agent) => self.reconsider_agent(pool, agent.id, now),
            None => self.dispatch(now),
        }
    }

    /// Sets the job record's end where the worker has not.
    fn complete_record(&mut self, plan: PlanId, job: JobId, result: TaskResult, now: Timestamp) {
        let Ok(Some(record)) = self.job_record(plan, job) else { return };
        let is_completed = record.state == Some(TimelineRecordState::Completed);
        if is_completed && record.result == Some(result) {
            return;
        }
        let change = TimelineRecord {
            id: job.into(),
            state: Some(TimelineRecordState::Completed),
            result: Some(result),
            finish_time: record.finish_time.or(Some(DateTime(now))),
            ..TimelineRecord::default()
        };
        if let Err(error) = self.update_job_timeline(plan, job, vec![change], now) {
            tracing::debug!(%error, "could not complete the record of a job");
        }
    }
}
