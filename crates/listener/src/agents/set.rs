//! A set of virtual agents: registers them, runs them, and ends them together.

use std::{sync::Arc, time::Duration};

use dayfly_client::{AgentCredential, Connection, Error as ClientError};
use dayfly_protocol::{AgentId, PoolId, channel::WorkerSettings, crypto::AgentKey};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    agents::phase::{Phase, Wanted},
    agents::registration::{self, OnExisting, RegisteredAgent, Registrar},
    agents::summary::Summary,
    agents::supervisor::{Office, Source, Supervisor, Wishes},
    context::SetContext,
    description::Description,
    events::{EventStream, Events},
    executor::Executor,
    store::{Guarded, JobStore, Registration, RegistrationStore, SavedSession, StoreError},
    timings::Timings,
};

/// How many agents may register, make a session or leave at the same time, unless configured otherwise.
pub const CONNECTING_AGENTS: usize = 16;

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
    /// They were registered before, all with one key, and their owner says from time to time which of them
    /// shall run. Nothing is registered or removed. Nobody else runs agents of these names, so a session of
    /// theirs that is in the way is waited for, however long it lives.
    Wanted {
        /// A connection to the same service; its credential is not used.
        connection: Connection,
        /// The pool's number.
        pool: PoolId,
        /// The pool's name, for people.
        pool_name: String,
        /// Their key.
        key: Arc<AgentKey>,
        /// Which agents shall run, and what they do. When the sender is gone, what was wanted last holds.
        wanted: watch::Receiver<Wanted>,
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
    /// The session it has, if that is known.
    pub session: Option<SavedSession>,
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
    /// What workers must know; what depends on the agent is filled in. With several agents each works in a
    /// folder of its own below the work folder.
    pub worker: WorkerSettings,
    /// Each agent ends after one job.
    pub once: bool,
    /// How many agents may register, make a session or leave at the same time.
    pub connecting: usize,
    /// Where accepted jobs are remembered; [`InMemory`](crate::InMemory) if no worker outlives this process.
    /// Those that are open there go on.
    pub store: Arc<dyn JobStore>,
    /// Where it is remembered who the agents are, with their sessions.
    pub registrations: Arc<dyn RegistrationStore>,
}

/// A set could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool could not be looked up.
    #[error(transparent)]
    FindPool(ClientError),
    /// The service would not say who it is.
    #[error("could not connect to the service at {url}")]
    Connect {
        /// Its address.
        url: Box<Url>,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// No key.
    #[error("could not make a key for the agents")]
    Key {
        /// Why not.
        #[source]
        source: dayfly_protocol::crypto::Error,
    },
    /// What was accepted before could not be learnt.
    #[error("could not look up the jobs that were accepted before")]
    Store {
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// Nothing to do.
    #[error("a set needs at least one agent")]
    NoAgents,
}

/// A running set. Dropping it aborts everything without a word to the service; use [`AgentSet::drain`] or
/// [`AgentSet::stop`], then [`AgentSet::wait`].
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

    /// See [`AgentSet::release`].
    pub fn release(&self) {
        self.0.send_replace(Phase::Release);
    }

    /// See [`AgentSet::stop`].
    pub fn stop(&self, within: Duration) {
        let deadline = Instant::now() + within.min(LONGEST_STOP);
        self.0.send_if_modified(|phase| {
            let further = phase.further(Phase::Stop(deadline));
            std::mem::replace(phase, further) != further
        });
    }
}

impl AgentSet {
    /// Looks up the pool, makes the key, and sets all agents off; they register and come online in the
    /// background. The stream has everything that happens to them, from the first event on.
    ///
    /// # Errors
    ///
    /// Fails when the pool cannot be found. What happens to single agents is told by events and by the
    /// [`Summary`].
    pub async fn start(config: Config, executor: Arc<dyn Executor>) -> Result<(Self, EventStream), Error> {
        Self::start_with(config, Timings::default(), executor).await
    }

