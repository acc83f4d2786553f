//! A store in a folder: for listeners on a machine whose workers outlive them.
//!
//! ```text
//! FOLDER/lock               held by the listener that uses the folder
//! FOLDER/agents.json        the agents, with their sessions
//! FOLDER/key.json           their key
//! FOLDER/jobs/REQUEST.json  an accepted job with its message, which holds the job's token
//! FOLDER/closed.json        the requests of the last jobs that are over
//! ```
//!
//! The folder and its files are for their owner alone. A file is replaced as a whole: written beside, brought
//! to the disk, renamed.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use dayfly_protocol::{
    RequestId,
    agent_files::{agent_key_to_json, parse_agent_key},
    channel::encode,
    crypto::AgentKey,
};
use futures::{FutureExt as _, future::BoxFuture};
use nix::fcntl::{Flock, FlockArg};
use secrecy::zeroize::Zeroizing;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    Accepted, Change, JobRecord, JobStore, RegisteredSet, Registration, RegistrationStore, Result,
    StoreError, memory::REMEMBERED_REQUESTS,
};

/// The longest file that is read: a job message within the bounds of the protocol fits.
const LONGEST_FILE: u64 = 80 * 1024 * 1024;

/// What is done when agents are written down.
const REGISTER: &str = "record the agents";

/// A folder could not be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It could not be made or read.
    #[error("cannot use the state folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others may look into it.
    #[error(
        "other users can enter the state folder {}, which will hold keys; run `chmod 700` on it, or \
         name another one",
        folder.display()
    )]
    Open {
        /// The folder.
        folder: PathBuf,
    },
    /// Another listener uses it.
    #[error("another process uses the state folder {}; stop it, or name another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file in it is damaged.
    #[error("{} is damaged; move it away to start from scratch, and check the agent in its pool", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Why, without what is in it.
        #[source]
        source: io::Error,
    },
}

/// A store in a folder. One listener at a time uses it: the next one can open it when this is dropped, or its
/// process dead.
#[derive(Debug)]
pub struct OnDisk {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
    _lock: Flock<File>,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    jobs: Vec<JobRecord>,
    closed: VecDeque<RequestId>,
    set: Option<RegisteredSet>,
}

