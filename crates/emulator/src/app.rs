//! What the request handlers share.

pub(crate) mod body_room;
pub(crate) mod connections;
mod logs;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::body_room::BodyRoom;
use self::connections::Connections;
use crate::clock::Clock;
use crate::events::Hub;
use crate::faults::Faults;
use crate::settings::Settings;
use crate::state::State;
use crate::stores::Stores;
use crate::stores::containers::FileContainers;
use crate::stores::disk::Disk;
use crate::stores::git::GitServer;
use crate::stores::tasks::TaskFolder;

/// The emulator as its request handlers see it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    base: Url,
    state: Mutex<State>,
    hub: Arc<Hub>,
    faults: Faults,
    stores: Stores,
    connections: Connections,
    body_room: BodyRoom,
    stop: CancellationToken,
}

impl App {
    pub(crate) fn new(
        settings: Settings,
        base: Url,
        state: State,
        faults: Faults,
        stores: Stores,
        stop: CancellationToken,
    ) -> Self {
        let hub = Arc::clone(&state.hub);
        let (state, connections) = (Mutex::new(state), Connections::default());
        let body_room = BodyRoom::new(settings.limits.body_bytes);
        Self(Arc::new(Shared { settings, base, state, hub, faults, stores, connections, body_room, stop }))
    }

    /// The connections that are open.
    pub(crate) fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// The memory for the bodies of requests.
    pub(crate) fn body_room(&self) -> &BodyRoom {
        &self.0.body_room
    }

    /// Serves repositories.
    pub(crate) fn git(&self) -> &GitServer {
        &self.0.stores.git
    }

    /// The tasks that agents can download.
    pub(crate) fn tasks(&self) -> &Arc<TaskFolder> {
        &self.0.stores.tasks
    }

    /// The file containers of artifacts.
    pub(crate) fn containers(&self) -> &FileContainers {
        &self.0.stores.containers
    }

    /// Where work on the disk is done.
    pub(crate) fn disk(&self) -> &Disk {
        &self.0.stores.disk
    }

    /// A folder, not made yet, for the snapshot of a work tree.
    pub(crate) fn new_snapshot_folder(&self) -> PathBuf {
        self.0.stores.snapshots.join(format!("{}.git", uuid::Uuid::new_v4()))
    }

    /// The collection's URL, without a slash at its end.
    pub(crate) fn base_url(&self) -> String {
        self.0.base.as_str().trim_end_matches('/').to_owned()
    }

    /// The state. Not to be held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // State functions do not leave things half done where they can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.settings.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.settings.clock.now()
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Cancelled when the emulator stops: whoever holds a request open answers it then.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// The collection's URL, with a slash at its end.
    pub(crate) fn base(&self) -> &Url {
        &self.0.base
    }

    /// An address below the collection's URL.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.0.base.clone();
        url.set_path(&format!("{}{path}", self.0.base.path()));
        url
    }

    /// Where agents ask for access tokens; also the audience of their assertions.
    pub(crate) fn token_url(&self) -> Url {
        self.url("_apis/oauth2/token")
    }
}
