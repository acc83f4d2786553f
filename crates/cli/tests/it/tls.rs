//! Workers that reach their listener by TLS, as they will from pods: processes of the real binary, and a
//! listener that goes away.
//!
//! The times are a few seconds here. `DAYFLY_AWAY_SECONDS` sets for how long the listener is away, for a look
//! at the real ones.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dayfly_listener::{
    AcceptedJob, AgentSet, Agents, Config, Description, Ending, Executor, Gate, Host, Hosting, KnownBy,
    LastLines, Note, OnDisk, Phase, Progress, RegisteredSet, Reported, RunningJob, Timings, Wanted,
    WorkerExit, converse,
};
use dayfly_protocol::channel::{Course, Key, WorkerSettings};
use dayfly_protocol::crypto::AgentKey;
use dayfly_protocol::{JobId, TaskResult};
use dayfly_testing::Authority;
use futures::FutureExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::service::{Process, Service, bounded, eventually};

/// A worker that is a process of its own, in a place that its listener does not own.
#[derive(Clone, Debug)]
struct Elsewhere {
    gate: Arc<Gate>,
    _hosting: Arc<Hosting>,
    address: SocketAddr,
    folder: PathBuf,
    /// The one worker that there is, with the token of its place.
    worker: Arc<Mutex<Option<(Key, std::process::Child)>>>,
}

