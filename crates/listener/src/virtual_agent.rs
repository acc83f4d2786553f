//! A virtual agent: an agent that is online in its pool though it has no machine. One task each, idle but for one long poll.
//!
//! The task does one network call at a time (make a session, or poll), minds at most one lease, and listens for the set's phase: a closed
//! [`Event`] and one `select!`. While a job runs it goes on polling, since that is how cancellations come and how the session stays alive.

use std::{sync::Arc, time::Duration};

use dayfly_client::Error as ClientError;
use dayfly_protocol::{
    JobId, MessageId, RequestId, TaskResult,
    crypto::{self, AgentKey, SecretBytes, SessionKey},
    job::AgentJobRequestMessage,
    json,
    message::{
        AGENT_REFRESH, AgentRefreshMessage, JOB_CANCELLATION, JOB_METADATA_UPDATE, JobCancelMessage,
        JobMetadataMessage, PIPELINE_AGENT_JOB_REQUEST, TaskAgentMessage,
    },
    session::{TaskAgentSession, TaskAgentSessionKey},
};
use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    agent_context::{AgentContext, SetContext},
    agent_set::Phase,
    backoff::{self, Backoff},
    events::{AgentEnd, Event as SetEvent},
    executor::Reported,
    job_message::JobMessage,
    lease::{Lease, LeaseEnd, Order},
    registration::RegisteredAgent,
    report::{Report, Verdict},
    service::{AgentService, Meaning, chain, meaning},
};

/// How many orders may wait for a lease; it takes them at once, so more would mean that it is stuck.
const WAITING_ORDERS: usize = 16;

/// How many results of jobs that have no lease may be on their way to the service at a time.
const UNDELIVERED_RESULTS: usize = 16;

/// How many messages in a row may be undecipherable until the agent gives up: each time it makes a new session, with a new key.
const UNREADABLE_MESSAGES: u32 = 3;

/// Everything that can happen to a virtual agent.
enum Event {
    Connected(Result<TaskAgentSession, ClientError>),
    Polled {
        answer: Result<Option<TaskAgentMessage>, ClientError>,
        took: Duration,
    },
    Recovered(Result<Option<RegisteredAgent>, String>),
    LeaseEnded(Result<LeaseEnd, JoinError>),
    /// Whether the job that keeps a second one waiting is over for the service.
    Checked(bool),
    /// The result of a job without a lease is with the service, or was given up.
    Delivered(Result<(), JoinError>),
    PhaseChanged,
}

/// The job in hand.
struct Current {
    request: RequestId,
    job: JobId,
    message_id: MessageId,
    message: Arc<AgentJobRequestMessage>,
    orders: mpsc::Sender<Order>,
    lease: AbortOnDropHandle<LeaseEnd>,
}

/// A job that came while another was in hand. Its message stays in the queue until it is taken.
struct Waiting {
    message_id: MessageId,
    message: Box<AgentJobRequestMessage>,
    cancelled: Option<Duration>,
}

pub(crate) struct VirtualAgent {
    context: Arc<AgentContext>,
    key: Arc<AgentKey>,
    phase: watch::Receiver<Phase>,
    /// Where to say, once, that it has come online.
    online: Option<Arc<watch::Sender<usize>>>,
    /// The key of the session's messages, as it came: unwrapping it costs an RSA operation, which idle agents need not pay.
    session_key: Option<TaskAgentSessionKey>,
    last_message_id: Option<MessageId>,
    backoff: Backoff,
    conflict_since: Option<Instant>,
    unreadable_messages: u32,
    not_before: Option<Instant>,
    must_recover: bool,
    /// The poll under way is of no use any more, since it asks for later messages only.
    must_poll_anew: bool,
    current: Option<Current>,
    waiting: Option<Waiting>,
    check: Option<BoxFuture<'static, Event>>,
    /// Results of jobs that have no lease, on their way to the service. That may take minutes, in which the polls must go on.
    deliveries: JoinSet<()>,
    has_had_its_job: bool,
    end: Option<AgentEnd>,
}

