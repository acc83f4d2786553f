//! The executor whose places are pods: one for each job, made when the job is decrypted, and handed the job
//! once that is ours.
//!
//! A pod outlives us. It is known by its name and UID, which the claim keeps; whoever takes the job up again
//! finds it by them, and its worker comes back by itself.

mod place;
mod pods;
mod pull_secret;
mod stages;
mod teller;

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use dayfly_client::describe;
use dayfly_listener::{
    AcceptedJob, Controls, Ending, Executor, Gate, Host, Hosting, KnownBy, LastLines, Note, Reported,
    RunningJob, WorkerExit, converse,
};
use dayfly_protocol::{
    RequestId,
    channel::{Course, LostContainer},
};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};
use kube::{Client, api::LogParams};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    time::{Instant, interval, sleep, timeout},
};

pub(crate) use self::place::is_quota;
pub use self::stages::PodStage;
use self::{
    place::{Mishap, Place},
    pods::{News, Pods, Seen},
    stages::Stages,
    teller::{Said, Teller},
};
use crate::{
    api::AgentSetSpec,
    cluster::bounded,
    controller,
    diagnose::{Diagnosis, Limits, Verdict, diagnose},
    login::{Network, network},
    pod::{AGENT_CONTAINER, Facts, WORK_DIRECTORY, ca_bundle_file, is_step_host},
    store::KubernetesStore,
};

/// How often a pod is looked at that says nothing: time passes also without news.
const LOOK: Duration = Duration::from_secs(1);

/// How long the last frames of a worker that has ended may be on their way.
const LAST_FRAMES: Duration = Duration::from_secs(2);

/// How long a pod may take to end after it was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

/// How long a pod has to end when its job is given up: the kubelet's least.
const KILL_GRACE_SECONDS: u32 = 1;

/// How soon it is looked again whether a job has its record.
const RECORD_PAUSE: Duration = Duration::from_millis(100);

/// How long the worker of a run's pod may take to come for its job before that is told, and how much longer
/// before the job fails.
const UNREACHED: Duration = Duration::from_secs(15);
const UNREACHED_LIMIT: Duration = Duration::from_secs(45);

/// How long that of a controller's pod may take before it is told. It may meet another replica first.
const UNREACHED_CONTROLLER: Duration = Duration::from_secs(30);

/// How long something must be over before it counts as another matter when it comes again. A service that is
/// restarted again and again runs for a moment in between.
const OVER: Duration = Duration::from_secs(30);

/// How many requests to be given up may wait to be heard of.
const GIVEN_UP: usize = 64;

/// How many of the last lines of a pod that failed are shown.
const LAST_LINES: i64 = 20;

/// Runs the jobs of one AgentSet in pods.
#[derive(Debug, Clone)]
pub(crate) struct PodExecutor(Arc<Inner>);

struct Inner {
    pods: Pods,
    gate: Arc<Gate>,
    /// Workers wait for their jobs at the gate as long as this lives.
    _hosting: Hosting,
    set: String,
    spec: RwLock<Arc<AgentSetSpec>>,
    facts: Facts,
    /// How pods reach the world, as it was known last.
    network: RwLock<Network>,
    client: Client,
    namespace: String,
    /// Where the set keeps its jobs, if it is an object of the cluster. Without it, nothing is read of the
    /// set's connection and nothing written of its jobs.
    store: Option<Arc<KubernetesStore>>,
    /// Who is told how long pods take.
    watcher: Option<Arc<dyn controller::Watcher>>,
    /// UIDs of the pods that are minded now, by the request of their job.
    minded: Mutex<HashMap<String, String>>,
    /// Requests of jobs that are to be given up. They are said again and again.
    given_up: broadcast::Sender<RequestId>,
}

/// A pod is minded until this is dropped.
struct Minded<'a> {
    inner: &'a Inner,
    request: String,
}

impl Drop for Minded<'_> {
    fn drop(&mut self) {
        self.inner.minded().remove(&self.request);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PodExecutor").field("set", &self.set).finish_non_exhaustive()
    }
}

