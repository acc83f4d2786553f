//! One run from start to end: an emulator, virtual agents, an executor of processes or pods, and a screen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use dayfly_emulator::runs::{Placement, RunEvent, RunEvents, RunRepository, RunRequest};
use dayfly_emulator::snapshot::{self, Snapshot};
use dayfly_emulator::{Emulator, Settings};
use dayfly_kubernetes::{RunPlace, RunSettings};
use dayfly_listener::{AgentSet, Event, EventStream, NextEvent, Summary};
use dayfly_pipelines::Plan;
use dayfly_pipelines::message::EnvironmentContext;
use dayfly_protocol::job::ServiceEndpoint;
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{BuildId, TaskResult};

use super::agents::{self, RunAgents};
use super::caveats::{checks_out, missing_submodules};
use super::change::Change;
use super::cluster;
use super::history::{self, Notes};
use super::inputs::Pair;
use super::keep;
use super::masking::KnownSecrets;
use super::model::Model;
use super::pipeline::PipelineFile;
use super::repositories::{self, Checkout};
use super::screen::Screen;
use super::validations::{Decider, Validations};
use super::warnings;
use super::work_folder::WorkFolder;
use crate::output;
use crate::signals::Signals;

/// The project and the pool of every run.
pub(super) const PROJECT: &str = "local";
pub(super) const POOL: &str = "local";
/// How long jobs may take to end when the run is over or killed.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What to run and how.
pub(crate) struct Order {
    pub(crate) file: PipelineFile,
    /// Where packages of its tasks are, if it needs some.
    pub(crate) tasks_folder: Option<PathBuf>,
    /// Whether the file was found, not named.
    pub(crate) has_default_name: bool,
    pub(crate) plan: Arc<Plan>,
    pub(crate) variables: Vec<Pair>,
    pub(crate) secrets: Vec<(String, SecretString)>,
    pub(crate) hidden_environment: Vec<String>,
    pub(crate) stages: Vec<String>,
    pub(crate) jobs: Vec<String>,
    /// For each stage and each of its jobs whether these names want it.
    pub(crate) wanted: Vec<Vec<bool>>,
    /// What jobs check out besides the pipeline's own repository.
    pub(crate) checkouts: Vec<Checkout>,
    /// Folders with the artifacts of other pipelines, by aliases.
    pub(crate) upstream: BTreeMap<String, PathBuf>,
    pub(crate) agents: usize,
    /// Service connections that jobs may name.
    pub(crate) endpoints: Vec<ServiceEndpoint>,
    pub(crate) environments: Vec<EnvironmentContext>,
    /// Secure files that jobs may name, and where they are.
    pub(crate) secure_files: Vec<(String, PathBuf)>,
    /// Who decides on validations.
    pub(crate) decider: Decider,
    /// The cluster in whose pods jobs run; none runs them here.
    pub(crate) cluster: Option<RunSettings>,
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) artifacts_dir: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) output: Output,
    pub(crate) keep_work: bool,
    pub(crate) verbose: bool,
}

/// How the lines of jobs that run side by side are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// As they come, each line with its job's name
    #[default]
    Live,
    /// Job by job, each when it is done
    Grouped,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The user cancelled it.
    Interrupted,
    /// By itself, with this result.
    Completed(TaskResult),
}

/// Runs it and returns how it ended.
pub(crate) async fn run(order: Order) -> anyhow::Result<Ended> {
    // From before there is anything to clean up.
    let mut signals = Signals::new()?;
    let place = match &order.cluster {
        None => None,
        Some(settings) => match cluster::find(settings, &mut signals, order.json).await? {
            Some(place) => Some(place),
            None => return Ok(interrupted_early()),
        },
    };
    let work = WorkFolder::new()?;
    let traces = place.as_ref().map(RunPlace::traces);
    let outcome = run_at(&order, place, work.path(), &mut signals).await;
    if let Some(traces) = traces {
        cluster::clear(&traces, &mut signals, order.json).await?;
    }
    if order.keep_work {
        output::note(&format!("work folders: {}", work.keep().join(WORK).display()));
    } else {
        work.remove(&mut signals, order.json).await;
    }
    outcome
}

