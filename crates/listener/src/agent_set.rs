//! A set of virtual agents: registers them, runs them, and ends them together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dayfly_client::{AgentCredential, Connection, Credential, Error as ClientError, ErrorKind, describe};
use dayfly_protocol::{AgentId, PoolId, channel::WorkerSettings, crypto::AgentKey};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};
use url::Url;

use crate::{
    agent_context::{AcceptedRequests, SetContext},
    events::{AgentEnd, Event, EventStream, Events},
    executor::Executor,
    registration::{self, OnExisting, RegisteredAgent, Registrar},
    timings::Timings,
    virtual_agent::VirtualAgent,
};

/// How many agents may register, make a session or leave at the same time, unless configured otherwise.
pub const CONNECTING_AGENTS: usize = 16;

/// How many failures a [`Summary`] names.
const NAMED_FAILURES: usize = 20;

/// What the agents of a set say of themselves.
#[derive(Debug, Clone)]
pub struct Description {
    /// The agent version, which minimum-version demands of jobs are compared with.
    pub version: String,
    /// Free text on the operating system.
    pub operating_system: String,
    /// Who holds the sessions: the machine's name.
    pub owner_name: String,
    /// The system capabilities; `Agent.Name` is added for each agent.
    pub capabilities: Arc<BTreeMap<String, String>>,
}

/// Where the agents come from.
#[derive(Debug)]
pub enum Agents {
    /// We register them with a login that may manage the pool.
    Managed {
        /// The connection with that login.
        connection: Connection,
        /// The pool's name.
        pool: String,
        /// The agents' names.
        names: Vec<Arc<str>>,
        /// The key of all of them; a new one when absent.
        key: Option<Arc<AgentKey>>,
        /// What happens to agents of these names that exist.
        on_existing: OnExisting,
        /// Whether they are taken out of the pool at the end.
        remove_at_end: bool,
    },
    /// They were registered before; each has its own login, and nothing is registered or removed.
    Registered {
        /// A connection to the same service; its credential is not used.
        connection: Connection,
        /// The pool's number.
        pool: PoolId,
        /// The pool's name, for people.
        pool_name: String,
        /// The agents.
        agents: Vec<ExistingAgent>,
    },
}

/// An agent that was registered before.
#[derive(Debug)]
pub struct ExistingAgent {
    /// Its number.
    pub id: AgentId,
    /// Its name.
    pub name: Arc<str>,
    /// Its login.
    pub credential: AgentCredential,
}

/// A set's configuration.
#[derive(Debug)]
pub struct Config {
    /// The collection's or organization's address.
    pub server_url: Url,
    /// The agents.
    pub agents: Agents,
    /// What they say of themselves.
    pub description: Description,
    /// What workers must know; what depends on the agent is filled in. With several agents each works in a folder of its own below the work folder.
    pub worker: WorkerSettings,
    /// Each agent ends after one job.
    pub once: bool,
    /// Waits and limits.
    pub timings: Timings,
    /// How many agents may register, make a session or leave at the same time.
    pub connecting: usize,
}

/// What to do when nothing at all answers where the pools should be.
fn address_hint(error: &ClientError) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => {
            "; is the address that of the organization or collection, such as https://dev.azure.com/my-organization?"
        }
        _ => "",
    }
}

/// A set could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool could not be looked up.
    #[error("agent pool `{pool}` could not be looked up{}", address_hint(.source))]
    FindPool {
        /// Its name.
        pool: String,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// The service would not say who it is.
    #[error("the service at {url} could not be connected to")]
    Connect {
        /// Its address.
        url: Box<Url>,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// No key.
    #[error("a key for the agents could not be made")]
    Key {
        /// Why not.
        #[source]
        source: dayfly_protocol::crypto::Error,
    },
    /// Nothing to do.
    #[error("a set needs at least one agent")]
    NoAgents,
}

/// What the set is to do; agents watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Take jobs.
    Run,
    /// Take no more, finish what there is.
    Drain,
    /// Cancel what there is; everything must be over at this moment.
    Stop(Instant),
}

/// How a set ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Agents that ended as they should.
    pub ended: usize,
    /// Agents whose login was revoked.
    pub revoked: usize,
    /// Agents that were deleted, or could not go on.
    pub failed: usize,
    /// The first of those, with the reasons.
    pub failures: Vec<(Arc<str>, String)>,
}

/// A running set. Dropping it aborts everything without a word to the service; use [`AgentSet::drain`] or [`AgentSet::stop`], then [`AgentSet::wait`].
#[derive(Debug)]
pub struct AgentSet {
    events: Events,
    phase: Arc<watch::Sender<Phase>>,
    online: watch::Receiver<usize>,
    supervisor: JoinHandle<Summary>,
}

impl Drop for AgentSet {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// Stops a set from elsewhere, such as a signal handler.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<Phase>>);

impl Stopper {
    /// See [`AgentSet::drain`].
    pub fn drain(&self) {
        self.0.send_if_modified(|phase| {
            let is_running = *phase == Phase::Run;
            if is_running {
                *phase = Phase::Drain;
            }
            is_running
        });
    }

