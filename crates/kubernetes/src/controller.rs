//! The controller: keeps the virtual agents of every `AgentSet` online and has their jobs run in pods.
//!
//! Everything is a level: whoever is started looks at what there is and goes on from there. Each set has a
//! task of its own, which is told what its object says now.

mod announce;
mod connection;
mod crew;
mod roster;
mod set;
mod shift;
mod status;
mod strays;
mod template;
mod tidy;
mod trouble;

use std::{collections::HashMap, fmt::Debug, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dayfly_listener::Gate;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{announce::Announcer, connection::Minded, set::Set};
use crate::{
    api::{AgentSet, AzureDevOpsConnection},
    calls::Calls,
    executor::PodStage,
    identity::{Authority, AuthorityError, PodIdentity},
};

/// Who is told of all that happens.
pub trait Watcher: std::fmt::Debug + Send + Sync + 'static {
    /// The controller has begun its work.
    fn ready(&self);

    /// Something happened to an agent of this set, `NAMESPACE/NAME`.
    fn event(&self, set: &Arc<str>, event: &dayfly_listener::Event);

    /// Whether this connection, `NAMESPACE/NAME`, works; `None` once it is gone.
    fn connection(&self, connection: &str, is_ready: Option<bool>);

    /// The pod of a job has come that far, so long after the job was accepted.
    fn pod_reached(&self, stage: PodStage, took: Duration);

    /// An object of this kind, such as `AgentSet`, could not be brought to what it says; it is tried again.
    fn failed(&self, kind: &'static str);
}

/// How a controller runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespaces whose sets are served; all of them if there are none here.
    pub watch_namespaces: Vec<String>,
    /// The controller's own namespace, where everything secret is kept.
    pub namespace: String,
    /// Where the job channel listens.
    pub channel_listen: SocketAddr,
    /// `HOST:PORT` by which pods reach the job channel.
    pub channel: String,
    /// Dayfly's own image, from which job pods take the program.
    pub image: String,
    /// The agent version that is told to the service.
    pub agent_version: String,
    /// Who we are, among other controllers: the name of our pod.
    pub holder: String,
    /// A folder for what must be a file, such as a bundle of certificates.
    pub folder: PathBuf,
    /// A token of our service account by which connections with a workload identity log in.
    pub federated_token_file: PathBuf,
    /// Who is told of all that happens.
    pub watcher: Arc<dyn Watcher>,
    /// Who is told of every call to the service.
    pub observer: Arc<dyn dayfly_client::Observer>,
}

/// The controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job channel has no authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The job channel cannot listen.
    #[error("cannot listen on {address} for the job channel; give another address with --channel-listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What all sets share.
pub(crate) struct Office {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) gate: Arc<Gate>,
    pub(crate) authority: Authority,
    pub(crate) calls: Arc<Calls>,
    pub(crate) announcer: Announcer,
    pub(crate) stop: CancellationToken,
}

/// Runs until `stop`, and then lets go of everything: running jobs go on, for whoever comes next.
///
/// # Errors
///
/// It could not start.
pub async fn run(client: Client, config: Config, stop: CancellationToken) -> Result<(), Error> {
    let host = config.channel.rsplit_once(':').map_or(config.channel.as_str(), |(host, _)| host);
    let authority = Authority::open(client.clone(), &config.namespace, host.trim_matches(['[', ']'])).await?;
    let listener = TcpListener::bind(config.channel_listen)
        .await
        .map_err(|source| Error::Listen { address: config.channel_listen, source })?;
    let identity = Arc::new(PodIdentity::new(client.clone()));
    let gate = Arc::new(Gate::tls(listener, authority.server()?, Some(identity)));
    let announcer = Announcer::new(client.clone(), &config.holder);
    let office = Arc::new(Office {
        client,
        config,
        gate,
        authority,
        calls: Arc::default(),
        announcer,
        stop: stop.clone(),
    });
    office.config.watcher.ready();
    mind_all(&office).await;
    Ok(())
}

