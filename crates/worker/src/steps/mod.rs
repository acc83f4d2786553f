//! The steps this worker can run by itself, chosen by the id of their task.

mod artifacts;
mod artifacts_of;
mod bash;
mod built_in;
mod checkout;
mod definition;
mod elsewhere;
mod inputs;
mod installers;
mod macros;
mod output;
mod powershell;
mod program;
mod script;
mod shell;
mod tasks;

use std::collections::BTreeMap;

use dayfly_client::describe;
use dayfly_protocol::TaskResult;
use dayfly_protocol::job::Step;
use dayfly_protocol::task;
use dayfly_protocol::timeline::TaskReference;
use uuid::Uuid;

pub(crate) use checkout::display_name as checkout_display_name;
pub(crate) use definition::Definition;
pub(crate) use inputs::{Inputs, expand, normalize};
pub(crate) use macros::UnsetMacros;
pub(crate) use tasks::Packages;
pub use tasks::{Error as TaskError, keep as keep_task};

use crate::containers;
use crate::context::{JobContext, StepContext};
use crate::process::{self, Place};
use definition::print_header;
use elsewhere::Elsewhere;
use inputs::Known;
use installers::Installer;
use tasks::{Package, Stage};

/// Why a step did not come to a result of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// It was stopped: by the job's cancellation or by its own timeout.
    #[error("The operation was canceled.")]
    Canceled,
    /// It failed; the text is for its log.
    #[error("{0}")]
    Failed(String),
    /// A process could not be run.
    #[error("{message}")]
    Process {
        /// What could not be run and why, for the log.
        message: String,
        /// What the system said.
        #[source]
        source: process::Error,
    },
}

impl StepError {
    fn failed(message: impl Into<String>) -> StepError {
        StepError::Failed(message.into())
    }
}

impl From<process::Error> for StepError {
    fn from(source: process::Error) -> StepError {
        StepError::Process { message: describe(&source), source }
    }
}

/// What a step is run with: inputs and environment with their macros expanded.
pub(crate) struct Prepared {
    pub(crate) inputs: Inputs,
    pub(crate) environment: BTreeMap<String, String>,
    /// Where its processes run.
    pub(crate) place: Place,
}

/// A part of a step, which has a record of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What it does before all steps.
    PreJob,
    /// The step itself.
    Main,
    /// What it does after all steps, whatever happened.
    PostJob,
}

/// Whether this worker can run the task with this id and version by itself.
#[must_use]
pub fn can_run(task: Uuid, version: &str) -> bool {
    Definition::of(task).is_some() || built_in::of(task, version).is_some()
}

/// Whether a task is to be downloaded.
pub(crate) fn is_downloaded(job: &JobContext, task: &TaskReference) -> bool {
    let is_built_in = built_in::comes_first(job, task) && can_run(task.id.0, &task.version);
    Definition::of(task.id.0).is_none() && !is_built_in
}

/// Whether this worker has a stand-in for the task of this name, for when there is no package of it.
#[must_use]
pub fn can_stand_in(task: &str) -> bool {
    Installer::of(task).is_some() || Elsewhere::of(task).is_some()
}

/// Whether the stand-in for the task of this name looks for the tool that the task would install.
#[must_use]
pub fn is_looked_for(task: &str) -> bool {
    Installer::of(task).is_some()
}

/// Whether the stand-in for the task of this name leaves out what the task would do, with a warning.
#[must_use]
pub fn is_left_out(task: &str) -> bool {
    Elsewhere::of(task).is_some_and(Elsewhere::is_missed)
}

/// The task's own name, without those of the publisher, the extension and the contribution that a pipeline
/// may put before it.
fn own_name(task: &str) -> &str {
    task.rsplit('.').next().unwrap_or(task)
}