/// Runs it at its place in a cluster, or here. What is left is the folder, and what is in the cluster.
async fn run_at(
    order: &Order,
    place: Option<RunPlace>,
    folder: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let pat =
        SecretString::from(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()));
    let public_url = place.as_ref().map(RunPlace::service_url).transpose()?;
    let emulator = Emulator::start(settings(pat.clone(), folder, public_url, order.tasks_folder.clone()))
        .await
        .context("could not start the emulator")?;
    let cluster = match place {
        Some(place) => Some(cluster::open(place, &emulator, folder, order.json).await?),
        None => None,
    };
    let mut agents = agents::start(&emulator, pat, order, folder, cluster.as_ref())
        .await
        .context("could not start the agents")?;
    let outcome = follow(order, &emulator, &mut agents, folder, signals).await;
    let summary = tokio::select! {
        summary = end(agents.set) => summary,
        never = warnings::tell_if_slow("waiting for the workers to end", order.json) => match never {},
    };
    for (agent, reason) in &summary.failures {
        tracing::warn!(%agent, %reason, "a virtual agent failed");
    }
    drop(cluster);
    emulator.stop().await;
    outcome
}

fn interrupted_early() -> Ended {
    output::note("cancelled before any job started");
    Ended::Interrupted
}

/// Lets workers end that have reported, and stops those that do not.
async fn end(set: AgentSet) -> Summary {
    let stopper = set.stopper();
    set.drain();
    let mut ended = pin!(set.wait());
    match tokio::time::timeout(LAST_WORDS, &mut ended).await {
        Ok(summary) => summary,
        Err(_) => {
            stopper.stop(LAST_WORDS);
            ended.await
        }
    }
}

fn settings(
    pat: SecretString,
    folder: &Path,
    public_url: Option<Url>,
    tasks_folder: Option<PathBuf>,
) -> Settings {
    let mut settings = Settings::new(pat);
    settings.projects = vec![PROJECT.to_owned()];
    settings.pools = vec![POOL.to_owned()];
    settings.data_folder = Some(folder.to_owned());
    settings.public_url = public_url;
    settings.tasks_folder = tasks_folder;
    settings
}

/// Where the jobs' folders are.
pub(super) const WORK: &str = "work";

/// Where the snapshot of the work tree is.
pub(super) fn snapshot_in(folder: &Path) -> PathBuf {
    folder.join("repository.git")
}

/// Queues the run and shows it until it is over; then keeps what shall be kept.
async fn follow(
    order: &Order,
    emulator: &Emulator,
    agents: &mut RunAgents,
    folder: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let mut events = emulator.run_events();
    let repository = snapshot_in(folder);
    // A job that is queued before any agent is there fails at once, as with the service.
    let ready = async {
        tokio::join!(
            snapshot::take_with_submodules(&order.file.root, &repository),
            repositories::serve(&order.checkouts, folder),
            agents.set.wait_online(1)
        )
    };
    let (snapshot, others, online) = tokio::select! {
        ready = ready => ready,
        never = warnings::tell_if_slow("taking a snapshot of the work tree", order.json) => match never {},
        () = signals.next() => return Ok(interrupted_early()),
    };
    let (repository, of_snapshot) = own_repository(order, repository, snapshot)?;
    let (others, of_others) = others?;
    if online == 0 {
        bail!("no agent came online; run again with `--log info` to see why");
    }
    for warning in of_snapshot.iter().chain(&of_others) {
        warnings::tell(warning, order.json)?;
    }
    let mut request = request(order, repository);
    request.repositories = others;
    let build = emulator.queue_run(request).await.context("could not queue the run")?;
    let mut screen = Screen::new(order);
    let mut view = View {
        model: Model::default(),
        secrets: KnownSecrets::new(&order.secrets, &order.endpoints),
        screen: &mut screen,
        notes: Notes::default(),
    };
    let ended = show(order, emulator, agents, build, &mut events, &mut view, signals).await?;
    let notes = view.notes;
    screen.close()?;
    let has_logs = tokio::select! {
        kept = keep_what_is_left(order, emulator, build, notes) => kept?,
        () = signals.next() => bail!("interrupted before all logs and artifacts were copied"),
    };
    if ended == Ended::Completed(TaskResult::Failed) {
        advise(order, &screen, has_logs);
    }
    Ok(ended)
}

