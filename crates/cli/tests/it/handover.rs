//! Two listeners take turns with the agents and jobs of one store, by handing over, by being killed, and by
//! being robbed without a word. Jobs notice nothing.
//!
//! The emulator, the listeners and the workers are in this process; steps are real processes. Workers make
//! their connections themselves and live on when their listener does not, as in pods: the executor here makes
//! them and forgets all about them whenever its listener goes. The randomness comes from a seed, which is
//! printed, and may be set by `DAYFLY_HANDOVER_SEED`; the number of hand-overs by `DAYFLY_HANDOVERS`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dayfly_listener::{
    Accepted, AcceptedJob, AgentEnd, AgentSet, Agents, Change, Config, Description, Event, EventStream,
    Executor, Gate, Host, JobRecord, JobStore, KnownBy, LastLines, NextEvent, OnDisk, Phase, RegisteredSet,
    Registration, RegistrationStore, Reported, RunningJob, StoreError, StoreResult, Timings, Wanted,
    WorkerExit, converse,
};
use dayfly_protocol::channel::{Course, Key, WorkerSettings};
use dayfly_protocol::crypto::AgentKey;
use dayfly_protocol::{JobId, RequestId, TaskResult};
use dayfly_worker::{Connection, Dial, Outcome, ServeError, Surroundings, Unix, serve};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;

use crate::service::{Service, bounded};

/// How often the jobs change hands.
const HANDOVERS: u64 = 100;

/// How many agents there are, and so how many jobs run at a time.
const AGENTS: usize = 50;

/// The same where one change of hands is looked at closely.
const FEW_AGENTS: usize = 8;

/// Each step notes itself, says something, takes its time, and notes its end.
const STEP: &str =
    "echo \"$JOB STEP begin\" >> JOURNAL; echo 'said once'; sleep 2; echo \"$JOB STEP end\" >> JOURNAL";
const STEPS: usize = 3;

/// A store of which somebody owns the jobs, and somebody else did.
struct Shared {
    disk: OnDisk,
    owner: AsyncMutex<u64>,
}

/// The store as one listener has it.
#[derive(Clone)]
struct Handle {
    shared: Arc<Shared>,
    generation: u64,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Handle({})", self.generation)
    }
}

impl Handle {
    /// Takes everything over, from whoever had it.
    async fn take(shared: &Arc<Shared>) -> Self {
        let mut owner = shared.owner.lock().await;
        *owner += 1;
        Self { shared: shared.clone(), generation: *owner }
    }

    /// Does something that only the owner may.
    async fn owned<T>(&self, act: BoxFuture<'_, StoreResult<T>>) -> StoreResult<T> {
        let owner = self.shared.owner.lock().await;
        if *owner != self.generation {
            return Err(StoreError::NotOurs);
        }
        act.await
    }
}

impl JobStore for Handle {
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, StoreResult<Accepted>> {
        self.owned(self.shared.disk.accept(job)).boxed()
    }

    fn change(&self, request: RequestId, change: Change) -> BoxFuture<'_, StoreResult<()>> {
        self.owned(JobStore::change(&self.shared.disk, request, change)).boxed()
    }

    fn close(&self, request: RequestId) -> BoxFuture<'_, StoreResult<()>> {
        self.owned(self.shared.disk.close(request)).boxed()
    }

    fn open(&self) -> BoxFuture<'_, StoreResult<Vec<JobRecord>>> {
        self.owned(JobStore::open(&self.shared.disk)).boxed()
    }
}

impl RegistrationStore for Handle {
    fn check(&self) -> BoxFuture<'_, StoreResult<()>> {
        self.owned(self.shared.disk.check()).boxed()
    }

    fn save(&self, registration: Registration) -> BoxFuture<'_, StoreResult<()>> {
        self.owned(self.shared.disk.save(registration)).boxed()
    }
}

/// A worker and what became of it.
#[derive(Clone)]
struct Pod {
    claim: Key,
    stop: CancellationToken,
    end: watch::Receiver<Option<Result<TaskResult, String>>>,
}

