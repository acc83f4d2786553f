//! A virtual agent: an agent that is online in its pool though it has no machine. One task each, idle but for
//! one long poll.
//!
//! The task does one network call at a time (make a session, or poll), minds at most one lease, and listens
//! for the set's phase: a closed [`Event`] and one `select!`. While a job runs it goes on polling, since that
//! is how cancellations come and how the session stays alive.

mod connection;
mod jobs;
mod messages;
mod pace;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use dayfly_client::Error as ClientError;
use dayfly_protocol::{
    MessageId, SessionId,
    crypto::AgentKey,
    message::TaskAgentMessage,
    session::{TaskAgentSession, TaskAgentSessionKey},
};
use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    jobs::{Current, Waiting, checked, ended},
    messages::Told,
    pace::Pace,
};
use crate::{
    agents::outage::Outage,
    agents::phase::Phase,
    agents::registration::{RegisteredAgent, Registrar},
    context::{AgentContext, SetContext},
    events::AgentEnd,
    failures::RegistrationError,
    lease::LeaseEnd,
    store::{JobRecord, Registration},
};

/// Everything that can happen to a virtual agent.
enum Event {
    Connected(Result<TaskAgentSession, ClientError>),
    /// The agents are somebody else's by now.
    Lost,
    Polled {
        answer: Result<Option<TaskAgentMessage>, ClientError>,
        took: Duration,
    },
    Recovered(Result<Option<RegisteredAgent>, RegistrationError>),
    LeaseEnded(Result<LeaseEnd, JoinError>),
    /// Whether the job that keeps a second one waiting is over for the service.
    Checked(bool),
    /// The result of a job without a lease is with the service, or was given up.
    Delivered(Result<(), JoinError>),
    PhaseChanged,
}

/// Why the service refused an agent, and how often it was looked in vain for what became of it.
struct Refusal {
    error: Arc<ClientError>,
    tries: u32,
}

pub(crate) struct VirtualAgent {
    context: Arc<AgentContext>,
    key: Arc<AgentKey>,
    phase: watch::Receiver<Phase>,
    /// Cancelled when this agent is wanted no more.
    dismissed: CancellationToken,
    knows_dismissal: bool,
    /// It has no session since it is to have none.
    is_offline: bool,
    /// Where to say, once, that it has come online.
    online: Option<Arc<watch::Sender<usize>>>,
    /// Present when we may register agents, and so may register a deleted one again.
    registrar: Option<Arc<Registrar>>,
    /// Who it is, as it is written down.
    registration: Registration,
    /// A session of the agent that it had before our time, and does not answer as ours any more: in the way
    /// of a new one.
    stale: Option<SessionId>,
    /// The key of the session's messages, as it came: unwrapping it costs an RSA operation, which idle agents
    /// need not pay.
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
    /// Results of jobs that have no lease, on their way to the service. That may take minutes, in which the
    /// polls must go on.
    deliveries: JoinSet<()>,
    has_had_its_job: bool,
    /// Jobs that were accepted before our time, until their turn comes.
    unfinished: VecDeque<JobRecord>,
    end: Option<AgentEnd>,
}

/// What an agent begins with, beside who it is.
pub(crate) struct Begin {
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) dismissed: CancellationToken,
    pub(crate) online: Arc<watch::Sender<usize>>,
    pub(crate) registrar: Option<Arc<Registrar>>,
    /// Its jobs that were accepted before our time.
    pub(crate) jobs: VecDeque<JobRecord>,
}

impl VirtualAgent {
    pub(crate) fn new(agent: RegisteredAgent, set: Arc<SetContext>, begin: Begin) -> Self {
        let registration = agent.registration.clone();
        let (context, key) = connection::open(agent, set);
        // A session that was ours before is ours still, as long as the service says so.
        let session = registration.session.clone();
        context.set_session(session.as_ref().map(|session| session.id));
        Self {
            context,
            key,
            phase: begin.phase,
            dismissed: begin.dismissed,
            knows_dismissal: false,
            is_offline: false,
            online: Some(begin.online),
            registrar: begin.registrar,
            registration,
            stale: None,
            session_key: session.and_then(|session| session.key),
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
            unfinished: begin.jobs,
            end: None,
        }
    }