impl OnDisk {
    /// Opens a folder, which is made if it is not there. Blocks.
    ///
    /// # Errors
    ///
    /// It cannot be used, or is used by another process.
    pub fn open(folder: &Path) -> std::result::Result<Self, DiskError> {
        let failed = |source| DiskError::Folder { folder: folder.to_owned(), source };
        for folder in [folder.to_owned(), folder.join("jobs")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        }
        if fs::metadata(folder).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(DiskError::Open { folder: folder.to_owned() });
        }
        let lock = private().create(true).open(folder.join("lock")).map_err(failed)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => DiskError::InUse { folder: folder.to_owned() },
            error => failed(error.into()),
        })?;
        let closed: VecDeque<RequestId> = read(&folder.join("closed.json"))?.unwrap_or_default();
        let mut state = State {
            folder: folder.to_owned(),
            jobs: Vec::new(),
            closed,
            set: read(&folder.join("agents.json"))?,
        };
        for entry in fs::read_dir(folder.join("jobs")).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            // What was being written when its writer died never counted.
            if file.extension().is_none_or(|extension| extension != "json") {
                fs::remove_file(&file).map_err(failed)?;
                continue;
            }
            let Some(job) = read::<JobRecord>(&file)? else { continue };
            if state.closed.contains(&job.request) {
                fs::remove_file(&file).map_err(failed)?;
            } else {
                state.jobs.push(job);
            }
        }
        state.jobs.sort_by_key(|job| job.request);
        Ok(Self { folder: folder.to_owned(), state: Arc::new(Mutex::new(state)), _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The agents that were registered before, with their key. Blocks.
    ///
    /// # Errors
    ///
    /// The key's file cannot be read, or holds none.
    pub async fn registered(&self) -> std::result::Result<Option<(RegisteredSet, AgentKey)>, DiskError> {
        let Some(set) = self.state.lock().await.set.clone() else { return Ok(None) };
        let file = self.folder.join("key.json");
        let damaged = |source| DiskError::Damaged { file: file.clone(), source };
        let text = read_text(&file)?.ok_or_else(|| damaged(io::ErrorKind::NotFound.into()))?;
        let key = parse_agent_key(&text)
            .map_err(|error| damaged(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Ok(Some((set, key)))
    }

    /// Writes down which agents there are, and their key.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub async fn register(&self, set: RegisteredSet, key: &AgentKey) -> Result<()> {
        let text = agent_key_to_json(key).map_err(|error| failed(REGISTER, error))?;
        self.change(REGISTER, move |state| {
            // The key first: agents without it would be of no use.
            write(&state.folder.join("key.json"), text.expose())?;
            save(&state.folder.join("agents.json"), &set)?;
            state.set = Some(set);
            Ok(())
        })
        .await
    }

    /// Does something with the state and the folder, one after the other, where it may block.
    async fn change<T: Send + 'static>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&mut State) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut state = self.state.clone().lock_owned().await;
        let done = tokio::task::spawn_blocking(move || act(&mut state)).await;
        done.map_err(|error| failed(doing, error))?.map_err(|error| failed(doing, error))
    }
}

fn failed(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed { doing, source: Box::new(source) }
}

impl JobStore for OnDisk {
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, Result<Accepted>> {
        self.change("record a job", move |state| {
            let is_known = state.closed.contains(&job.request)
                || state.jobs.iter().any(|known| known.request == job.request);
            if is_known {
                return Ok(Accepted::Known);
            }
            save(&state.file(job.request), &job)?;
            state.jobs.push(job);
            Ok(Accepted::New)
        })
        .boxed()
    }

    fn change(&self, request: RequestId, change: Change) -> BoxFuture<'_, Result<()>> {
        self.change("change the record of a job", move |state| {
            let file = state.file(request);
            // One that is closed needs nothing more.
            let Some(job) = state.jobs.iter_mut().find(|job| job.request == request) else { return Ok(()) };
            let mut changed = job.clone();
            changed.apply(change);
            save(&file, &changed)?;
            *job = changed;
            Ok(())
        })
        .boxed()
    }

    fn close(&self, request: RequestId) -> BoxFuture<'_, Result<()>> {
        self.change("close the record of a job", move |state| {
            state.closed.push_back(request);
            if state.closed.len() > REMEMBERED_REQUESTS {
                state.closed.pop_front();
            }
            save(&state.folder.join("closed.json"), &state.closed)?;
            state.jobs.retain(|job| job.request != request);
            match fs::remove_file(state.file(request)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<JobRecord>>> {
        async { Ok(self.state.lock().await.jobs.clone()) }.boxed()
    }
}

impl RegistrationStore for OnDisk {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        // Who holds the lock of the folder has it until its process ends.
        async { Ok(()) }.boxed()
    }

    fn save(&self, registration: Registration) -> BoxFuture<'_, Result<()>> {
        self.change(REGISTER, move |state| {
            let Some(set) = &mut state.set else { return Ok(()) };
            let mut changed = set.clone();
            changed.agents.retain(|agent| agent.name != registration.name);
            changed.agents.push(registration);
            save(&state.folder.join("agents.json"), &changed)?;
            *set = changed;
            Ok(())
        })
        .boxed()
    }
}

impl State {
    fn file(&self, request: RequestId) -> PathBuf {
        self.folder.join("jobs").join(format!("{request}.json"))
    }
}

/// Files for their owner alone.
fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

fn save(file: &Path, value: &impl Serialize) -> io::Result<()> {
    write(file, &encode(value).map_err(io::Error::other)?)
}

/// Replaces a file so that it is either the old one or the new one, whatever happens.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = private().create(true).truncate(true).open(&beside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    if let Some(folder) = file.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Reads a file, if it is there.
fn read_text(file: &Path) -> std::result::Result<Option<Zeroizing<Vec<u8>>>, DiskError> {
    let damaged = |source| DiskError::Damaged { file: file.to_owned(), source };
    let mut open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error)),
    };
    let length = open.metadata().map_err(damaged)?.len();
    if length > LONGEST_FILE {
        return Err(damaged(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    open.read_to_end(&mut bytes).map_err(damaged)?;
    Ok(Some(bytes))
}

/// Reads what stands in a file, if it is there. What serde says of it is left out, since it may quote a
/// secret.
fn read<T: DeserializeOwned>(file: &Path) -> std::result::Result<Option<T>, DiskError> {
    let Some(bytes) = read_text(file)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("it is not valid at line {}, column {}", error.line(), error.column());
        let source = io::Error::new(io::ErrorKind::InvalidData, place);
        DiskError::Damaged { file: file.to_owned(), source }
    })?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::{AgentId, JobId, LogId, MessageId, channel::SecretJson};

    use super::*;
    use crate::store::{Claim, Stage};

    fn record(request: i64) -> JobRecord {
        JobRecord {
            request: RequestId(request),
            job: JobId::default(),
            agent: AgentId(1),
            message_id: MessageId(1),
            body: Arc::new(SecretJson::new(b"{\"token\":\"hush\", \"later\": [1]}").expect("it is JSON")),
            stage: Stage::Accepted,
            cancelled: None,
            log: None,
        }
    }

    fn open(folder: &Path) -> OnDisk {
        OnDisk::open(folder).expect("it can be used")
    }

    #[tokio::test]
    async fn what_was_written_down_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("state");
        let store = open(&folder);
        assert_eq!(store.accept(record(1)).await.expect("it can"), Accepted::New);
        assert_eq!(store.accept(record(2)).await.expect("it can"), Accepted::New);
        let claim = Claim { resume: dayfly_protocol::channel::Key::new("k").digest(), place: "7".to_owned() };
        let change = Change::Stage(Stage::Claimed(claim.clone()));
        JobStore::change(&store, RequestId(1), change).await.expect("it can");
        JobStore::change(&store, RequestId(1), Change::Log(LogId(3))).await.expect("it can");
        store.close(RequestId(2)).await.expect("it can");
        drop(store);
        let store = open(&folder);
        let jobs = JobStore::open(&store).await.expect("it can");
        assert_eq!(jobs, [JobRecord { stage: Stage::Claimed(claim), log: Some(LogId(3)), ..record(1) }]);
        assert_eq!(store.accept(record(1)).await.expect("it can"), Accepted::Known);
        assert_eq!(store.accept(record(2)).await.expect("it can"), Accepted::Known, "it is over");
    }

    #[tokio::test]
    async fn it_is_for_its_owner_alone_and_for_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("state");
        let store = open(&folder);
        store.accept(record(1)).await.expect("it can");
        for path in [folder.clone(), folder.join("jobs"), folder.join("jobs/1.json"), folder.join("lock")] {
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        assert!(matches!(OnDisk::open(&folder), Err(DiskError::InUse { .. })));
        drop(store);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).expect("it is ours");
        assert!(matches!(OnDisk::open(&folder), Err(DiskError::Open { .. })));
    }

    #[tokio::test]
    async fn half_a_file_never_counts_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("state");
        drop(open(&folder));
        fs::write(folder.join("jobs/1.new"), "{\"half").expect("written");
        assert!(JobStore::open(&open(&folder)).await.expect("it can").is_empty());
        fs::write(folder.join("jobs/1.json"), "{\"hush\":").expect("written");
        let error = OnDisk::open(&folder).expect_err("it is damaged");
        let text = format!("{error} {error:?}");
        assert!(text.contains("1.json is damaged") && !text.contains("hush"), "{text}");
    }
}
