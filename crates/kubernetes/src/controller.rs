//! The controller: keeps the virtual agents of every `AgentSet` online and has their jobs run in pods.
//!
//! Everything is a level: whoever is started looks at what there is and goes on from there. Each set has a
//! task of its own, which is told what its object says now.

mod crew;
mod login;
mod set;
mod status;
mod tidy;

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc};

use dayfly_listener::Gate;
use futures::{StreamExt as _, stream};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::set::Set;
use crate::{
    api::AgentSet,
    calls::Calls,
    identity::{Authority, AuthorityError, PodIdentity},
};

/// Who is told of all that happens.
pub trait Watcher: std::fmt::Debug + Send + Sync + 'static {
    /// The controller has begun its work.
    fn ready(&self);

    /// Something happened to an agent of this set, `NAMESPACE/NAME`.
    fn event(&self, set: &Arc<str>, event: &dayfly_listener::Event);
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
    let apis: Vec<Api<AgentSet>> = match config.watch_namespaces.as_slice() {
        [] => vec![Api::all(client.clone())],
        namespaces => namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    let office =
        Arc::new(Office { client, config, gate, authority, calls: Arc::default(), stop: stop.clone() });
    office.config.watcher.ready();
    let mut tasks = Tasks::default();
    let mut changes = stream::select_all(
        apis.into_iter()
            .map(|sets| watcher::watcher(sets, watcher::Config::default()).default_backoff().boxed()),
    );
    let mut fresh = std::pin::pin!(office.authority.keep_fresh());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = &mut fresh => {}
            change = changes.next() => match change {
                Some(Ok(Event::Apply(set) | Event::InitApply(set))) => tasks.apply(&office, set),
                Some(Ok(Event::Delete(set))) => tasks.forget(&set),
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(%error, "the watch of AgentSets broke, and begins anew"),
                None => break,
            },
            Some(ended) = tasks.running.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a set failed");
                }
            }
        }
    }
    stop.cancel();
    while tasks.running.join_next().await.is_some() {}
    Ok(())
}

/// A task for each set, by the set's UID.
#[derive(Default)]
struct Tasks {
    wanted: HashMap<String, watch::Sender<Arc<AgentSet>>>,
    running: JoinSet<()>,
}

impl Tasks {
    fn apply(&mut self, office: &Arc<Office>, set: AgentSet) {
        let Some(uid) = set.uid() else { return };
        if let Some(wanted) = self.wanted.get(&uid).filter(|wanted| !wanted.is_closed()) {
            wanted.send_replace(Arc::new(set));
            return;
        }
        let (sender, wanted) = watch::channel(Arc::new(set));
        self.running.spawn(Set::new(office.clone(), wanted).run());
        self.wanted.insert(uid, sender);
    }

    /// Its finalizer is gone, so its task has ended or was let go.
    fn forget(&mut self, set: &AgentSet) {
        if let Some(uid) = set.uid() {
            self.wanted.remove(&uid);
        }
    }
}
