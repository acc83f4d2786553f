//! The worker's side: waits for step hosts, and has processes started by them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dayfly_processes::Ended;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::wire::{Answer, DESCRIPTORS, Frames, FromHost, Start, ToHost, send};
use crate::context::lock;

/// Requests that wait to be sent.
const QUEUE: usize = 64;

/// How long a folder may stay closed to the worker. The kubelet makes the `subPath` of another container in
/// two steps, the folder first and who may write to it right after (`doSafeMakeDir` in its
/// `pkg/volume/util/subpath`), and containers start side by side.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// How often such a folder is tried.
const FOLDER_PACE: Duration = Duration::from_millis(5);

/// How long a container that has connected may take to say hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(30);

/// Why a container cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// There is none of that name.
    #[error("the job has no container '{0}'")]
    Unknown(String),
    /// Its folder cannot be used.
    #[error("cannot wait for the container '{container}' at {}", path.display())]
    Listen { container: String, path: PathBuf, source: io::Error },
    /// Somebody else, or something else, connected.
    #[error("the container '{container}' did not connect as it should: {reason}")]
    Hello { container: String, reason: String },
    /// It never came, and never will.
    #[error("nothing can run in the container '{container}': {reason}")]
    Lost { container: String, reason: String },
    /// It is gone.
    #[error(
        "the container '{0}' has ended, so nothing can run in it; if it used more memory than its limit, \
         raise the limit"
    )]
    Gone(String),
}

/// The containers of this pod that steps can run in.
pub(crate) struct StepHosts {
    folder: PathBuf,
    hosts: BTreeMap<String, Expected>,
}

struct Expected {
    listener: UnixListener,
    host: OnceCell<Arc<StepHost>>,
    /// Why it will never come, once that is known.
    lost: watch::Sender<Option<String>>,
}

impl StepHosts {
    /// Waits for `containers`, each of which finds its socket in a folder of its name below `folder`.
    pub(crate) async fn listen(folder: &Path, containers: &[String]) -> Result<Self, Unreachable> {
        let mut hosts = BTreeMap::new();
        for container in containers {
            let path = socket(folder, container);
            let listener = once_allowed(|| listener(&path)).await.map_err(|source| Unreachable::Listen {
                container: container.clone(),
                path: path.clone(),
                source,
            })?;
            hosts.insert(
                container.clone(),
                Expected { listener, host: OnceCell::new(), lost: watch::Sender::new(None) },
            );
        }
        Ok(Self { folder: folder.to_owned(), hosts })
    }

    /// Takes in that a container will never come, so that nobody waits for it.
    pub(crate) fn lose(&self, container: &str, reason: &str) {
        if let Some(expected) = self.hosts.get(container) {
            expected.lost.send_replace(Some(reason.to_owned()));
        }
    }

    /// The step host of a container, as soon as it is there.
    pub(crate) async fn of(&self, container: &str) -> Result<Arc<StepHost>, Unreachable> {
        let expected = self.hosts.get(container).ok_or_else(|| Unreachable::Unknown(container.to_owned()))?;
        let connect = || async {
            let host = StepHost::accept(&expected.listener, container).await?;
            // From here on nobody can take its part.
            if let Err(error) = tokio::fs::remove_file(socket(&self.folder, container)).await {
                tracing::warn!(%error, container, "the socket of a step host stays");
            }
            Ok(Arc::new(host))
        };
        let mut lost = expected.lost.subscribe();
        tokio::select! {
            biased;
            host = expected.host.get_or_try_init(connect) => host.cloned(),
            // It cannot close as long as we are here.
            Ok(reason) = lost.wait_for(Option::is_some) => Err(Unreachable::Lost {
                container: container.to_owned(),
                reason: reason.clone().unwrap_or_default(),
            }),
        }
    }

    /// Those that have been used so far.
    pub(crate) fn connected(&self) -> impl Iterator<Item = &Arc<StepHost>> {
        self.hosts.values().filter_map(|expected| expected.host.get())
    }
}

fn socket(folder: &Path, container: &str) -> PathBuf {
    folder.join(container).join("socket")
}

fn listener(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Does what the folder's permissions may not allow yet.
async fn once_allowed<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + FOLDER_PATIENCE;
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && Instant::now() < deadline => {
                sleep(FOLDER_PACE).await;
            }
            settled => return settled,
        }
    }
}

/// The step host of one container.
pub(crate) struct StepHost {
    container: String,
    environment: BTreeMap<OsString, OsString>,
    requests: mpsc::Sender<Outgoing>,
    open: Arc<Mutex<Open>>,
    next: AtomicU64,
    _talk: AbortOnDropHandle<()>,
}

impl fmt::Debug for StepHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StepHost").field("container", &self.container).finish_non_exhaustive()
    }
}