impl PodExecutor {
    /// Makes pods for the jobs of the set of this name which `store` keeps, by the spec that holds when each
    /// job comes. Without a store, and who is told of all, the set is no object of the cluster: it has only
    /// this spec and network.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        set: &str,
        spec: AgentSetSpec,
        (facts, network): (Facts, Network),
        gate: Arc<Gate>,
        object: Option<(Arc<KubernetesStore>, Arc<dyn controller::Watcher>)>,
    ) -> Self {
        let (store, watcher) = object.unzip();
        let pods = Pods::watch(client.clone(), namespace, set);
        let (set, namespace) = (set.to_owned(), namespace.to_owned());
        let (spec, network) = (RwLock::new(Arc::new(spec)), RwLock::new(network));
        Self(Arc::new(Inner {
            pods,
            _hosting: gate.host(),
            gate,
            set,
            spec,
            facts,
            network,
            client,
            namespace,
            store,
            watcher,
            minded: Mutex::default(),
            given_up: broadcast::Sender::new(GIVEN_UP),
        }))
    }

    /// What pods are made with now.
    pub(crate) fn facts(&self) -> Facts {
        let network = self.0.network.read().unwrap_or_else(PoisonError::into_inner);
        Facts { ca_bundle: network.ca_bundle.clone(), ..self.0.facts.clone() }
    }

    /// UID of the pod that is minded for a request now.
    pub(crate) fn minded(&self, request: &str) -> Option<String> {
        self.0.minded().get(request).cloned()
    }

    /// Gives the job of a request up if no worker has it yet; it may have no pod. It fails. Whoever wants it
    /// says so until it has happened.
    pub(crate) fn give_up(&self, request: RequestId) {
        // That nobody listens means that there is no job.
        let _ = self.0.given_up.send(request);
    }

    /// From now on pods are made by this spec; those there are stay as they are.
    pub(crate) fn change(&self, spec: AgentSetSpec) {
        *self.0.spec.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(spec);
    }
}

impl Executor for PodExecutor {
    fn run(&self, mut job: AcceptedJob) -> RunningJob {
        let inner = self.0.clone();
        job.worker.work_directory = WORK_DIRECTORY.into();
        job.worker.home_directory = WORK_DIRECTORY.into();
        RunningJob::spawn(|controls| async move { inner.run(job, controls).await })
    }
}

/// What is said of a job whose record was deleted before a worker had it.
const GIVEN_UP_REASON: &str = "its PipelineJob was deleted, which cancels the job";