    /// Runs until the set ends or the agent cannot go on; its job, if it has one, is carried to its end.
    /// Returns the context too, since a recovered agent has another number than it began with.
    pub(crate) async fn run(mut self) -> (Arc<AgentContext>, AgentEnd) {
        Box::pin(self.take_up()).await;
        self.phase_changed();
        Box::pin(self.go_offline()).await;
        let (mut network, mut settles_at) = (self.network(), self.settles_at());
        loop {
            if self.end.is_some() && self.current.is_none() && self.deliveries.is_empty() {
                break;
            }
            let set = self.context.set.clone();
            let event = tokio::select! {
                // A lease's end comes first: a job that waits for it must not be judged by an old state.
                biased;
                ended = ended(&mut self.current) => Event::LeaseEnded(ended),
                changed = self.phase.changed() => match changed {
                    Ok(()) => Event::PhaseChanged,
                    // The set is gone without a word; its agents go too.
                    Err(_) => { self.end_with(AgentEnd::Stopped); continue }
                },
                () = self.dismissed.cancelled(), if !self.knows_dismissal => Event::PhaseChanged,
                () = set.lost.cancelled(), if !self.is_released() => Event::PhaseChanged,
                event = checked(&mut self.check) => event,
                Some(delivered) = self.deliveries.join_next() => Event::Delivered(delivered),
                event = &mut network, if !self.is_ending() => event,
                () = sleep_until(settles_at), if self.online.is_some() && self.context.session().is_some() => {
                    self.came_online();
                    continue
                }
            };
            let is_network = matches!(
                event,
                Event::Connected(_) | Event::Lost | Event::Polled { .. } | Event::Recovered(_)
            );
            // Boxed, as are all long ways here: an idle agent must not carry their state about.
            Box::pin(self.handle(event)).await;
            Box::pin(self.go_offline()).await;
            if std::mem::take(&mut self.must_poll_anew) || is_network {
                (network, settles_at) = (self.network(), self.settles_at());
            }
        }
        // A session may be on its way; it must not be left behind unknown, or it would block the agent's name
        // for minutes.
        if self.context.is_connecting()
            && let Ok(Event::Connected(Ok(session))) = timeout(self.context.set.timings.call, network).await
        {
            self.context.set_session(Some(session.session_id));
        }
        if self.is_released() {
            return (self.context, AgentEnd::Released);
        }
        Box::pin(self.delete_session()).await;
        (self.context, self.end.unwrap_or(AgentEnd::Stopped))
    }

    fn is_released(&self) -> bool {
        matches!(self.end, Some(AgentEnd::Released))
    }

    /// Nothing more is asked of the service: there is no job, and there shall be none. With a job in hand the
    /// polls go on, unless they are refused.
    fn is_ending(&self) -> bool {
        match self.end {
            None => false,
            Some(AgentEnd::Stopped | AgentEnd::Once) => {
                self.current.is_none() || self.context.session().is_none()
            }
            Some(AgentEnd::Revoked | AgentEnd::Deleted | AgentEnd::Failed(_) | AgentEnd::Released) => true,
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(answer) => self.connected(answer),
            // The set tells all its agents.
            Event::Lost => {}
            Event::Polled { answer: Ok(None), took } => {
                self.came_online();
                self.reached();
                self.received_nothing(took);
            }
            Event::Polled { answer: Ok(Some(message)), .. } => {
                self.came_online();
                self.received(message).await;
            }
            Event::Polled { answer: Err(error), .. } => self.failed(error),
            Event::Recovered(answer) => self.recovered(answer),
            Event::LeaseEnded(ended) => self.lease_ended(ended).await,
            Event::Checked(is_over) => self.checked(is_over),
            Event::Delivered(delivered) => self.delivered(delivered),
            Event::PhaseChanged => self.phase_changed(),
        }
    }

    /// What the agent is to do: what its set does, unless it is dismissed, or somebody else's by now.
    fn phase(&self) -> Phase {
        let phase = *self.phase.borrow();
        let dismissed = if self.dismissed.is_cancelled() { Phase::Drain } else { Phase::Run };
        let lost = if self.context.set.lost.is_cancelled() { Phase::Release } else { Phase::Run };
        phase.further(dismissed).further(lost)
    }

    fn is_stopping(&self) -> bool {
        self.phase().is_ending()
    }

    /// An agent that is to take no jobs for now, and has none, gives its session up. One that is on its way
    /// has to come first.
    async fn go_offline(&mut self) {
        let is_due = self.phase() == Phase::Pause && self.current.is_none() && !self.context.is_connecting();
        if is_due && !self.is_offline && self.end.is_none() {
            self.delete_session().await;
            self.is_offline = true;
            self.must_poll_anew = true;
        }
    }

    fn phase_changed(&mut self) {
        self.phase.mark_unchanged();
        self.knows_dismissal = self.dismissed.is_cancelled();
        match (self.phase(), &self.current) {
            // Those that were offline come back, and what was left in the queue comes again.
            (Phase::Run, _) if std::mem::take(&mut self.is_offline) => self.must_poll_anew = true,
            (Phase::Run, None) if self.has_passed_over => self.poll_from_the_beginning(),
            (Phase::Run | Phase::Pause, _) => {}
            (Phase::Drain | Phase::Stop(_), None) => self.end_with(AgentEnd::Stopped),
            (Phase::Drain, Some(_)) => {}
            (Phase::Stop(deadline), Some(current)) => current.wish(|wishes| wishes.stop_by = Some(deadline)),
            (Phase::Release, current) => {
                if let Some(current) = current {
                    current.wish(|wishes| wishes.release = true);
                }
                // They would tell results of jobs that are not ours.
                self.deliveries.abort_all();
                self.end = Some(AgentEnd::Released);
            }
        }
    }

    fn end_with(&mut self, end: AgentEnd) {
        self.end.get_or_insert(end);
    }
}
