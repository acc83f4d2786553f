//! A lease: the listener's duty for one job, from its message to its result.
//!
//! ```text
//! take (first renewal) -> claim (delete the message) -> start the worker -> mind it -> report its result
//!          \______________ the lock is renewed all the while, until the result is in ______________/
//! ```
//!
//! The order is what makes "at most once, yet never lost": as long as the message is in the queue nothing has run, so it may come again; once it is
//! gone it cannot come again, and the lease owes a result whatever happens. One task, one closed [`Event`], one `select!`.

use std::{pin::pin, sync::Arc, time::Duration};

use dayfly_client::{Error as ClientError, ErrorKind, describe};
use dayfly_protocol::{MessageId, TaskResult, channel::CancelReason, job::AgentJobRequestMessage};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    agent_context::AgentContext,
    backoff,
    cancellation::{Cancellation, Step, StopReason},
    events::{Event as SetEvent, JobLabel},
    executor::{AcceptedJob, Command, Progress, Reported, RunningJob, StartError, WorkerEvent, WorkerExit},
    redact::Redactor,
    renewal::{Attempt, Next, Renewal},
    report::{Delivery, Report, Verdict},
    service::{Meaning, meaning},
};

/// What a lease is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The service cancels the job.
    Cancel(Duration),
    /// The pace of console lines changed.
    Metadata(u64),
    /// The agent is shutting down: everything must be over at this moment.
    StopBy(Instant),
    /// The service has given this agent another job, so this one is over.
    Superseded,
}

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// The service has a result, or needs none.
    Finished,
    /// The job was never started and its message is still in the queue. `may_return`: the lock could not be had, but it may be tried again
    /// when the message is delivered again; otherwise the job is over and the message only in the way.
    NotTaken {
        /// See above.
        may_return: bool,
    },
}

/// Everything that can happen to a lease.
enum Event {
    RenewalDue,
    /// Until when the lock holds, if the service said so.
    Renewed(Result<Option<Timestamp>, Failure>),
    Claimed(Result<(), String>),
    Started(Result<RunningJob, StartError>),
    Worker(WorkerEvent),
    StepDue,
    Ordered(Order),
    Delivered(Delivery),
}

/// A failed call, as far as renewals care.
struct Failure {
    is_final: bool,
    /// We may not renew it, or it is not there: nothing that trying again would change as long as the job is not in our hands.
    is_refusal: bool,
    retry_after: Option<Duration>,
    text: String,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let is_final = matches!(meaning(&error), Meaning::JobGone);
        let is_refusal = matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::NotFound);
        Self { is_final, is_refusal, retry_after: error.retry_after(), text: describe(&error) }
    }
}

/// Where the job is on its way.
enum Stage {
    /// Waiting for the first renewal.
    Taking,
    /// Deleting the message.
    Claiming,
    /// The worker is being started.
    Starting,
    /// The worker runs.
    Running(RunningJob),
    /// The result is on its way.
    Reporting,
}

/// One job in our hands.
pub(crate) struct Lease {
    agent: Arc<AgentContext>,
    message: Arc<AgentJobRequestMessage>,
    message_id: MessageId,
    label: JobLabel,
    renewal: Renewal,
    is_renewing: bool,
    cancellation: Cancellation,
    stage: Stage,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    reason: Option<String>,
    /// Metadata that came before the worker ran.
    pace: Option<u64>,
}

impl Lease {
    pub(crate) fn new(
        agent: Arc<AgentContext>,
        message: Arc<AgentJobRequestMessage>,
        message_id: MessageId,
    ) -> Self {
        let label = JobLabel {
            request: message.request_id,
            id: message.job_id,
            name: Arc::from(if message.job_display_name.is_empty() {
                message.job_name.as_str()
            } else {
                message.job_display_name.as_str()
            }),
        };
        Self {
            agent,
            message,
            message_id,
            label,
            renewal: Renewal::new(),
            is_renewing: false,
            cancellation: Cancellation::default(),
            stage: Stage::Taking,
            work: FuturesUnordered::new(),
            reason: None,
            pace: None,
        }
    }