/// Waits until this job is to be given up.
async fn until_given_up(told: &mut broadcast::Receiver<RequestId>, request: RequestId) {
    loop {
        match told.recv().await {
            Ok(other) if other == request => return,
            // What was missed is said again.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Whether a worker has the job.
fn is_claimed(course: &Course) -> bool {
    *course != Course::Waiting
}

/// Everything that can happen to a pod.
enum Event {
    Killed,
    GivenUp,
    /// The worker says that it is done.
    Finished,
    /// It must not be given the job, or that could not be written down.
    Refused(String),
    Look,
}

impl Inner {
    fn minded(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.minded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mind_now(&self, place: &Place, request: RequestId) -> Minded<'_> {
        let request = request.to_string();
        self.minded().insert(request.clone(), place.uid.clone());
        Minded { inner: self, request }
    }

    fn spec(&self) -> Arc<AgentSetSpec> {
        self.spec.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn run(&self, job: AcceptedJob, controls: Controls) -> WorkerExit {
        let request = job.message.request_id;
        let (teller, told) = Teller::new(controls.progress.clone());
        tokio::select! {
            exit = self.run_told(job, controls, teller) => exit,
            never = self.record(request, told) => match never {},
        }
    }

    /// Keeps what is told of a pod in the job's record, where `kubectl` shows it. That this takes its time
    /// holds nothing up. A pod is made while the record is being written, so what comes first waits for it.
    async fn record(&self, request: RequestId, mut told: mpsc::Receiver<Said>) -> Infallible {
        let mut unwritten = Said::default();
        loop {
            tokio::select! {
                said = told.recv() => match said {
                    Some(said) => unwritten.take(said),
                    None => return std::future::pending().await,
                },
                () = sleep(RECORD_PAUSE), if !unwritten.is_empty() => {}
            }
            let Some(store) = &self.store else {
                unwritten = Said::default();
                continue;
            };
            let Said { pod, reason } = unwritten.clone();
            match store.note(request, pod, reason).await {
                Ok(true) => unwritten = Said::default(),
                Ok(false) => {}
                Err(error) => {
                    tracing::info!(%error, %request, "could not write down what a job waits for");
                    unwritten = Said::default();
                }
            }
        }
    }

    /// How a pod reaches the world that is made now. What was known before will do when it cannot be read.
    async fn network(&self, spec: &AgentSetSpec) -> Network {
        let known = || self.network.read().unwrap_or_else(PoisonError::into_inner).clone();
        if self.store.is_none() {
            return known();
        }
        match network(&self.client, &self.namespace, &spec.connection_ref).await {
            Ok(network) => {
                self.network.write().unwrap_or_else(PoisonError::into_inner).clone_from(&network);
                network
            }
            Err(error) => {
                tracing::info!(set = self.set, "{}", describe(&error));
                known()
            }
        }
    }

    /// Makes the job's pod, and tells the worker how it reaches the world from there.
    async fn create(
        &self,
        spec: &AgentSetSpec,
        job: &mut AcceptedJob,
        teller: &Teller,
    ) -> Result<Place, Mishap> {
        let Network { ca_bundle, proxy } = self.network(spec).await;
        if ca_bundle.is_some() {
            job.worker.ca_files = vec![ca_bundle_file(AGENT_CONTAINER).into()];
        }
        job.worker.proxy = proxy;
        let facts = Facts { ca_bundle, ..self.facts.clone() };
        let (place, logins) = place::create(&self.pods, &self.set, spec, job, &facts, teller).await?;
        if let Some(logins) = logins {
            let made = pull_secret::create(&self.client, &self.namespace, &self.set, &place, &logins).await;
            if let Err(reason) = made {
                // If that fails too, it is swept later.
                let _ = place::delete(&self.pods, &place, KILL_GRACE_SECONDS).await;
                return Err(Mishap::Final(reason));
            }
        }
        Ok(place)
    }

    async fn run_told(&self, mut job: AcceptedJob, controls: Controls, teller: Teller) -> WorkerExit {
        let (spec, request) = (self.spec(), job.message.request_id);
        let mut given_up = self.given_up.subscribe();
        let mut stages = Stages::new(self.watcher.clone().filter(|_| job.claimed.is_none()));
        let place = match &job.claimed {
            Some(claim) => serde_json::from_str::<Place>(&claim.place)
                .map_err(|error| Mishap::Lost(format!("its pod is not known: {error}"))),
            None => {
                let creating = self.create(&spec, &mut job, &teller);
                tokio::select! {
                    biased;
                    () = controls.kill.cancelled() => {
                        Err(Mishap::Lost("it was given up before its pod was made".to_owned()))
                    }
                    () = until_given_up(&mut given_up, request) => {
                        Err(Mishap::Final(GIVEN_UP_REASON.to_owned()))
                    }
                    placed = creating => placed,
                }
            }
        };
        match place {
            Ok(place) => {
                stages.reached(PodStage::Created);
                self.mind(place, &spec, job, controls, (teller, stages, given_up)).await
            }
            Err(Mishap::Final(reason)) => WorkerExit::not_started(reason),
            // It may have run, and reported.
            Err(Mishap::Lost(reason)) => exit(Reported::Perhaps, reason),
        }
    }

    async fn mind(
        &self,
        place: Place,
        spec: &AgentSetSpec,
        job: AcceptedJob,
        controls: Controls,
        (teller, stages, mut given_up): (Teller, Stages, broadcast::Receiver<RequestId>),
    ) -> WorkerExit {
        teller.pod(&place.name);
        let request = job.message.request_id;
        let _minded = self.mind_now(&place, request);
        let known_by = match &job.claimed {
            Some(_) => KnownBy::Nothing,
            None => KnownBy::Identity(place.uid.clone()),
        };
        let resume = job.claimed.as_ref().map(|claim| claim.resume.clone());
        let mut news = self.pods.news(&place.name, job.claimed.is_none());
        let expectation = self.gate.expect(job.label.id, known_by, resume);
        let lines = LastLines::default();
        let host = Host::new(controls.orders, controls.progress.clone(), job.ledger.clone(), lines.clone());
        let (mut course, mut claim) = (host.course(), host.course());
        let words = serde_json::to_string(&place).unwrap_or_default();
        let mut watcher = Watcher::new(&place, spec, job.claimed.is_some(), (teller, stages));
        // The service of a run holds no job up, so that only the way to us can.
        watcher.meeting = match self.store {
            None => Meeting::OnThisMachine(self.facts.channel.clone()),
            Some(_) => Meeting::AtController(self.facts.channel.clone()),
        };
        let mut talk = std::pin::pin!(converse(host, expectation, job, words));
        let mut look = interval(LOOK);
        let judged = loop {
            let event = tokio::select! {
                biased;
                () = controls.kill.cancelled() => Event::Killed,
                () = until_given_up(&mut given_up, request) => Event::GivenUp,
                _ = course.wait_for(|course| matches!(course, Course::Finished { .. })) => Event::Finished,
                parted = &mut talk => Event::Refused(match parted {
                    Ok(parted) => format!("the conversation with its worker ended: {parted:?}"),
                    Err(error) => describe(&error),
                }),
                _ = claim.wait_for(is_claimed), if !watcher.is_claimed => Event::Look,
                _ = news.seen.changed() => Event::Look,
                _ = look.tick() => Event::Look,
            };
            match event {
                Event::Killed => break Judged::ended("it was killed"),
                // Its worker ends it properly when the pod is deleted.
                Event::GivenUp if is_claimed(&course.borrow()) => {}
                Event::GivenUp => break Judged { is_final: true, ..Judged::ended(GIVEN_UP_REASON) },
                Event::Finished => break Judged::ended("it ended"),
                Event::Refused(reason) => break Judged::ended(reason),
                Event::Look => {
                    if is_claimed(&course.borrow()) {
                        watcher.claimed();
                    }
                    if let Some(judged) = self.look(&mut watcher, &mut news).await {
                        break judged;
                    }
                }
            }
        };
        // What the worker said last may still be on its way.
        if judged.log_of.is_some() {
            let last = async {
                tokio::select! {
                    _ = course.wait_for(|course| matches!(course, Course::Finished { .. })) => {}
                    _ = &mut talk => {}
                }
            };
            let _ = timeout(LAST_FRAMES, last).await;
        }
        let is_finished = matches!(*course.borrow(), Course::Finished { .. });
        if let Some(container) = judged.log_of.as_deref().filter(|_| !is_finished) {
            self.keep_last_lines(&place, container, &lines).await;
        }
        self.remove(&place, &mut news, !is_finished).await;
        judged.exit(&course, watcher.is_claimed, &lines)
    }

    /// Looks at a pod: what is worth telling is told; `Some` if that is its end.
    async fn look(&self, watcher: &mut Watcher<'_>, news: &mut News) -> Option<Judged> {
        let seen = news.seen.borrow_and_update().clone();
        if seen.may_be_gone {
            match self.pods.live(&watcher.place.name, &watcher.place.uid).await {
                Ok(None) => return Some(watcher.gone(seen.pod.as_deref())),
                Ok(Some(pod)) => {
                    self.pods.found(&seen, pod);
                    return None;
                }
                Err(error) => {
                    tracing::info!(%error, pod = watcher.place.name, "cannot tell whether a pod is gone");
                }
            }
        }
        watcher.judge(&seen).await
    }

    /// The pod's last words, for the job's log.
    async fn keep_last_lines(&self, place: &Place, container: &str, lines: &LastLines) {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LAST_LINES),
            limit_bytes: Some(64 * 1024),
            ..LogParams::default()
        };
        match bounded(self.pods.api().logs(&place.name, &parameters)).await {
            Ok(text) => text.lines().for_each(|line| lines.keep(line.to_owned())),
            Err(error) => tracing::debug!(%error, pod = place.name, "a pod left no last lines"),
        }
    }

    /// Deletes the pod. `waits`: until nothing of it is left, for a while.
    async fn remove(&self, place: &Place, news: &mut News, waits: bool) {
        // The worker has ended, or must: nobody needs the services any more, which may ignore a SIGTERM.
        let deleted = place::delete(&self.pods, place, KILL_GRACE_SECONDS).await;
        if let Err(error) = deleted {
            tracing::warn!(%error, pod = place.name, "could not delete a pod; it is swept later");
            return;
        }
        let gone = async {
            while let Ok(Some(_)) | Err(_) = self.pods.live(&place.name, &place.uid).await {
                tokio::select! {
                    _ = news.seen.changed() => drop(news.seen.borrow_and_update()),
                    () = sleep(LOOK) => {}
                }
            }
        };
        if waits && timeout(KILL_PATIENCE, gone).await.is_err() {
            tracing::warn!(pod = place.name, "a pod that was killed does not end");
        }
    }
}

/// What is to be said of a pod that ended, or must.
struct Judged {
    reason: String,
    /// Whether another pod would go the same way.
    is_final: bool,
    /// The container whose last words count, where the pod itself ended.
    log_of: Option<String>,
}

impl Judged {
    fn ended(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: false, log_of: None }
    }

    fn by_pod(reason: String, container: String) -> Self {
        Self { reason, is_final: false, log_of: Some(container) }
    }

    fn exit(self, course: &watch::Receiver<Course>, is_claimed: bool, lines: &LastLines) -> WorkerExit {
        let (result, reported) = match *course.borrow() {
            Course::Finished { result, reported: true } => (Some(result), Reported::Yes),
            Course::Finished { result, reported: false } => (Some(result), Reported::No),
            Course::Reporting => (None, Reported::Perhaps),
            Course::Waiting | Course::Beginning | Course::Step(_) => (None, Reported::No),
        };
        let ending = match self.is_final && !is_claimed {
            true => Ending::NotStarted(self.reason),
            // It becomes part of a sentence.
            false => Ending::Ended(self.reason.trim_end_matches('.').to_owned()),
        };
        WorkerExit { result, reported, ending, last_lines: lines.take() }
    }
}

fn exit(reported: Reported, reason: String) -> WorkerExit {
    WorkerExit { result: None, reported, ending: Ending::Ended(reason), last_lines: Vec::new() }
}

/// Where the worker of a pod is to come for its job.
enum Meeting {
    Unknown,
    /// Of a run on this machine; it is to come at once.
    OnThisMachine(String),
    /// That the job is ours may take a while to be settled. A frozen replica may hold the worker up as well.
    AtController(String),
}

/// What is the matter with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Matter {
    word: &'static str,
    since: Instant,
    /// When it was so last.
    seen: Instant,
}

