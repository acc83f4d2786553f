//! Where workers that make the connection themselves are met.
//!
//! A worker shows who it is in its first frame. It is taken to the job that expects it, or sent away: by what
//! it was started with as long as it has no job, and by the key that it drew at its start from then on.
//! Nothing else is read of a stranger.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dayfly_protocol::{
    JobId,
    channel::{Hello, Key, KeyDigest, Refusal},
};
use futures::future::BoxFuture;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::{
    host::{hello, refuse},
    link::Link,
};

/// How many connections may be on their way to their job at a time; more have to wait.
const STRANGERS: usize = 256;

/// How long a worker may wait for the job that expects it.
const RECEPTION: Duration = Duration::from_secs(5);

/// Pause after a connection that could not be taken, as when there are too many open files.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// By what a worker is known that has no job yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownBy {
    /// The process at the other end of a socket on this machine.
    Process(u32),
    /// The token that it shows.
    Claim(KeyDigest),
    /// Whose its token is, as the gate's [`Identify`] says: the UID of a pod.
    Identity(String),
    /// Nothing: its job was claimed before our time, so only the key that it drew counts.
    Nothing,
}

/// Finds out whose a token is.
pub trait Identify: std::fmt::Debug + Send + Sync + 'static {
    /// Who shows this token; `None` if it is nobody's, or nobody can tell now. Given up after a few seconds.
    fn identify<'a>(&'a self, claim: &'a Key) -> BoxFuture<'a, Option<String>>;
}

/// A worker that has arrived.
#[derive(Debug)]
pub struct Arrival {
    /// Its first frame.
    pub hello: Hello,
    /// Its connection.
    pub link: Link,
}

/// A door at which workers arrive.
#[derive(Debug)]
pub struct Gate {
    expected: Arc<Expected>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Expected {
    /// By the number of the expectation. Jobs of the same name have the same id in all runs, so at a time
    /// there may be many of one id.
    guests: Mutex<HashMap<u64, Guest>>,
    numbers: AtomicU64,
    changed: Notify,
    /// How many take jobs here.
    hosts: AtomicUsize,
}

#[derive(Debug)]
struct Guest {
    job: JobId,
    known_by: KnownBy,
    resume: Option<KeyDigest>,
    arrivals: mpsc::Sender<Arrival>,
}

/// Jobs are taken at a gate for as long as this lives.
#[derive(Debug)]
pub struct Hosting(Arc<Expected>);

impl Drop for Hosting {
    fn drop(&mut self) {
        self.0.hosts.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The wait of one job for its worker; nobody is let in any more when it is dropped.
#[derive(Debug)]
pub struct Expectation {
    number: u64,
    expected: Arc<Expected>,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Gate {
    /// A socket in the file system. One that is left there by a listener that is gone is replaced, so the
    /// folder must be ours alone.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub fn unix(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let expected = Arc::<Expected>::default();
        let guests = expected.clone();
        let accepting = async move {
            let mut strangers = JoinSet::new();
            loop {
                make_room(&mut strangers).await;
                match listener.accept().await {
                    Ok((stream, _)) => drop(strangers.spawn(by_process(stream, guests.clone()))),
                    Err(error) => not_taken(&error).await,
                }
            }
        };
        Ok(Self { expected, _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)) })
    }