impl VirtualAgent {
    pub(crate) fn new(
        agent: RegisteredAgent,
        set: Arc<SetContext>,
        phase: watch::Receiver<Phase>,
        online: Arc<watch::Sender<usize>>,
    ) -> Self {
        let (context, key) = open(agent, set);
        Self {
            context,
            key,
            phase,
            online: Some(online),
            session_key: None,
            last_message_id: None,
            backoff: Backoff::default(),
            conflict_since: None,
            unreadable_messages: 0,
            not_before: None,
            must_recover: false,
            must_poll_anew: false,
            current: None,
            waiting: None,
            check: None,
            deliveries: JoinSet::new(),
            has_had_its_job: false,
            end: None,
        }
    }

    /// Runs until the set ends or the agent cannot go on; its job, if it has one, is carried to its end. Returns the context too, since a
    /// recovered agent has another number than it began with.
    pub(crate) async fn run(mut self) -> (Arc<AgentContext>, AgentEnd) {
        let mut network = self.network();
        self.phase_changed();
        loop {
            if self.end.is_some() && self.current.is_none() && self.deliveries.is_empty() {
                break;
            }
            let event = tokio::select! {
                // A lease's end comes first: a job that waits for it must not be judged by an old state.
                biased;
                ended = ended(&mut self.current) => Event::LeaseEnded(ended),
                changed = self.phase.changed() => match changed {
                    Ok(()) => Event::PhaseChanged,
                    // The set is gone without a word; its agents go too.
                    Err(_) => { self.end_with(AgentEnd::Stopped); continue }
                },
                event = checked(&mut self.check) => event,
                Some(delivered) = self.deliveries.join_next() => Event::Delivered(delivered),
                event = &mut network, if !self.is_ending() => event,
            };
            let is_network =
                matches!(event, Event::Connected(_) | Event::Polled { .. } | Event::Recovered(_));
            // Boxed, as are all long ways here: an idle agent must not carry their state about.
            Box::pin(self.handle(event)).await;
            if is_network || std::mem::take(&mut self.must_poll_anew) {
                network = self.network();
            }
        }
        // A session may be on its way; it must not be left behind, or it would block the agent's name for minutes.
        if self.context.is_connecting()
            && let Ok(Event::Connected(Ok(session))) = timeout(self.context.set.timings.call, network).await
        {
            self.context.set_session(Some(session.session_id));
        }
        Box::pin(self.delete_session()).await;
        (self.context, self.end.unwrap_or(AgentEnd::Stopped))
    }

    /// Nothing more is asked of the service: there is no job, and there shall be none. With a job in hand the polls go on.
    fn is_ending(&self) -> bool {
        self.end.is_some() && (self.current.is_none() || self.context.session().is_none())
    }

    /// The next call to make.
    fn network(&self) -> BoxFuture<'static, Event> {
        let (context, not_before) = (self.context.clone(), self.not_before);
        if self.must_recover {
            return Box::pin(async move {
                wait_until(not_before).await;
                Event::Recovered(recover(&context).await)
            });
        }
        match context.session() {
            None => Box::pin(async move {
                wait_until(not_before).await;
                // Closed never: the semaphore lives as long as the set.
                let _permit = context.set.connecting.acquire().await;
                Event::Connected(context.connect().await)
            }),
            Some(session) => {
                let last = self.last_message_id;
                Box::pin(async move {
                    wait_until(not_before).await;
                    let begun = Instant::now();
                    let answer = context.service.next_message(session, last).await;
                    Event::Polled { answer, took: begun.elapsed() }
                })
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(answer) => self.connected(answer),
            Event::Polled { answer: Ok(None), took } => {
                self.backoff.succeeded();
                let timings = &self.context.set.timings;
                self.not_before = (took < timings.empty_poll_floor).then(|| {
                    Instant::now() + backoff::between(timings.empty_poll_pause, timings.empty_poll_pause * 3)
                });
            }
            Event::Polled { answer: Ok(Some(message)), .. } => {
                self.backoff.succeeded();
                self.not_before = None;
                self.received(message).await;
            }
            Event::Polled { answer: Err(error), .. } => self.failed(&error, "polling for messages"),
            Event::Recovered(answer) => self.recovered(answer),
            Event::LeaseEnded(ended) => self.lease_ended(ended).await,
            Event::Checked(is_over) => self.checked(is_over),
            Event::Delivered(Ok(())) => {}
            Event::Delivered(Err(error)) => {
                self.context.warn(format!("a task that reported a job's result failed: {error}"));
            }
            Event::PhaseChanged => self.phase_changed(),
        }
    }