    /// Carries the job to its end. `orders` may close: then nobody has anything to say any more, and the job goes on.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> LeaseEnd {
        self.renew_at(Instant::now());
        let mut orders_open = true;
        loop {
            let step_at =
                if matches!(self.stage, Stage::Running(_)) { self.cancellation.next() } else { None };
            let event = {
                let mut worker_event = pin!(next_of(&mut self.stage));
                tokio::select! {
                    Some(event) = self.work.next() => event,
                    event = &mut worker_event => Event::Worker(event),
                    order = orders.recv(), if orders_open => match order {
                        Some(order) => Event::Ordered(order),
                        None => {
                            orders_open = false;
                            continue;
                        }
                    },
                    () = sleep_until(step_at.unwrap_or_else(Instant::now)), if step_at.is_some() => Event::StepDue,
                }
            };
            if let Some(end) = self.handle(event) {
                return end;
            }
            self.take_due_steps();
        }
    }

    fn handle(&mut self, event: Event) -> Option<LeaseEnd> {
        match event {
            Event::RenewalDue => self.start_renewal(),
            Event::Renewed(answer) => return self.renewed(answer),
            Event::Claimed(answer) => self.claimed(answer),
            Event::Started(answer) => self.started(answer),
            Event::Worker(WorkerEvent::Progress(progress)) => self.tell_progress(progress),
            Event::Worker(WorkerEvent::Ended(exit)) => return self.worker_ended(exit),
            Event::Ordered(order) => return self.obey(order),
            // The step itself is taken after every event.
            Event::StepDue => {}
            Event::Delivered(delivery) => return Some(self.finish(delivery)),
        }
        None
    }

    // ---- renewals ----

    fn renew_at(&mut self, at: Instant) {
        self.work.push(Box::pin(async move {
            sleep_until(at).await;
            Event::RenewalDue
        }));
    }

    fn start_renewal(&mut self) {
        self.is_renewing = true;
        let (service, request, limit) =
            (self.agent.service.clone(), self.message.request_id, self.agent.set.timings.call);
        self.work.push(Box::pin(async move {
            let answer = match timeout(limit, service.renew(request)).await {
                Ok(Ok(request)) => Ok(request.locked_until.map(|until| until.0)),
                Ok(Err(error)) => Err(Failure::from(error)),
                Err(_) => Err(Failure {
                    is_final: false,
                    is_refusal: false,
                    retry_after: None,
                    text: "the service did not answer in time".to_owned(),
                }),
            };
            Event::Renewed(answer)
        }));
    }

    fn renewed(&mut self, answer: Result<Option<Timestamp>, Failure>) -> Option<LeaseEnd> {
        self.is_renewing = false;
        let was_held = self.renewal.is_held();
        let attempt = match &answer {
            Ok(until) => {
                Attempt::Renewed { valid_for: until.map(|until| valid_for(until, Timestamp::now())) }
            }
            Err(failure) if failure.is_final || (failure.is_refusal && !was_held) => Attempt::Refused,
            Err(failure) => Attempt::Failed { retry_after: failure.retry_after },
        };
        if let Err(failure) = &answer {
            let error = &failure.text;
            if self.renewal.has_failed() {
                tracing::debug!(request = %self.label.request, error, "a job's lock could not be renewed again");
            } else {
                tracing::warn!(request = %self.label.request, error, "a job's lock could not be renewed");
            }
        }
        match self.renewal.after(attempt, Instant::now(), &self.agent.set.timings) {
            Next::At(_) if !self.renewal.is_held() && self.is_shutting_down() => {
                return Some(LeaseEnd::NotTaken { may_return: true });
            }
            Next::At(at) => self.renew_at(at),
            Next::Lost => return self.lock_lost(attempt == Attempt::Refused),
        }
        if !was_held && self.renewal.is_held() {
            self.stage = Stage::Claiming;
            self.claim();
        }
        None
    }

    fn lock_lost(&mut self, is_refused: bool) -> Option<LeaseEnd> {
        match self.stage {
            Stage::Taking => return Some(LeaseEnd::NotTaken { may_return: !is_refused }),
            // The worker's own report may have ended the job a moment ago; its exit, or the report's answer, tells.
            Stage::Reporting => {}
            Stage::Claiming | Stage::Starting | Stage::Running(_) => {
                self.warn(format!(
                    "the lock on job `{}` was lost, so the job is cancelled here",
                    self.label.name
                ));
                self.cancel(StopReason::LockLost, self.agent.set.timings.zombie_grace);
            }
        }
        None
    }

    // ---- the way to the worker ----

    /// Deletes the message. Nothing may start before it is certain that the message cannot be delivered again.
    fn claim(&mut self) {
        let (agent, message) = (self.agent.clone(), self.message_id);
        self.work.push(Box::pin(async move {
            let timings = &agent.set.timings;
            let limit = Instant::now() + timings.claim_limit;
            loop {
                // The message loop may have had to make a new session meanwhile.
                let failure = match agent.session() {
                    None => "the session is gone".to_owned(),
                    Some(session) => match timeout(timings.call, agent.service.delete_message(session, message)).await {
                        Ok(Ok(())) => return Event::Claimed(Ok(())),
                        Ok(Err(error)) if meaning(&error) == Meaning::Missing => return Event::Claimed(Ok(())),
                        Ok(Err(error)) => describe(&error),
                        Err(_) => "the service did not answer in time".to_owned(),
                    },
                };
                if Instant::now() >= limit {
                    return Event::Claimed(Err(failure));
                }
                tracing::info!(message = %message, failure, "a job's message could not be deleted, trying again");
                sleep(backoff::around(timings.retry_first)).await;
            }
        }));
    }

    fn claimed(&mut self, answer: Result<(), String>) {
        self.agent
            .set
            .events
            .send(SetEvent::JobAccepted { agent: self.agent.name.clone(), job: self.label.clone() });
        match (answer, self.cancellation.reason()) {
            (_, Some(StopReason::LockLost)) => self.report_nothing(),
            (Err(failure), _) => self.report(
                TaskResult::Failed,
                Some(format!("The agent could not delete the job's message from its queue, and did not run the job since it might have been delivered twice: {failure}")),
            ),
            (Ok(()), Some(reason)) => {
                let text = (reason == StopReason::AgentShutdown).then(|| "The agent was shut down before the job began.".to_owned());
                self.report(TaskResult::Canceled, text);
            }
            (Ok(()), None) => self.start(),
        }
    }

    fn start(&mut self) {
        self.stage = Stage::Starting;
        let (agent, message) = (self.agent.clone(), self.message.clone());
        self.work.push(Box::pin(async move {
            let worker = agent.worker_settings();
            Event::Started(agent.set.executor.start(AcceptedJob { message, worker }).await)
        }));
    }

    fn started(&mut self, answer: Result<RunningJob, StartError>) {
        match answer {
            Ok(running) => {
                if let Some(pace) = self.pace.take() {
                    running.tell(Command::Metadata { post_lines_frequency_millis: pace });
                }
                self.stage = Stage::Running(running);
                self.agent
                    .set
                    .events
                    .send(SetEvent::JobStarted { agent: self.agent.name.clone(), job: self.label.clone() });
            }
            Err(error) => self.report(
                TaskResult::Failed,
                Some(format!("The job's worker could not be started: {}", describe(&error))),
            ),
        }
    }

    // ---- orders ----

    fn obey(&mut self, order: Order) -> Option<LeaseEnd> {
        match order {
            Order::Cancel(timeout) => self.cancel(StopReason::Cancelled, timeout),
            Order::Superseded => self.cancel(StopReason::LockLost, self.agent.set.timings.zombie_grace),
            Order::StopBy(deadline) => {
                // Nothing has run and the message is still there: somebody else may have the job. But with a renewal under way it may be ours in a
                // moment, and would be nobody's until its lock runs out.
                if matches!(self.stage, Stage::Taking) && !self.is_renewing {
                    return Some(LeaseEnd::NotTaken { may_return: true });
                }
                self.stop_by(deadline);
            }
            Order::Metadata(pace) => match &self.stage {
                Stage::Running(running) => {
                    running.tell(Command::Metadata { post_lines_frequency_millis: pace });
                }
                _ => self.pace = Some(pace),
            },
        }
        None
    }

    fn cancel(&mut self, reason: StopReason, timeout: Duration) {
        self.cancellation.request(reason, timeout, Instant::now(), &self.agent.set.timings);
    }

    /// Plans the kill early enough for the result to be reported before `deadline`.
    fn stop_by(&mut self, deadline: Instant) {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let kept_for_report = (left / 4).min(Duration::from_secs(10));
        self.cancellation.deadline(StopReason::AgentShutdown, deadline - kept_for_report, now);
    }

    fn is_shutting_down(&self) -> bool {
        self.cancellation.reason() == Some(StopReason::AgentShutdown)
    }

    fn take_due_steps(&mut self) {
        let Stage::Running(running) = &self.stage else { return };
        let now = Instant::now();
        while let Some(step) = self.cancellation.due(now) {
            match step {
                Step::Ask => {
                    let timeout = self.cancellation.time_left(now);
                    let reason = match self.cancellation.reason() {
                        Some(StopReason::AgentShutdown) => CancelReason::AgentShutdown,
                        Some(StopReason::LockLost) => CancelReason::LockLost,
                        Some(StopReason::Cancelled) | None => CancelReason::Requested,
                    };
                    if !running.tell(Command::Cancel { timeout, reason }) {
                        tracing::warn!(request = %self.label.request, "a worker does not listen to its cancellation");
                    }
                }
                Step::FlushLogs => {
                    running.tell(Command::FlushLogs);
                }
                Step::Kill => running.kill(),
            }
        }
    }

    // ---- the end ----

    fn worker_ended(&mut self, exit: WorkerExit) -> Option<LeaseEnd> {
        tracing::debug!(request = %self.label.request, ?exit.result, ?exit.reported, ending = exit.ending, "a worker ended");
        let was_lost = self.cancellation.reason() == Some(StopReason::LockLost);
        if was_lost && exit.reported != Reported::Yes {
            self.report_nothing();
            return None;
        }
        let verdict = verdict(exit, &self.cancellation, &Redactor::new(&self.message));
        self.deliver(verdict);
        None
    }

    fn report(&mut self, result: TaskResult, reason: Option<String>) {
        self.deliver(Verdict { result, reported: Reported::No, reason });
    }

    /// The job is not ours any more: no result.
    fn report_nothing(&mut self) {
        self.stage = Stage::Reporting;
        self.work.push(Box::pin(std::future::ready(Event::Delivered(Delivery::Gone))));
    }

    fn deliver(&mut self, verdict: Verdict) {
        self.stage = Stage::Reporting;
        self.reason.clone_from(&verdict.reason);
        let report = Report {
            agent: self.agent.service.clone(),
            job: self.agent.service.job(&self.message, &self.agent.set.server_url, self.agent.set.is_once),
            message: self.message.clone(),
            timings: self.agent.set.timings.clone(),
        };
        self.work.push(Box::pin(async move { Event::Delivered(report.deliver(verdict).await) }));
    }

    fn finish(&mut self, delivery: Delivery) -> LeaseEnd {
        let (result, reason) = match delivery {
            Delivery::Known(result) => (Some(result), self.reason.take()),
            Delivery::Gone => (None, self.reason.take()),
            Delivery::Failed(failure) => {
                self.warn(format!("the result of job `{}` could not be reported, the service will end it when its lock runs out: {failure}", self.label.name));
                (None, Some(failure))
            }
        };
        self.agent.set.events.send(SetEvent::JobFinished {
            agent: self.agent.name.clone(),
            job: self.label.clone(),
            result,
            reason,
        });
        LeaseEnd::Finished
    }

    fn tell_progress(&self, progress: Progress) {
        let agent = self.agent.name.clone();
        self.agent.set.events.send(match progress {
            Progress::StepStarted { name, number, total } => {
                SetEvent::StepStarted { agent, job: self.label.clone(), step: name, number, total }
            }
            Progress::Warning { message } => {
                SetEvent::Warning { agent, message: format!("job `{}`: {message}", self.label.name) }
            }
        });
    }

    fn warn(&self, message: String) {
        self.agent.warn(message);
    }
}

