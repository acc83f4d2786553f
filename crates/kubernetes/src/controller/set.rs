//! One `AgentSet`, from the moment it is seen until its agents are out of the pool.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dayfly_client::{Backoff, Connection, Credential, RetryPolicy, describe};
use dayfly_listener::{
    AgentSet as Listener, Agents, CONNECTING_AGENTS, Config, Description, Event, OWNER_CAPABILITY,
    OnExisting, Phase, RegisteredSet, Registrar, Wanted,
};
use dayfly_protocol::{PoolId, channel::WorkerSettings, crypto::AgentKey};
use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Office,
    roster::Roster,
    shift::{Outcome, Shift},
    status::{Finding, conditions, is_news},
    strays::Strays,
    tidy::tidy,
    trouble::Trouble,
};
use crate::{
    api::{AgentSet, AgentSetStatus},
    cluster::{bounded, delivery},
    executor::PodExecutor,
    identity::{CA_CONFIG_MAP, CA_KEY},
    login::{Access, LoginError, Way, access},
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

/// How long they may take to leave that of a service to which the connection leads no more.
const MOVING: Duration = Duration::from_secs(60);

/// Pauses between two tries to bring a set to life.
const RETRY: RetryPolicy = RetryPolicy::endless(Duration::from_secs(1), Duration::from_secs(60));

/// One set.
pub(super) struct Set {
    office: Arc<Office>,
    wanted: watch::Receiver<Arc<AgentSet>>,
    api: Api<AgentSet>,
    namespace: String,
    name: String,
    /// What its status says.
    told: Option<AgentSetStatus>,
    /// Whether the cluster takes its pods, as far as that is known.
    pub(super) template: Option<Finding>,
    /// The last connection that could manage the pool. A namespace that is deleted takes the login first, and
    /// the agents are to leave the pool all the same.
    manager: Mutex<Option<Connection>>,
}

impl Set {
    pub(super) fn new(office: Arc<Office>, wanted: watch::Receiver<Arc<AgentSet>>) -> Self {
        let (namespace, name) = {
            let set = wanted.borrow();
            (set.namespace().unwrap_or_default(), set.name_any())
        };
        let api = Api::namespaced(office.client.clone(), &namespace);
        Self { office, wanted, api, namespace, name, told: None, template: None, manager: Mutex::default() }
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
            self.office.config.watcher.failed("AgentSet");
            let readiness = Finding::ready(false, trouble.reason(), message);
            // Whoever has it now says how it is.
            if !matches!(trouble, Trouble::Lost) {
                self.report([0; 3], readiness).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.after_failure(&RETRY)) => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The object as it is now.
    pub(super) fn object(&self) -> Arc<AgentSet> {
        self.wanted.borrow().clone()
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.wanted.borrow().metadata.deletion_timestamp.is_some()
    }

    /// Waits until the object changes: false if it is gone.
    pub(super) async fn changed(&mut self) -> bool {
        self.wanted.changed().await.is_ok()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is: the cluster, the namespace and the name.
    pub(super) fn place(&self) -> (Client, String, String) {
        (self.office.client.clone(), self.namespace.clone(), self.name.clone())
    }

    /// When the controller ends.
    pub(super) fn stop(&self) -> CancellationToken {
        self.office.stop.clone()
    }

    /// Tells whoever watches the controller.
    pub(super) fn tell_watcher(&self, event: &Event) {
        let label: Arc<str> = format!("{}/{}", self.namespace, self.name).into();
        self.office.config.watcher.event(&label, event);
    }

    /// Writes what is known of the set, where it is news.
    pub(super) async fn report(&mut self, [online, running, pending]: [u32; 3], readiness: Finding) {
        let set = self.object();
        let known = self.told.as_ref().or(set.status.as_ref());
        let before = known.map(|known| known.conditions.as_slice()).unwrap_or_default();
        let found: Vec<_> = [readiness].into_iter().chain(self.template.clone()).collect();
        let conditions = conditions(before, &found, set.metadata.generation);
        let status = AgentSetStatus { online, running, pending, conditions };
        if self.told.as_ref() == Some(&status) {
            return;
        }
        for finding in found.iter().filter(|finding| is_news(before, finding)) {
            self.office.announcer.tell(&set.object_ref(&()), finding).await;
        }
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        match bounded(self.api.patch_status(&self.name, &PatchParams::default(), &patch)).await {
            Ok(_) => self.told = Some(status),
            Err(error) => {
                tracing::info!(%error, set = self.name, "could not write the status of an AgentSet");
            }
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
        let Some(ownership) = ownership else { return self.go_with_namespace().await };
        let served = self.serve_ours(&ownership.fence()).await;
        ownership.release().await;
        served
    }

    /// Lets the set go with its namespace, in which there are no Leases any more.
    async fn go_with_namespace(&mut self) -> Result<(), Trouble> {
        let stop = self.office.stop.clone();
        while !self.is_deleted() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                there = self.changed() => if !there { return Ok(()) },
            }
        }
        self.serve_ours(&Fence::new()).await
    }

    async fn serve_ours(&mut self, fence: &Fence) -> Result<(), Trouble> {
        loop {
            let object = self.object();
            let Some(mut roster) = self.prepare(&object, fence).await? else { return self.let_go().await };
            let outcome = self.work(&object, &mut roster, fence).await?;
            if self.office.stop.is_cancelled() {
                return Ok(());
            }
            match outcome {
                // As if another controller had it now: what runs goes on, and the agents keep their sessions.
                Outcome::Released => {}
                Outcome::Moved if !self.is_deleted() => self.move_out(roster, fence).await?,
                Outcome::Moved | Outcome::Ended => return self.leave(roster).await,
            }
        }
    }

    /// Everything that the agents need before they work; `None` if the set is deleted and has nothing.
    async fn prepare(&self, object: &AgentSet, fence: &Fence) -> Result<Option<Roster>, Trouble> {
        let registrations = Arc::new(Registrations::new(
            self.office.client.clone(),
            &self.office.config.namespace,
            &self.name,
            &object.uid().unwrap_or_default(),
            fence.clone(),
        ));
        if object.metadata.deletion_timestamp.is_none() {
            self.hold(object).await?;
            self.office.authority.publish(&self.namespace).await?;
            // Jobs run without it as well, only less safely.
            if let Err(error) = protect(self.office.client.clone(), object).await {
                tracing::warn!(%error, set = self.name, "busy pods are not protected from eviction");
            }
        }
        self.roster(object, registrations).await
    }

    /// What is registered already, or a new pool and key; `None` if the set is deleted and has nothing.
    async fn roster(
        &self,
        object: &AgentSet,
        registrations: Arc<Registrations>,
    ) -> Result<Option<Roster>, Trouble> {
        if let Some((set, key)) = registrations.registered().await? {
            return Ok(Some(Roster::new(registrations, key, set)));
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
        Ok(Some(Roster::new(registrations, key, set)))
    }

    /// Reads how the service is reached now.
    pub(super) fn look_for_way(&self) -> BoxFuture<'static, Result<Way, LoginError>> {
        let (office, namespace, object) = (self.office.clone(), self.namespace.clone(), self.object());
        async move { Ok(access(&office, &namespace, &object.spec.connection_ref).await?.way()) }.boxed()
    }

    async fn access(&self, object: &AgentSet) -> Result<Access, LoginError> {
        access(&self.office, &self.namespace, &object.spec.connection_ref).await
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
            (OWNER_CAPABILITY, object.uid().unwrap_or_default()),
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

    fn sweep(&self, set: AcceptingSet, fence: &Fence) -> Sweep {
        let Office { client, config, calls, .. } = &*self.office;
        Sweep::new(client.clone(), set, &config.namespace, fence.clone(), calls.clone())
    }

    /// Tidies up after the set until this is dropped.
    fn tidying(&self, set: AcceptingSet, fence: &Fence, executor: PodExecutor) -> AbortOnDropHandle<()> {
        let Office { client, calls, .. } = &*self.office;
        let sweep = self.sweep(set.clone(), fence);
        let strays = Strays::new(client, &set, executor.clone(), fence.clone(), calls.clone());
        let tidying = tidy(client.clone(), set, (sweep, strays, executor), self.wanted.clone());
        AbortOnDropHandle::new(tokio::spawn(tidying))
    }

    /// Runs the agents until the set is deleted or the controller ends.
    async fn work(
        &mut self,
        object: &AgentSet,
        roster: &mut Roster,
        fence: &Fence,
    ) -> Result<Outcome, Trouble> {
        let config = &self.office.config;
        let facts = Facts {
            dayfly_image: config.image.clone(),
            channel: config.channel.clone(),
            ca: CaConfigMap { name: CA_CONFIG_MAP.to_owned(), key: CA_KEY.to_owned() },
            delivery: delivery(&self.office.client).await,
            ca_bundle: None,
            service_account: "default".to_owned(),
        };
        let access = match self.access(object).await {
            // Its jobs are to end properly all the same, and its agents to leave.
            Err(missing @ LoginError::Missing { .. }) if self.is_deleted() => {
                Access::without_connection(&roster.set.server_url, missing)
            }
            // The agents are where they were registered, whatever the connection says by now.
            access => access?.at(&roster.set.server_url),
        };
        let way = access.way();
        let accepting = self.accepting(object, roster.set.pool);
        let store = Arc::new(self.store(accepting.clone(), fence));
        let executor = PodExecutor::new(
            self.office.client.clone(),
            &self.namespace,
            &self.name,
            object.spec.clone(),
            (facts, access.network),
            self.office.gate.clone(),
            Some((store.clone(), self.office.config.watcher.clone())),
        );
        let _tidying = self.tidying(accepting, fence, executor.clone());
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
            description: self.description(object),
            worker: WorkerSettings::default(),
            once: false,
            connecting: CONNECTING_AGENTS,
            store,
            registrations: roster.registrations.clone(),
        };
        let (listener, events) = Listener::start(listener, Arc::new(executor.clone())).await?;
        let shift = Shift::new(self, roster, executor, sender, way);
        shift.work(listener, events, fence).await
    }

    /// Who may register agents, and take them away: where the first of them were registered, whatever the
    /// connection says by now.
    pub(super) async fn registrar(&self, object: &AgentSet, roster: &Roster) -> Result<Registrar, Trouble> {
        let url = roster.set.server_url.clone();
        let connection = match self.access(object).await {
            Ok(access) => access.at(&url).manager(),
            Err(error) => Err(error),
        };
        let connection = match (connection, self.remembered()) {
            (Err(LoginError::Missing { .. }), Some(known)) if self.is_deleted() => known,
            (connection, _) => connection?,
        };
        let service = connection.connection_data().await?;
        *self.manager.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        let (key, description) = (roster.key.clone(), self.description(object));
        Ok(Registrar::new(connection, roster.set.pool, key, OnExisting::Adopt, description, &service, url))
    }

    fn remembered(&self) -> Option<Connection> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nobody can take the agents out of the pool any more: the login is deleted as well, and what is
    /// remembered of it does not do.
    async fn is_hopeless(&self, object: &AgentSet, trouble: &Trouble) -> bool {
        let is_refused = matches!(trouble.reason(), "NotFound" | "CredentialRejected");
        let missing = async {
            let access = self.access(object).await;
            matches!(access.and_then(Access::manager), Err(LoginError::Missing { .. }))
        };
        is_refused && missing.await
    }

    /// Takes the agents out of the pool, for as long as that may take, and lets the set go.
    async fn leave(&mut self, roster: Roster) -> Result<(), Trouble> {
        let object = self.object();
        let mut backoff = Backoff::default();
        let removing = async {
            loop {
                match self.dismiss(&object, &roster).await {
                    Ok(()) => return true,
                    Err(trouble) => {
                        let message = describe(&trouble);
                        tracing::warn!(
                            set = self.name,
                            "could not take the agents out of the pool: {message}"
                        );
                        if self.is_hopeless(&object, &trouble).await {
                            return false;
                        }
                    }
                }
                sleep(backoff.after_failure(&RETRY)).await;
            }
        };
        tokio::select! {
            () = self.office.stop.cancelled() => return Ok(()),
            removed = timeout(LEAVING, removing) => if removed != Ok(true) {
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

    /// Takes the agents out of the pool of a service to which the connection leads no more, if that can still
    /// be done.
    async fn move_out(&self, roster: Roster, fence: &Fence) -> Result<(), Trouble> {
        let object = self.object();
        let RegisteredSet { server_url, pool_name, .. } = &roster.set;
        tracing::info!(set = self.name, "the set moves: the connection leads to {server_url} no more");
        let failure = match timeout(MOVING, self.dismiss(&object, &roster)).await {
            Ok(Ok(())) => None,
            Ok(Err(trouble)) => Some(describe(&trouble)),
            Err(_) => Some("it does not answer in time".to_owned()),
        };
        if let Some(failure) = failure {
            tracing::warn!(
                set = self.name,
                "the agents are still in the pool {pool_name} of {server_url}; delete them there: {failure}"
            );
        }
        // The requests of the next service have the same numbers.
        self.sweep(self.accepting(&object, roster.set.pool), fence).run(Duration::ZERO).await?;
        Ok(roster.registrations.forget().await?)
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
