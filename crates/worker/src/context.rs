//! What a job and each of its steps share: variables, record, masker, cancellation.
//!
//! [`JobContext`] lives as long as the job, [`StepContext`] as long as one record below it. Both are what
//! Microsoft's `ExecutionContext.cs` is for the official worker.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dayfly_mask::Masker;
use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::{CancelReason, Remark, WorkerSettings};
use dayfly_protocol::job::{RepositoryResource, SecureFile, ServiceEndpoint};
use dayfly_protocol::timeline::{Issue, IssueType};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::commands::{Details, Restrictions};
use crate::containers::Containers;
use crate::environment;
use crate::process::Background;
use crate::report::{Record, Reporter};
use crate::service::Service;
use crate::steps::{Packages, UnsetMacros};
use crate::variables::{Flags, Variables};

/// How much logging commands of one job may have under way at a time: each is a call to the service or an
/// upload.
const COMMANDS_UNDER_WAY: usize = 32;

/// Locks a mutex whose data stays whole even if a holder panicked: every change under these locks is a single
/// assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A repository of the job and where it is, or will be, on disk.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) resource: RepositoryResource,
    /// Its folder; a checkout step with a `path` changes it.
    pub(crate) path: PathBuf,
}

impl Repository {
    /// Its alias, such as `self`.
    pub(crate) fn alias(&self) -> &str {
        &self.resource.alias
    }
}

/// What all records of a job share.
pub(crate) struct JobContext {
    pub(crate) settings: WorkerSettings,
    pub(crate) masker: Masker,
    pub(crate) reporter: Reporter,
    pub(crate) record: Record,
    pub(crate) service: Arc<Service>,
    pub(crate) endpoints: Vec<ServiceEndpoint>,
    /// Whether more than one step checks a repository out, which changes the default folders.
    pub(crate) multiple_checkouts: bool,
    /// Which repository is checked out first, by its alias.
    pub(crate) first_checkout: Option<String>,
    /// The worker's own environment without what steps must not see.
    pub(crate) inherited: BTreeMap<OsString, OsString>,
    /// Other containers in which steps run.
    pub(crate) containers: Option<Containers>,
    /// The environment of a step before the first one ran.
    first_environment: OnceLock<BTreeMap<OsString, OsString>>,
    /// The tasks that were downloaded for it.
    packages: OnceLock<Packages>,
    /// Its secure files.
    pub(crate) secure_files: Vec<SecureFile>,
    /// Reads what processes write which a step left running.
    pub(crate) background: Background,
    /// `system.debug` at the start of the job.
    pub(crate) debug: bool,
    /// Cancels the job: steps whose condition still holds go on.
    pub(crate) cancel: CancellationToken,
    /// The time is up: nothing goes on, only what is queued is sent.
    pub(crate) flush: CancellationToken,
    /// Bounds what logging commands have under way.
    commands: Arc<Semaphore>,
    state: Mutex<JobState>,
}

struct JobState {
    variables: Variables,
    repositories: Vec<Repository>,
    prepend_path: Vec<String>,
    result: Option<TaskResult>,
    cancel_reason: Option<CancelReason>,
    /// Variables of which was told that they are too long for an environment.
    told: BTreeSet<String>,
}

/// The parts of a [`JobContext`].
pub(crate) struct JobParts {
    pub(crate) settings: WorkerSettings,
    pub(crate) masker: Masker,
    pub(crate) reporter: Reporter,
    pub(crate) service: Arc<Service>,
    pub(crate) endpoints: Vec<ServiceEndpoint>,
    pub(crate) secure_files: Vec<SecureFile>,
    pub(crate) repositories: Vec<RepositoryResource>,
    pub(crate) multiple_checkouts: bool,
    pub(crate) first_checkout: Option<String>,
    pub(crate) inherited: BTreeMap<OsString, OsString>,
    pub(crate) containers: Option<Containers>,
    pub(crate) variables: Variables,
    pub(crate) cancel: CancellationToken,
    pub(crate) flush: CancellationToken,
}