    /// A port behind TLS. Workers are sent away at once unless somebody [hosts](Self::host) jobs: another
    /// listener behind the same address may have theirs. `identify` is asked whose the tokens are of workers
    /// that have no job yet; without it, workers are known by the tokens themselves.
    pub fn tls(
        listener: TcpListener,
        configuration: Arc<rustls::ServerConfig>,
        identify: Option<Arc<dyn Identify>>,
    ) -> Self {
        let acceptor = TlsAcceptor::from(configuration);
        let expected = Arc::<Expected>::default();
        let guests = expected.clone();
        let accepting = async move {
            let mut strangers = JoinSet::new();
            loop {
                make_room(&mut strangers).await;
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let identify = identify.clone();
                        drop(strangers.spawn(by_claim(stream, acceptor.clone(), identify, guests.clone())));
                    }
                    Err(error) => not_taken(&error).await,
                }
            }
        };
        Self { expected, _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)) }
    }

    /// Says that jobs are taken here, so that a worker may wait a moment for its own.
    #[must_use]
    pub fn host(&self) -> Hosting {
        self.expected.hosts.fetch_add(1, Ordering::Relaxed);
        Hosting(self.expected.clone())
    }

    /// Lets the worker of a job in from now on. `resume` is the key that the worker drew, if the job was
    /// claimed already.
    pub fn expect(&self, job: JobId, known_by: KnownBy, resume: Option<KeyDigest>) -> Expectation {
        let (sender, arrivals) = mpsc::channel(1);
        let number = self.expected.numbers.fetch_add(1, Ordering::Relaxed);
        self.expected.guests().insert(number, Guest { job, known_by, resume, arrivals: sender });
        self.expected.changed.notify_waiters();
        Expectation { number, expected: self.expected.clone(), arrivals }
    }
}

impl Expectation {
    /// The next arrival of the worker; a later one takes the place of an earlier one. Cancel safe.
    pub async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // The gate, which has the other end, is there for as long as we are.
            None => std::future::pending().await,
        }
    }

    /// The job is the worker's now that drew this key.
    pub fn bind(&self, resume: KeyDigest) {
        if let Some(guest) = self.expected.guests().get_mut(&self.number) {
            guest.resume = Some(resume);
        }
        self.expected.changed.notify_waiters();
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.expected.guests().remove(&self.number);
    }
}

impl Expected {
    fn guests(&self) -> MutexGuard<'_, HashMap<u64, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who expects this worker.
    fn host_of(&self, hello: &Hello, origin: &Origin) -> Option<mpsc::Sender<Arrival>> {
        let resume = hello.resume.digest();
        let claim = hello.claim.as_ref().map(Key::digest);
        let is_the_one = |guest: &Guest| match (&guest.resume, &guest.known_by) {
            (Some(bound), _) => *bound == resume,
            (None, KnownBy::Process(expected)) => *origin == Origin::Process(*expected),
            (None, KnownBy::Claim(expected)) => claim.as_ref() == Some(expected),
            (None, KnownBy::Identity(expected)) => {
                matches!(origin, Origin::Identity(identity) if identity == expected)
            }
            (None, KnownBy::Nothing) => false,
        };
        let guests = self.guests();
        // Who has a job is known by the key that it drew.
        let is_of_job = |guest: &Guest| match hello.job {
            Some(job) => guest.job == job && guest.resume.is_some(),
            None => true,
        };
        let guest = guests.values().find(|guest| is_of_job(guest) && is_the_one(guest));
        guest.map(|guest| guest.arrivals.clone())
    }
}

/// What is known of a worker beside what it says itself.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Process(u32),
    Identity(String),
    Unknown,
}

/// A worker on this machine: the kernel says which process it is.
async fn by_process(stream: UnixStream, expected: Arc<Expected>) {
    let process = stream.peer_cred().ok().and_then(|peer| peer.pid()?.try_into().ok());
    let origin = process.map_or(Origin::Unknown, Origin::Process);
    let (reader, writer) = stream.into_split();
    let mut link = Link::new(reader, writer);
    if let Some(hello) = greeted(&mut link).await {
        receive(link, hello, &origin, &expected).await;
    }
}

/// A worker elsewhere.
async fn by_claim(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    identify: Option<Arc<dyn Identify>>,
    expected: Arc<Expected>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a worker's connection keeps small frames back");
    }
    match timeout(RECEPTION, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let (reader, writer) = tokio::io::split(stream);
            let mut link = Link::new(reader, writer);
            if let Some(hello) = greeted(&mut link).await {
                if expected.hosts.load(Ordering::Relaxed) == 0 {
                    return refuse(&mut link, Refusal::Unknown).await;
                }
                let origin = identity(&hello, identify.as_deref()).await;
                receive(link, hello, &origin, &expected).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the job channel made no TLS"),
        Err(_) => tracing::debug!("a connection to the job channel made no TLS in time"),
    }
}