/// Whether the step has that part.
pub(crate) fn has(packages: &Packages, step: &Step, part: Part) -> bool {
    let Some(reference) = &step.reference else { return part == Part::Main };
    match (part, packages.of(reference)) {
        // As with Microsoft's agent: a task may have nothing but what comes before and after all steps.
        (Part::Main, Some(Ok(package))) => {
            let has = |stage| package.manifest.has(stage);
            has(Stage::Execution) || !has(Stage::PreJob) && !has(Stage::PostJob)
        }
        (part, Some(Ok(package))) => package.manifest.has(stage(part)),
        (Part::PreJob, _) => built_in::comes_before_steps(reference.id.0),
        (Part::Main, _) => !built_in::comes_before_steps(reference.id.0),
        (Part::PostJob, _) => {
            reference.id.0 == task::CHECKOUT || built_in::post_job(reference.id.0).is_some()
        }
    }
}

/// What the task's package says that the step's logging commands may do.
pub(crate) fn restrictions<'a>(packages: &'a Packages, step: &Step) -> Option<(bool, Option<&'a [String]>)> {
    let package = packages.of(step.reference.as_ref()?)?.as_ref().ok()?;
    let restrictions = package.manifest.restrictions.as_ref()?;
    let is_restricted = restrictions.commands.as_ref().is_some_and(|commands| commands.is_restricted());
    let settable = restrictions.settable_variables.as_ref().map(|settable| settable.allowed.as_slice());
    Some((is_restricted, settable))
}

fn stage(part: Part) -> Stage {
    match part {
        Part::PreJob => Stage::PreJob,
        Part::Main => Stage::Execution,
        Part::PostJob => Stage::PostJob,
    }
}

/// Runs a part of a step. `Ok` is the task's own result; logging commands may have changed the step's beside
/// it.
pub(crate) async fn run(context: &StepContext, step: &Step, part: Part) -> Result<TaskResult, StepError> {
    let Some(reference) = &step.reference else {
        return Err(StepError::failed("The step has no task, so it cannot run."));
    };
    let packages = context.job.packages();
    let package = packages.of(reference);
    if let Some(Ok(package)) = package {
        return run_package(context, step, part, package).await;
    }
    let task = built_in::of(reference.id.0, &reference.version);
    let definition = task.map(|task| &task.definition).or_else(|| Definition::of(reference.id.0));
    let Some(definition) = definition else {
        if let Some(installer) = Installer::of(&reference.name) {
            return stand_in(context, step, installer).await;
        }
        // Elsewhere nothing is left out: what cannot be had fails.
        let elsewhere = Elsewhere::of(&reference.name).filter(|_| built_in::is_local(&context.job));
        if let Some(elsewhere) = elsewhere {
            return Ok(elsewhere.run(context).await);
        }
        return Err(StepError::Failed(match package {
            Some(Err(reason)) => format!("{} ({reason})", unknown_task(step)),
            _ => unknown_task(step),
        }));
    };
    definition.print(context, &reference.version).await;
    let place = place_of(context, step, works_where_scripts_do(reference.id.0, task)).await?;
    let prepared = inputs::prepare(context, step, definition.known(), place);
    if part == Part::Main {
        context.set_unset_macros(UnsetMacros::of(&context.job, step));
    }
    let result = match task {
        Some(task) if part != Part::PostJob => (task.run)(context, &prepared).await,
        Some(_) => match built_in::post_job(reference.id.0) {
            Some(post_job) => post_job(context, &prepared).await,
            None => Err(StepError::Failed(unknown_task(step))),
        },
        None => run_task(context, step, part, reference.id.0, &prepared).await,
    };
    context.take_unset_macros().tell(context).await;
    result
}

/// Looks for what the task would install.
async fn stand_in(context: &StepContext, step: &Step, installer: Installer) -> Result<TaskResult, StepError> {
    let prepared = inputs::prepare(context, step, installer.known(), Place::Here);
    installer.run(context, &prepared).await
}