impl JobContext {
    pub(crate) fn new(parts: JobParts) -> Arc<JobContext> {
        Arc::new(JobContext {
            record: parts.reporter.job(),
            settings: parts.settings,
            masker: parts.masker,
            reporter: parts.reporter,
            service: parts.service,
            first_environment: OnceLock::new(),
            packages: OnceLock::new(),
            secure_files: parts.secure_files,
            background: Background::new(),
            endpoints: parts.endpoints,
            multiple_checkouts: parts.multiple_checkouts,
            first_checkout: parts.first_checkout,
            inherited: parts.inherited,
            containers: parts.containers,
            debug: parts.variables.get_boolean("system.debug").unwrap_or(false),
            cancel: parts.cancel,
            flush: parts.flush,
            commands: Arc::new(Semaphore::new(COMMANDS_UNDER_WAY)),
            state: Mutex::new(JobState {
                variables: parts.variables,
                repositories: parts
                    .repositories
                    .into_iter()
                    .map(|resource| Repository { resource, path: PathBuf::new() })
                    .collect(),
                prepend_path: Vec::new(),
                result: None,
                cancel_reason: None,
                told: BTreeSet::new(),
            }),
        })
    }

    /// What a step without a wish of its own has for its environment before the first one has changed it.
    /// Made by the first call, which is made while the job is initialised.
    pub(crate) fn first_environment(&self) -> &BTreeMap<OsString, OsString> {
        self.first_environment.get_or_init(|| environment::for_git(self))
    }

    /// Keeps the tasks that were downloaded; to be called once, before the first step.
    pub(crate) fn set_packages(&self, packages: Packages) {
        if self.packages.set(packages).is_err() {
            tracing::error!("the tasks of a job were downloaded twice");
        }
    }

    /// The tasks that were downloaded.
    pub(crate) fn packages(&self) -> &Packages {
        self.packages.get_or_init(Packages::default)
    }

    /// Reads the variables. The lock is held by the closure, so it must not wait.
    pub(crate) fn with_variables<T>(&self, read: impl FnOnce(&Variables) -> T) -> T {
        read(&lock(&self.state).variables)
    }

    /// Changes the variables.
    pub(crate) fn change_variables<T>(&self, change: impl FnOnce(&mut Variables) -> T) -> T {
        change(&mut lock(&self.state).variables)
    }