    /// See [`AgentSet::stop`].
    pub fn stop(&self, within: Duration) {
        let deadline = Instant::now() + within.min(LONGEST_STOP);
        self.0.send_if_modified(|phase| {
            let is_earlier = !matches!(*phase, Phase::Stop(before) if before <= deadline);
            if is_earlier {
                *phase = Phase::Stop(deadline);
            }
            is_earlier
        });
    }
}

impl AgentSet {
    /// Looks up the pool, makes the key, and sets all agents off; they register and come online in the background. The stream has everything that
    /// happens to them, from the first event on.
    ///
    /// # Errors
    ///
    /// Fails when the pool cannot be found. What happens to single agents is told by events and by the [`Summary`].
    pub async fn start(config: Config, executor: Arc<dyn Executor>) -> Result<(Self, EventStream), Error> {
        let Config { server_url, agents, description, worker, once, timings, connecting } = config;
        let events = Events::new();
        // Before anything is set off: what agents say at once would be lost otherwise.
        let stream = events.subscribe();
        let (sources, registrar, remove_at_end, pool, pool_name) = match agents {
            Agents::Managed { connection, pool: pool_name, names, key, on_existing, remove_at_end } => {
                let pool = connection
                    .find_pool(&pool_name)
                    .await
                    .map_err(|source| Error::FindPool { pool: pool_name, source })?;
                let data = connection
                    .connection_data()
                    .await
                    .map_err(|source| Error::Connect { url: Box::new(server_url.clone()), source })?;
                let is_on_premises = data.deployment_type.eq_ignore_ascii_case("onPremises");
                let key = match key {
                    Some(key) => key,
                    None => Arc::new(new_key().await?),
                };
                let registrar = Registrar {
                    connection,
                    pool: pool.id,
                    key,
                    on_existing,
                    description: description.clone(),
                    is_on_premises,
                    server_url: server_url.clone(),
                };
                (
                    names.into_iter().map(Source::Name).collect::<Vec<_>>(),
                    Some(registrar),
                    remove_at_end,
                    pool.id,
                    pool.name,
                )
            }
            Agents::Registered { connection, pool, pool_name, agents } => {
                let sources =
                    agents.into_iter().map(|agent| Source::Existing(existing(agent, &connection))).collect();
                (sources, None, false, pool, pool_name)
            }
        };
        if sources.is_empty() {
            return Err(Error::NoAgents);
        }
        let set = Arc::new(SetContext {
            pool,
            pool_name,
            server_url,
            timings,
            executor,
            events: events.clone(),
            accepted: AcceptedRequests::default(),
            connecting: Semaphore::new(connecting.max(1)),
            description,
            worker,
            has_many_agents: sources.len() > 1,
            is_once: once,
            registrar,
        });
        let phase = Arc::new(watch::Sender::new(Phase::Run));
        let (online_sender, online) = watch::channel(0);
        let supervisor = tokio::spawn(supervise(
            Supervisor { set, sources, remove_at_end, online: online_sender },
            phase.subscribe(),
        ));
        Ok((Self { events, phase, online, supervisor }, stream))
    }

    /// One more stream of events, from now on.
    pub fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    /// Waits until `count` agents have been online at least once, or the set has ended. Returns how many have.
    pub async fn wait_online(&self, count: usize) -> usize {
        let mut online = self.online.clone();
        let reached = online.wait_for(|online| *online >= count).await.map(|online| *online);
        reached.unwrap_or_else(|_| *self.online.borrow())
    }

    /// A handle to stop the set with.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.phase.clone())
    }

    /// No more jobs are taken; idle agents leave at once, the others when their job is done. The jobs are not told.
    pub fn drain(&self) {
        self.stopper().drain();
    }

    /// Like [`AgentSet::drain`], but running jobs are cancelled, and killed early enough for their results to be reported `within` this time. Calling
    /// it again with less time shortens it; with none, everything is killed now.
    pub fn stop(&self, within: Duration) {
        self.stopper().stop(within);
    }

    /// Waits for the end of all agents. Without [`AgentSet::drain`] or [`AgentSet::stop`] that is when all of them have ended by themselves.
    pub async fn wait(mut self) -> Summary {
        (&mut self.supervisor).await.unwrap_or_else(|error| {
            let failures = vec![(Arc::from("(all)"), format!("the set's own task failed: {error}"))];
            Summary { failed: 1, failures, ..Summary::default() }
        })
    }
}