/// The pipeline's own repository, and what to say of its snapshot. Where nothing is checked out, there need
/// be no git.
fn own_repository(
    order: &Order,
    directory: PathBuf,
    snapshot: Result<Snapshot, snapshot::Error>,
) -> anyhow::Result<(RunRepository, Vec<String>)> {
    match snapshot {
        Err(snapshot::Error::Start(error)) if !checks_out(&order.plan, &order.wanted) => {
            tracing::info!(%error, "there is no git, and nothing is checked out");
            let head = snapshot::Head::of_folder(&order.file.root);
            Ok((RunRepository::without_git(head, directory), Vec::new()))
        }
        snapshot => {
            let snapshot = snapshot.context("could not snapshot the repository")?;
            let missing = missing_submodules(&order.plan, &order.wanted, &snapshot.missing_submodules);
            let repository = RunRepository::of_snapshot(&snapshot);
            Ok((repository, snapshot.warnings.into_iter().chain(missing).collect()))
        }
    }
}

/// Copies logs and artifacts where they were asked for, and logs to where `dayfly logs` finds them; whether
/// it does.
async fn keep_what_is_left(
    order: &Order,
    emulator: &Emulator,
    build: BuildId,
    notes: Notes,
) -> anyhow::Result<bool> {
    let saved = history::save(emulator, build, &order.file.path, notes).await;
    if let Err(error) = &saved {
        tracing::info!(error = format!("{error:#}"), "the logs are not kept for `dayfly logs`");
    }
    keep::keep(emulator, build, order.log_dir.as_deref(), order.artifacts_dir.as_deref()).await?;
    Ok(saved.is_ok())
}

/// What to do about a failure.
fn advise(order: &Order, screen: &Screen, has_logs: bool) {
    let Some(job) = screen.failed_job() else { return };
    if has_logs {
        output::hint(&format!("`dayfly logs {job}` shows the whole log of that job"));
    }
    // Folders of pods go with them.
    if order.cluster.is_some() {
        return;
    }
    let file = if order.has_default_name { String::new() } else { format!(" {}", order.file.name) };
    output::hint(&format!(
        "`dayfly run{file} --job {job} --keep-work` runs only that job and keeps its folder"
    ));
}

fn request(order: &Order, repository: RunRepository) -> RunRequest {
    let mut request = RunRequest::new(PROJECT, order.file.definition(), Arc::clone(&order.plan), repository);
    let public =
        order.variables.iter().map(|pair| (pair.name.clone(), VariableValue::public(pair.value.clone())));
    let secret = order
        .secrets
        .iter()
        .map(|(name, value)| (name.clone(), VariableValue::secret(value.expose_secret())));
    request.variables = public.chain(secret).collect::<BTreeMap<_, _>>();
    request.pipelines.clone_from(&order.upstream);
    request.endpoints.clone_from(&order.endpoints);
    request.environments.clone_from(&order.environments);
    request.secure_files.clone_from(&order.secure_files);
    request.stages.clone_from(&order.stages);
    request.jobs.clone_from(&order.jobs);
    request.placement = Placement::Everything { pool: POOL.to_owned() };
    request
}

/// What events go through and to.
struct View<'a> {
    model: Model,
    secrets: KnownSecrets,
    screen: &'a mut Screen,
    notes: Notes,
}