impl Matter {
    /// What is the matter now, after what was before.
    fn next(before: Option<Self>, word: &'static str, now: Instant) -> Self {
        let same = before.filter(|before| before.word == word && now.duration_since(before.seen) < OVER);
        Self { word, since: same.map_or(now, |same| same.since), seen: now }
    }
}

/// What was seen of a pod so far.
struct Watcher<'a> {
    place: &'a Place,
    limits: Limits,
    is_claimed: bool,
    teller: Teller,
    stages: Stages,
    matter: Option<Matter>,
    /// What was told last.
    told: Option<Note>,
    /// The containers that the worker was told not to wait for.
    lost: BTreeSet<String>,
    meeting: Meeting,
    /// Since when its container has been running.
    running: Option<Instant>,
}

impl<'a> Watcher<'a> {
    fn new(
        place: &'a Place,
        spec: &AgentSetSpec,
        is_claimed: bool,
        (teller, stages): (Teller, Stages),
    ) -> Self {
        Self {
            place,
            limits: Limits::of(spec),
            is_claimed,
            teller,
            stages,
            matter: None,
            told: None,
            lost: BTreeSet::new(),
            meeting: Meeting::Unknown,
            running: None,
        }
    }

    /// The worker has the job.
    fn claimed(&mut self) {
        self.is_claimed = true;
        self.stages.reached(PodStage::Claimed);
    }