/// An RSA key takes a tenth of a second or more to make.
async fn new_key() -> Result<AgentKey, Error> {
    match tokio::task::spawn_blocking(AgentKey::generate).await {
        Ok(key) => key.map_err(|source| Error::Key { source }),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn existing(agent: ExistingAgent, connection: &Connection) -> RegisteredAgent {
    let key = agent.credential.key.clone();
    let connection = connection.with_credential(Credential::Agent(agent.credential));
    RegisteredAgent { id: agent.id, name: agent.name, connection, key }
}

/// Where one agent comes from.
enum Source {
    Name(Arc<str>),
    Existing(RegisteredAgent),
}

struct Supervisor {
    set: Arc<SetContext>,
    sources: Vec<Source>,
    remove_at_end: bool,
    online: watch::Sender<usize>,
}

/// The longest time that a stop may take: a longer one is as good as none, and the clock could not hold it.
const LONGEST_STOP: Duration = Duration::from_secs(366 * 24 * 3600);

/// How long after the deadline of a stop the last words to the service may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

async fn supervise(supervisor: Supervisor, mut phase: watch::Receiver<Phase>) -> Summary {
    let Supervisor { set, sources, remove_at_end, online } = supervisor;
    let total = sources.len();
    let registered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut agents = JoinSet::new();
    let online = Arc::new(online);
    for source in sources {
        let (set, phase, registered) = (set.clone(), phase.clone(), registered.clone());
        agents.spawn(run_agent(source, set, phase, registered, total, remove_at_end, online.clone()));
    }
    drop(online);
    let mut summary = Summary::default();
    let mut are_aborted = false;
    loop {
        let deadline = match *phase.borrow_and_update() {
            Phase::Stop(deadline) => Some(deadline + LAST_WORDS),
            Phase::Run | Phase::Drain => None,
        };
        tokio::select! {
            ended = agents.join_next() => match ended {
                Some(Ok((name, end))) => summary.count(name, end),
                Some(Err(error)) if error.is_cancelled() => summary.count(Arc::from("(aborted)"), AgentEnd::Failed("it did not end in time".to_owned())),
                Some(Err(error)) => summary.count(Arc::from("(unknown)"), AgentEnd::Failed(format!("its task failed: {error}"))),
                None => return summary,
            },
            changed = phase.changed(), if !are_aborted => if changed.is_err() {
                // The set was dropped; so is this task, at its next breath.
                are_aborted = true;
                agents.abort_all();
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() && !are_aborted => {
                are_aborted = true;
                agents.abort_all();
            }
        }
    }
}

impl Summary {
    fn count(&mut self, name: Arc<str>, end: AgentEnd) {
        let reason = match end {
            AgentEnd::Stopped | AgentEnd::Once => {
                self.ended += 1;
                return;
            }
            AgentEnd::Revoked => {
                self.revoked += 1;
                return;
            }
            AgentEnd::Deleted => "it was deleted from its pool".to_owned(),
            AgentEnd::Failed(reason) => reason,
        };
        self.failed += 1;
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push((name, reason));
        }
    }
}

/// One agent's whole life: registered, run, removed.
async fn run_agent(
    source: Source,
    set: Arc<SetContext>,
    mut phase: watch::Receiver<Phase>,
    registered: Arc<std::sync::atomic::AtomicUsize>,
    total: usize,
    remove_at_end: bool,
    online: Arc<watch::Sender<usize>>,
) -> (Arc<str>, AgentEnd) {
    let agent = match source {
        Source::Existing(agent) => agent,
        Source::Name(name) => match Box::pin(register(&set, name.clone(), &mut phase)).await {
            Ok(Some(agent)) => agent,
            Ok(None) => return ended(&set, name, AgentEnd::Stopped),
            Err(error) => return ended(&set, name, AgentEnd::Failed(describe(&error))),
        },
    };
    let done = 1 + registered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    set.events.send(Event::Registered { agent: agent.name.clone(), id: agent.id, done, total });
    let (context, end) = VirtualAgent::new(agent, set.clone(), phase, online).run().await;
    // An agent that could not go on may be somebody else's by now, who has registered it anew or holds its session.
    if remove_at_end
        && matches!(end, AgentEnd::Stopped | AgentEnd::Once | AgentEnd::Revoked)
        && let Some(registrar) = &set.registrar
    {
        let _permit = set.connecting.acquire().await;
        if let Err(error) = Box::pin(registrar.remove(context.id, &context.name)).await {
            context.warn(describe(&error));
        }
    }
    ended(&set, context.name.clone(), end)
}

fn ended(set: &SetContext, name: Arc<str>, end: AgentEnd) -> (Arc<str>, AgentEnd) {
    set.events.send(Event::Ended { agent: name.clone(), end: end.clone() });
    (name, end)
}

/// Registers an agent, unless the set ends first; a registration that has begun is completed, so that its agent can be removed.
async fn register(
    set: &SetContext,
    name: Arc<str>,
    phase: &mut watch::Receiver<Phase>,
) -> Result<Option<RegisteredAgent>, registration::Error> {
    let Some(registrar) = &set.registrar else { return Ok(None) };
    let permit = tokio::select! {
        permit = set.connecting.acquire() => permit,
        _ = phase.wait_for(|phase| *phase != Phase::Run) => return Ok(None),
    };
    let agent = registrar.register(name).await.map(Some);
    drop(permit);
    agent
}
