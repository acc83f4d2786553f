//! Which jobs an agent takes: one at a time, each once. A second one waits for the first to end; later ones
//! stay in the queue.
//!
//! The service gives an agent the next job as soon as it has the result of the last, which may be before the
//! worker has ended. The official agent chains such jobs and gives the second up when the service still has
//! the first as running (`JobDispatcher.cs`, `EnsureDispatchFinished`); here the second waits, its message
//! undeleted, until the first has ended here, and meanwhile the service is asked now and then whether it
//! ended there.

use std::{sync::Arc, time::Duration};

use dayfly_client::{describe, pause_around};
use dayfly_protocol::{
    JobId, MessageId, RequestId, TaskResult, channel::SecretJson, job::AgentJobRequestMessage,
};
use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Event, VirtualAgent, messages::Worth};
use crate::{
    agents::job_message::JobMessage,
    agents::phase::Phase,
    events::AgentEnd,
    lease::report::Report,
    lease::{Delivered, Job, Lease, LeaseEnd, Wanted, Wishes},
    service::{Meaning, meaning},
    store::{Accepted, JobRecord, Reported, Stage, Verdict},
};

/// How many results of jobs that have no lease may be on their way to the service at a time.
const UNDELIVERED_RESULTS: usize = 16;

/// The job in hand.
pub(super) struct Current {
    pub(super) request: RequestId,
    pub(super) job: JobId,
    message: Arc<AgentJobRequestMessage>,
    delivered: Arc<Delivered>,
    wishes: watch::Sender<Wishes>,
    lease: AbortOnDropHandle<LeaseEnd>,
}

impl Current {
    /// Changes what is wanted of the job.
    pub(super) fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        self.wishes.send_modify(change);
    }
}

/// A job that came while another was in hand. Its message stays in the queue until it is taken.
pub(super) struct Waiting {
    message_id: MessageId,
    body: Arc<SecretJson>,
    pub(super) message: Box<AgentJobRequestMessage>,
    pub(super) cancelled: Option<Wanted>,
}

impl VirtualAgent {
    pub(super) async fn job_received(&mut self, message_id: MessageId, body: &[u8]) -> Worth {
        match JobMessage::read(body) {
            JobMessage::Whole { message, body } => {
                let body = Arc::new(body);
                self.offered(Waiting { message_id, body, message, cancelled: None }).await
            }
            JobMessage::Broken { remains, body, reason } => {
                self.refuse(message_id, remains, Arc::new(body), reason).await
            }
            JobMessage::Unreadable(reason) => {
                let text = format!(
                    "giving up on a job, because {reason}; its ids are unreadable too, so the service will \
                     end it when its lock expires"
                );
                self.told.once(&self.context, "unreadable job", text);
                self.delete_message(message_id).await;
                Worth::Useless(format!("a job's message is unreadable, because {reason}"))
            }
        }
    }

    /// Takes a job, or lets it wait, or leaves it in the queue.
    async fn offered(&mut self, offer: Waiting) -> Worth {
        let request = offer.message.request_id;
        if let Some(current) = self.current.as_ref().filter(|current| current.request == request) {
            tracing::debug!(
                agent = %self.context.name, %request,
                "the message of the job in hand came again"
            );
            if current.delivered.came_again(offer.message_id) {
                self.delete_message(offer.message_id).await;
            }
            return Worth::Notice;
        }
        if self.takes_no_more() {
            tracing::info!(
                agent = %self.context.name, %request,
                "left a job in the queue, because this agent takes no more"
            );
            self.has_passed_over = true;
            return Worth::Notice;
        }
        if self.current.is_some() {
            if self.waiting.is_some() {
                tracing::info!(
                    agent = %self.context.name, %request,
                    "left a job in the queue, because another one is waiting"
                );
                self.has_passed_over = true;
                return Worth::Notice;
            }
            self.waiting = Some(offer);
            self.check = Some(self.check_after(self.context.set.timings.overdue));
            return Worth::Work;
        }
        self.accept(offer);
        Worth::Work
    }