    fn gone(&self, last: Option<&Pod>) -> Judged {
        let by =
            last.and_then(|pod| diagnose(pod, &[], &self.limits)).filter(|found| found.word != "deleted");
        let reason =
            by.map_or_else(|| format!("its pod {} was deleted", self.place.name), |found| found.text);
        Judged::by_pod(reason, AGENT_CONTAINER.to_owned())
    }

    async fn judge(&mut self, seen: &Seen) -> Option<Judged> {
        let pod = seen.pod.as_deref()?;
        self.stages.look(pod);
        let found = diagnose(pod, &seen.events, &self.limits).or_else(|| self.unreached(pod));
        if let Some(found) = found {
            let note = Note {
                word: found.word,
                text: found.text.clone(),
                advice: found.advice,
                is_problem: found.is_problem,
            };
            let now = Instant::now();
            let matter = Matter::next(self.matter, found.word, now);
            self.matter = Some(matter);
            if self.told.as_ref() != Some(&note) || matter.since == now {
                self.told = Some(note.clone());
                self.teller.tell(note).await;
            }
            let is_over = match found.verdict {
                Verdict::Wait => false,
                Verdict::FailAt(after) => now.duration_since(matter.since) >= after,
                Verdict::FailNow => true,
            };
            if is_over {
                let container = found.container.unwrap_or_else(|| AGENT_CONTAINER.to_owned());
                if !(self.is_claimed && is_step_host(&container)) {
                    let is_final = !found.replaceable;
                    return Some(Judged { is_final, ..Judged::by_pod(found.text, container) });
                }
                // The worker outlives a container that only starts steps, and ends the job itself.
                self.lose(container, found.text).await;
            }
        }
        let ended = terminated(pod)?;
        Some(Judged::by_pod(how(ended), AGENT_CONTAINER.to_owned()))
    }