    // ---- session ----

    fn connected(&mut self, answer: Result<TaskAgentSession, ClientError>) {
        match answer {
            Ok(session) => {
                self.backoff.succeeded();
                self.conflict_since = None;
                self.not_before = None;
                // Undeleted messages of an earlier session come again; those we have acted on are known by their requests.
                self.last_message_id = None;
                self.session_key = session.encryption_key;
                self.context.set_session(Some(session.session_id));
                if let Some(online) = self.online.take() {
                    online.send_modify(|count| *count += 1);
                }
                self.context.set.events.send(SetEvent::Online { agent: self.context.name.clone() });
            }
            Err(error) if meaning(&error) == Meaning::SessionHeld => self.conflict(&error),
            Err(error) => self.failed(&error, "making a session"),
        }
    }

    fn conflict(&mut self, error: &ClientError) {
        let timings = &self.context.set.timings;
        let since = *self.conflict_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= timings.conflict_limit {
            let text = format!(
                "another process holds the session of agent `{}`; stop it, or give this agent another name ({})",
                self.context.name,
                chain(error)
            );
            self.end_with(AgentEnd::Failed(text));
            return;
        }
        self.not_before = Some(Instant::now() + backoff::around(timings.conflict_retry));
        self.context.warn(format!("the session of the agent is still held, trying again: {}", chain(error)));
    }

    /// A call of the loop failed: recover, wait, or end.
    fn failed(&mut self, error: &ClientError, doing: &'static str) {
        let timings = &self.context.set.timings;
        let can_recover = self.context.set.registrar.is_some();
        match meaning(error) {
            Meaning::SessionGone if self.context.session().is_some() => {
                tracing::info!(agent = %self.context.name, "the session has expired, making a new one");
                self.context.set_session(None);
                self.not_before = None;
            }
            // An agent that was deleted is often known only by its login being refused.
            Meaning::AgentGone | Meaning::Never if can_recover && !self.is_stopping() => {
                self.context.set_session(None);
                self.must_recover = true;
                self.not_before = None;
                self.context
                    .warn(format!("{doing} failed, looking whether the agent was deleted: {}", chain(error)));
            }
            Meaning::AgentGone => self.end_with(AgentEnd::Deleted),
            Meaning::Revoked => self.end_with(AgentEnd::Revoked),
            Meaning::Never => self.end_with(AgentEnd::Failed(format!("{doing} failed: {}", chain(error)))),
            _ => {
                let pause = self.backoff.after_failure(timings.retry_first, timings.retry_limit);
                let pause = pause.max(error.retry_after().unwrap_or_default());
                self.not_before = Some(Instant::now() + pause);
                // Once for each time the service is away; the log has the rest.
                if self.backoff.failures() == 1 {
                    self.context.warn(format!("{doing} failed, trying again: {}", chain(error)));
                } else {
                    tracing::debug!(agent = %self.context.name, error = chain(error), ?pause, "{doing} failed again");
                }
            }
        }
    }

