//! Starting and stopping an emulator, and using it from within the process.

mod runs;
mod single_job;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dayfly_protocol::{JobId, PlanId, PoolId, ProjectId, RequestId};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::app::App;
use crate::events::{Event, Hub};
use crate::faults::{self, FaultRule, Faults};
use crate::http;
use crate::runs::{control, server};
use crate::settings::Settings;
use crate::state::jobs::NewJob;
use crate::state::{self, State, Statistics};
use crate::stores::Stores;
use crate::stores::containers::FileContainers;
use crate::stores::disk::Disk;
use crate::stores::git::GitServer;
use crate::stores::tasks::{self, TaskFolder};

/// Why an emulator did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken or not this machine's.
    #[error("could not listen on {address}; choose another address or port 0")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No folder for logs could be made.
    #[error("could not create a temporary folder for logs and artifacts")]
    Folder(#[source] io::Error),
    /// The organization's name cannot be part of an address.
    #[error("organization name `{0}` cannot be part of a URL; use letters, digits, `-` and `_`")]
    Organization(String),
    /// A fault rule is not valid.
    #[error("a fault rule is not valid")]
    Faults(#[from] faults::Error),
    /// The folder of tasks cannot be used.
    #[error("cannot use the tasks folder")]
    Tasks(#[from] tasks::Error),
    /// A number of things is needed that is not there.
    #[error("the settings have no {0}; give at least one")]
    Empty(&'static str),
}

/// A running emulator. Dropping it stops it without waiting; [`Emulator::stop`] waits.
#[derive(Debug)]
pub struct Emulator {
    app: App,
    url: Url,
    address: SocketAddr,
    tasks: JoinSet<()>,
    folder: tempfile::TempDir,
}

impl Emulator {
    /// Starts an emulator and returns when it listens.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        check(&settings)?;
        let faults = Faults::new(&settings.faults, settings.fault_seed)?;
        let (parent, tasks) = (settings.data_folder.clone(), settings.tasks_folder.clone());
        // A folder with all of Microsoft's tasks takes a while to read.
        let prepared = tokio::task::spawn_blocking(move || Folders::prepare(parent, tasks.as_deref())).await;
        let Folders { folder, containers, snapshots, tasks } =
            prepared.map_err(|error| Error::Folder(io::Error::other(error)))??;
        let disk = Disk::new(settings.limits.data_bytes);
        let stores = Stores {
            git: GitServer::new(),
            tasks: Arc::new(tasks),
            containers: FileContainers::new(containers, disk.clone()),
            snapshots,
            disk: disk.clone(),
        };
        let address = settings.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let local = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
        let base = base_url(&settings, local);
        let url = without_slash(&base);

        let hub = Arc::new(Hub::new(settings.limits.events));
        let (signals, receiver) = mpsc::unbounded_channel();
        let now = settings.clock.now();
        let data = folder.path().to_owned();
        let state = State::new(&settings, data, disk, Arc::clone(&hub), signals, now);
        let stop = CancellationToken::new();
        let limits = settings.limits.clone();
        let app = App::new(settings, base, state, faults, stores, stop.clone());

        let mut tasks = JoinSet::new();
        let (service, connections) = (http::Service::new(app.clone()), app.connections().clone());
        tasks.spawn(http::serve::serve(listener, service, connections, stop.clone(), limits));
        tasks.spawn(expire(app.clone(), stop.clone()));
        tasks.spawn(control::drive(app.clone(), receiver, stop.clone()));
        tasks.spawn(control::sweep(app.clone(), stop.clone()));
        tasks.spawn(server::drive(app.clone(), stop.clone()));
        tasks.spawn(async move { hub.run(stop).await });
        tracing::info!(%url, "emulator listens");
        Ok(Self { app, url, address: local, tasks, folder })
    }

    /// The collection's URL, without a slash at its end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All events from now on. Whoever asks for them must take them: the queue is bounded, and when it is
    /// full the workers wait. Drop the receiver to end it.
    pub fn events(&self) -> mpsc::Receiver<Event> {
        self.app.hub().subscribe()
    }

    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Makes the token which a job reports with. It is good for the job's plan only.
    pub fn issue_job_token(&self, plan: PlanId, job: JobId) -> Result<SecretString, state::Error> {
        self.app.state().issue_job_token(plan, job)
    }

    /// Queues a job of a plan.
    pub fn queue_job(&self, job: NewJob) -> Result<RequestId, state::Error> {
        self.app.state().queue_job(job, self.app.now())
    }

    /// Cancels a job; its agent has `timeout` to end it.
    pub fn cancel_job(&self, plan: PlanId, job: JobId, timeout: Duration) -> Result<(), state::Error> {
        self.app.state().cancel_job(plan, job, timeout, self.app.now())
    }

    /// Tells the worker of a running job how often console lines are wanted.
    pub fn set_feed_pace(&self, plan: PlanId, job: JobId, pace: Duration) -> Result<(), state::Error> {
        self.app.state().set_feed_pace(plan, job, pace)
    }

    /// Ends all sessions, as an outage does; returns how many there were.
    pub fn lose_sessions(&self) -> usize {
        self.app.state().end_all_sessions(self.app.now())
    }

    /// Closes all connections at once, with whatever is under way on them; returns how many there were.
    pub fn cut_connections(&self) -> usize {
        self.app.connections().cut(None)
    }

    /// A project's id; of the first one when no name is given.
    pub fn project(&self, name: Option<&str>) -> Option<ProjectId> {
        let state = self.app.state();
        match name {
            Some(name) => state.projects.find(name).ok().map(|project| project.id),
            None => state.projects.all().first().map(|project| project.id),
        }
    }

    /// A pool's number.
    pub fn pool(&self, name: &str) -> Option<PoolId> {
        self.app.state().pools.find(name).map(|pool| pool.id)
    }

    /// Adds a fault rule and returns its number.
    pub fn add_fault(&self, rule: FaultRule) -> Result<u64, faults::Error> {
        self.app.faults().add(rule)
    }

    /// How often a fault rule has struck; `None` when there is none of that number.
    pub fn strikes(&self, rule: u64) -> Option<u64> {
        let rules = self.app.faults().list();
        rules.into_iter().find(|active| active.id == rule).map(|active| active.struck)
    }

    /// Removes a fault rule; false when there is none of that number.
    pub fn remove_fault(&self, rule: u64) -> bool {
        self.app.faults().remove(rule)
    }

    /// Removes all fault rules.
    pub fn clear_faults(&self) {
        self.app.faults().clear();
    }

    /// Numbers about the emulator.
    pub fn statistics(&self) -> Statistics {
        self.app.state().statistics()
    }

    /// Stops: answers held polls, lets requests under way end, deletes logs and artifacts.
    pub async fn stop(mut self) {
        self.app.stop().cancel();
        while self.tasks.join_next().await.is_some() {}
        self.app.disk().idle().await;
        let folder = self.folder.path().to_owned();
        // Deleting can take a while; the runtime's threads are for others.
        let deleted = tokio::task::spawn_blocking(move || self.folder.close()).await;
        match deleted {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(folder = %folder.display(), %error, "could not delete the folder")
            }
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "could not delete the folder"),
        }
    }
}