    /// A variable's expanded value.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.with_variables(|variables| variables.get(name).map(str::to_owned))
    }

    /// A variable's expanded value, empty when it is not set.
    pub(crate) fn variable_or_empty(&self, name: &str) -> String {
        self.variable(name).unwrap_or_default()
    }

    /// Sets an ordinary variable.
    pub(crate) fn set_variable(&self, name: &str, value: &str) {
        self.change_variables(|variables| variables.set(name, value, Flags::default()));
    }

    /// The repositories as they are now.
    pub(crate) fn repositories(&self) -> Vec<Repository> {
        lock(&self.state).repositories.clone()
    }

    /// A repository by alias, in any case.
    pub(crate) fn repository(&self, alias: &str) -> Option<Repository> {
        lock(&self.state)
            .repositories
            .iter()
            .find(|repository| repository.alias().eq_ignore_ascii_case(alias))
            .cloned()
    }

    /// The repository whose folder relative paths begin in: the one checked out first, or else the one the
    /// pipeline is about (`RepositoryUtil.GetPrimaryRepository`).
    pub(crate) fn primary_repository(&self) -> Option<Repository> {
        let first = self.first_checkout.as_deref().and_then(|alias| self.repository(alias));
        first.or_else(|| self.triggering_repository())
    }

    /// The repository the pipeline is about: the only one, or `self`
    /// (`RepositoryUtil.GetTriggeringRepository`).
    pub(crate) fn triggering_repository(&self) -> Option<Repository> {
        let state = lock(&self.state);
        match state.repositories.as_slice() {
            [only] => Some(only.clone()),
            several => {
                several.iter().find(|repository| repository.alias().eq_ignore_ascii_case("self")).cloned()
            }
        }
    }

    /// Says where a repository is from now on.
    pub(crate) fn set_repository_path(&self, alias: &str, path: PathBuf) {
        let mut state = lock(&self.state);
        if let Some(repository) =
            state.repositories.iter_mut().find(|repository| repository.alias().eq_ignore_ascii_case(alias))
        {
            repository.path = path;
        }
    }

    /// Puts a folder at the front of the path of later steps; a folder named again moves to the front.
    pub(crate) fn prepend_path(&self, folder: &str) {
        let mut state = lock(&self.state);
        state.prepend_path.retain(|present| present != folder);
        state.prepend_path.push(folder.to_owned());
    }

    /// Of variables that are too long, those of which nobody was told before; they count as told from now on.
    pub(crate) fn first_told(&self, variables: Vec<(String, usize)>) -> Vec<(String, usize)> {
        let mut state = lock(&self.state);
        variables.into_iter().filter(|(name, _)| state.told.insert(name.to_lowercase())).collect()
    }

    /// The folders put in front of the path, the last one first.
    pub(crate) fn prepended_path(&self) -> Vec<String> {
        lock(&self.state).prepend_path.iter().rev().cloned().collect()
    }

    /// The job's result so far.
    pub(crate) fn result(&self) -> Option<TaskResult> {
        lock(&self.state).result
    }

    /// Sets the job's result and the variable which conditions look at.
    pub(crate) fn set_result(&self, result: TaskResult) {
        let mut state = lock(&self.state);
        state.result = Some(result);
        state.variables.set("agent.jobstatus", result.name(), Flags::default());
    }

    /// The state which `succeeded()` and its like look at.
    pub(crate) fn status(&self) -> TaskResult {
        self.with_variables(|variables| variables.get("agent.jobstatus").and_then(TaskResult::from_name))
            .unwrap_or(TaskResult::Succeeded)
    }

    /// Cancels the job. The first reason stays.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        lock(&self.state).cancel_reason.get_or_insert(reason);
        self.cancel.cancel();
    }

    /// Why the job is being cancelled, if it is.
    pub(crate) fn cancel_reason(&self) -> Option<CancelReason> {
        lock(&self.state).cancel_reason
    }

    /// Whether no further step may begin, whatever its condition says.
    pub(crate) fn must_stop(&self) -> bool {
        self.flush.is_cancelled() || self.cancel_reason() == Some(CancelReason::LockLost)
    }

    /// `build`, `release` or whatever kind of plan the job belongs to, lower case.
    pub(crate) fn host_type(&self) -> String {
        self.variable("system.hosttype")
            .map_or_else(|| "none".to_owned(), |host_type| host_type.to_lowercase())
    }
}

/// One record below the job: a step's main part, its post-job part, or "Initialize job" and its like.
pub(crate) struct StepContext {
    pub(crate) job: Arc<JobContext>,
    pub(crate) record: Record,
    /// The step's name in the YAML; the prefix of its output variables.
    pub(crate) ref_name: String,
    /// Variables which only the parts of one step share.
    pub(crate) task_variables: Arc<Mutex<Variables>>,
    pub(crate) restrictions: Restrictions,
    /// Stops the step.
    pub(crate) cancel: CancellationToken,
    pub(crate) details: Mutex<Details>,
    state: Mutex<StepState>,
}

#[derive(Default)]
struct StepState {
    result: Option<TaskResult>,
    result_code: Option<String>,
    command_result: Option<TaskResult>,
    pending: Vec<Pending>,
    /// `task.complete` with `done=true` was seen in this attempt.
    completed: CancellationToken,
    unset_macros: UnsetMacros,
    told_of_macros: bool,
}

/// Work that a logging command started and the step waits for at its end. It answers what it has to say, or
/// what went wrong.
pub(crate) struct Pending {
    pub(crate) name: &'static str,
    pub(crate) work: AbortOnDropHandle<Result<Vec<Said>, PendingFailure>>,
}