/// The worker's next word, when there is a worker.
async fn next_of(stage: &mut Stage) -> WorkerEvent {
    match stage {
        Stage::Running(running) => running.next().await,
        _ => std::future::pending().await,
    }
}

/// How long the lock still holds. Service and machine may disagree about the time; a lock in the past is not believed to be already lost.
fn valid_for(locked_until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(locked_until.duration_since(now)).unwrap_or_default()
}

/// What a worker's end means for its job.
fn verdict(exit: WorkerExit, cancellation: &Cancellation, redactor: &Redactor) -> Verdict {
    if let Some(result) = exit.result {
        return Verdict { result, reported: exit.reported, reason: None };
    }
    let (result, mut reason) = match (cancellation.reason(), cancellation.is_killed()) {
        (Some(StopReason::AgentShutdown), true) => {
            (TaskResult::Canceled, "The agent was shut down, and the job did not end in time.".to_owned())
        }
        (Some(_), true) => {
            (TaskResult::Canceled, "The job was cancelled, and did not end in time.".to_owned())
        }
        (Some(_), false) => {
            (TaskResult::Canceled, format!("The job was cancelled, and its worker died: {}.", exit.ending))
        }
        (None, _) => (TaskResult::Failed, format!("The worker of this job died: {}.", exit.ending)),
    };
    if !exit.last_lines.is_empty() && !cancellation.is_killed() {
        let lines = exit.last_lines.iter().map(|line| redactor.apply(line)).collect::<Vec<_>>().join("\n");
        reason = format!("{reason} The last it said:\n{lines}");
    }
    // The word that it reports may have been lost with the worker, so the service is asked in any case.
    Verdict { result, reported: Reported::Perhaps, reason: Some(reason) }
}