    fn recovered(&mut self, answer: Result<Option<RegisteredAgent>, String>) {
        self.must_recover = false;
        match answer {
            Ok(Some(agent)) => {
                self.context.warn("the agent was deleted from its pool and is registered again".to_owned());
                // A job in hand keeps the context it began with.
                (self.context, self.key) = open(agent, self.context.set.clone());
                self.not_before = None;
            }
            Ok(None) => self.end_with(AgentEnd::Failed(
                "the agent is registered, but the service refuses its login; replace the agent".to_owned(),
            )),
            Err(text) => {
                let timings = &self.context.set.timings;
                if self.backoff.failures() >= 5 {
                    self.end_with(AgentEnd::Failed(format!(
                        "the agent could not be registered again: {text}"
                    )));
                    return;
                }
                self.not_before = Some(
                    Instant::now() + self.backoff.after_failure(timings.retry_first, timings.retry_limit),
                );
                self.must_recover = true;
            }
        }
    }

    async fn delete_session(&mut self) {
        let Some(session) = self.context.session() else { return };
        self.context.set_session(None);
        // When a whole set ends, not all of its agents say so at once.
        let _permit = self.context.set.connecting.acquire().await;
        match timeout(self.context.set.timings.call, self.context.service.delete_session(session)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(agent = %self.context.name, error = chain(&error), "a session could not be deleted; it will expire")
            }
            Err(_) => {
                tracing::info!(agent = %self.context.name, "a session could not be deleted in time; it will expire")
            }
        }
    }

    // ---- messages ----

    async fn received(&mut self, message: TaskAgentMessage) {
        let body = match self.open_message(&message) {
            Ok(body) => body,
            Err(error) => return self.unreadable(&message, &error).await,
        };
        self.unreadable_messages = 0;
        self.last_message_id =
            Some(self.last_message_id.map_or(message.message_id, |last| last.max(message.message_id)));
        let is = |kind: &str| message.message_type.eq_ignore_ascii_case(kind);
        if is(PIPELINE_AGENT_JOB_REQUEST) {
            return self.job_received(message.message_id, body.expose()).await;
        }
        if is(JOB_CANCELLATION) {
            self.cancellation_received(body.expose());
        } else if is(JOB_METADATA_UPDATE) {
            self.metadata_received(body.expose());
        } else if is(AGENT_REFRESH) {
            let version = json::from_slice::<AgentRefreshMessage>(body.expose())
                .ok()
                .and_then(|refresh| refresh.target_version)
                .unwrap_or_default();
            self.context.warn(format!("the service asks for agent version {version}; Dayfly never updates itself, so update it if jobs demand that version"));
        } else {
            self.context.warn(format!("a message of the unknown type `{}` is ignored", message.message_type));
        }
        self.delete_message(message.message_id).await;
    }

    fn open_message(&self, message: &TaskAgentMessage) -> Result<SecretBytes, crypto::Error> {
        // The key is unwrapped for every message, as the official agent does it: messages are rare.
        let key = match &self.session_key {
            Some(wire) => SessionKey::from_wire(wire, &self.key)?,
            None => None,
        };
        crypto::open_message(key.as_ref(), message)
    }

    /// A new session has a new key, and the message comes again; if that does not help, nothing will.
    async fn unreadable(&mut self, message: &TaskAgentMessage, error: &crypto::Error) {
        self.unreadable_messages += 1;
        let text = format!("message {} could not be decrypted: {}", message.message_id, chain(error));
        self.context.warn(text.clone());
        if self.unreadable_messages >= UNREADABLE_MESSAGES {
            self.end_with(AgentEnd::Failed(format!(
                "{text}; the agent's key is not the one it was registered with, so replace the agent"
            )));
            return;
        }
        self.delete_session().await;
        self.not_before = Some(Instant::now() + backoff::around(self.context.set.timings.retry_first));
    }

    fn cancellation_received(&mut self, body: &[u8]) {
        let cancel = match json::from_slice::<JobCancelMessage>(body) {
            Ok(cancel) => cancel,
            Err(error) => {
                return self.context.warn(format!("a cancellation could not be read: {}", chain(&error)));
            }
        };
        if let Some(current) = self.current.as_ref().filter(|current| current.job == cancel.job_id) {
            order(current, Order::Cancel(cancel.timeout.0));
        } else if let Some(waiting) =
            self.waiting.as_mut().filter(|waiting| waiting.message.job_id == cancel.job_id)
        {
            waiting.cancelled = Some(cancel.timeout.0);
        } else {
            tracing::info!(agent = %self.context.name, job = %cancel.job_id, "a cancellation of a job that does not run here is ignored");
        }
    }

    fn metadata_received(&self, body: &[u8]) {
        let Ok(metadata) = json::from_slice::<JobMetadataMessage>(body) else {
            return tracing::warn!(agent = %self.context.name, "a metadata update could not be read");
        };
        let pace = metadata.post_lines_frequency_millis.and_then(|pace| u64::try_from(pace).ok());
        if let (Some(current), Some(pace)) =
            (self.current.as_ref().filter(|current| current.job == metadata.job_id), pace)
        {
            order(current, Order::Metadata(pace));
        }
    }

    async fn delete_message(&mut self, message: MessageId) {
        let Some(session) = self.context.session() else { return };
        let answer =
            timeout(self.context.set.timings.call, self.context.service.delete_message(session, message))
                .await;
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(agent = %self.context.name, %message, error = chain(&error), "a message could not be deleted")
            }
            Err(_) => {
                tracing::warn!(agent = %self.context.name, %message, "a message could not be deleted in time")
            }
        }
    }

    // ---- jobs ----

    async fn job_received(&mut self, message_id: MessageId, body: &[u8]) {
        match JobMessage::read(body) {
            JobMessage::Whole(message) => {
                self.offered(Waiting { message_id, message, cancelled: None }).await
            }
            JobMessage::Broken { remains, reason } => self.refuse(message_id, remains, reason).await,
            JobMessage::Unreadable(reason) => {
                self.context.warn(format!("a job is given up, since {reason}, and not even its ids could be read; the service will end it when its lock runs out"));
                self.delete_message(message_id).await;
            }
        }
    }

    /// Takes a job, or lets it wait, or leaves it in the queue for somebody else.
    async fn offered(&mut self, offer: Waiting) {
        let request = offer.message.request_id;
        if self.current.as_ref().is_some_and(|current| current.request == request) {
            // Ours, and its deletion is under way: the lease tries again by itself.
            tracing::debug!(agent = %self.context.name, %request, "the message of the job in hand came again");
            return;
        }
        if self.is_stopping() || self.end.is_some() || self.has_had_its_job {
            tracing::info!(agent = %self.context.name, %request, "a job is left in the queue, since this agent takes no more");
            return;
        }
        if self.current.is_some() {
            // The service may know of the end of the job in hand before we do.
            self.waiting = Some(offer);
            self.check = Some(self.check_after(self.context.set.timings.overdue));
            return;
        }
        if !self.context.set.accepted.take(request) {
            tracing::warn!(agent = %self.context.name, %request, "a job that was already taken was delivered again, its message is deleted");
            self.delete_message(offer.message_id).await;
            return;
        }
        self.accept(offer);
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
            order(&current, Order::Cancel(timeout));
        }
        self.has_had_its_job = self.context.set.is_once;
        self.current = Some(current);
    }

    /// A job whose message is broken is ended as failed, with the reason.
    async fn refuse(&mut self, message_id: MessageId, remains: Box<AgentJobRequestMessage>, reason: String) {
        self.context.warn(format!("job `{}` cannot be run, since {reason}", remains.job_display_name));
        self.delete_message(message_id).await;
        if !self.context.set.accepted.take(remains.request_id) {
            return;
        }
        let text = format!("This job could not be run, since {reason}.");
        self.deliver(Arc::from(remains), Reported::No, text).await;
    }

    /// Has a job that has no lease ended as failed, by a task of its own.
    async fn deliver(&mut self, message: Arc<AgentJobRequestMessage>, reported: Reported, reason: String) {
        while self.deliveries.len() >= UNDELIVERED_RESULTS {
            if let Some(delivered) = self.deliveries.join_next().await {
                tracing::debug!(agent = %self.context.name, ?delivered, "a result made room for another");
            }
        }
        let (context, request) = (self.context.clone(), message.request_id);
        let report = self.report(message);
        self.deliveries.spawn(async move {
            let verdict = Verdict { result: TaskResult::Failed, reported, reason: Some(reason) };
            let delivery = report.deliver(verdict).await;
            tracing::info!(agent = %context.name, %request, ?delivery, "a job without a lease was ended");
            context.set.accepted.finish(request);
        });
    }

    fn report(&self, message: Arc<AgentJobRequestMessage>) -> Report {
        Report {
            agent: self.context.service.clone(),
            job: self.context.service.job(&message, &self.context.set.server_url, self.context.set.is_once),
            message,
            timings: self.context.set.timings.clone(),
        }
    }

    async fn lease_ended(&mut self, ended: Result<LeaseEnd, JoinError>) {
        let Some(current) = self.current.take() else { return };
        self.check = None;
        match ended {
            Ok(LeaseEnd::Finished) => self.context.set.accepted.finish(current.request),
            Ok(LeaseEnd::NotTaken { may_return }) => {
                self.context.set.accepted.give_back(current.request);
                self.has_had_its_job = false;
                if may_return {
                    // It is still in the queue and shall come again.
                    self.last_message_id = None;
                    self.must_poll_anew = self.context.session().is_some();
                    self.not_before =
                        Some(Instant::now() + backoff::around(self.context.set.timings.retry_first));
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
        } else if let Some(waiting) = self.waiting.take() {
            self.offered(waiting).await;
        }
    }

    // ---- a second job ----

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

    fn checked(&mut self, is_over: bool) {
        let (Some(current), true) = (&self.current, self.waiting.is_some()) else { return };
        if is_over {
            order(current, Order::Superseded);
        } else {
            self.check = Some(self.check_after(self.context.set.timings.overdue * 6));
        }
    }

    // ---- the set's phase ----

    fn is_stopping(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Run)
    }

    fn phase_changed(&mut self) {
        let phase = *self.phase.borrow_and_update();
        match (phase, &self.current) {
            (Phase::Run, _) => {}
            (Phase::Drain | Phase::Stop(_), None) => self.end_with(AgentEnd::Stopped),
            (Phase::Drain, Some(_)) => {}
            (Phase::Stop(deadline), Some(current)) => order(current, Order::StopBy(deadline)),
        }
    }

    fn end_with(&mut self, end: AgentEnd) {
        self.end.get_or_insert(end);
    }
}

