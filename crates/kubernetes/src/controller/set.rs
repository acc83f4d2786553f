//! One `AgentSet`, from the moment it is seen until its agents are out of the pool.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dayfly_client::{Backoff, Connection, Credential, RetryPolicy, describe};
use dayfly_listener::{
    AgentEnd, AgentSet as Listener, Agents, CONNECTING_AGENTS, Config, Description, Event, EventStream,
    NextEvent, OnExisting, Phase, RegisteredSet, Registrar, Registration, Wanted,
};
use dayfly_protocol::{PoolId, channel::WorkerSettings, crypto::AgentKey};
use futures::{
    FutureExt as _,
    future::{BoxFuture, OptionFuture},
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Office,
    crew::Crew,
    login::{LoginError, access},
    status::{Readiness, Reporter},
    tidy::tidy,
};
use crate::{
    api::{AgentSet, Delivery},
    executor::PodExecutor,
    identity::{CA_CONFIG_MAP, CA_KEY},
    ownership::{Fence, Ownership},
    pod::{CaConfigMap, Facts},
    protection::protect,
    registrations::Registrations,
    store::{AcceptingSet, KubernetesStore},
    sweep::Sweep,
};

/// Keeps a set from being deleted before its agents are out of the pool.
const FINALIZER: &str = "dayfly.dev/agents";

/// How long agents may take to leave the pool before a deleted set is let go without that.
const LEAVING: Duration = Duration::from_secs(300);

/// How soon it is looked again what a set needs.
const LOOK: Duration = Duration::from_secs(1);

/// How many agents are registered one after the other before they come online.
const BATCH: usize = 20;

/// Pauses between two tries to bring a set to life.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(60),
};