/// The places where jobs are; they know nothing of listeners, but where to connect to.
struct Yard {
    pods: Mutex<HashMap<JobId, Pod>>,
    /// The socket of the listener that has the jobs.
    socket: Mutex<PathBuf>,
    environment: Surroundings,
}

/// An executor whose places outlive it.
#[derive(Clone)]
struct Pods {
    gate: Arc<Gate>,
    yard: Arc<Yard>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pods")
    }
}

/// The way of a pod to its listener, with the token of the place.
struct Way(Arc<Yard>, Key);

impl Dial for Way {
    fn dial(&mut self) -> BoxFuture<'_, std::io::Result<Option<Connection>>> {
        let socket = self.0.socket.lock().unwrap().clone();
        async move { Unix::new(socket).dial().await }.boxed()
    }

    fn claim(&self) -> Option<Key> {
        Some(self.1.clone())
    }
}

impl Yard {
    /// The place of a job: the one there is, or a new one.
    fn place(self: &Arc<Self>, job: JobId) -> Pod {
        let mut pods = self.pods.lock().unwrap();
        // One that has ended without a job may be made again.
        if let Some(pod) = pods.get(&job).filter(|pod| !matches!(&*pod.end.borrow(), Some(Err(_)))) {
            return pod.clone();
        }
        let (claim, stop) = (Key::draw().unwrap(), CancellationToken::new());
        let (ended, end) = watch::channel(None);
        let work = serve(Way(self.clone(), claim.clone()), stop.clone(), self.environment.clone());
        tokio::spawn(async move {
            let outcome: Result<Outcome, ServeError> = work.await;
            let result = outcome.map(|outcome| outcome.result).map_err(|error| error.to_string());
            ended.send_replace(Some(result));
        });
        let pod = Pod { claim, stop, end };
        pods.insert(job, pod.clone());
        pod
    }
}

