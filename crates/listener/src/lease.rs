//! A lease: the listener's duty for one job, from its message to its result.
//!
//! ```text
//! take (first renewal) -> record -> delete the message -> a worker may have the job -> report its result
//!  \____ the lock is renewed until the result is in; a place for the worker is made from the beginning ____/
//! ```
//!
//! The order is what makes "at most once, yet never lost": as long as the message is in the queue no worker
//! has the job, so it may come again; once it is gone it cannot come again, and whoever holds the job's
//! record owes a result whatever happens. What is wanted of the job is a level ([`Wishes`]) and holds in
//! every stage: a job that no worker has yet is called back at once. One task, one closed [`Event`], one
//! `select!`.

mod cancellation;
mod console;
mod ending;
mod lock;
mod message;
mod renewal;
pub(crate) mod report;
mod wishes;

use std::{pin::pin, sync::Arc, time::Duration};

use dayfly_client::{describe, pause_around};
use dayfly_protocol::{
    MessageId, TaskResult,
    channel::{Cancel, CancelReason, SecretJson},
    job::AgentJobRequestMessage,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use self::console::{Console, Notes, Writer};
use self::lock::Held;
pub(crate) use self::{
    message::Delivered,
    wishes::{Wanted, Wishes},
};
use crate::{
    context::AgentContext,
    events::{Event as SetEvent, JobLabel},
    executor::{AcceptedJob, RunningJob, WorkerEvent, WorkerExit},
    failures::CallFailure,
    lease::cancellation::{Cancellation, Step, StopReason},
    lease::renewal::Renewal,
    lease::report::Delivery,
    service::{Meaning, meaning},
    store::{Accepted, Cancelled, Claim, HandOver, JobRecord, Stage as Recorded, StoreError, Verdict},
};

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// The service has a result, or needs none.
    Finished,
    /// The job was never started and its message is still in the queue. `may_return`: the lock could not be
    /// had, but it may be tried again when the message is delivered again; otherwise the job is over, or
    /// somebody else's, and the message only in the way.
    NotTaken {
        /// See above.
        may_return: bool,
    },
    /// The job was let go: whoever has its record now goes on with it.
    Released,
}

/// What a lease is about.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The message as it was decrypted.
    pub(crate) body: Arc<SecretJson>,
    /// What our types know of it.
    pub(crate) message: Arc<AgentJobRequestMessage>,
    /// By which message it came.
    pub(crate) delivered: Arc<Delivered>,
}

impl Job {
    fn label(&self) -> JobLabel {
        JobLabel::of(&self.message)
    }
}

/// Everything that can happen to a lease.
enum Event {
    RenewalDue,
    /// Another place may be made.
    PlaceDue,
    /// What the service says of the request.
    Renewed(Result<Held, CallFailure>),
    Recorded(Result<Accepted, StoreError>),
    Deleted(Result<(), CallFailure>),
    Worker(WorkerEvent),
    StepDue,
    Wished,
    /// Something was said of how the worker is prepared, or could not be.
    Told(Box<Writer>),
    /// That the verdict is written down, and what it is.
    VerdictRecorded(Result<(), StoreError>, Verdict),
    Delivered(Delivery),
    Closed(Delivery),
}

/// Where the job is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waiting for the first renewal.
    Taking,
    /// Being written down.
    Recording,
    /// Deleting the message.
    Deleting,
    /// A worker may have the job, or has it.
    Open,
    /// The result is on its way.
    Reporting,
}

/// One job in our hands.
pub(crate) struct Lease {
    agent: Arc<AgentContext>,
    job: Job,
    label: JobLabel,
    renewal: Renewal,
    is_renewing: bool,
    /// How long the lock holds after a renewal.
    lock: Duration,
    /// How long the job was in the service's queue, once the service has said it.
    queued: Option<Duration>,
    cancellation: Cancellation,
    stage: Stage,
    hand_over: HandOver,
    /// It was accepted before our time.
    is_resumed: bool,
    /// Whether nobody was told yet that the service no longer has the job as ours.
    is_loss_untold: bool,
    /// The place of the job, from the first moment on; none once the worker has ended.
    running: Option<RunningJob>,
    /// How often a place was made again, because its worker ended before it had the job.
    places_again: u32,
    /// A worker that ended before it could have the job, and that no other one follows.
    early_exit: Option<WorkerExit>,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    reason: Option<String>,
    obeyed: Wishes,
    /// What is to be said of how the worker is prepared, and who says it.
    notes: Notes,
    console: Console,
    /// How preparing the worker ended, once it has.
    prepared: Option<TaskResult>,
    /// A verdict that is sent once everything else has been said.
    waiting: Option<Verdict>,
}

