//! One run from start to end: an emulator, virtual agents and process executors in this process tree, and a screen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};

use dayfly_emulator::runs::{Placement, RunEvent, RunEvents, RunRepository, RunRequest};
use dayfly_emulator::{Emulator, Settings, snapshot};
use dayfly_listener::{AgentSet, Event, EventStream, NextEvent, Summary};
use dayfly_pipelines::Plan;
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{BuildId, TaskResult};

use super::agents::{self, LocalAgents};
use super::change::Change;
use super::inputs::Pair;
use super::keep;
use super::masking::KnownSecrets;
use super::model::Model;
use super::pipeline::PipelineFile;
use super::screen::Screen;
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
    pub(crate) plan: Arc<Plan>,
    pub(crate) variables: Vec<Pair>,
    pub(crate) secrets: Vec<(String, SecretString)>,
    pub(crate) hidden_environment: Vec<String>,
    pub(crate) stages: Vec<String>,
    pub(crate) jobs: Vec<String>,
    /// For each stage and each of its jobs whether these names want it.
    pub(crate) wanted: Vec<Vec<bool>>,
    pub(crate) agents: usize,
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) artifacts_dir: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) keep_work: bool,
    pub(crate) verbose: bool,
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
    let work = WorkFolder::new()?;
    let folder = work.path().to_owned();
    let pat =
        SecretString::from(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()));
    let emulator =
        Emulator::start(settings(pat.clone(), &folder)).await.context("the emulator could not start")?;
    let mut agents =
        agents::start(&emulator, pat, &order, &folder).await.context("the agents could not start")?;

    let outcome = follow(&order, &emulator, &mut agents, &folder, &mut signals).await;
    let summary = end(agents.set).await;
    for (agent, reason) in &summary.failures {
        tracing::warn!(%agent, %reason, "a virtual agent failed");
    }
    emulator.stop().await;
    if order.keep_work {
        output::note(&format!("work folders: {}", work.keep().display()));
    } else {
        work.remove(&mut signals, order.json).await;
    }
    outcome
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

fn settings(pat: SecretString, folder: &Path) -> Settings {
    let mut settings = Settings::new(pat);
    settings.projects = vec![PROJECT.to_owned()];
    settings.pools = vec![POOL.to_owned()];
    settings.data_folder = Some(folder.to_owned());
    settings
}

/// Where the snapshot of the work tree is.
pub(super) fn snapshot_in(folder: &Path) -> PathBuf {
    folder.join("repository.git")
}

/// Queues the run and shows it until it is over; then keeps what shall be kept.
async fn follow(
    order: &Order,
    emulator: &Emulator,
    agents: &mut LocalAgents,
    folder: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let mut events = emulator.run_events();
    let repository = snapshot_in(folder);
    // A job that is queued before any agent is there fails at once, as with the service.
    let ready =
        async { tokio::join!(snapshot::take(&order.file.root, &repository), agents.set.wait_online(1)) };
    let (snapshot, online) = tokio::select! {
        ready = ready => ready,
        never = warnings::tell_if_slow("taking a snapshot of the work tree", order.json) => match never {},
        () = signals.next() => {
            output::note("cancelled before a job was started");
            return Ok(Ended::Interrupted);
        }
    };
    let snapshot = snapshot.context("no snapshot of the repository could be taken")?;
    if online == 0 {
        bail!("no agent came online; `--log info` shows why");
    }
    for warning in &snapshot.warnings {
        warnings::tell(warning, order.json)?;
    }
    let request = request(order, RunRepository::of_snapshot(&snapshot));
    let build = emulator.queue_run(request).await.context("the run could not be queued")?;
    let mut screen = Screen::new(order);
    let ended = show(order, emulator, agents, build, &mut events, &mut screen, signals).await?;
    screen.close()?;
    tokio::select! {
        kept = keep::keep(emulator, build, order.log_dir.as_deref(), order.artifacts_dir.as_deref()) => {
            kept.map(|()| ended)
        }
        () = signals.next() => bail!("interrupted before all logs and artifacts were kept"),
    }
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
    request.stages.clone_from(&order.stages);
    request.jobs.clone_from(&order.jobs);
    request.placement = Placement::Everything { pool: POOL.to_owned() };
    request
}

/// Shows events until the run is over. The first interrupt cancels the run, the second kills what runs.
async fn show(
    order: &Order,
    emulator: &Emulator,
    agents: &mut LocalAgents,
    build: BuildId,
    events: &mut RunEvents,
    screen: &mut Screen,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let begun = Instant::now();
    let mut model = Model::default();
    let secrets = KnownSecrets::new(&order.secrets);
    let mut ticks = tokio::time::interval(screen.tick());
    let mut cancelled = false;
    let mut give_up_at = None;
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { bail!("the emulator stopped before the run was over") };
                let completed = completed(&event, build);
                secrets.learn(&event);
                screen.show(secrets.mask(translate(event, order, &mut model, begun)))?;
                if let Some(result) = completed {
                    return Ok(if cancelled { Ended::Interrupted } else { Ended::Completed(result) });
                }
            }
            warning = warning(&mut agents.events) => screen.note(&format!("warning: {warning}")),
            _ = ticks.tick() => screen.redraw()?,
            () = signals.next() => {
                if cancelled {
                    screen.note("killing the run");
                    agents.set.stop(Duration::ZERO);
                    give_up_at = Some(tokio::time::Instant::now() + LAST_WORDS);
                } else {
                    screen.note("cancelling the run; press Ctrl-C again to kill it");
                    emulator.cancel_run(build).context("the run could not be cancelled")?;
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