/// A set that cannot work now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Service(#[from] dayfly_client::Error),
    #[error(transparent)]
    Registration(#[from] dayfly_listener::RegistrationError),
    #[error(transparent)]
    Store(#[from] dayfly_listener::StoreError),
    #[error(transparent)]
    Listener(#[from] dayfly_listener::Error),
    #[error(transparent)]
    Authority(#[from] crate::identity::AuthorityError),
    #[error("could not update the AgentSet")]
    Cluster(#[from] kube::Error),
    #[error("could not make a key for the agents")]
    Key(#[from] dayfly_protocol::crypto::Error),
    #[error("another controller may have the set by now")]
    Lost,
    #[error("the agents ended: {0}")]
    Ended(String),
}

impl Trouble {
    /// One word for programs.
    fn reason(&self) -> &'static str {
        match self {
            Self::Login(LoginError::Missing { .. }) => "NotFound",
            Self::Login(_) => "ConnectionInvalid",
            Self::Service(error) => match error.kind() {
                dayfly_client::ErrorKind::Unauthorized | dayfly_client::ErrorKind::Forbidden => {
                    "CredentialRejected"
                }
                dayfly_client::ErrorKind::PoolNotFound => "PoolNotFound",
                _ => "ServiceUnreachable",
            },
            Self::Registration(_) => "RegistrationFailed",
            Self::Ended(_) | Self::Listener(_) => "AgentsEnded",
            Self::Lost => "LeaseLost",
            Self::Store(_) | Self::Authority(_) | Self::Cluster(_) | Self::Key(_) => "Internal",
        }
    }
}

/// One set.
pub(super) struct Set {
    office: Arc<Office>,
    wanted: watch::Receiver<Arc<AgentSet>>,
    api: Api<AgentSet>,
    namespace: String,
    name: String,
    reporter: Reporter,
}

/// What is registered, and what may register more.
struct Roster {
    registrations: Arc<Registrations>,
    key: Arc<AgentKey>,
    set: RegisteredSet,
    description: Description,
}

impl Set {
    pub(super) fn new(office: Arc<Office>, wanted: watch::Receiver<Arc<AgentSet>>) -> Self {
        let (namespace, name) = {
            let set = wanted.borrow();
            (set.namespace().unwrap_or_default(), set.name_any())
        };
        let api = Api::namespaced(office.client.clone(), &namespace);
        Self { office, wanted, api, namespace, name, reporter: Reporter::default() }
    }

    /// Minds it to its end, or until the controller ends.
    pub(super) async fn run(mut self) {
        let (stop, mut backoff) = (self.office.stop.clone(), Backoff::default());
        loop {
            let trouble = match self.serve().await {
                Ok(()) => return,
                Err(trouble) => trouble,
            };
            let message = describe(&trouble);
            tracing::warn!(namespace = self.namespace, set = self.name, "the set cannot work: {message}");
            let readiness = Readiness { is_ready: false, reason: trouble.reason(), message };
            // Whoever has it now says how it is.
            if !matches!(trouble, Trouble::Lost) {
                self.report([0; 3], &readiness).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.after_failure(&RETRY)) => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
            }
        }
    }

    fn object(&self) -> Arc<AgentSet> {
        self.wanted.borrow().clone()
    }

    async fn report(&mut self, counts: [u32; 3], readiness: &Readiness) {
        let set = self.object();
        if let Err(error) = self.reporter.report(&self.api, &set, counts, readiness).await {
            tracing::info!(%error, set = self.name, "could not write the status of an AgentSet");
        }
    }

    /// Waits until the set is ours, and minds it for as long as it is.
    async fn serve(&mut self) -> Result<(), Trouble> {
        let (client, holder) = (self.office.client.clone(), self.office.config.holder.clone());
        let lease = format!("dayfly-{}", self.name);
        let ownership = tokio::select! {
            () = self.office.stop.cancelled() => return Ok(()),
            ownership = Ownership::acquire(client, &self.namespace, &lease, &holder) => ownership,
        };
        let served = self.serve_ours(&ownership.fence()).await;
        ownership.release().await;
        served
    }

    async fn serve_ours(&mut self, fence: &Fence) -> Result<(), Trouble> {
        let object = self.object();
        let registrations = Arc::new(Registrations::new(
            self.office.client.clone(),
            &self.office.config.namespace,
            &self.name,
            &object.uid().unwrap_or_default(),
            fence.clone(),
        ));
        if object.metadata.deletion_timestamp.is_none() {
            self.hold(&object).await?;
            self.office.authority.publish(&self.namespace).await?;
            // Jobs run without it as well, only less safely.
            if let Err(error) = protect(self.office.client.clone(), &object).await {
                tracing::warn!(%error, set = self.name, "busy pods are not protected from eviction");
            }
        }
        let roster = self.roster(&object, registrations).await?;
        let Some(mut roster) = roster else { return self.let_go().await };
        self.work(&object, &mut roster, fence).await?;
        if self.office.stop.is_cancelled() {
            return Ok(());
        }
        self.leave(roster).await
    }

    /// What is registered already, or a new pool and key; `None` if the set is deleted and has nothing.
    async fn roster(
        &self,
        object: &AgentSet,
        registrations: Arc<Registrations>,
    ) -> Result<Option<Roster>, Trouble> {
        let description = self.description(object);
        if let Some((set, key)) = registrations.registered().await? {
            return Ok(Some(Roster { registrations, key: Arc::new(key), set, description }));
        }
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let access = self.access(object).await?;
        let server_url = access.url.clone();
        let pool = access.manager()?.find_pool(&object.spec.pool_name).await?;
        let key = match tokio::task::spawn_blocking(AgentKey::generate).await {
            Ok(key) => key?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let set = RegisteredSet { server_url, pool: pool.id, pool_name: pool.name, agents: Vec::new() };
        registrations.register(set.clone(), &key).await?;
        Ok(Some(Roster { registrations, key: Arc::new(key), set, description }))
    }

    async fn access(&self, object: &AgentSet) -> Result<super::login::Access, LoginError> {
        let config = &self.office.config;
        let mut access =
            access(&self.office.client, &self.namespace, &object.spec.connection_ref, &config.folder).await?;
        access.settings.observer = Some(config.observer.clone());
        Ok(access)
    }

    fn description(&self, object: &AgentSet) -> Description {
        let version = self.office.config.agent_version.clone();
        let mut capabilities: BTreeMap<String, String> = object.spec.capabilities.clone();
        let ours = [
            ("Agent.OS", "Linux".to_owned()),
            ("Agent.OSArchitecture", "X64".to_owned()),
            ("Agent.Version", version.clone()),
            ("Agent.ComputerName", self.name.clone()),
            ("InteractiveSession", "False".to_owned()),
            ("dayfly.owner", object.uid().unwrap_or_default()),
        ];
        capabilities.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        Description {
            version,
            operating_system: "Linux (Kubernetes)".to_owned(),
            owner_name: format!("{}/{}", self.namespace, self.name),
            capabilities: Arc::new(capabilities),
        }
    }

    fn accepting(&self, object: &AgentSet, pool: PoolId) -> AcceptingSet {
        AcceptingSet {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: object.uid().unwrap_or_default(),
            pool,
        }
    }

    /// Where accepted jobs are kept.
    fn store(&self, set: AcceptingSet, fence: &Fence) -> KubernetesStore {
        let Office { client, config, calls, .. } = &*self.office;
        let (holder, namespace) = (config.holder.clone(), &config.namespace);
        KubernetesStore::new(client.clone(), set, namespace, holder, fence.clone(), calls.clone())
    }

    /// Tidies up after the set until this is dropped.
    fn tidying(&self, set: AcceptingSet, fence: &Fence) -> AbortOnDropHandle<()> {
        let Office { client, config, calls, .. } = &*self.office;
        let sweep = Sweep::new(client.clone(), set.clone(), &config.namespace, fence.clone(), calls.clone());
        AbortOnDropHandle::new(tokio::spawn(tidy(client.clone(), set, sweep)))
    }

    /// How the program gets into pods where the set leaves that to us. Copying works everywhere.
    async fn delivery(&self) -> Delivery {
        match self.office.client.apiserver_version().await {
            Ok(version) if has_image_volumes(&version.major, &version.minor) => Delivery::ImageVolume,
            Ok(_) => Delivery::Copy,
            Err(error) => {
                tracing::warn!(%error, "the version of the cluster is not known, so the program is copied");
                Delivery::Copy
            }
        }
    }

    /// Runs the agents until the set is deleted or the controller ends.
    async fn work(&mut self, object: &AgentSet, roster: &mut Roster, fence: &Fence) -> Result<(), Trouble> {
        let config = &self.office.config;
        let facts = Facts {
            dayfly_image: config.image.clone(),
            channel: config.channel.clone(),
            ca: CaConfigMap { name: CA_CONFIG_MAP.to_owned(), key: CA_KEY.to_owned() },
            delivery: self.delivery().await,
            service_account: "default".to_owned(),
        };
        let accepting = self.accepting(object, roster.set.pool);
        let store = Arc::new(self.store(accepting.clone(), fence));
        let executor = PodExecutor::new(
            self.office.client.clone(),
            &self.namespace,
            &self.name,
            object.spec.clone(),
            facts,
            self.office.gate.clone(),
            store.clone(),
        );
        let _tidying = self.tidying(accepting, fence);
        let access = self.access(object).await?;
        let (sender, wanted) = watch::channel(Wanted { agents: Vec::new(), phase: Phase::Run });
        let listener = Config {
            server_url: roster.set.server_url.clone(),
            agents: Agents::Wanted {
                // Each agent has a login of its own; this one is never used.
                connection: Connection::new(
                    &roster.set.server_url,
                    Credential::PersonalAccessToken(String::new().into()),
                    access.settings,
                )?,
                pool: roster.set.pool,
                pool_name: roster.set.pool_name.clone(),
                key: roster.key.clone(),
                wanted,
            },
            description: roster.description.clone(),
            worker: WorkerSettings::default(),
            once: false,
            connecting: CONNECTING_AGENTS,
            store,
            registrations: roster.registrations.clone(),
        };
        let (listener, events) = Listener::start(listener, Arc::new(executor.clone())).await?;
        self.mind(listener, events, sender, &executor, roster, fence).await
    }

    async fn mind(
        &mut self,
        listener: Listener,
        mut events: EventStream,
        sender: watch::Sender<Wanted>,
        executor: &PodExecutor,
        roster: &mut Roster,
        fence: &Fence,
    ) -> Result<(), Trouble> {
        let (stop, stopper) = (self.office.stop.clone(), listener.stopper());
        let mut ending = std::pin::pin!(listener.wait());
        let (mut crew, mut look) = (Crew::new(), interval(LOOK));
        let mut hiring: Option<BoxFuture<'static, Hired>> = None;
        let mut backoff = Backoff::default();
        let mut not_before = Instant::now();
        let mut trouble: Option<Readiness> = None;
        let mut is_stopping = false;
        let label: Arc<str> = format!("{}/{}", self.namespace, self.name).into();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    stopper.release();
                }
                () = fence.lost(), if !is_stopping => {
                    is_stopping = true;
                    stopper.release();
                }
                summary = &mut ending => {
                    let object = self.object();
                    if !fence.is_held() {
                        return Err(Trouble::Lost);
                    }
                    if is_stopping || object.metadata.deletion_timestamp.is_some() {
                        return Ok(());
                    }
                    let failures: Vec<_> = summary.failures.iter().map(|(_, why)| why.as_str()).collect();
                    return Err(Trouble::Ended(failures.join("; ")));
                }
                event = events.next() => if let NextEvent::Event(event) = event {
                    crew.note(&event);
                    self.office.config.watcher.event(&label, &event);
                    tell(&self.name, &event);
                    // Somebody took it out of the pool: it is registered anew.
                    if let Event::Ended { agent, end: AgentEnd::Deleted | AgentEnd::Revoked } = &event {
                        roster.set.agents.retain(|registered| *registered.name != **agent);
                        roster.registrations.register(roster.set.clone(), &roster.key).await?;
                    }
                },
                changed = self.wanted.changed() => {
                    let object = self.object();
                    executor.change(object.spec.clone());
                    if changed.is_err() || object.metadata.deletion_timestamp.is_some() {
                        sender.send_modify(|wanted| wanted.phase = Phase::Drain);
                    }
                }
                hired = OptionFuture::from(hiring.as_mut()), if hiring.is_some() => {
                    let Some(hired) = hired else { continue };
                    hiring = None;
                    if !hired.agents.is_empty() {
                        roster.set.agents.extend(hired.agents);
                        roster.registrations.register(roster.set.clone(), &roster.key).await?;
                    }
                    trouble = hired.trouble.map(|trouble| {
                        let message = describe(&trouble);
                        tracing::warn!(set = self.name, "could not register agents: {message}");
                        Readiness { is_ready: false, reason: trouble.reason(), message }
                    });
                    match trouble {
                        Some(_) => not_before = Instant::now() + backoff.after_failure(&RETRY),
                        None => backoff = Backoff::default(),
                    }
                }
                _ = look.tick() => {
                    let object = self.object();
                    let level = crew.wanted(&object.spec.agents, Instant::now());
                    let agents = chosen(&roster.set.agents, &crew, level);
                    let phase = match (object.metadata.deletion_timestamp.is_some(), object.spec.paused) {
                        (true, _) => Phase::Drain,
                        (false, true) => Phase::Pause,
                        (false, false) => Phase::Run,
                    };
                    sender.send_if_modified(|wanted| {
                        let now = Wanted { agents, phase };
                        std::mem::replace(wanted, now.clone()) != now
                    });
                    if hiring.is_none() && phase == Phase::Run && Instant::now() >= not_before {
                        hiring = self.hire(&object, roster, level).await;
                    }
                    let readiness = trouble.clone().unwrap_or_else(|| readiness(&crew, phase));
                    self.report([crew.online(), crew.running(), crew.pending()], &readiness).await;
                }
            }
        }
    }

    /// Registers the next agents of a set that has fewer than it needs.
    async fn hire(
        &self,
        object: &AgentSet,
        roster: &Roster,
        level: usize,
    ) -> Option<BoxFuture<'static, Hired>> {
        let missing = level.saturating_sub(roster.set.agents.len()).min(BATCH);
        if missing == 0 {
            return None;
        }
        let prefix = object.spec.agents.name_prefix.clone().unwrap_or_else(|| self.name.clone());
        let is_taken = |name: &String| roster.set.agents.iter().any(|agent| agent.name == *name);
        let names: Vec<String> = (1..)
            .map(|number: u32| format!("{prefix}-{number}"))
            .filter(|name| !is_taken(name))
            .take(missing)
            .collect();
        let registrar = self.registrar(object, roster).await;
        let hiring = async move {
            let mut hired = Hired { agents: Vec::new(), trouble: None };
            let registrar = match registrar {
                Ok(registrar) => registrar,
                Err(trouble) => return Hired { trouble: Some(trouble), ..hired },
            };
            for name in names {
                match registrar.register(&name).await {
                    Ok(agent) => hired.agents.push(agent),
                    Err(error) => {
                        hired.trouble = Some(error.into());
                        break;
                    }
                }
            }
            hired
        };
        Some(hiring.boxed())
    }

    async fn registrar(&self, object: &AgentSet, roster: &Roster) -> Result<Registrar, Trouble> {
        let access = self.access(object).await?;
        let url = access.url.clone();
        let connection = access.manager()?;
        let service = connection.connection_data().await?;
        let (key, description) = (roster.key.clone(), roster.description.clone());
        Ok(Registrar::new(connection, roster.set.pool, key, OnExisting::Adopt, description, &service, url))
    }

    /// Takes the agents out of the pool, for as long as that may take, and lets the set go.
    async fn leave(&mut self, roster: Roster) -> Result<(), Trouble> {
        let object = self.object();
        let mut backoff = Backoff::default();
        let removing = async {
            loop {
                match self.dismiss(&object, &roster).await {
                    Ok(()) => return,
                    Err(trouble) => {
                        let message = describe(&trouble);
                        tracing::warn!(
                            set = self.name,
                            "could not take the agents out of the pool: {message}"
                        );
                    }
                }
                sleep(backoff.after_failure(&RETRY)).await;
            }
        };
        tokio::select! {
            () = self.office.stop.cancelled() => return Ok(()),
            removed = timeout(LEAVING, removing) => if removed.is_err() {
                tracing::warn!(
                    set = self.name,
                    "the set is deleted although its agents are still in the pool {}; delete them there",
                    roster.set.pool_name
                );
            },
        }
        roster.registrations.forget().await?;
        self.let_go().await
    }

    async fn dismiss(&self, object: &AgentSet, roster: &Roster) -> Result<(), Trouble> {
        let registrar = self.registrar(object, roster).await?;
        for agent in &roster.set.agents {
            registrar.remove(agent.id, &Arc::from(agent.name.as_str())).await?;
        }
        Ok(())
    }

    /// Holds the set until its agents are out of the pool.
    async fn hold(&self, object: &AgentSet) -> Result<(), kube::Error> {
        let mut finalizers = object.finalizers().to_vec();
        if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        self.finalize(object, &finalizers).await
    }

    async fn let_go(&self) -> Result<(), Trouble> {
        let object = self.object();
        let finalizers: Vec<_> =
            object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
        match self.finalize(&object, &finalizers).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            done => Ok(done?),
        }
    }

    async fn finalize(&self, object: &AgentSet, finalizers: &[String]) -> Result<(), kube::Error> {
        let metadata = serde_json::json!({ "finalizers": finalizers, "uid": object.uid() });
        let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
        self.api.patch(&self.name, &PatchParams::default(), &patch).await.map(drop)
    }
}