impl Elsewhere {
    /// The token of the place: that of the worker there is, or of a new one.
    fn place(&self) -> Key {
        let mut worker = self.worker.lock().unwrap();
        if let Some((claim, _)) = &*worker {
            return claim.clone();
        }
        let claim = Key::draw().unwrap();
        fs::write(self.folder.join("claim"), claim.expose()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["worker", "--connect", &format!("tls:localhost:{}", self.address.port()), "--ca-file"])
            .arg(self.folder.join("ca.pem"))
            .arg("--claim-file")
            .arg(self.folder.join("claim"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *worker = Some((claim.clone(), child));
        claim
    }

    /// Ends the place of a worker that is done, as the kubelet does when its pod is deleted.
    fn remove(&self) {
        if let Some((_, child)) = &*self.worker.lock().unwrap() {
            let process = Pid::from_raw(child.id().try_into().unwrap());
            kill(process, Signal::SIGTERM).unwrap();
        }
    }

    fn has_ended(&self) -> bool {
        self.worker.lock().unwrap().as_mut().is_none_or(|(_, child)| child.try_wait().unwrap().is_some())
    }
}

impl Executor for Elsewhere {
    fn run(&self, job: AcceptedJob) -> RunningJob {
        let elsewhere = self.clone();
        RunningJob::spawn(move |controls| async move {
            let claim = elsewhere.place();
            let resume = job.claimed.as_ref().map(|claim| claim.resume.clone());
            let expectation = elsewhere.gate.expect(job.label.id, KnownBy::Claim(claim.digest()), resume);
            let host = Host::new(
                controls.orders,
                controls.progress.clone(),
                job.ledger.clone(),
                LastLines::default(),
            );
            let mut course = host.course();
            let mut talk = std::pin::pin!(converse(host, expectation, job, String::new()).fuse());
            let (mut is_said, mut is_removed) = (false, false);
            while !elsewhere.has_ended() {
                if !is_removed && matches!(*course.borrow(), Course::Finished { .. }) {
                    is_removed = true;
                    elsewhere.remove();
                }
                tokio::select! {
                    said = &mut talk => panic!("the conversation has ended: {said:?}"),
                    began = began(&mut course), if !is_said => {
                        is_said = began;
                        controls.progress.send(Progress::Noted(shaking())).await.unwrap();
                    }
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
            let (result, reported) = match *course.borrow() {
                Course::Finished { result, reported: true } => (Some(result), Reported::Yes),
                Course::Finished { result, reported: false } => (Some(result), Reported::No),
                _ => (None, Reported::Perhaps),
            };
            WorkerExit {
                result,
                reported,
                ending: Ending::Ended("it ended".to_owned()),
                last_lines: Vec::new(),
            }
        })
    }
}

/// Waits until a step runs.
async fn began(course: &mut watch::Receiver<Course>) -> bool {
    course.wait_for(|course| matches!(course, Course::Step(_))).await.is_ok()
}

/// What the executor says of the place of a job that runs.
fn shaking() -> Note {
    let (text, advice) = ("The ground shakes.".to_owned(), Some("Hold on.".to_owned()));
    Note { word: "earthquake", text, advice, is_problem: true }
}

struct World {
    service: Service,
    store: Arc<OnDisk>,
    key: Arc<AgentKey>,
    configuration: Arc<rustls::ServerConfig>,
    address: SocketAddr,
    worker: Arc<Mutex<Option<(Key, std::process::Child)>>>,
    /// For how long a job's lock is taken to hold.
    lock: Duration,
}

impl World {
    async fn new(lock: Duration) -> Self {
        let service = Service::new(|_| {}).await;
        let authority = Authority::new();
        fs::write(service.path("ca.pem"), authority.pem()).unwrap();
        let configuration = authority.server("localhost");
        // A port that is ours for as long as this test runs.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let key = Arc::new(AgentKey::generate().unwrap());
        let registrar = service.registrar(key.clone(), Description::default()).await;
        let (pool, url) = (service.pool, service.emulator.url().clone());
        let agents = vec![registrar.register("far").await.unwrap()];
        let store = Arc::new(OnDisk::open(&service.path("state")).unwrap());
        store
            .register(RegisteredSet { server_url: url, pool, pool_name: "Default".to_owned(), agents }, &key)
            .await
            .unwrap();
        Self { service, store, key, configuration, address, worker: Arc::default(), lock }
    }

    /// A listener with its door open.
    async fn listener(&self) -> AgentSet {
        let (set, _) = self.store.registered().await.unwrap().unwrap();
        let door = bounded("the port is free", async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(door) => return door,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await;
        let gate = Arc::new(Gate::tls(door, self.configuration.clone(), None));
        let executor = Elsewhere {
            _hosting: Arc::new(gate.host()),
            gate,
            address: self.address,
            folder: self.service.folder.path().to_owned(),
            worker: self.worker.clone(),
        };
        let wanted = Wanted { agents: set.agents, phase: Phase::Run };
        let config = Config {
            server_url: set.server_url,
            agents: Agents::Wanted {
                connection: self.service.connection(),
                pool: set.pool,
                pool_name: set.pool_name,
                key: self.key.clone(),
                wanted: watch::channel(wanted).1,
            },
            description: Description::default(),
            worker: WorkerSettings {
                work_directory: self.service.path("work"),
                home_directory: self.service.path("home"),
                ..WorkerSettings::default()
            },
            once: false,
            connecting: 4,
            store: self.store.clone(),
            registrations: self.store.clone(),
        };
        let timings = Timings { usual_lock: self.lock, ..Timings::default() };
        AgentSet::start_with(config, timings, Arc::new(executor)).await.unwrap().0
    }
}

/// The texts of all issues of a job's records.
async fn issues(world: &World, job: JobId) -> Vec<String> {
    let records = world.service.records(job).await;
    records.into_iter().flat_map(|record| record.issues).map(|issue| issue.message).collect()
}

#[tokio::test]
async fn a_job_does_not_notice_that_its_listener_is_away() {
    let away = std::env::var("DAYFLY_AWAY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut world = World::new(Duration::from_secs(300)).await;
    let listener = world.listener().await;
    let (up, go) = (world.service.path("up"), world.service.path("go"));
    let script = format!("echo up > {}; while [ ! -e {} ]; do sleep 0.05; done", up.display(), go.display());
    let job = world.service.queue("Far away", &[&script, "true"]);
    world.service.file("up").await;
    bounded("the job's log has the remark", async {
        while issues(&world, job).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // As with a listener that is killed, down to its door.
    drop(listener);
    tokio::time::sleep(Duration::from_secs(away)).await;
    world.service.look();
    assert!(world.service.results(job).is_empty(), "it goes on");
    let listener = world.listener().await;
    fs::write(&go, "").unwrap();
    assert_eq!(world.service.result(job).await, TaskResult::Succeeded);
    eventually("the worker has ended", || {
        world.worker.lock().unwrap().as_mut().and_then(|(_, child)| child.try_wait().unwrap())
    })
    .await;
    // Both listeners said it, and the job's log has it once.
    assert_eq!(issues(&world, job).await, ["The ground shakes. Hold on."]);
    listener.drain();
    let summary = bounded("the agent has ended", listener.wait()).await;
    assert_eq!((summary.ended, summary.failed), (1, 0), "{summary:?}");
    assert_eq!(world.service.emulator.statistics().refused_completions, 0);
}

#[tokio::test]
async fn a_job_whose_listener_stays_away_is_cancelled_and_reported() {
    let mut world = World::new(Duration::from_secs(2)).await;
    let listener = world.listener().await;
    let script = format!("echo up > {}; sleep 600", world.service.path("up").display());
    let job = world.service.queue("Forsaken", &[&script]);
    world.service.file("up").await;
    drop(listener);
    assert_eq!(world.service.result(job).await, TaskResult::Canceled);
    let told = issues(&world, job).await;
    assert!(told.iter().any(|text| text.starts_with("The agent that accepted this job is gone")), "{told:?}");
    eventually("the worker has ended", || {
        world.worker.lock().unwrap().as_mut().and_then(|(_, child)| child.try_wait().unwrap())
    })
    .await;
}

#[tokio::test]
async fn a_worker_trusts_nobody_else_and_is_let_in_nowhere_else() {
    let world = World::new(Duration::from_secs(300)).await;
    let listener = world.listener().await;
    let stranger = |ca: &str, claim: &str| {
        fs::write(world.service.path("strange"), claim).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
        command
            .args(["worker", "--connect", &format!("tls:localhost:{}", world.address.port()), "--ca-file"])
            .arg(world.service.path(ca))
            .arg("--claim-file")
            .arg(world.service.path("strange"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::spawn(&mut command)
    };
    let (code, _, error) = stranger("ca.pem", "a token that nobody gave").ended().await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("it has no job for this worker"), "{error}");
    fs::write(world.service.path("none.pem"), "nothing").unwrap();
    let (code, _, error) = stranger("none.pem", "t").ended().await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("none.pem cannot be used") && error.contains("it holds none"), "{error}");
    listener.drain();
    listener.wait().await;
}