    /// Goes on with jobs that were accepted before our time: with one that a worker has, or may have, and
    /// with the results of others.
    pub(super) async fn take_up(&mut self) {
        while self.current.is_none()
            && let Some(record) = self.unfinished.pop_front()
        {
            let request = record.request;
            match (JobMessage::read(record.body.expose().as_bytes()), &record.stage) {
                (JobMessage::Whole { message, .. }, _) => self.resume(Arc::from(message), record),
                (JobMessage::Broken { remains, .. }, Stage::Reporting(verdict)) => {
                    let verdict = verdict.clone();
                    self.deliver(Arc::from(remains), verdict).await;
                }
                (JobMessage::Broken { .. } | JobMessage::Unreadable(_), _) => {
                    self.context.warn(format!(
                        "cannot read the record of job request {request}; the job is left to the \
                         service"
                    ));
                }
            }
        }
    }

    fn resume(&mut self, message: Arc<AgentJobRequestMessage>, record: JobRecord) {
        tracing::info!(agent = %self.context.name, request = %record.request, "a job is taken up again");
        let (body, message_id) = (record.body.clone(), record.message_id);
        self.hold(message, body, message_id, Wishes::default(), |lease, wanted| {
            tokio::spawn(lease.resume(record, wanted))
        });
    }

    fn accept(&mut self, offer: Waiting) {
        let Waiting { message_id, body, message, cancelled } = offer;
        let wishes = Wishes { cancel: cancelled, ..Wishes::default() };
        self.hold(Arc::from(message), body, message_id, wishes, |lease, wanted| {
            tokio::spawn(lease.run(wanted))
        });
    }

    /// Makes a job the one in hand, with a lease that `begin` sets off.
    fn hold(
        &mut self,
        message: Arc<AgentJobRequestMessage>,
        body: Arc<SecretJson>,
        message_id: MessageId,
        wishes: Wishes,
        begin: impl FnOnce(Lease, watch::Receiver<Wishes>) -> JoinHandle<LeaseEnd>,
    ) {
        let delivered = Arc::new(Delivered::new(message_id));
        let (wishes, wanted) = watch::channel(wishes);
        let job = Job { body, message: message.clone(), delivered: delivered.clone() };
        let lease = begin(Lease::new(self.context.clone(), job), wanted);
        self.current = Some(Current {
            request: message.request_id,
            job: message.job_id,
            message,
            delivered,
            wishes,
            lease: AbortOnDropHandle::new(lease),
        });
        self.has_had_its_job = self.context.set.is_once;
    }

    /// A job whose message is broken is ended as failed, with the reason.
    async fn refuse(
        &mut self,
        message_id: MessageId,
        remains: Box<AgentJobRequestMessage>,
        body: Arc<SecretJson>,
        reason: String,
    ) -> Worth {
        let verdict = Verdict {
            result: TaskResult::Failed,
            reported: Reported::No,
            reason: Some(format!("The agent could not run this job, because {reason}.")),
        };
        let record = JobRecord {
            request: remains.request_id,
            job: remains.job_id,
            agent: self.context.id,
            message_id,
            body,
            stage: Stage::Reporting(verdict.clone()),
            cancelled: None,
            log: None,
        };
        let accepted = self.context.set.store.accept(record).await;
        match accepted {
            Ok(Accepted::New) => {}
            Ok(Accepted::Known) => {
                self.delete_message(message_id).await;
                return Worth::Notice;
            }
            Err(error) => {
                let (agent, error) = (&self.context.name, describe(&error));
                tracing::warn!(%agent, error, "could not record a broken job, leaving it in the queue");
                return Worth::Notice;
            }
        }
        self.context.warn(format!("cannot run job `{}`, because {reason}", remains.job_display_name));
        self.delete_message(message_id).await;
        self.deliver(Arc::from(remains), verdict).await;
        Worth::Notice
    }

    /// Has a job that has no lease ended, by a task of its own.
    async fn deliver(&mut self, message: Arc<AgentJobRequestMessage>, verdict: Verdict) {
        while self.deliveries.len() >= UNDELIVERED_RESULTS {
            if let Some(delivered) = self.deliveries.join_next().await {
                self.delivered(delivered);
            }
        }
        let (context, request) = (self.context.clone(), message.request_id);
        let report = Report {
            agent: context.service.clone(),
            job: context.service.job(&message, &context.set.server_url, context.set.is_once),
            message,
            timings: context.set.timings.clone(),
        };
        self.deliveries.spawn(async move {
            let delivery = report.deliver(verdict).await;
            tracing::info!(agent = %context.name, %request, ?delivery, "a job without a lease was ended");
            if let Err(error) = context.set.store.close(request).await {
                let error = describe(&error);
                tracing::warn!(%request, error, "could not remove the record of a job that is over");
            }
        });
    }