/// Agents that were registered, and why there are no more.
struct Hired {
    agents: Vec<Registration>,
    trouble: Option<Trouble>,
}

/// Those that are to be online: all that have a job, and others up to `level`.
fn chosen(registered: &[Registration], crew: &Crew, level: usize) -> Vec<Registration> {
    let (busy, idle): (Vec<_>, Vec<_>) = registered.iter().partition(|agent| crew.is_busy(&agent.name));
    let idle_wanted = level.saturating_sub(busy.len());
    busy.into_iter().chain(idle.into_iter().take(idle_wanted)).cloned().collect()
}

fn readiness(crew: &Crew, phase: Phase) -> Readiness {
    let (is_ready, reason, message) = match (phase, crew.online()) {
        (Phase::Pause, _) => (false, "Paused", "the set is paused".to_owned()),
        (Phase::Drain, _) => {
            (false, "Deleting", "running jobs end, then the agents leave the pool".to_owned())
        }
        (_, 0) => (false, "Connecting", "no agent is online yet".to_owned()),
        (_, online) => (true, "Online", format!("{online} agents are online")),
    };
    Readiness { is_ready, reason, message }
}

/// The controller's own log, with what names the job.
fn tell(set: &str, event: &Event) {
    match event {
        Event::JobAccepted { agent, job } => {
            let (request, id) = (job.request, job.id);
            tracing::info!(set, %agent, %request, job = %id, "accepted the job {}", job.name);
        }
        Event::JobStarted { agent, job } => {
            tracing::info!(set, %agent, request = %job.request, job = %job.id, "the job {} runs", job.name);
        }
        Event::Noted { agent, job, note } => {
            tracing::info!(set, %agent, request = %job.request, word = note.word, "{}", note.text);
        }
        Event::JobFinished { agent, job, result, reason } => {
            let (request, id) = (job.request, job.id);
            tracing::info!(set, %agent, %request, job = %id, ?result, reason, "the job {} is over", job.name);
        }
        Event::Warning { agent, message } => tracing::warn!(set, %agent, "{message}"),
        Event::Ended { agent, end } => tracing::info!(set, %agent, ?end, "an agent has ended"),
        _ => {}
    }
}

/// Whether a cluster of this version mounts images as volumes without being asked to (1.35 and later). Some
/// say `35+`.
fn has_image_volumes(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
    (number(major), number(minor)) >= (1, 35)
}