    /// Has the worker know why a container will never come.
    async fn lose(&mut self, container: String, reason: String) {
        if self.lost.insert(container.clone()) {
            self.teller.lose(LostContainer { name: container, reason }).await;
        }
    }

    /// That the worker runs and does not come.
    fn unreached(&mut self, pod: &Pod) -> Option<Diagnosis> {
        if self.is_claimed {
            return None;
        }
        agent_state(pod)?.running.as_ref()?;
        let lasts = self.running.get_or_insert_with(Instant::now).elapsed();
        let name = &self.place.name;
        let (patience, verdict, text, advice) = match &self.meeting {
            Meeting::Unknown => return None,
            Meeting::OnThisMachine(address) => (
                UNREACHED,
                Verdict::FailAt(UNREACHED_LIMIT),
                format!("The pod {name} runs, but does not reach {address} on this machine."),
                "See whether a firewall is in between, or give another address with --address.",
            ),
            Meeting::AtController(address) => (
                UNREACHED_CONTROLLER,
                Verdict::FailAt(self.limits.pending),
                format!("The pod {name} runs, but has not got its job from the controller at {address} yet."),
                "See whether a network policy or a firewall keeps the pods from reaching the controller.",
            ),
        };
        (lasts >= patience).then(|| Diagnosis {
            word: "unreached",
            text,
            advice: Some(advice.to_owned()),
            verdict,
            replaceable: false,
            is_problem: true,
            container: None,
        })
    }
}

/// How the worker's container ended, if it did.
fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    agent_state(pod)?.terminated.as_ref()
}

fn agent_state(pod: &Pod) -> Option<&ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == AGENT_CONTAINER)?.state.as_ref()
}

fn how(ended: &ContainerStateTerminated) -> String {
    match ended.signal {
        Some(signal) => format!("its container was killed by signal {signal}"),
        None => format!("its container ended with exit code {}", ended.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_over_for_a_while_is_another_matter_when_it_comes_again() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let first = Matter::next(None, "node-lost", began);
        let on = Matter::next(Some(first), "node-lost", began + second);
        assert_eq!((on.since, on.seen), (began, began + second));
        let after_a_pause = Matter::next(Some(on), "node-lost", began + OVER);
        assert_eq!(after_a_pause.since, began, "it was over for a moment");
        let hours_later = began + 7200 * second;
        assert_eq!(Matter::next(Some(after_a_pause), "node-lost", hours_later).since, hours_later);
        assert_eq!(Matter::next(Some(on), "evicted", began + 2 * second).since, began + 2 * second);
    }
}