impl Lease {
    /// A job that was just offered.
    pub(crate) fn new(agent: Arc<AgentContext>, job: Job) -> Self {
        let hand_over = HandOver::held(job.message.request_id, agent.set.store.clone());
        let lock = agent.set.timings.usual_lock;
        Self {
            label: job.label(),
            renewal: Renewal::new(),
            is_renewing: false,
            lock,
            queued: None,
            cancellation: Cancellation::default(),
            stage: Stage::Taking,
            hand_over,
            is_resumed: false,
            is_loss_untold: false,
            running: None,
            places_again: 0,
            early_exit: None,
            work: FuturesUnordered::new(),
            reason: None,
            obeyed: Wishes::default(),
            notes: Notes::default(),
            console: Console::Silent,
            prepared: None,
            waiting: None,
            agent,
            job,
        }
    }

    /// Carries an offered job to its end. `wishes` may close: then nobody has anything to say any more, and
    /// the job goes on.
    pub(crate) async fn run(mut self, wishes: watch::Receiver<Wishes>) -> LeaseEnd {
        self.place(None);
        self.renew_at(Instant::now());
        self.go_on(wishes).await
    }

    /// Goes on with a job that was accepted before our time, from where its record says that it is.
    pub(crate) async fn resume(mut self, record: JobRecord, wishes: watch::Receiver<Wishes>) -> LeaseEnd {
        let resumed = SetEvent::JobResumed { agent: self.agent.name.clone(), job: self.label.clone() };
        self.agent.set.events.send(resumed);
        let now = Instant::now();
        self.is_resumed = true;
        self.renewal = Renewal::resumed(now);
        self.renew_at(now);
        if let Some(cancelled) = record.cancelled {
            self.cancelled_before(&cancelled, now);
        }
        if record.log.is_some() {
            self.console = self.writer(record.log);
        }
        match record.stage {
            Recorded::Accepted => {
                self.place(None);
                self.stage = Stage::Deleting;
                self.delete();
            }
            Recorded::Claimed(claim) => {
                self.hand_over.taken();
                self.place(Some(claim));
                self.stage = Stage::Open;
                self.is_prepared(TaskResult::Succeeded);
            }
            // Whoever reported before us may have been heard.
            Recorded::Reporting(verdict) => self.deliver(verdict.resumed()),
        }
        self.go_on(wishes).await
    }

    async fn go_on(mut self, mut wishes: watch::Receiver<Wishes>) -> LeaseEnd {
        wishes.mark_changed();
        let mut is_wishing = true;
        loop {
            let step_at = if self.is_claimed() { self.cancellation.next() } else { None };
            let event = {
                let mut worker_event = pin!(next_of(&mut self.running));
                tokio::select! {
                    Some(event) = self.work.next() => event,
                    event = &mut worker_event => Event::Worker(event),
                    changed = wishes.changed(), if is_wishing => {
                        is_wishing = changed.is_ok();
                        Event::Wished
                    }
                    () = sleep_until(step_at.unwrap_or_else(Instant::now)), if step_at.is_some() => Event::StepDue,
                }
            };
            let end = match event {
                Event::Wished => self.obey(*wishes.borrow_and_update()),
                event => self.handle(event),
            };
            if let Some(end) = end {
                return end;
            }
            self.stop_if_wanted();
        }
    }