struct Outgoing {
    frame: ToHost,
    descriptors: Vec<OwnedFd>,
}

/// Who waits for answers.
#[derive(Default)]
struct Open {
    is_closed: bool,
    waiting: HashMap<u64, mpsc::Sender<Answer>>,
}

impl StepHost {
    async fn accept(listener: &UnixListener, container: &str) -> Result<Self, Unreachable> {
        let wrong = |reason: String| Unreachable::Hello { container: container.to_owned(), reason };
        let (stream, _) = listener.accept().await.map_err(|error| wrong(error.to_string()))?;
        let peer = stream.peer_cred().map_err(|error| wrong(error.to_string()))?.uid();
        let own = Uid::effective().as_raw();
        if peer != own {
            return Err(wrong(format!("it runs as user {peer}, the worker as user {own}")));
        }
        let mut frames = Frames::default();
        let hello = match timeout(HELLO_PATIENCE, frames.next(&stream)).await {
            Ok(Ok(Some(hello))) => hello,
            Ok(Ok(None)) => return Err(Unreachable::Gone(container.to_owned())),
            Ok(Err(error)) => return Err(wrong(error.to_string())),
            Err(_) => return Err(wrong("it does not say hello".to_owned())),
        };
        let FromHost::Hello { environment } = hello else {
            return Err(wrong("its first frame is no hello".to_owned()));
        };
        let (requests, outgoing) = mpsc::channel(QUEUE);
        let open = Arc::new(Mutex::new(Open::default()));
        let talk = tokio::spawn(talk(stream, frames, outgoing, open.clone()));
        Ok(Self {
            container: container.to_owned(),
            environment: environment.into_iter().collect(),
            requests,
            open,
            next: AtomicU64::new(1),
            _talk: AbortOnDropHandle::new(talk),
        })
    }

    /// The container's name in the pod.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }

