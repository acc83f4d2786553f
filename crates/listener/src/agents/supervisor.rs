//! Which agents of a set run: those that are wanted. It grows, shrinks, and ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dayfly_client::{Connection, describe};
use dayfly_protocol::{AgentId, crypto::AgentKey};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::{
        phase::{Phase, Wanted},
        registration::{RegisteredAgent, Registrar, open},
        summary::Summary,
        virtual_agent::{Begin, VirtualAgent},
    },
    context::SetContext,
    events::{AgentEnd, Event},
    failures::{AgentFailure, RegistrationError},
    store::JobRecord,
};

/// How long after the deadline of a stop the last words to the service may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where one agent comes from.
pub(crate) enum Source {
    /// It is to be registered.
    Name(Arc<str>),
    /// It is registered.
    Existing(Box<RegisteredAgent>),
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Existing(agent) => &agent.registration.name,
        }
    }
}

/// Registered agents that are wanted from now on, and with which key and connection they run.
pub(crate) struct Wishes {
    pub(crate) wanted: watch::Receiver<Wanted>,
    pub(crate) connection: Connection,
    pub(crate) key: Arc<AgentKey>,
}

/// An agent that was set off. It stays known after its end, so that one which could not go on is not set off
/// again, until it is wanted no more.
struct Known {
    dismissed: CancellationToken,
    has_ended: bool,
}

/// Who registers agents, if we may, and takes them out of the pool.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) registrar: Option<Arc<Registrar>>,
    /// Whether they are taken out of the pool at the end.
    pub(crate) remove_at_end: bool,
}

pub(crate) struct Supervisor {
    set: Arc<SetContext>,
    wishes: Option<Wishes>,
    office: Office,
    online: Arc<watch::Sender<usize>>,
    registered: Arc<AtomicUsize>,
    total: usize,
    /// Jobs that were accepted before our time, until their agents are here.
    unfinished: HashMap<AgentId, VecDeque<JobRecord>>,
    /// What agents do: what the set was told, its owner wants, or its having been lost says, whichever goes
    /// furthest.
    phase: watch::Sender<Phase>,
    agents: JoinSet<(Arc<str>, AgentEnd)>,
    known: HashMap<String, Known>,
    summary: Summary,
}

impl Supervisor {
    pub(crate) fn new(
        set: Arc<SetContext>,
        wishes: Option<Wishes>,
        unfinished: Vec<JobRecord>,
        office: Office,
        online: watch::Sender<usize>,
    ) -> Self {
        let mut by_agent: HashMap<_, VecDeque<_>> = HashMap::new();
        for job in unfinished {
            by_agent.entry(job.agent).or_default().push_back(job);
        }
        Self {
            set,
            wishes,
            office,
            online: Arc::new(online),
            registered: Arc::new(AtomicUsize::new(0)),
            total: 0,
            unfinished: by_agent,
            phase: watch::Sender::new(Phase::Run),
            agents: JoinSet::new(),
            known: HashMap::new(),
            summary: Summary::default(),
        }
    }

    /// Runs agents until there are none and shall be none.
    pub(crate) async fn run(mut self, sources: Vec<Source>, mut told: watch::Receiver<Phase>) -> Summary {
        self.total = sources.len();
        for source in sources {
            self.set_off(source);
        }
        let (mut is_told, mut are_aborted) = (true, false);
        loop {
            self.decide(*told.borrow_and_update());
            self.reconcile();
            if self.agents.is_empty() && self.is_over() {
                return self.summary;
            }
            let deadline = match *self.phase.borrow() {
                Phase::Stop(deadline) => Some(deadline + LAST_WORDS),
                Phase::Run | Phase::Pause | Phase::Drain | Phase::Release => None,
            };
            let set = self.set.clone();
            tokio::select! {
                Some(ended) = self.agents.join_next() => self.ended(ended),
                changed = told.changed(), if is_told => if changed.is_err() {
                    // The set was dropped; so is this task, at its next breath.
                    is_told = false;
                    self.agents.abort_all();
                },
                () = wanted_changed(&mut self.wishes) => {}
                () = set.lost.cancelled(), if *self.phase.borrow() != Phase::Release => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() && !are_aborted => {
                    are_aborted = true;
                    self.agents.abort_all();
                }
            }
        }
    }

    /// No agents will come any more.
    fn is_over(&self) -> bool {
        self.wishes.is_none() || self.phase.borrow().is_ending()
    }

    fn decide(&self, told: Phase) {
        let wanted = self.wishes.as_ref().map_or(Phase::Run, |wishes| wishes.wanted.borrow().phase);
        let lost = if self.set.lost.is_cancelled() { Phase::Release } else { Phase::Run };
        let phase = told.further(wanted).further(lost);
        self.phase.send_if_modified(|before| std::mem::replace(before, phase) != phase);
    }

