//! Which jobs an agent takes: one at a time, each once. A second one waits for the first to end; later ones stay in the queue.
//!
//! The service gives an agent the next job as soon as it has the result of the last, which may be before the worker has ended. The official agent
//! chains such jobs and gives the second up when the service still has the first as running (`JobDispatcher.cs`, `EnsureDispatchFinished`); here the
//! second waits, its message undeleted, until the first has ended here, and meanwhile the service is asked now and then whether it ended there.

use std::{sync::Arc, time::Duration};

use dayfly_protocol::{JobId, MessageId, RequestId, TaskResult, job::AgentJobRequestMessage};
use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinError, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Event, VirtualAgent, messages::Worth};
use crate::{
    backoff,
    events::AgentEnd,
    executor::Reported,
    job_message::JobMessage,
    lease::{Lease, LeaseEnd, Order},
    report::{Report, Verdict},
    service::{Meaning, meaning},
};

/// How many orders may wait for a lease; it takes them at once, so more would mean that it is stuck.
const WAITING_ORDERS: usize = 16;

/// How many results of jobs that have no lease may be on their way to the service at a time.
const UNDELIVERED_RESULTS: usize = 16;

/// The job in hand.
pub(super) struct Current {
    request: RequestId,
    pub(super) job: JobId,
    message_id: MessageId,
    message: Arc<AgentJobRequestMessage>,
    orders: mpsc::Sender<Order>,
    lease: AbortOnDropHandle<LeaseEnd>,
}

impl Current {
    pub(super) fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!(request = %self.request, ?order, "an order came too late for its job");
        }
    }
}

/// A job that came while another was in hand. Its message stays in the queue until it is taken.
pub(super) struct Waiting {
    message_id: MessageId,
    pub(super) message: Box<AgentJobRequestMessage>,
    pub(super) cancelled: Option<Duration>,
}

impl VirtualAgent {
    pub(super) async fn job_received(&mut self, message_id: MessageId, body: &[u8]) -> Worth {
        match JobMessage::read(body) {
            JobMessage::Whole(message) => {
                self.offered(Waiting { message_id, message, cancelled: None }).await
            }
            JobMessage::Broken { remains, reason } => self.refuse(message_id, remains, reason).await,
            JobMessage::Unreadable(reason) => {
                let text = format!(
                    "a job is given up, since {reason}, and not even its ids could be read; the service will end it when its lock runs out"
                );
                self.told.once(&self.context, "unreadable job", text);
                self.delete_message(message_id).await;
                Worth::Useless(format!("a job's message cannot be read, since {reason}"))
            }
        }
    }

    /// Takes a job, or lets it wait, or leaves it in the queue.
    async fn offered(&mut self, offer: Waiting) -> Worth {
        let request = offer.message.request_id;
        if self.current.as_ref().is_some_and(|current| current.request == request) {
            // Ours, and its deletion is under way: the lease tries again by itself.
            tracing::debug!(agent = %self.context.name, %request, "the message of the job in hand came again");
            return Worth::Notice;
        }
        if self.takes_no_more() {
            tracing::info!(agent = %self.context.name, %request, "a job is left in the queue, since this agent takes no more");
            self.has_passed_over = true;
            return Worth::Notice;
        }
        if self.current.is_some() {
            if self.waiting.is_some() {
                tracing::info!(agent = %self.context.name, %request, "a job is left in the queue, since another one waits already");
                self.has_passed_over = true;
                return Worth::Notice;
            }
            self.waiting = Some(offer);
            self.check = Some(self.check_after(self.context.set.timings.overdue));
            return Worth::Work;
        }
        if !self.context.set.accepted.take(request) {
            tracing::warn!(agent = %self.context.name, %request, "a job that was already taken was delivered again, its message is deleted");
            self.delete_message(offer.message_id).await;
            return Worth::Notice;
        }
        self.accept(offer);
        Worth::Work
    }

    fn accept(&mut self, offer: Waiting) {
        let message = Arc::<AgentJobRequestMessage>::from(offer.message);
        let (orders, receiver) = mpsc::channel(WAITING_ORDERS);
        let lease = Lease::new(self.context.clone(), message.clone(), offer.message_id);
        let current = Current {
            request: message.request_id,
            job: message.job_id,
            message_id: offer.message_id,
            message,
            orders,
            lease: AbortOnDropHandle::new(tokio::spawn(lease.run(receiver))),
        };
        if let Some(timeout) = offer.cancelled {
            current.order(Order::Cancel(timeout));
        }
        self.has_had_its_job = self.context.set.is_once;
        self.current = Some(current);
    }

    /// A job whose message is broken is ended as failed, with the reason.
    async fn refuse(
        &mut self,
        message_id: MessageId,
        remains: Box<AgentJobRequestMessage>,
        reason: String,
    ) -> Worth {
        self.delete_message(message_id).await;
        if !self.context.set.accepted.take(remains.request_id) {
            return Worth::Notice;
        }
        self.context.warn(format!("job `{}` cannot be run, since {reason}", remains.job_display_name));
        let text = format!("This job could not be run, since {reason}.");
        self.deliver(Arc::from(remains), Reported::No, text).await;
        Worth::Notice
    }

    /// Has a job that has no lease ended as failed, by a task of its own.
    async fn deliver(&mut self, message: Arc<AgentJobRequestMessage>, reported: Reported, reason: String) {
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
            let verdict = Verdict { result: TaskResult::Failed, reported, reason: Some(reason) };
            let delivery = report.deliver(verdict).await;
            tracing::info!(agent = %context.name, %request, ?delivery, "a job without a lease was ended");
            context.set.accepted.finish(request);
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
            Ok(LeaseEnd::Finished) => self.context.set.accepted.finish(current.request),
            Ok(LeaseEnd::NotTaken { may_return }) => {
                self.context.set.accepted.give_back(current.request);
                self.has_had_its_job = false;
                if may_return {
                    // It is still in the queue and shall come again.
                    self.poll_from_the_beginning();
                    self.pace.after(backoff::around(self.context.set.timings.retry_first));
                } else {
                    self.delete_message(current.message_id).await;
                }
            }
            Err(error) => {
                self.context.warn(format!(
                    "the task that minded job `{}` failed: {error}",
                    current.message.job_display_name
                ));
                let text =
                    "The agent had an internal error while it minded this job; its log says more.".to_owned();
                self.deliver(current.message, Reported::Perhaps, text).await;
            }
        }
        if self.has_had_its_job {
            self.end_with(AgentEnd::Once);
        } else if self.is_stopping() {
            self.end_with(AgentEnd::Stopped);
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
        self.is_stopping() || self.end.is_some() || self.has_had_its_job
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
            current.order(Order::Superseded);
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