/// What such work says.
pub(crate) enum Said {
    /// A line of the log.
    Line(String),
    /// A warning of the step.
    Warning(String),
}

/// Why such work failed.
pub(crate) struct PendingFailure {
    /// What it did until then.
    pub(crate) said: Vec<Said>,
    pub(crate) message: String,
}

impl From<String> for PendingFailure {
    fn from(message: String) -> Self {
        PendingFailure { said: Vec::new(), message }
    }
}

impl StepContext {
    /// A context over a record which is already known to the reporter.
    pub(crate) fn new(
        job: Arc<JobContext>,
        record: Record,
        ref_name: &str,
        task_variables: Arc<Mutex<Variables>>,
        restrictions: Restrictions,
    ) -> StepContext {
        StepContext {
            job,
            record,
            ref_name: ref_name.to_owned(),
            task_variables,
            restrictions,
            cancel: CancellationToken::new(),
            details: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// A context without task variables and restrictions, for the worker's own records.
    pub(crate) fn internal(job: &Arc<JobContext>, record: Record, ref_name: &str) -> StepContext {
        let task_variables = Arc::new(Mutex::new(Variables::new(job.masker.clone())));
        StepContext::new(Arc::clone(job), record, ref_name, task_variables, Restrictions::default())
    }

    /// Writes a line into the log. Secrets are masked on the way.
    pub(crate) async fn output(&self, text: &str) {
        self.record.line(text).await;
    }

    /// Writes a headline.
    pub(crate) async fn section(&self, text: &str) {
        self.record.line(&format!("##[section]{text}")).await;
    }

    /// Writes what is being run.
    pub(crate) async fn command(&self, text: &str) {
        self.record.line(&format!("##[command]{text}")).await;
    }

    /// Writes a line only if the job is being debugged.
    pub(crate) async fn debug(&self, text: &str) {
        if self.job.debug {
            // Each line carries the tag, as the log's viewer colours by line.
            for line in text.lines() {
                self.record.line(&format!("##[debug]{line}")).await;
            }
        }
    }

    /// An error: a line and an issue of the record.
    pub(crate) async fn error(&self, message: &str) {
        self.issue(general_issue(IssueType::Error, message)).await;
    }

    /// A warning: a line and an issue of the record.
    pub(crate) async fn warning(&self, message: &str) {
        self.issue(general_issue(IssueType::Warning, message)).await;
    }

    /// Writes the issue's line and counts it. The record adds the number of that line.
    pub(crate) async fn issue(&self, issue: Issue) {
        add_issue(&self.record, issue).await;
    }

    /// The result so far.
    pub(crate) fn result(&self) -> Option<TaskResult> {
        lock(&self.state).result
    }

    /// Sets the result, or takes it back before another attempt.
    pub(crate) fn set_result(&self, result: Option<TaskResult>) {
        lock(&self.state).result = result;
    }

    /// Merges a result into the present one.
    pub(crate) fn merge_result(&self, result: TaskResult) {
        let mut state = lock(&self.state);
        state.result = Some(TaskResult::merge(state.result, result));
    }

    /// Text beside the result.
    pub(crate) fn result_code(&self) -> Option<String> {
        lock(&self.state).result_code.clone()
    }

    /// Sets the text beside the result.
    pub(crate) fn set_result_code(&self, code: &str) {
        lock(&self.state).result_code = Some(code.to_owned());
    }

    /// Cancelled once this attempt has said that it is done.
    pub(crate) fn completed(&self) -> CancellationToken {
        lock(&self.state).completed.clone()
    }

    /// Forgets what the attempt before said of its result (`RetryHelper.RetryStep`).
    pub(crate) fn begin_anew(&self) {
        let mut state = lock(&self.state);
        state.result = None;
        state.completed = CancellationToken::new();
    }

    /// Keeps the macros that no variable answered.
    pub(crate) fn set_unset_macros(&self, unset: UnsetMacros) {
        lock(&self.state).unset_macros = unset;
    }

    /// Takes them again, to tell of them. A step that is retried tells once.
    pub(crate) fn take_unset_macros(&self) -> UnsetMacros {
        let mut state = lock(&self.state);
        let unset = std::mem::take(&mut state.unset_macros);
        if state.told_of_macros {
            return UnsetMacros::default();
        }
        state.told_of_macros = unset.has_missing();
        unset
    }

    /// Lets them hear a line of the standard error, if that can tell something of them.
    pub(crate) fn hear_of_macros(&self, line: &str) {
        let mut state = lock(&self.state);
        if state.unset_macros.has_suspects() {
            state.unset_macros.hear(line);
        }
    }

    /// What the step's logging commands did to its result.
    pub(crate) fn command_result(&self) -> Option<TaskResult> {
        lock(&self.state).command_result
    }

    /// A logging command failed.
    pub(crate) fn fail_command(&self, result: TaskResult) {
        let mut state = lock(&self.state);
        state.command_result = Some(TaskResult::merge(state.command_result, result));
    }

    /// Starts work which the step waits for at its end. While as much is under way as may be, this waits and
    /// with it the step's output.
    ///
    /// # Errors
    ///
    /// The step was cancelled meanwhile.
    pub(crate) async fn start_pending<W>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> W,
    ) -> Result<(), String>
    where
        W: Future<Output = Result<Vec<Said>, PendingFailure>> + Send + 'static,
    {
        let permit = tokio::select! {
            permit = Arc::clone(&self.job.commands).acquire_owned() => {
                permit.map_err(|error| error.to_string())?
            }
            () = self.cancel.cancelled() => {
                return Err(format!("{name} was not started: the step was canceled."));
            }
        };
        let work = work();
        let work = tokio::spawn(async move {
            let outcome = work.await;
            drop(permit);
            outcome
        });
        lock(&self.state).pending.push(Pending { name, work: AbortOnDropHandle::new(work) });
        Ok(())
    }

    /// Takes the work to wait for.
    pub(crate) fn take_pending(&self) -> Vec<Pending> {
        std::mem::take(&mut lock(&self.state).pending)
    }

    /// Sets a variable of the job, or an output of the step: `<step>.<name>` for later steps, and on the
    /// record for later jobs.
    pub(crate) fn set_variable(&self, name: &str, value: &str, output: bool, flags: Flags) {
        if !output {
            self.job.change_variables(|variables| variables.set(name, value, flags));
            return;
        }
        let qualified = format!("{}.{name}", self.ref_name);
        let flags = Flags { read_only: true, ..flags };
        self.job.change_variables(|variables| variables.set(&qualified, value, flags));
        self.record.variable(name, value, flags.secret);
    }
}

fn general_issue(issue_type: IssueType, message: &str) -> Issue {
    Issue {
        issue_type,
        category: Some("General".to_owned()),
        message: message.to_owned(),
        data: BTreeMap::new(),
    }
}

/// Writes an issue's line into a record's log and adds it to the record.
async fn add_issue(record: &Record, issue: Issue) {
    if !issue.message.is_empty() {
        let tag = match issue.issue_type {
            IssueType::Error => "##[error]",
            IssueType::Warning => "##[warning]",
        };
        record.line(&format!("{tag}{}", issue.message)).await;
    }
    record.issue(issue);
}

/// What happened to the place where the job runs. Does not wait either.
pub(crate) fn add_remark(record: &Record, remark: &Remark) {
    if remark.is_problem {
        record.write(&format!("##[warning]{}", remark.text));
        record.issue(general_issue(IssueType::Warning, &remark.text));
    } else {
        record.write(&remark.text);
    }
}

/// An error of the job itself. Does not wait, so that who hears of a cancellation goes on listening.
pub(crate) fn add_job_error(record: &Record, message: &str) {
    record.write(&format!("##[error]{message}"));
    record.issue(general_issue(IssueType::Error, message));
}