    /// Sets agents off that are wanted, and dismisses those that are not.
    fn reconcile(&mut self) {
        let Some(wishes) = &mut self.wishes else { return };
        let wanted = wishes.wanted.borrow_and_update().clone();
        let (connection, key) = (wishes.connection.clone(), wishes.key.clone());
        let names: std::collections::HashSet<&str> =
            wanted.agents.iter().map(|agent| agent.name.as_str()).collect();
        self.known.retain(|name, known| {
            let is_wanted = names.contains(name.as_str());
            if !is_wanted {
                known.dismissed.cancel();
            }
            is_wanted || !known.has_ended
        });
        self.total = wanted.agents.len();
        if wanted.phase.is_ending() || self.phase.borrow().is_ending() {
            return;
        }
        for agent in &wanted.agents {
            let is_here = self
                .known
                .get(&agent.name)
                .is_some_and(|known| !(known.has_ended && known.dismissed.is_cancelled()));
            if !is_here {
                let agent = open(agent.clone(), &connection, key.clone());
                self.set_off(Source::Existing(Box::new(agent)));
            }
        }
    }

    fn set_off(&mut self, source: Source) {
        let dismissed = CancellationToken::new();
        let known = Known { dismissed: dismissed.clone(), has_ended: false };
        self.known.insert(source.name().to_owned(), known);
        let jobs = match &source {
            Source::Existing(agent) => self.unfinished.remove(&agent.registration.id).unwrap_or_default(),
            Source::Name(_) => VecDeque::new(),
        };
        let life = Life {
            set: self.set.clone(),
            phase: self.phase.subscribe(),
            dismissed,
            registered: self.registered.clone(),
            total: self.total,
            office: self.office.clone(),
            online: self.online.clone(),
        };
        self.agents.spawn(life.run(source, jobs));
    }

    fn ended(&mut self, ended: Result<(Arc<str>, AgentEnd), JoinError>) {
        match ended {
            Ok((name, end)) => {
                if let Some(known) = self.known.get_mut(&*name) {
                    known.has_ended = true;
                }
                self.summary.count(name, end);
            }
            Err(error) if error.is_cancelled() => {
                self.summary.count("(aborted)".into(), AgentEnd::Failed(AgentFailure::Late));
            }
            Err(error) => {
                self.summary.count("(unknown)".into(), AgentEnd::Failed(AgentFailure::Task(Arc::new(error))));
            }
        }
    }
}

/// Waits until something else is wanted. Once nobody can want anything else any more, what was wanted last
/// holds.
async fn wanted_changed(wishes: &mut Option<Wishes>) {
    if let Some(wishes) = wishes
        && wishes.wanted.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// One agent's whole life: registered, run, removed.
struct Life {
    set: Arc<SetContext>,
    phase: watch::Receiver<Phase>,
    dismissed: CancellationToken,
    registered: Arc<AtomicUsize>,
    total: usize,
    office: Office,
    online: Arc<watch::Sender<usize>>,
}

impl Life {
    async fn run(mut self, source: Source, jobs: VecDeque<JobRecord>) -> (Arc<str>, AgentEnd) {
        let agent = match source {
            Source::Existing(agent) => *agent,
            Source::Name(name) => match Box::pin(self.register(name.clone())).await {
                Ok(Some(agent)) => agent,
                Ok(None) => return self.ended(name, AgentEnd::Stopped),
                Err(error) => {
                    return self.ended(name, AgentEnd::Failed(AgentFailure::NotRegistered(Arc::new(error))));
                }
            },
        };
        let done = 1 + self.registered.fetch_add(1, Ordering::Relaxed);
        let name: Arc<str> = Arc::from(agent.registration.name.as_str());
        let total = self.total;
        self.set.events.send(Event::Registered { agent: name, id: agent.registration.id, done, total });
        let begin = Begin {
            phase: self.phase.clone(),
            dismissed: self.dismissed.clone(),
            online: self.online.clone(),
            registrar: self.office.registrar.clone(),
            jobs,
        };
        let (context, end) = VirtualAgent::new(agent, self.set.clone(), begin).run().await;
        // An agent that could not go on may be somebody else's by now, who has registered it anew or holds
        // its session.
        if self.office.remove_at_end
            && matches!(end, AgentEnd::Stopped | AgentEnd::Once | AgentEnd::Revoked)
            && let Some(registrar) = &self.office.registrar
        {
            let _permit = self.set.connecting.acquire().await;
            if let Err(error) = Box::pin(registrar.remove(context.id, &context.name)).await {
                context.warn(describe(&error));
            }
        }
        self.ended(context.name.clone(), end)
    }

    fn ended(&self, name: Arc<str>, end: AgentEnd) -> (Arc<str>, AgentEnd) {
        self.set.events.send(Event::Ended { agent: name.clone(), end: end.clone() });
        (name, end)
    }

    /// Registers an agent, unless the set ends first; a registration that has begun is completed, so that its
    /// agent can be removed.
    async fn register(&mut self, name: Arc<str>) -> Result<Option<RegisteredAgent>, RegistrationError> {
        let Some(registrar) = &self.office.registrar else { return Ok(None) };
        let permit = tokio::select! {
            permit = self.set.connecting.acquire() => permit,
            _ = self.phase.wait_for(|phase| phase.is_ending()) => return Ok(None),
        };
        let agent = registrar.register_agent(&name).await.map(Some);
        drop(permit);
        agent
    }
}