    pub(super) fn delivered(&self, delivered: Result<(), JoinError>) {
        if let Err(error) = delivered {
            self.context.warn(format!("a task that reported a job's result failed: {error}"));
        }
    }

    pub(super) async fn lease_ended(&mut self, ended: Result<LeaseEnd, JoinError>) {
        let Some(current) = self.current.take() else { return };
        self.check = None;
        match ended {
            Ok(LeaseEnd::Finished) => {}
            // Its session and everything else is let go as well.
            Ok(LeaseEnd::Released) => return,
            Ok(LeaseEnd::NotTaken { may_return }) => {
                self.has_had_its_job = false;
                if may_return {
                    // It is still in the queue and shall come again.
                    self.poll_from_the_beginning();
                    self.pace.after(pause_around(self.context.set.timings.retry_first));
                } else {
                    self.delete_message(current.delivered.newest()).await;
                }
            }
            Err(error) => {
                self.context.warn(format!(
                    "the task that minded job `{}` failed: {error}",
                    current.message.job_display_name
                ));
                let text = "The agent had an internal error while it minded this job; its log says more.";
                let verdict = Verdict {
                    result: TaskResult::Failed,
                    reported: Reported::Perhaps,
                    reason: Some(text.to_owned()),
                };
                self.deliver(current.message, verdict).await;
            }
        }
        self.take_up().await;
        if self.current.is_some() {
            return;
        }
        if self.has_had_its_job && self.phase() != Phase::Release {
            self.end_with(AgentEnd::Once);
        } else if self.is_stopping() {
            // The job may have ended before the change of phase was heard of; one that is released keeps its
            // session.
            self.phase_changed();
        } else {
            let waiting = self.waiting.take();
            if self.has_passed_over {
                self.poll_from_the_beginning();
            }
            if let Some(waiting) = waiting {
                let _ = self.offered(waiting).await;
            }
        }
    }

    fn takes_no_more(&self) -> bool {
        self.is_stopping() || self.phase() == Phase::Pause || self.end.is_some() || self.has_had_its_job
    }

    pub(super) fn leaves_jobs_in_the_queue(&self) -> bool {
        self.waiting.is_some() || self.takes_no_more()
    }

    /// All messages that were not deleted come again.
    pub(super) fn poll_from_the_beginning(&mut self) {
        self.waiting = None;
        self.check = None;
        self.has_passed_over = false;
        self.last_message_id = None;
        self.must_poll_anew = self.context.session().is_some();
    }

    /// Asks the service after a while whether the job in hand is still wanted.
    fn check_after(&self, pause: Duration) -> BoxFuture<'static, Event> {
        let (context, request) = (self.context.clone(), self.current.as_ref().map(|current| current.request));
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let Some(request) = request else { return Event::Checked(false) };
            let is_over = match timeout(context.set.timings.call, context.service.request(request)).await {
                Ok(Ok(request)) => request.result.is_some(),
                Ok(Err(error)) => meaning(&error) == Meaning::JobGone,
                Err(_) => false,
            };
            Event::Checked(is_over)
        })
    }

    pub(super) fn checked(&mut self, is_over: bool) {
        let (Some(current), true) = (&self.current, self.waiting.is_some()) else { return };
        if is_over {
            current.wish(|wishes| wishes.is_superseded = true);
        } else {
            self.check = Some(self.check_after(self.context.set.timings.overdue * 6));
        }
    }
}

/// Waits for the end of the job in hand, if there is one.
pub(super) async fn ended(current: &mut Option<Current>) -> Result<LeaseEnd, JoinError> {
    match current {
        Some(current) => (&mut current.lease).await,
        None => std::future::pending().await,
    }
}

/// Waits for what the service says of the job in hand, if it was asked.
pub(super) async fn checked(check: &mut Option<BoxFuture<'static, Event>>) -> Event {
    match check {
        Some(future) => {
            let event = future.await;
            *check = None;
            event
        }
        None => std::future::pending().await,
    }
}
