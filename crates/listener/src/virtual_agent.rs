//! A virtual agent: an agent that is online in its pool though it has no machine. One task each, idle but for one long poll.
//!
//! The task does one network call at a time (make a session, or poll), minds at most one lease, and listens for the set's phase: a closed
//! [`Event`] and one `select!`. While a job runs it goes on polling, since that is how cancellations come and how the session stays alive.

mod connection;
mod jobs;
mod messages;
mod pace;

use std::{sync::Arc, time::Duration};

use dayfly_client::Error as ClientError;
use dayfly_protocol::{
    MessageId,
    crypto::AgentKey,
    message::TaskAgentMessage,
    session::{TaskAgentSession, TaskAgentSessionKey},
};
use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, timeout},
};

use self::{
    jobs::{Current, Waiting, checked, ended},
    messages::Told,
    pace::Pace,
};
use crate::{
    agent_context::{AgentContext, SetContext},
    agent_set::Phase,
    events::AgentEnd,
    lease::{LeaseEnd, Order},
    outage::Outage,
    registration::RegisteredAgent,
};

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

/// Why the service refused an agent, and how often it was looked in vain for what became of it.
struct Refusal {
    error: String,
    tries: u32,
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
    pace: Pace,
    outage: Option<Outage>,
    told: Told,
    conflict_since: Option<Instant>,
    unreadable_messages: u32,
    /// The service refused the agent, which may have been deleted: to be looked after next.
    refusal: Option<Refusal>,
    /// The poll under way is of no use any more, since it asks for later messages only.
    must_poll_anew: bool,
    current: Option<Current>,
    waiting: Option<Waiting>,
    /// There are messages in the queue that must come again once the agent takes jobs.
    has_passed_over: bool,
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
        let (context, key) = connection::open(agent, set);
        Self {
            context,
            key,
            phase,
            online: Some(online),
            session_key: None,
            last_message_id: None,
            pace: Pace::default(),
            outage: None,
            told: Told::default(),
            conflict_since: None,
            unreadable_messages: 0,
            refusal: None,
            must_poll_anew: false,
            current: None,
            waiting: None,
            has_passed_over: false,
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
            if std::mem::take(&mut self.must_poll_anew) || is_network {
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

    /// Nothing more is asked of the service: there is no job, and there shall be none. With a job in hand the polls go on, unless they are refused.
    fn is_ending(&self) -> bool {
        match self.end {
            None => false,
            Some(AgentEnd::Stopped | AgentEnd::Once) => {
                self.current.is_none() || self.context.session().is_none()
            }
            Some(AgentEnd::Revoked | AgentEnd::Deleted | AgentEnd::Failed(_)) => true,
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(answer) => self.connected(answer),
            Event::Polled { answer: Ok(None), took } => {
                self.reached();
                self.received_nothing(took);
            }
            Event::Polled { answer: Ok(Some(message)), .. } => self.received(message).await,
            Event::Polled { answer: Err(error), .. } => self.failed(&error),
            Event::Recovered(answer) => self.recovered(answer),
            Event::LeaseEnded(ended) => self.lease_ended(ended).await,
            Event::Checked(is_over) => self.checked(is_over),
            Event::Delivered(delivered) => self.delivered(delivered),
            Event::PhaseChanged => self.phase_changed(),
        }
    }

    fn is_stopping(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Run)
    }

    fn phase_changed(&mut self) {
        let phase = *self.phase.borrow_and_update();
        match (phase, &self.current) {
            (Phase::Run, _) => {}
            (Phase::Drain | Phase::Stop(_), None) => self.end_with(AgentEnd::Stopped),
            (Phase::Drain, Some(_)) => {}
            (Phase::Stop(deadline), Some(current)) => current.order(Order::StopBy(deadline)),
        }
    }

    fn end_with(&mut self, end: AgentEnd) {
        self.end.get_or_insert(end);
    }
}