/// Runs a part of a task that was downloaded.
async fn run_package(
    context: &StepContext,
    step: &Step,
    part: Part,
    package: &Package,
) -> Result<TaskResult, StepError> {
    let manifest = &package.manifest;
    let help = [&manifest.help_mark_down, &manifest.help_url].into_iter().find(|help| !help.is_empty());
    let help = help.map_or("", String::as_str);
    let header = [&manifest.friendly_name, &manifest.description, &manifest.version, &manifest.author];
    let [name, description, version, author] = header.map(String::as_str);
    print_header(context, [name, description, version, author, help]).await;
    let place = container_of(context, step).await?;
    let known = manifest.inputs.iter().map(|input| Known {
        name: &input.name,
        default: &input.default_value,
        is_path: input.is_path(),
        aliases: input.aliases.iter().map(String::as_str).collect(),
    });
    let prepared = inputs::prepare(context, step, known, place);
    if part == Part::Main {
        context.set_unset_macros(UnsetMacros::of(&context.job, step));
        if let Some(faults) = tasks::check(manifest, step, &prepared.inputs) {
            context.warning(&faults).await;
        }
    }
    let result = tasks::run(context, package, stage(part), &prepared).await;
    context.take_unset_macros().tell(context).await;
    result
}

/// Runs a part of the task with this id.
async fn run_task(
    context: &StepContext,
    step: &Step,
    part: Part,
    task: Uuid,
    prepared: &Prepared,
) -> Result<TaskResult, StepError> {
    match (task, part) {
        (task::CMD_LINE, Part::Main) => script::run(context, prepared).await,
        (task::BASH, Part::Main) => bash::run(context, prepared).await,
        (task::POWERSHELL, Part::Main) => powershell::run(context, prepared).await,
        (task::PUBLISH_PIPELINE_ARTIFACT, Part::Main) => artifacts::publish_pipeline(context, prepared).await,
        (task::DOWNLOAD_PIPELINE_ARTIFACT, Part::Main) => {
            artifacts::download_pipeline(context, prepared).await
        }
        (task::PUBLISH_BUILD_ARTIFACTS, Part::Main) => artifacts::publish_build(context, prepared).await,
        (task::DOWNLOAD_BUILD_ARTIFACTS, Part::Main) => artifacts::download_build(context, prepared).await,
        (task::CHECKOUT, Part::Main) => checkout::run(context, prepared).await,
        (task::CHECKOUT, Part::PostJob) => checkout::cleanup::run(context).await,
        _ => Err(StepError::Failed(unknown_task(step))),
    }
}

/// Whether a step's processes run where those of scripts do. All else is the worker's own work, and need not
/// wait for an image to be pulled.
fn works_where_scripts_do(id: Uuid, built_in: Option<&built_in::Task>) -> bool {
    matches!(id, task::CMD_LINE | task::BASH | task::POWERSHELL)
        || built_in.is_some_and(|task| task.works_where_scripts_do)
}

/// Where the processes of a built-in task run.
async fn place_of(context: &StepContext, step: &Step, with_scripts: bool) -> Result<Place, StepError> {
    if context.job.containers.is_some() && !with_scripts {
        return Ok(Place::Here);
    }
    container_of(context, step).await
}

/// The container that the step wants.
async fn container_of(context: &StepContext, step: &Step) -> Result<Place, StepError> {
    if let Some(containers) = &context.job.containers {
        return containers.place_of(context, step).await.map_err(|error| match error {
            containers::Error::Canceled => StepError::Canceled,
            error => StepError::Failed(describe(&error)),
        });
    }
    Ok(Place::Here)
}

fn unknown_task(step: &Step) -> String {
    let task = step.reference.as_ref().map_or_else(
        || "?".to_owned(),
        |reference| {
            let version = reference.version.as_str();
            format!("{}@{}", reference.name, version.split_once('.').map_or(version, |(major, _)| major))
        },
    );
    format!(
        "Dayfly's native worker cannot run the task {task} (docs/compatibility.md lists those it \
            runs). Replace this step with a script, skip it with a `condition:`, or run the job on \
            Microsoft's agent."
    )
}