/// The first frame of a connection, if one comes.
async fn greeted(link: &mut Link) -> Option<Hello> {
    match hello(link, |_| {}).await {
        Ok(hello) => Some(hello),
        Err(parted) => {
            tracing::debug!(?parted, "nobody came over a connection of the job channel");
            None
        }
    }
}

/// Who a worker is that has no job yet, by its token.
async fn identity(hello: &Hello, identify: Option<&dyn Identify>) -> Origin {
    let (Some(claim), Some(identify), None) = (&hello.claim, identify, hello.job) else {
        return Origin::Unknown;
    };
    let identity = timeout(RECEPTION, identify.identify(claim)).await;
    identity.ok().flatten().map_or(Origin::Unknown, Origin::Identity)
}

/// Takes a worker to its job, or sends it away.
async fn receive(mut link: Link, hello: Hello, origin: &Origin, expected: &Expected) {
    // A worker may be quicker than who has started it, and than a listener that has just begun to take its
    // jobs up.
    let host = async {
        loop {
            let changed = expected.changed.notified();
            if let Some(host) = expected.host_of(&hello, origin) {
                return host;
            }
            changed.await;
        }
    };
    let Ok(host) = timeout(RECEPTION, host).await else {
        tracing::info!(job = ?hello.job, ?origin, "a worker is sent away that no job expects");
        return refuse(&mut link, Refusal::Unknown).await;
    };
    // A host that does not receive it has ended, or will see the next connection of the same worker.
    let _ = timeout(RECEPTION, host.send(Arrival { hello, link })).await;
}

async fn make_room(strangers: &mut JoinSet<()>) {
    while strangers.try_join_next().is_some() {}
    while strangers.len() >= STRANGERS {
        strangers.join_next().await;
    }
}

async fn not_taken(error: &io::Error) {
    tracing::warn!(%error, "could not take a connection to the job channel");
    sleep(AFTER_FAILURE).await;
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::channel::{Course, PROTOCOL};

    use super::*;

    fn hello(job: Option<JobId>, resume: &str) -> Hello {
        let resume = Key::new(resume);
        Hello {
            protocol: PROTOCOL,
            version: String::new(),
            process: 1,
            claim: None,
            resume,
            job,
            course: Course::Waiting,
        }
    }

    /// The job of a pipeline's only job has the same id in all its runs.
    #[tokio::test]
    async fn workers_of_jobs_with_one_id_are_told_apart() {
        let expected = Arc::<Expected>::default();
        let pending = || std::future::pending::<()>();
        let gate =
            Gate { expected: expected.clone(), _accepting: AbortOnDropHandle::new(tokio::spawn(pending())) };
        let job = JobId::default();
        let identity = |pod: &str| KnownBy::Identity(pod.to_owned());
        let first = gate.expect(job, identity("first"), None);
        let second = gate.expect(job, identity("second"), None);
        for (pod, is_expected) in [("first", true), ("second", true), ("third", false)] {
            let origin = Origin::Identity(pod.to_owned());
            assert_eq!(expected.host_of(&hello(None, "new"), &origin).is_some(), is_expected, "{pod}");
        }
        first.bind(Key::new("one").digest());
        second.bind(Key::new("two").digest());
        let host = expected.host_of(&hello(Some(job), "one"), &Origin::Unknown);
        assert!(host.is_some_and(|host| host.same_channel(&expected.guests()[&first.number].arrivals)));
        drop(second);
        assert!(expected.host_of(&hello(Some(job), "two"), &Origin::Unknown).is_none());
        assert!(expected.host_of(&hello(Some(job), "one"), &Origin::Unknown).is_some());
    }
}