/// Minds every set and every connection there is, until the controller is to stop and all are let go of.
async fn mind_all(office: &Arc<Office>) {
    let (mut sets, mut connections) = (watched::<AgentSet>(office), watched::<AzureDevOpsConnection>(office));
    let (mut set_tasks, mut connection_tasks) = (Tasks::default(), Tasks::default());
    let mut fresh = std::pin::pin!(office.authority.keep_fresh());
    loop {
        tokio::select! {
            biased;
            () = office.stop.cancelled() => break,
            () = &mut fresh => {}
            Some(change) = sets.next() => {
                set_tasks.take(change, |wanted| Set::new(office.clone(), wanted).run());
            }
            Some(change) = connections.next() => {
                connection_tasks.take(change, |wanted| Minded::new(office.clone(), wanted).run());
            }
            () = set_tasks.joined() => {}
            () = connection_tasks.joined() => {}
        }
    }
    set_tasks.end().await;
    connection_tasks.end().await;
}

/// What happens to the objects of a kind in the namespaces that are served.
fn watched<K>(office: &Office) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Unpin
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let client = &office.client;
    let apis: Vec<Api<K>> = match office.config.watch_namespaces.as_slice() {
        [] => vec![Api::all(client.clone())],
        namespaces => namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    stream::select_all(
        apis.into_iter()
            .map(|objects| watcher::watcher(objects, watcher::Config::default()).default_backoff().boxed()),
    )
}

/// What somebody wants of an object: its spec, and whether it is to go. The rest of it we write ourselves.
fn wish<K: Resource>(object: &K) -> (Option<i64>, bool) {
    let metadata = object.meta();
    (metadata.generation, metadata.deletion_timestamp.is_some())
}

/// A task for each object of a kind, by the object's UID. It ends by itself, or when its object is gone.
struct Tasks<K> {
    wanted: HashMap<String, watch::Sender<Arc<K>>>,
    running: JoinSet<()>,
}

impl<K> Default for Tasks<K> {
    fn default() -> Self {
        Self { wanted: HashMap::new(), running: JoinSet::new() }
    }
}

impl<K: Resource<DynamicType = ()> + Send + Sync + 'static> Tasks<K> {
    /// Takes a change in; `mind` makes the task of an object that has none.
    fn take<F>(
        &mut self,
        change: Result<Event<K>, watcher::Error>,
        mind: impl FnOnce(watch::Receiver<Arc<K>>) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        match change {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let Some(uid) = object.uid() else { return };
                if let Some(wanted) = self.wanted.get(&uid).filter(|wanted| !wanted.is_closed()) {
                    // A task that is woken by its own status would never rest.
                    wanted.send_if_modified(|known| {
                        let is_wanted_otherwise = wish(&object) != wish(known.as_ref());
                        *known = Arc::new(object);
                        is_wanted_otherwise
                    });
                    return;
                }
                let (sender, wanted) = watch::channel(Arc::new(object));
                self.running.spawn(mind(wanted));
                self.wanted.insert(uid, sender);
            }
            // Whoever has a finalizer has ended already.
            Ok(Event::Delete(object)) => {
                self.wanted.remove(&object.uid().unwrap_or_default());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, kind = %K::kind(&()), "a watch broke, and begins anew");
            }
        }
    }

    /// Waits for the end of a task; for ever while there is none.
    async fn joined(&mut self) {
        match self.running.join_next().await {
            Some(Err(error)) => tracing::error!(%error, kind = %K::kind(&()), "a task failed"),
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, as they do when the controller stops.
    async fn end(mut self) {
        while self.running.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(generation: i64, online: u32) -> AgentSet {
        serde_json::from_value(json!({
            "metadata": { "name": "linux", "uid": "u", "generation": generation },
            "spec": { "connectionRef": "c", "poolName": "p", "agents": { "max": 1 } },
            "status": { "online": online },
        }))
        .expect("a set")
    }

    #[tokio::test]
    async fn a_task_is_woken_by_what_people_write_and_not_by_its_own_status() {
        let mut tasks = Tasks::<AgentSet>::default();
        let mut seen = None;
        tasks.take(Ok(Event::Apply(set(1, 0))), |wanted| {
            seen = Some(wanted.clone());
            async move { drop(wanted) }
        });
        let mut seen = seen.expect("it was begun");
        let mut apply = |set| tasks.take(Ok(Event::Apply(set)), |_| std::future::ready(()));
        apply(set(1, 7));
        assert!(!seen.has_changed().expect("it is there"));
        assert_eq!(seen.borrow_and_update().status.as_ref().map(|status| status.online), Some(7));
        apply(set(2, 7));
        assert!(seen.has_changed().expect("it is there"));
    }
}