impl View<'_> {
    fn show(&mut self, event: RunEvent, order: &Order, begun: Instant) -> std::io::Result<()> {
        self.secrets.learn(&event);
        let changes = self.secrets.mask(translate(event, order, &mut self.model, begun));
        for change in &changes {
            self.notes.take(change);
        }
        self.screen.show(changes)
    }
}

/// Shows events until the run is over. The first interrupt cancels the run, the second kills what runs.
async fn show(
    order: &Order,
    emulator: &Emulator,
    agents: &mut RunAgents,
    build: BuildId,
    events: &mut RunEvents,
    view: &mut View<'_>,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(view.screen.tick());
    let mut validations = Validations::new(order.decider);
    let mut cancelled = false;
    let mut give_up_at = None;
    loop {
        if let Some(question) = validations.question() {
            view.screen.ask(&question)?;
        }
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { bail!("the emulator stopped before the run was over") };
                let completed = completed(&event, build);
                validations.note(&event);
                view.show(event, order, begun)?;
                if let Some(result) = completed {
                    return Ok(if cancelled { Ended::Interrupted } else { Ended::Completed(result) });
                }
            }
            warning = warning(&mut agents.events) => view.screen.note(&format!("warning: {warning}")),
            _ = ticks.tick(), if !validations.is_asking() => view.screen.redraw()?,
            decision = validations.decision() => {
                if let Some((id, verdict)) = decision {
                    // It was withdrawn a moment ago.
                    let _ = emulator.answer_validation(id, verdict);
                }
            }
            () = signals.next() => {
                if cancelled {
                    view.screen.note("killing the run");
                    agents.set.stop(Duration::ZERO);
                    give_up_at = Some(tokio::time::Instant::now() + LAST_WORDS);
                } else {
                    view.screen.note("cancelling the run; press Ctrl-C again to kill it");
                    emulator.cancel_run(build).context("could not cancel the run")?;
                    cancelled = true;
                }
            }
            // What was killed has a moment to be reported; then the run is given up.
            () = sleep_until(give_up_at), if give_up_at.is_some() => return Ok(Ended::Interrupted),
        }
    }
}

/// The next thing that goes wrong with an agent.
async fn warning(agents: &mut EventStream) -> String {
    loop {
        match agents.next().await {
            NextEvent::Event(Event::Warning { agent, message }) => return format!("{agent}: {message}"),
            NextEvent::Closed => return std::future::pending().await,
            NextEvent::Event(_) | NextEvent::Missed(_) => {}
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn completed(event: &RunEvent, build: BuildId) -> Option<TaskResult> {
    match event {
        RunEvent::RunCompleted { build: of, result, .. } if *of == build => Some(*result),
        _ => None,
    }
}

fn translate(event: RunEvent, order: &Order, model: &mut Model, begun: Instant) -> Vec<Change> {
    match event {
        RunEvent::RunStarted { number, .. } => {
            vec![Change::RunStarted { run: number, pipeline: order.file.name.clone() }]
        }
        RunEvent::StageStarted { stage, display_name, .. } => {
            vec![Change::StageStarted { stage, display_name }]
        }
        RunEvent::StageCompleted { stage, display_name, result, .. } => {
            vec![Change::StageCompleted { stage, display_name, result }]
        }
        RunEvent::JobQueued { job, .. } => vec![Model::job_queued(job)],
        RunEvent::JobStarted { job, agent, .. } => vec![model.job_started(job, agent)],
        RunEvent::Record { job, record, .. } => model.record(job, *record),
        RunEvent::Lines { job, record, lines, .. } => model.lines(job, record, lines.to_vec()),
        RunEvent::JobCompleted { job, result, started, finished, reason, .. } => {
            let seconds = started.map_or(0.0, |started| finished.duration_since(started).as_secs_f64());
            model.job_completed(job, result, seconds, reason)
        }
        RunEvent::RunCompleted { number, result, .. } => {
            let seconds = begun.elapsed().as_secs_f64();
            vec![Change::RunCompleted { run: number, result, seconds }]
        }
        _ => Vec::new(),
    }
}