    /// The container's own environment.
    pub(crate) fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.environment
    }

    /// Looks for a program on `path` in the container.
    pub(crate) async fn find(&self, name: &str, path: &OsString) -> Option<PathBuf> {
        let (id, mut answers) = self.expect();
        let frame = ToHost::Find { id, name: name.to_owned(), path: path.clone() };
        match self.ask(frame, Vec::new(), &mut answers).await? {
            Answer::Found { program } => program,
            _ => None,
        }
    }

    /// Kills what steps have left running in the container, and answers whom.
    pub(crate) async fn sweep(&self, lookup_id: &str) -> Vec<Ended> {
        let (id, mut answers) = self.expect();
        let frame = ToHost::Sweep { id, lookup_id: lookup_id.to_owned() };
        match self.ask(frame, Vec::new(), &mut answers).await {
            Some(Answer::Swept { ended }) => {
                ended.into_iter().map(|(process_id, name)| Ended { process_id, name }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Starts a process with these file descriptors as its input, output and errors.
    pub(crate) async fn start(
        self: &Arc<Self>,
        request: Request,
        descriptors: [OwnedFd; DESCRIPTORS],
    ) -> io::Result<Remote> {
        let (id, mut answers) = self.expect();
        let start = Start {
            id,
            program: request.program,
            arguments: request.arguments,
            directory: request.directory,
            environment: request.environment.into_iter().collect(),
            out_of_memory_score: request.out_of_memory_score,
        };
        let mut starting = Starting { host: self, id, is_awaited: true };
        let answer = self.ask(ToHost::Start(Box::new(start)), descriptors.into(), &mut answers).await;
        starting.is_awaited = false;
        match answer {
            Some(Answer::Started { process_id }) => {
                Ok(Remote { host: Arc::clone(self), id, process_id, answers, status: None })
            }
            Some(Answer::NotStarted { is_directory_missing: true, .. }) => {
                Err(io::Error::from(io::ErrorKind::NotADirectory))
            }
            Some(Answer::NotStarted { errno: Some(errno), .. }) => Err(io::Error::from_raw_os_error(errno)),
            Some(_) => Err(io::Error::other("the container gives no reason")),
            None => Err(io::Error::other(Unreachable::Gone(self.container.clone()))),
        }
    }

    fn expect(&self) -> (u64, mpsc::Receiver<Answer>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // A process has two answers: that it runs, and how it ended.
        let (sender, receiver) = mpsc::channel(2);
        let mut open = lock(&self.open);
        if !open.is_closed {
            open.waiting.insert(id, sender);
        }
        (id, receiver)
    }

    /// `None` if the container is gone.
    async fn ask(
        &self,
        frame: ToHost,
        descriptors: Vec<OwnedFd>,
        answers: &mut mpsc::Receiver<Answer>,
    ) -> Option<Answer> {
        self.requests.send(Outgoing { frame, descriptors }).await.ok()?;
        answers.recv().await
    }

    /// Sends what has no answer.
    fn tell(&self, frame: ToHost) {
        if self.requests.try_send(Outgoing { frame, descriptors: Vec::new() }).is_err() {
            tracing::debug!(container = self.container, "a container did not get a signal");
        }
    }
}

/// Sends requests and hands answers to who waits for them, until the connection ends.
async fn talk(
    stream: UnixStream,
    mut frames: Frames,
    mut outgoing: mpsc::Receiver<Outgoing>,
    open: Arc<Mutex<Open>>,
) {
    let ended = loop {
        tokio::select! {
            frame = frames.next(&stream) => match frame {
                Ok(Some(FromHost::Answer { id, answer })) => hand_over(&open, id, answer),
                Ok(Some(FromHost::Hello { .. })) => tracing::debug!("a container says hello twice"),
                Ok(None) => break None,
                Err(error) => break Some(error),
            },
            Some(Outgoing { frame, descriptors }) = outgoing.recv() => {
                if let Err(error) = send(&stream, &frame, &descriptors).await {
                    break Some(error);
                }
            }
        }
    };
    if let Some(error) = ended {
        tracing::warn!(%error, "the connection to a container broke");
    }
    let mut open = lock(&open);
    open.is_closed = true;
    open.waiting.clear();
}

fn hand_over(open: &Mutex<Open>, id: u64, answer: Answer) {
    let mut open = lock(open);
    let waiting = match answer {
        Answer::Started { .. } => open.waiting.get(&id).cloned(),
        _ => open.waiting.remove(&id),
    };
    // Whoever asked may have gone meanwhile.
    if let Some(waiting) = waiting {
        let _ = waiting.try_send(answer);
    }
}

/// Ends a process whose start nobody waits for any more.
struct Starting<'a> {
    host: &'a StepHost,
    id: u64,
    is_awaited: bool,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if self.is_awaited {
            lock(&self.host.open).waiting.remove(&self.id);
            self.host.tell(ToHost::Abandon { id: self.id });
        }
    }
}

/// A process to be started in a container.
pub(crate) struct Request {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: BTreeMap<OsString, OsString>,
    pub(crate) out_of_memory_score: Option<i32>,
}

/// A process in a container.
pub(crate) struct Remote {
    host: Arc<StepHost>,
    id: u64,
    /// Its number in the container.
    process_id: i32,
    answers: mpsc::Receiver<Answer>,
    status: Option<ExitStatus>,
}

impl Remote {
    /// Its number in the container.
    pub(crate) fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Waits for its end. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        match self.answers.recv().await {
            Some(Answer::Exited { status }) => Ok(*self.status.insert(ExitStatus::from_raw(status))),
            _ => Err(io::Error::other(Unreachable::Gone(self.host.container.clone()))),
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal, to_group: bool) {
        self.host.tell(ToHost::Signal { id: self.id, signal: signal as i32, to_group });
    }

    /// What kills it and all that descends from it.
    pub(crate) fn killer(&self) -> impl Fn() + Send + Sync + use<> {
        let (host, process_id) = (Arc::clone(&self.host), self.process_id);
        move || host.tell(ToHost::KillTree { process_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_is_closed_for_a_moment_is_tried_again() {
        let mut attempts = 0;
        let opened = once_allowed(|| {
            attempts += 1;
            if attempts < 3 { Err(ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        });
        opened.await.expect("the third attempt is allowed");
        assert_eq!(attempts, 3);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_container_that_never_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let containers = ["job", "step-1"].map(str::to_owned);
        let hosts = StepHosts::listen(folder.path(), &containers).await.expect("two sockets");
        let waiting = hosts.of("job");
        let losing = async { hosts.lose("job", "no such image") };
        let (waited, ()) = tokio::join!(waiting, losing);
        let reason = waited.expect_err("it is lost").to_string();
        assert_eq!(reason, "nothing can run in the container 'job': no such image");
        assert!(timeout(Duration::from_millis(20), hosts.of("step-1")).await.is_err(), "that one may come");
        assert!(hosts.of("job").await.is_err(), "it stays lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_stays_closed_is_given_up() {
        let started = Instant::now();
        let closed = once_allowed(|| Err::<(), _>(ErrorKind::PermissionDenied.into())).await;
        assert_eq!(closed.expect_err("nothing opens it").kind(), ErrorKind::PermissionDenied);
        assert!(started.elapsed() >= FOLDER_PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_fails_otherwise_is_not_tried_again() {
        let mut attempts = 0;
        let missing = once_allowed(|| {
            attempts += 1;
            Err::<(), _>(ErrorKind::NotFound.into())
        });
        assert_eq!(missing.await.expect_err("nothing is there").kind(), ErrorKind::NotFound);
        assert_eq!(attempts, 1);
    }
}