/// Makes an agent's context out of its registration.
fn open(agent: RegisteredAgent, set: Arc<SetContext>) -> (Arc<AgentContext>, Arc<AgentKey>) {
    let key = agent.key.clone();
    let service = AgentService::new(agent.connection, set.pool);
    (Arc::new(AgentContext::new(agent.id, agent.name, service, set)), key)
}

/// Looks whether the agent is still registered, and registers it again if not.
async fn recover(context: &AgentContext) -> Result<Option<RegisteredAgent>, String> {
    let Some(registrar) = &context.set.registrar else { return Ok(None) };
    let _permit = context.set.connecting.acquire().await;
    registrar.recover(context.id, context.name.clone()).await.map_err(|error| chain(&error))
}

fn order(current: &Current, order: Order) {
    if current.orders.try_send(order).is_err() {
        tracing::debug!(request = %current.request, ?order, "an order came too late for its job");
    }
}

async fn wait_until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}

async fn ended(current: &mut Option<Current>) -> Result<LeaseEnd, JoinError> {
    match current {
        Some(current) => (&mut current.lease).await,
        None => std::future::pending().await,
    }
}

async fn checked(check: &mut Option<BoxFuture<'static, Event>>) -> Event {
    match check {
        Some(future) => {
            let event = future.await;
            *check = None;
            event
        }
        None => std::future::pending().await,
    }
}