    fn handle(&mut self, event: Event) -> Option<LeaseEnd> {
        match event {
            Event::RenewalDue => self.start_renewal(),
            Event::PlaceDue => self.place_if_wanted(),
            Event::Renewed(answer) => return self.renewed(answer),
            Event::Recorded(answer) => return self.recorded(answer),
            Event::Deleted(answer) => self.deleted(answer),
            Event::Worker(WorkerEvent::Progress(progress)) => self.tell_progress(progress),
            Event::Worker(WorkerEvent::Ended(exit)) => {
                self.running = None;
                self.worker_ended(exit);
            }
            Event::Told(writer) => self.told(writer),
            Event::VerdictRecorded(Ok(()), verdict) => self.send(verdict),
            Event::VerdictRecorded(Err(StoreError::NotOurs), _) => return Some(self.released()),
            Event::VerdictRecorded(Err(error), verdict) => {
                // The service is the better memory: it keeps the result that it is told.
                self.warn(format!("{}; it is reported anyway", describe(&error)));
                self.send(verdict);
            }
            Event::Delivered(delivery) => self.close(delivery),
            Event::Closed(delivery) => return Some(self.finish(delivery)),
            // The step itself is taken after every event.
            Event::StepDue | Event::Wished => {}
        }
        None
    }

    /// Has a place made for the job, or the one taken up that it has.
    fn place(&mut self, claimed: Option<Claim>) {
        self.running = Some(self.agent.set.executor.run(AcceptedJob {
            label: self.label.clone(),
            body: self.job.body.clone(),
            message: self.job.message.clone(),
            worker: self.agent.worker_settings(),
            claimed,
            ledger: self.hand_over.ledger(),
            lock: self.lock,
        }));
    }

    fn is_claimed(&self) -> bool {
        self.running.is_some() && self.hand_over.is_taken()
    }

    /// The job stays in the queue, or was never there for us. Its place is given up.
    fn not_taken(&mut self, may_return: bool) -> LeaseEnd {
        self.hand_over.call_back();
        self.kill();
        LeaseEnd::NotTaken { may_return }
    }

    // ---- the way to the worker ----

    /// Writes the job down. Its message may be deleted only when that is certain.
    fn record(&mut self) {
        let store = self.agent.set.store.clone();
        let record = JobRecord {
            request: self.label.request,
            job: self.label.id,
            agent: self.agent.id,
            message_id: self.job.delivered.newest(),
            body: self.job.body.clone(),
            stage: Recorded::Accepted,
            cancelled: self.obeyed.cancelled(),
            log: None,
        };
        self.work.push(Box::pin(async move { Event::Recorded(store.accept(record).await) }));
    }

    fn recorded(&mut self, answer: Result<Accepted, StoreError>) -> Option<LeaseEnd> {
        match answer {
            Ok(Accepted::New) => {
                self.stage = Stage::Deleting;
                self.delete();
                None
            }
            Ok(Accepted::Known) => {
                tracing::warn!(
                    request = %self.label.request,
                    "a job that was already taken was delivered again, its message is deleted"
                );
                Some(self.not_taken(false))
            }
            Err(StoreError::NotOurs) => Some(self.released()),
            Err(error) => {
                self.warn(format!("job `{}` is left in the queue: {}", self.label.name, describe(&error)));
                Some(self.not_taken(true))
            }
        }
    }

    /// Deletes the message. No worker may have the job before it is certain that the message cannot be
    /// delivered again.
    fn delete(&mut self) {
        let (agent, delivered) = (self.agent.clone(), self.job.delivered.clone());
        self.work.push(Box::pin(async move {
            let timings = &agent.set.timings;
            let limit = Instant::now() + timings.claim_limit;
            loop {
                let message = delivered.newest();
                let failure = match delete_message(&agent, message).await {
                    Ok(()) if delivered.deleted(message) => return Event::Deleted(Ok(())),
                    Ok(()) => continue,
                    Err(failure) => failure,
                };
                if Instant::now() >= limit {
                    return Event::Deleted(Err(failure));
                }
                tracing::info!(
                    message = %message, error = describe(&failure),
                    "could not delete a job's message, trying again"
                );
                sleep(pause_around(timings.retry_first)).await;
            }
        }));
    }