impl Executor for Pods {
    fn run(&self, job: AcceptedJob) -> RunningJob {
        let (pods, id) = (self.clone(), job.label.id);
        RunningJob::spawn(move |controls| async move {
            let mut pod = pods.yard.place(id);
            let resume = job.claimed.as_ref().map(|claim| claim.resume.clone());
            let expectation = pods.gate.expect(id, KnownBy::Claim(pod.claim.digest()), resume);
            let host =
                Host::new(controls.orders, controls.progress, job.ledger.clone(), LastLines::default());
            let course = host.course();
            let mut talk = std::pin::pin!(converse(host, expectation, job, String::new()).fuse());
            let mut is_killed = false;
            loop {
                tokio::select! {
                    biased;
                    said = &mut talk => assert!(said.is_err(), "a conversation ends only in a refusal: {said:?}"),
                    ended = pod.end.wait_for(Option::is_some) => {
                        let ending = ended.unwrap().clone();
                        let (result, reported) = match *course.borrow() {
                            Course::Finished { result, reported: true } => (Some(result), Reported::Yes),
                            Course::Finished { result, reported: false } => (Some(result), Reported::No),
                            _ => (None, Reported::Perhaps),
                        };
                        return WorkerExit {
                            result,
                            reported,
                            ending: dayfly_listener::Ending::Ended(format!("{ending:?}")),
                            last_lines: Vec::new(),
                        };
                    }
                    () = controls.kill.cancelled(), if !is_killed => {
                        is_killed = true;
                        pod.stop.cancel();
                    }
                }
            }
        })
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How a listener loses its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    HandedOver,
    Killed,
    Robbed,
}

struct World {
    service: Service,
    shared: Arc<Shared>,
    set: RegisteredSet,
    key: Arc<AgentKey>,
    yard: Arc<Yard>,
    listeners: usize,
    jobs: Vec<JobId>,
    unfinished: HashSet<JobId>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_do_not_notice_who_their_listener_is() {
    let seed = number("DAYFLY_HANDOVER_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let handovers = number("DAYFLY_HANDOVERS").unwrap_or(HANDOVERS);
    println!("DAYFLY_HANDOVER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(AGENTS).await;
    let mut changes = BTreeMap::new();
    let (mut listener, _) = world.listener().await;
    let mut robbed = Vec::new();
    for _ in 0..handovers {
        world.fill_the_queue();
        tokio::time::sleep(Duration::from_millis(random.u64(..150))).await;
        let change = [Fate::HandedOver, Fate::Killed, Fate::Robbed][random.usize(..3)];
        *changes.entry(change).or_insert(0) += 1;
        match change {
            Fate::HandedOver => {
                listener.release();
                let summary = bounded("it has let go", listener.wait()).await;
                // Those that had not begun yet had nothing to let go.
                assert!(summary.released <= AGENTS, "{summary:?}");
                assert_eq!((summary.ended, summary.failed), (0, 0), "{summary:?}");
            }
            Fate::Killed => drop(listener),
            // It goes on for a while as if nothing had happened.
            Fate::Robbed => robbed.push(listener),
        }
        (listener, _) = world.listener().await;
        if robbed.len() > 1 {
            drop(robbed.remove(0));
        }
    }
    drop(robbed);
    println!("{changes:?} among {} jobs", world.jobs.len());
    world.finish(listener).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_was_robbed_lets_go_by_itself() {
    let mut world = World::new(FEW_AGENTS).await;
    let (first, mut events) = world.listener().await;
    world.fill_the_queue();
    bounded("all agents have a job", async {
        let mut accepted = HashSet::new();
        while accepted.len() < FEW_AGENTS {
            match events.next().await {
                NextEvent::Event(Event::JobStarted { job, .. }) => drop(accepted.insert(job.id)),
                NextEvent::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    let (second, _) = world.listener().await;
    let summary = bounded("it has noticed", first.wait()).await;
    assert_eq!((summary.released, summary.failed), (FEW_AGENTS, 0), "{summary:?}");
    let mut released = 0;
    loop {
        match events.next().await {
            NextEvent::Event(Event::Ended { end: AgentEnd::Released, .. }) => released += 1,
            NextEvent::Event(Event::JobFinished { job, .. }) => panic!("it told the end of {}", job.name),
            NextEvent::Closed => break,
            _ => {}
        }
    }
    assert_eq!(released, FEW_AGENTS);
    world.finish(second).await;
}

impl World {
    async fn new(count: usize) -> Self {
        let service = Service::new(|settings| {
            settings.poll_hold = Duration::from_secs(2);
            // A listener that is killed while it makes a session leaves one behind that nobody knows.
            settings.session_timeout = Duration::from_secs(3);
        })
        .await;
        let key = Arc::new(AgentKey::generate().unwrap());
        let registrar = service.registrar(key.clone(), description()).await;
        let (pool, url) = (service.pool, service.emulator.url().clone());
        let mut agents = Vec::new();
        for number in 0..count {
            agents.push(registrar.register(&format!("agent-{number}")).await.unwrap());
        }
        let set = RegisteredSet { server_url: url, pool, pool_name: "Default".to_owned(), agents };
        let disk = OnDisk::open(&service.path("state")).unwrap();
        disk.register(set.clone(), &key).await.unwrap();
        let environment =
            Surroundings { environment: std::env::vars_os().collect(), ..Surroundings::default() };
        let yard = Yard { pods: Mutex::default(), socket: Mutex::default(), environment };
        let shared = Arc::new(Shared { disk, owner: AsyncMutex::new(0) });
        Self {
            service,
            shared,
            set,
            key,
            yard: Arc::new(yard),
            listeners: 0,
            jobs: Vec::new(),
            unfinished: HashSet::new(),
        }
    }

    /// A listener that owns everything from now on, with a door of its own.
    async fn listener(&mut self) -> (AgentSet, EventStream) {
        self.listeners += 1;
        let socket = self.service.path(&format!("{}.sock", self.listeners));
        let gate = Arc::new(Gate::unix(&socket).unwrap());
        *self.yard.socket.lock().unwrap() = socket;
        let handle = Arc::new(Handle::take(&self.shared).await);
        let (set, _) = self.shared.disk.registered().await.unwrap().unwrap();
        let wanted = Wanted { agents: set.agents, phase: Phase::Run };
        let config = Config {
            server_url: self.set.server_url.clone(),
            agents: Agents::Wanted {
                connection: self.service.connection(),
                pool: self.set.pool,
                pool_name: self.set.pool_name.clone(),
                key: self.key.clone(),
                wanted: watch::channel(wanted).1,
            },
            description: description(),
            worker: WorkerSettings {
                work_directory: self.service.path("work"),
                home_directory: self.service.path("home"),
                ..WorkerSettings::default()
            },
            once: false,
            connecting: 64,
            store: handle.clone(),
            registrations: handle,
        };
        let pods = Pods { gate, yard: self.yard.clone() };
        let timings = Timings {
            retry_first: Duration::from_millis(50),
            conflict_retry: Duration::from_millis(200),
            ..Timings::default()
        };
        AgentSet::start_with(config, timings, Arc::new(pods)).await.unwrap()
    }

    fn fill_the_queue(&mut self) {
        self.service.look();
        self.unfinished.retain(|job| self.service.results(*job).is_empty());
        while self.unfinished.len() < self.set.agents.len() {
            let journal = self.service.path("journal").display().to_string();
            let scripts: Vec<_> = (0..STEPS)
                .map(|number| STEP.replace("STEP", &number.to_string()).replace("JOURNAL", &journal))
                .collect();
            let scripts: Vec<_> = scripts.iter().map(String::as_str).collect();
            let number = self.jobs.len();
            // Of every third job the listener must tell the result.
            let version = if number.is_multiple_of(3) { 7 } else { 8 };
            let job = self.service.queue_with(&format!("job {number}"), &scripts, |new| {
                new.message.plan.version = version;
            });
            self.jobs.push(job);
            self.unfinished.insert(job);
        }
    }

    /// Lets what is left come to its end, and looks at what became of all jobs.
    async fn finish(mut self, listener: AgentSet) {
        for job in self.jobs.clone() {
            assert_eq!(self.service.result(job).await, TaskResult::Succeeded, "job {job}");
        }
        listener.drain();
        let summary = bounded("all agents have ended", listener.wait()).await;
        assert_eq!((summary.ended, summary.failed), (self.set.agents.len(), 0), "{summary:?}");
        self.service.look();
        let journal = std::fs::read_to_string(self.service.path("journal")).unwrap();
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for line in journal.lines() {
            *lines.entry(line).or_default() += 1;
        }
        for job in &self.jobs {
            assert_eq!(self.service.results(*job).len(), 1, "job {job} has one result");
            let console = self.service.console(*job);
            let said = console.iter().filter(|line| *line == "said once").count();
            assert_eq!(said, STEPS, "who looked on has seen of job {job}: {console:#?}");
            for step in 0..STEPS {
                for part in ["begin", "end"] {
                    let line = format!("{job} {step} {part}");
                    assert_eq!(lines.get(line.as_str()), Some(&1), "{line}");
                }
            }
        }
        for job in self.jobs.iter().step_by(self.jobs.len().div_ceil(50)) {
            for record in self.service.records(*job).await {
                let is_step = record.name.as_deref().is_some_and(|name| name.starts_with("Step "));
                if let Some(log) = record.log.filter(|_| is_step) {
                    let text = self.service.log(*job, log.id).await;
                    let said = text.lines().filter(|line| line.ends_with(" said once")).count();
                    assert_eq!(said, 1, "{text}");
                }
            }
        }
        let statistics = self.service.emulator.statistics();
        assert_eq!(
            (statistics.refused_completions, statistics.unfinished_requests, statistics.sessions),
            (0, 0, 0)
        );
        assert!(JobStore::open(&self.shared.disk).await.unwrap().is_empty(), "no job is open");
    }
}

fn description() -> Description {
    Description {
        version: "4.260.0".to_owned(),
        operating_system: "Linux".to_owned(),
        owner_name: "machine".to_owned(),
        capabilities: Arc::default(),
    }
}