    /// The same with other waits and limits, for tests that cannot wait that long.
    #[doc(hidden)]
    pub async fn start_with(
        config: Config,
        timings: Timings,
        executor: Arc<dyn Executor>,
    ) -> Result<(Self, EventStream), Error> {
        let Config { server_url, agents, description, worker, once, connecting, store, registrations } =
            config;
        let events = Events::new();
        // Before anything is set off: what agents say at once would be lost otherwise.
        let stream = events.subscribe();
        let unfinished = store.open().await.map_err(|source| Error::Store { source })?;
        let crew = Crew::find(agents, &server_url, &description).await?;
        let has_many_agents = crew.wishes.is_some() || crew.sources.len() > 1;
        if crew.sources.is_empty() && crew.wishes.is_none() {
            return Err(Error::NoAgents);
        }
        let lost = CancellationToken::new();
        let set = Arc::new(SetContext {
            pool: crew.pool,
            pool_name: crew.pool_name,
            server_url,
            timings,
            executor,
            events: events.clone(),
            store: Arc::new(Guarded::new(store, lost.clone())),
            registrations: Arc::new(Guarded::new(registrations, lost.clone())),
            lost,
            connecting: Semaphore::new(connecting.max(1)),
            description,
            worker,
            has_many_agents,
            owns_names: crew.wishes.is_some(),
            is_once: once,
        });
        let phase = Arc::new(watch::Sender::new(Phase::Run));
        let (online_sender, online) = watch::channel(0);
        let office = Office { registrar: crew.registrar.map(Arc::new), remove_at_end: crew.remove_at_end };
        let supervisor = Supervisor::new(set, crew.wishes, unfinished, office, online_sender);
        let supervisor = tokio::spawn(supervisor.run(crew.sources, phase.subscribe()));
        Ok((Self { events, phase, online, supervisor }, stream))
    }

    /// One more stream of events, from now on.
    pub fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    /// Waits until `count` agents have been online at least once, or the set has ended. Returns how many
    /// have.
    pub async fn wait_online(&self, count: usize) -> usize {
        let mut online = self.online.clone();
        let reached = online.wait_for(|online| *online >= count).await.map(|online| *online);
        reached.unwrap_or_else(|_| *self.online.borrow())
    }

    /// A handle to stop the set with.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.phase.clone())
    }

    /// No more jobs are taken; idle agents leave at once, the others when their job is done. The jobs are not
    /// told.
    pub fn drain(&self) {
        self.stopper().drain();
    }

    /// Like [`AgentSet::drain`], but running jobs are cancelled, and killed early enough for their results to
    /// be reported `within` this time. Calling it again with less time shortens it; with none, everything is
    /// killed now.
    pub fn stop(&self, within: Duration) {
        self.stopper().stop(within);
    }

    /// Lets go of everything at once: no more polls, sessions and jobs are left as they are for whoever goes
    /// on with them, and nothing is told to the service. Jobs whose workers cannot outlive this process are
    /// killed.
    pub fn release(&self) {
        self.stopper().release();
    }

    /// Waits for the end of all agents. Without [`AgentSet::drain`] or [`AgentSet::stop`] that is when all of
    /// them have ended by themselves.
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

/// Where a set's agents come from, and where they belong.
struct Crew {
    sources: Vec<Source>,
    wishes: Option<Wishes>,
    registrar: Option<Registrar>,
    remove_at_end: bool,
    pool: PoolId,
    pool_name: String,
}

impl Crew {
    async fn find(agents: Agents, server_url: &Url, description: &Description) -> Result<Self, Error> {
        match agents {
            Agents::Managed { connection, pool: pool_name, names, key, on_existing, remove_at_end } => {
                let pool = connection.find_pool(&pool_name).await.map_err(Error::FindPool)?;
                let service = connection
                    .connection_data()
                    .await
                    .map_err(|source| Error::Connect { url: Box::new(server_url.clone()), source })?;
                let key = match key {
                    Some(key) => key,
                    None => Arc::new(new_key().await?),
                };
                let (description, server_url) = (description.clone(), server_url.clone());
                let registrar =
                    Registrar::new(connection, pool.id, key, on_existing, description, &service, server_url);
                Ok(Self {
                    sources: names.into_iter().map(Source::Name).collect(),
                    wishes: None,
                    registrar: Some(registrar),
                    remove_at_end,
                    pool: pool.id,
                    pool_name: pool.name,
                })
            }
            Agents::Registered { connection, pool, pool_name, agents } => {
                let existing = |agent| Source::Existing(Box::new(existing(agent, &connection)));
                Ok(Self {
                    sources: agents.into_iter().map(existing).collect(),
                    wishes: None,
                    registrar: None,
                    remove_at_end: false,
                    pool,
                    pool_name,
                })
            }
            Agents::Wanted { connection, pool, pool_name, key, wanted } => Ok(Self {
                sources: Vec::new(),
                wishes: Some(Wishes { wanted, connection, key }),
                registrar: None,
                remove_at_end: false,
                pool,
                pool_name,
            }),
        }
    }
}

fn existing(agent: ExistingAgent, connection: &Connection) -> RegisteredAgent {
    let ExistingAgent { id, name, credential, session } = agent;
    let registration = Registration {
        name: name.to_string(),
        id,
        client_id: credential.client_id,
        authorization_url: credential.authorization_url.to_string(),
        token_url: (*credential.token_url).clone(),
        session,
    };
    registration::open(registration, connection, credential.key)
}

/// The longest time that a stop may take: a longer one is as good as none, and the clock could not hold it.
const LONGEST_STOP: Duration = Duration::from_secs(366 * 24 * 3600);