    fn deleted(&mut self, answer: Result<(), CallFailure>) {
        self.agent.set.events.send(SetEvent::JobAccepted {
            agent: self.agent.name.clone(),
            job: self.label.clone(),
            queued: self.queued,
        });
        self.stage = Stage::Open;
        match answer {
            Ok(()) if self.cancellation.reason().is_none() => {
                self.hand_over.free();
                if let Some(exit) = self.early_exit.take() {
                    self.worker_ended(exit);
                }
            }
            // Called back, below.
            Ok(()) => {}
            Err(_) if self.cancellation.reason() == Some(StopReason::LockLost) => {}
            Err(failure) => {
                self.hand_over.call_back();
                self.kill();
                self.report(
                    TaskResult::Failed,
                    Some(format!(
                        "The agent could not delete the job's message from its queue, and did not run the \
                         job, because it might have been delivered twice: {}",
                        describe(&failure)
                    )),
                );
            }
        }
    }

    // ---- wishes ----

    fn obey(&mut self, wishes: Wishes) -> Option<LeaseEnd> {
        let before = std::mem::replace(&mut self.obeyed, wishes);
        if wishes.release {
            return Some(self.released());
        }
        if let Some(cancel) = wishes.cancel.filter(|_| wishes.cancel != before.cancel) {
            self.cancel(StopReason::Cancelled, cancel.timeout);
        }
        if wishes.is_superseded && !before.is_superseded {
            self.cancel(StopReason::LockLost, self.agent.set.timings.zombie_grace);
        }
        if let Some(deadline) = wishes.stop_by.filter(|_| wishes.stop_by != before.stop_by) {
            // Nothing has run and the message is still there: somebody else may have the job. But with a
            // renewal under way it may be ours in a moment, and would be nobody's until its lock runs out.
            if self.stage == Stage::Taking && !self.is_renewing {
                return Some(self.not_taken(true));
            }
            self.stop_by(deadline);
        }
        if let (Some(running), Some(_)) = (&self.running, wishes.feed_interval_millis) {
            running.order(|orders| orders.feed_interval_millis = wishes.feed_interval_millis);
        }
        None
    }

    fn cancel(&mut self, reason: StopReason, timeout: Duration) {
        self.cancellation.request(reason, timeout, Instant::now(), &self.agent.set.timings);
    }

    /// The service cancelled the job before our time.
    fn cancelled_before(&mut self, cancelled: &Cancelled, now: Instant) {
        let since = Duration::try_from(Timestamp::now().duration_since(cancelled.at)).unwrap_or_default();
        let left = Duration::from_secs(cancelled.timeout_seconds).saturating_sub(since);
        self.cancellation.request(StopReason::Cancelled, left, now, &self.agent.set.timings);
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

    /// Does what a cancellation needs at this moment: a job that no worker has is called back and its place
    /// given up at once; a worker that has it is asked, hurried and killed in turn.
    fn stop_if_wanted(&mut self) {
        let Some(reason) = self.cancellation.reason() else { return };
        if self.stage == Stage::Reporting {
            return;
        }
        if self.hand_over.call_back() {
            self.kill();
            if self.stage == Stage::Open {
                self.called_back(reason);
            }
            return;
        }
        let Some(running) = &self.running else { return };
        let now = Instant::now();
        while let Some(step) = self.cancellation.due(now) {
            match step {
                Step::Ask => {
                    let timeout_seconds = self.cancellation.time_left(now).as_secs();
                    let reason = match reason {
                        StopReason::AgentShutdown => CancelReason::AgentShutdown,
                        StopReason::LockLost => CancelReason::LockLost,
                        StopReason::Cancelled => CancelReason::Requested,
                    };
                    running.order(|orders| orders.cancel = Some(Cancel { reason, timeout_seconds }));
                }
                Step::FlushLogs => running.order(|orders| orders.flush_logs = true),
                Step::Kill => running.kill(),
            }
        }
    }

    fn kill(&self) {
        if let Some(running) = &self.running {
            running.kill();
        }
    }
}

async fn delete_message(agent: &AgentContext, message: MessageId) -> Result<(), CallFailure> {
    // The message loop may have had to make a new session meanwhile.
    let Some(session) = agent.session() else { return Err(CallFailure::NoSession) };
    match timeout(agent.set.timings.call, agent.service.delete_message(session, message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if meaning(&error) == Meaning::Missing => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(CallFailure::Late),
    }
}

/// What happens next in the job's place, as long as there is one.
async fn next_of(running: &mut Option<RunningJob>) -> WorkerEvent {
    match running {
        Some(running) => running.next().await,
        None => std::future::pending().await,
    }
}
