//! The agents of a set that are registered, with their sessions and their key: a Secret in the controller's
//! namespace. With it a successor goes on without the login that may manage the pool.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dayfly_listener::{RegisteredSet, Registration, RegistrationStore, StoreError, StoreResult};
use dayfly_protocol::{
    agent_files::{agent_key_to_json, parse_agent_key},
    crypto::AgentKey,
};
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
};
use tokio::time::timeout;

use crate::{
    names::{AGENT_SET_LABEL, MANAGED_BY, MANAGER},
    ownership::Fence,
};

/// Bound of one call.
const CALL: Duration = Duration::from_secs(15);

/// The Secret's keys.
const AGENTS: &str = "agents.json";
const KEY: &str = "key.json";

/// The registered agents of one set.
pub(crate) struct Registrations {
    secrets: Api<Secret>,
    name: String,
    set: String,
    fence: Fence,
    state: Mutex<State>,
    /// How much of the state is written. Held while it is written, so that whoever waits for it finds that
    /// the write before covered theirs, or writes for all who wait behind them.
    written: tokio::sync::Mutex<u64>,
}

#[derive(Default)]
struct State {
    set: Option<RegisteredSet>,
    /// Counts the changes.
    version: u64,
}

impl fmt::Debug for Registrations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registrations").field("secret", &self.name).finish_non_exhaustive()
    }
}

impl Registrations {
    /// Those of the set with this name and UID; what is secret of them is kept in `namespace`. Nothing is
    /// written once `fence` has fallen.
    pub(crate) fn new(client: Client, namespace: &str, set: &str, uid: &str, fence: Fence) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            name: format!("dayfly-agents-{uid}"),
            set: set.to_owned(),
            fence,
            state: Mutex::default(),
            written: tokio::sync::Mutex::new(0),
        }
    }

    /// The agents that were registered before, with their key.
    pub(crate) async fn registered(&self) -> StoreResult<Option<(RegisteredSet, AgentKey)>> {
        let doing = "read which agents are registered";
        let secret = bounded(doing, self.secrets.get_opt(&self.name)).await?;
        let Some(data) = secret.and_then(|secret| secret.data) else { return Ok(None) };
        let part = |key| data.get(key).map(|value| value.0.as_slice()).unwrap_or_default();
        let set: RegisteredSet =
            serde_json::from_slice(part(AGENTS)).map_err(|error| failed(doing, error))?;
        let key = parse_agent_key(part(KEY)).map_err(|error| failed(doing, error))?;
        self.state().set = Some(set.clone());
        Ok(Some((set, key)))
    }

    /// Writes down which agents there are, and their key.
    pub(crate) async fn register(&self, set: RegisteredSet, key: &AgentKey) -> StoreResult<()> {
        let doing = "write down which agents are registered";
        let key = agent_key_to_json(key).map_err(|error| failed(doing, error))?;
        let mut written = self.written.lock().await;
        let (set, version) = self.change(|known| *known = Some(merged(set, known.take())));
        self.write(set, Some(key.expose().to_vec())).await?;
        *written = version;
        Ok(())
    }

    /// Deletes what is kept.
    pub(crate) async fn forget(&self) -> StoreResult<()> {
        match timeout(CALL, self.secrets.delete(&self.name, &DeleteParams::default())).await {
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
            Ok(deleted) => deleted.map(drop).map_err(|error| failed("delete the agents' Secret", error)),
            Err(error) => Err(failed("delete the agents' Secret", error)),
        }
    }

    fn held(&self) -> StoreResult<()> {
        if self.fence.is_held() { Ok(()) } else { Err(StoreError::NotOurs) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Option<RegisteredSet>)) -> (Option<RegisteredSet>, u64) {
        let mut state = self.state();
        change(&mut state.set);
        state.version += 1;
        (state.set.clone(), state.version)
    }

    async fn save_agent(&self, registration: Registration) -> StoreResult<()> {
        let (_, version) = self.change(|set| {
            let agents = set.iter_mut().flat_map(|set| &mut set.agents);
            if let Some(known) = agents.into_iter().find(|known| known.id == registration.id) {
                *known = registration;
            }
        });
        let mut written = self.written.lock().await;
        if *written >= version {
            return Ok(());
        }
        let (set, version) = {
            let state = self.state();
            (state.set.clone(), state.version)
        };
        self.write(set, None).await?;
        *written = version;
        Ok(())
    }

    /// Writes the agents, and the key if there is a new one.
    async fn write(&self, set: Option<RegisteredSet>, key: Option<Vec<u8>>) -> StoreResult<()> {
        let doing = "write down which agents are registered";
        let Some(set) = set else { return Ok(()) };
        self.held()?;
        let agents = serde_json::to_vec(&set).map_err(|error| failed(doing, error))?;
        let mut data = BTreeMap::from([(AGENTS.to_owned(), ByteString(agents))]);
        data.extend(key.map(|key| (KEY.to_owned(), ByteString(key))));
        let labels = [(MANAGED_BY, MANAGER), (AGENT_SET_LABEL, self.set.as_str())];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        };
        // The key alone has an owner of its own, since it is left out when only the agents are written.
        let manager = if secret.data.as_ref().is_some_and(|data| data.contains_key(KEY)) {
            "dayfly"
        } else {
            "dayfly-agents"
        };
        let parameters = PatchParams::apply(manager).force();
        bounded(doing, self.secrets.patch(&self.name, &parameters, &Patch::Apply(&secret))).await.map(drop)
    }
}

/// The agents that are registered now, with the sessions that were saved meanwhile.
fn merged(mut set: RegisteredSet, known: Option<RegisteredSet>) -> RegisteredSet {
    for saved in known.into_iter().flat_map(|known| known.agents) {
        if let Some(agent) = set.agents.iter_mut().find(|agent| agent.id == saved.id) {
            agent.session = saved.session;
        }
    }
    set
}

impl RegistrationStore for Registrations {
    fn check(&self) -> BoxFuture<'_, StoreResult<()>> {
        async { self.held() }.boxed()
    }

    fn save(&self, registration: Registration) -> BoxFuture<'_, StoreResult<()>> {
        self.save_agent(registration).boxed()
    }
}

async fn bounded<T>(
    doing: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> StoreResult<T> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.map_err(|error| failed(doing, error)),
        Err(error) => Err(failed(doing, error)),
    }
}

fn failed(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed { doing, source: Box::new(source) }
}