/// What is made on disk for an emulator.
struct Folders {
    /// All others are in it.
    folder: tempfile::TempDir,
    containers: PathBuf,
    snapshots: PathBuf,
    tasks: TaskFolder,
}

impl Folders {
    /// Makes the folders of what is kept on disk, and reads the tasks.
    fn prepare(parent: Option<PathBuf>, tasks: Option<&Path>) -> Result<Self, Error> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("dayfly-emulator-");
        let folder = match parent {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        }
        .map_err(Error::Folder)?;
        let inner = |name: &str| {
            let inner = folder.path().join(name);
            std::fs::create_dir(&inner).map(|()| inner)
        };
        let containers = inner("containers").map_err(Error::Folder)?;
        let snapshots = inner("snapshots").map_err(Error::Folder)?;
        let packages = inner("packages").map_err(Error::Folder)?;
        let tasks = TaskFolder::load(tasks, packages)?;
        Ok(Self { folder, containers, snapshots, tasks })
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    let name = &settings.organization;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.starts_with('_') || !name.chars().all(is_plain) {
        return Err(Error::Organization(name.clone()));
    }
    if settings.pools.is_empty() {
        return Err(Error::Empty("agent pool"));
    }
    if settings.projects.is_empty() {
        return Err(Error::Empty("project"));
    }
    Ok(())
}

/// The collection's URL with a slash at its end.
fn base_url(settings: &Settings, local: SocketAddr) -> Url {
    let mut url = match &settings.public_url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{local}/")).expect("a socket address makes an address"),
    };
    url.set_path(&format!("{}/", settings.organization));
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn without_slash(base: &Url) -> Url {
    let mut url = base.clone();
    url.set_path(base.path().trim_end_matches('/'));
    url
}

/// Ends what has expired.
async fn expire(app: App, stop: CancellationToken) {
    let earlier = app.state().deadlines.earlier();
    loop {
        let next = app.state().deadlines.next();
        let due = async {
            match next {
                Some(next) => app.clock().sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = earlier.notified() => {}
            () = due => {}
        }
        app.state().expire(app.now());
    }
}
