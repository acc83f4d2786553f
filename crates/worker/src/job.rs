//! Runs one job from its message to its result (`JobRunner.cs`, `Worker.cs`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dayfly_client::describe;
use dayfly_processes::orphans;
use dayfly_protocol::channel::{
    CancelReason, Course, FromWorker, Heard, MAX_REMARKS, Orders, StepStarted, WorkerSettings,
};
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::plan::WORKER_REPORTS_FROM_VERSION;
use dayfly_protocol::{RecordId, TaskResult};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::containers::{self, Containers, Forwards};
use crate::context::{JobContext, JobParts, StepContext, add_job_error, add_remark};
use crate::directories::{self, WorkFolder};
use crate::initialize::{self, Entry, Initialized};
use crate::message;
use crate::platform;
use crate::report::{self, Deadline, NewRecord, Reporter};
use crate::service::Service;
use crate::variables::{Flags, Variables};
use crate::{Surroundings, environment, run_step};

/// How long the queues may take at the end to send what is left. The service may be away for a while.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5 * 60);
// The console, which has the half of it, outlives a service that is away for a minute when the job ends.
const _: () = assert!(FLUSH_DEADLINE.as_secs() / 2 > 60);
/// The same once the time of a cancelled job is up: the listener kills the worker a minute after it asked for
/// the flush.
const HURRIED_FLUSH_DEADLINE: Duration = Duration::from_secs(45);
/// How long whoever follows the job may take to hear that it is being reported.
const REPORTING_PATIENCE: Duration = Duration::from_secs(5);
/// What the official worker says when its agent is stopped.
const SHUTDOWN: &str = "The agent has received a shutdown signal. This can happen when the agent service is \
                        stopped, or a manually started agent is canceled.";
/// How long a job may take to end after its listener vanished; the service's own default for cancellations.
const ORPHANED_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Pause between two looks whether the service has ended with the listener.
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);
/// How long what a job that is given up has started may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The job's result.
    pub result: TaskResult,
    /// Whether the service has it: it answered the worker's event. False means that the listener must report
    /// it.
    pub reported: bool,
}

/// What whoever started a job wants of it: the state that holds now, never a change of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// What the listener orders.
    pub orders: Orders,
    /// How much of the job's course it has heard.
    pub heard: Heard,
    /// Nobody minds the job any more: it is to be cancelled.
    pub abandoned: Option<Abandoned>,
}

/// Why nobody minds a job any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// The listener is gone.
    ListenerGone,
    /// The worker was told to stop, as a pod is that must leave its node.
    Stopped,
}

/// Runs a job.
///
/// `control` brings cancellation and the like; when it closes, whoever started the job is gone, so the job is
/// cancelled and its result reported anyway. `progress` tells where the job is; nobody needs to read it. The
/// work folder in `settings` must belong to this job alone.
pub async fn run(
    mut message: AgentJobRequestMessage,
    mut settings: WorkerSettings,
    surroundings: Surroundings,
    control: watch::Receiver<Control>,
    progress: mpsc::Sender<FromWorker>,
) -> Outcome {
    message::complete(&mut message, settings.server_url.as_ref());
    if surroundings.step_hosts.is_none() {
        message::name_container(&mut message, &surroundings.environment);
    }
    let masker = dayfly_mask::Masker::of_job(&message);
    let service = match Service::connect(&message, &settings, &surroundings) {
        Ok(service) => Arc::new(service),
        Err(error) => {
            // Without a connection there is nobody to tell but the listener, which fails the job.
            tracing::error!(error = describe(&error), "the job cannot be reported by its worker");
            return Outcome { result: TaskResult::Failed, reported: false };
        }
    };
    let (own, opened) = match own_folder(&mut settings, &message).await {
        Ok(own) => (own, WorkFolder::open(settings.work_directory.clone()).await),
        Err(error) => (None, Err(error)),
    };
    let pages = pages_folder(opened.as_ref().ok(), &message);
    let reporter = Reporter::start(report::Settings {
        plan: service.plan().clone(),
        timeline: message.timeline.id,
        job: message.job_id.into(),
        masker: masker.clone(),
        pages: pages.clone(),
        worker_name: settings.agent_name.clone(),
        feed_interval: None,
    });
    let containers = match surroundings.step_hosts.as_deref() {
        None => Containers::of_machine(surroundings.program.clone(), &message).await,
        Some(folder) => Containers::of_pod(folder, &message).await.map(Some),
    };
    let (containers, refused) = match containers {
        Ok(containers) => (containers, None),
        Err(error) => (None, Some(describe(&error))),
    };
    let mut inherited = environment::inherited(surroundings.environment, &settings.hidden_environment);
    environment::add_proxy(&mut inherited, &settings);
    mask_proxy(&masker, &settings);
    let job = JobContext::new(JobParts {
        masker: masker.clone(),
        reporter: reporter.clone(),
        service: Arc::clone(&service),
        endpoints: message.resources.endpoints.clone(),
        secure_files: message.resources.secure_files.clone(),
        repositories: message.resources.repositories.clone(),
        multiple_checkouts: message::checkouts(&message).count() > 1,
        first_checkout: message::checkouts(&message)
            .next()
            .and_then(|step| step.inputs.get("repository"))
            .cloned(),
        inherited,
        containers,
        variables: variables(&message, masker),
        cancel: CancellationToken::new(),
        flush: CancellationToken::new(),
        settings,
    });
    let course = Run {
        job: &job,
        message: &message,
        service: &service,
        progress: &progress,
        control: control.clone(),
    };
    let opened = opened.map_err(|error| describe(&error));
    let outcome = tokio::select! {
        outcome = course.until_the_end(refused.map_or(opened, Err)) => outcome,
        () = listen(&job, control) => {
            tracing::warn!("the service has ended with the listener, so the job is given up");
            // The step's own processes end with what was dropped here, what they left behind by this.
            let ended = tokio::task::spawn_blocking(|| orphans::end_all(KILL_PATIENCE)).await;
            tracing::debug!(ended = ended.map_or(0, |ended| ended.len()), "killed what the job had started");
            Outcome { result: TaskResult::Canceled, reported: false }
        }
    };
    if let Some(containers) = &job.containers {
        containers.abandon().await;
    }
    directories::empty(pages.clone()).await;
    if let Err(error) = tokio::fs::remove_dir(&pages).await {
        tracing::debug!(%error, path = %pages.display(), "the folder of log pages stays");
    }
    if let Some(own) = own {
        // Whoever made the folder above removes what cannot be removed now.
        if let Err(error) = tokio::fs::remove_dir_all(&own).await {
            tracing::debug!(%error, path = %own.display(), "the job's folder stays");
        }
    }
    outcome
}

/// Makes the job's own work folder if it is to have one, and answers it if it is to be removed when the job
/// is over.
async fn own_folder(
    settings: &mut WorkerSettings,
    message: &AgentJobRequestMessage,
) -> Result<Option<PathBuf>, directories::Error> {
    if !settings.folder_per_job {
        return Ok(None);
    }
    let identifier =
        message.variables.iter().find(|(name, _)| name.eq_ignore_ascii_case("system.jobIdentifier"));
    let name = identifier.and_then(|(_, value)| value.value.as_deref()).unwrap_or(&message.job_name);
    settings.work_directory = directories::of_job(&settings.work_directory, name).await?;
    Ok((!settings.keep_work).then(|| settings.work_directory.clone()))
}

/// Keeps the proxy's password out of the logs, as it is and as it stands in the address.
fn mask_proxy(masker: &dayfly_mask::Masker, settings: &WorkerSettings) {
    let address = settings.proxy.as_ref().and_then(|proxy| url::Url::parse(&proxy.address).ok());
    if let Some(encoded) = address.as_ref().and_then(url::Url::password) {
        let plain = percent_encoding::percent_decode_str(encoded).decode_utf8_lossy();
        masker.add_values([encoded, &plain]);
    }
}

/// Log pages belong into the work folder; if that is what is wrong, into the system's folder for temporary
/// files.
fn pages_folder(work: Option<&WorkFolder>, message: &AgentJobRequestMessage) -> PathBuf {
    match work {
        Some(work) => work.pages().join(message.job_id.to_string()),
        None => std::env::temp_dir().join(format!("dayfly-pages-{}", message.job_id)),
    }
}

fn variables(message: &AgentJobRequestMessage, masker: dayfly_mask::Masker) -> Variables {
    let mut variables = Variables::new(masker);
    for (name, value) in message.variables.iter().filter(|(name, _)| !name.trim().is_empty()) {
        let flags = Flags { secret: value.is_secret, read_only: value.is_read_only, preserve_case: false };
        variables.set(name, value.value.as_deref().unwrap_or_default(), flags);
    }
    variables
}

/// Carries out what is wanted of the job, for as long as it runs. Ends only when there is nobody left to
/// report to.
async fn listen(job: &JobContext, mut control: watch::Receiver<Control>) {
    let mut obeyed = Orders::default();
    let why = loop {
        let wanted = control.borrow_and_update().clone();
        obey(job, &mut obeyed, wanted.orders);
        if let Some(why) = wanted.abandoned {
            break why;
        }
        if control.changed().await.is_err() {
            break Abandoned::ListenerGone;
        }
    };
    abandon(job, why);
    let late = tokio::time::sleep(ORPHANED_TIMEOUT);
    let service_may_be_gone = why == Abandoned::ListenerGone && job.settings.service_ends_with_listener;
    let refused = until_refused(job);
    tokio::pin!(late, refused);
    loop {
        tokio::select! {
            () = &mut late => break,
            () = &mut refused, if service_may_be_gone => return,
            // A listener that comes back may be in a hurry.
            Ok(()) = control.changed() => {
                let wanted = control.borrow_and_update().clone();
                obey(job, &mut obeyed, wanted.orders);
            }
            else => {
                late.await;
                break;
            }
        }
    }
    job.flush.cancel();
    std::future::pending().await
}

/// Waits until nobody listens at the service's address.
async fn until_refused(job: &JobContext) {
    let own = job.endpoints.iter().find(|endpoint| environment::is_system_connection(endpoint));
    let address = own.and_then(|own| {
        let url = own.url.as_ref()?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
    });
    let Some(address) = address else { return std::future::pending().await };
    loop {
        match tokio::net::TcpStream::connect(&address).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
            _ => tokio::time::sleep(REFUSAL_PAUSE).await,
        }
    }
}

/// Does what is ordered and was not done yet.
fn obey(job: &JobContext, obeyed: &mut Orders, orders: Orders) {
    if let (None, Some(cancel)) = (obeyed.cancel, orders.cancel) {
        tracing::info!(
            reason = ?cancel.reason, timeout_seconds = cancel.timeout_seconds,
            "the job is being cancelled"
        );
        job.cancel(cancel.reason);
        if cancel.reason == CancelReason::AgentShutdown {
            add_job_error(&job.record, SHUTDOWN);
        }
    }
    if orders.flush_logs && !obeyed.flush_logs {
        job.cancel(CancelReason::Requested);
        job.flush.cancel();
        add_job_error(&job.record, "Job cancelled due to worker timeout.");
    }
    if let Some(interval) =
        orders.feed_interval_millis.filter(|_| orders.feed_interval_millis != obeyed.feed_interval_millis)
    {
        job.reporter.set_feed_interval(Duration::from_millis(interval));
    }
    for lost in &orders.lost_containers {
        if let Some(containers) = &job.containers {
            containers.lose(lost);
        }
    }
    // Another listener may know nothing of what the one before it remarked.
    let mut remarks = std::mem::take(&mut obeyed.remarks);
    for remark in &orders.remarks {
        if remarks.len() < MAX_REMARKS && !remarks.contains(remark) {
            add_remark(&job.record, remark);
            remarks.push(remark.clone());
        }
    }
    *obeyed = Orders { remarks, ..orders };
}

/// Cancels a job that nobody minds any more.
fn abandon(job: &JobContext, why: Abandoned) {
    if job.cancel.is_cancelled() {
        return;
    }
    job.cancel(CancelReason::AgentShutdown);
    let text = match why {
        Abandoned::ListenerGone => {
            "The agent that accepted this job is gone, so the job's lock is no longer renewed. The job was \
             canceled."
        }
        Abandoned::Stopped => SHUTDOWN,
    };
    add_job_error(&job.record, text);
}

/// One run of a job.
struct Run<'a> {
    job: &'a Arc<JobContext>,
    message: &'a AgentJobRequestMessage,
    service: &'a Service,
    progress: &'a mpsc::Sender<FromWorker>,
    control: watch::Receiver<Control>,
}

impl Run<'_> {
    async fn until_the_end(&self, opened: Result<WorkFolder, String>) -> Outcome {
        let job = self.job;
        job.record.start();
        job.record.line(&format!("##[section]Starting: {}", self.message.job_display_name)).await;
        for warning in job.change_variables(Variables::recalculate) {
            tracing::warn!(warning, "a variable of the message cannot be expanded");
        }
        job.set_variable("agent.jobstatus", TaskResult::Succeeded.name());
        let opened = match opened {
            Ok(work) => match work.empty_temporary().await {
                Ok(()) => Ok(Arc::new(work)),
                Err(error) => Err(describe(&error)),
            },
            Err(error) => Err(error),
        };
        let work = match opened {
            Ok(work) => work,
            Err(error) => {
                add_job_error(&job.record, &error);
                return self.complete(TaskResult::Failed).await;
            }
        };
        initialize::set_agent_variables(job, self.message, &work).await;
        let result = match self.initialize(&work).await {
            Ok(initialized) => {
                let forwards = self.initialize_containers(&work).await;
                self.run_steps(&initialized.entries).await;
                drop(forwards);
                self.stop_containers(&initialized).await;
                self.finalize(&initialized).await;
                job.result().unwrap_or(TaskResult::Succeeded)
            }
            Err(result) => result,
        };
        let outcome = self.complete(result).await;
        if !job.settings.keep_work {
            directories::empty(work.temporary()).await;
            work.collect_garbage().await;
        }
        outcome
    }

    /// A record for the worker's own doings.
    fn internal(&self, name: &str, ref_name: &str, order: i32) -> StepContext {
        let record = self.job.reporter.record(NewRecord {
            id: RecordId(Uuid::new_v4()),
            parent: Some(self.job.record.id()),
            kind: "Task".to_owned(),
            name: name.to_owned(),
            ref_name: Some(ref_name.to_owned()),
            order: Some(order),
            task: None,
        });
        StepContext::internal(self.job, record, ref_name)
    }

    async fn initialize(&self, work: &Arc<WorkFolder>) -> Result<Initialized, TaskResult> {
        const NAME: &str = "Initialize job";
        let context = self.internal(NAME, "JobExtension_Init", 1);
        context.record.start();
        context.section(&format!("Starting: {NAME}")).await;
        let initialized = if self.job.cancel.is_cancelled() {
            context.error("The operation was canceled.").await;
            Err(TaskResult::Canceled)
        } else {
            match initialize::initialize(self.job, &context, self.message, work).await {
                Ok(initialized) => Ok(initialized),
                Err(error) => {
                    context.error(&error).await;
                    Err(TaskResult::Failed)
                }
            }
        };
        context.section(&format!("Finishing: {NAME}")).await;
        context
            .record
            .finish(initialized.as_ref().err().copied().unwrap_or(TaskResult::Succeeded), None)
            .await;
        initialized
    }

    /// Starts the containers of the job, or waits for the services of its pod, in a record of its own as the
    /// official agent does (`JobExtension.cs`). If one does not come, the job has failed, and its steps'
    /// conditions see that.
    async fn initialize_containers(&self, work: &WorkFolder) -> Option<Forwards> {
        const NAME: &str = "Initialize containers";
        let containers = self.job.containers.as_ref().filter(|containers| containers.begins(self.message))?;
        let context = self.internal(NAME, "InitializeContainers", 2);
        context.record.start();
        context.section(&format!("Starting: {NAME}")).await;
        let waited = containers.begin(&context, self.message, work).await;
        let result = match &waited {
            Ok(_) => TaskResult::Succeeded,
            Err(containers::Error::Canceled) => TaskResult::Canceled,
            Err(_) => TaskResult::Failed,
        };
        if let Err(error) = &waited {
            context.error(&describe(error)).await;
            self.job.set_result(TaskResult::merge(self.job.result(), result));
        }
        context.section(&format!("Finishing: {NAME}")).await;
        context.record.finish(result, None).await;
        waited.ok()
    }

    /// Removes the containers that this job has started, whatever became of it (`JobExtension.cs`).
    async fn stop_containers(&self, initialized: &Initialized) {
        const NAME: &str = "Stop Containers";
        let made_here = self.job.containers.as_ref().filter(|containers| containers.is_made_here());
        let Some(containers) = made_here else { return };
        let context = self.internal(NAME, "StopContainers", initialized.next_order);
        context.record.start();
        context.section(&format!("Starting: {NAME}")).await;
        containers.end(&context).await;
        context.section(&format!("Finishing: {NAME}")).await;
        context.record.finish(TaskResult::Succeeded, None).await;
    }

    async fn run_steps(&self, entries: &[Entry]) {
        let total = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        for (number, entry) in (1..).zip(entries) {
            let name = self.job.masker.mask(&entry.display_name).into_owned();
            // Progress is a courtesy: whoever does not read it misses some of it and does not hold the job
            // up.
            let course = Course::Step(StepStarted { name, number, total });
            let _ = self.progress.try_send(FromWorker::Course(course));
            run_step::run(entry).await;
        }
    }

    async fn finalize(&self, initialized: &Initialized) {
        const NAME: &str = "Finalize Job";
        let has_stopped = self.job.containers.as_ref().is_some_and(Containers::is_made_here);
        let order = initialized.next_order + i32::from(has_stopped);
        let context = self.internal(NAME, "JobExtension_Final", order);
        context.record.start();
        context.section(&format!("Starting: {NAME}")).await;
        if let Some(lookup_id) = &initialized.lookup_id {
            context.output("Start cleaning up orphan processes.").await;
            let mark = lookup_id.clone();
            let mut orphans =
                tokio::task::spawn_blocking(move || platform::kill_orphans(&mark)).await.unwrap_or_default();
            if let Some(containers) = &self.job.containers {
                orphans.extend(containers.sweep(lookup_id).await);
            }
            for orphan in orphans {
                context
                    .output(&format!(
                        "Terminate orphan process: pid ({}) ({})",
                        orphan.process_id, orphan.name
                    ))
                    .await;
            }
        }
        self.job.background.stop().await;
        context.section(&format!("Finishing: {NAME}")).await;
        context.record.finish(TaskResult::Succeeded, None).await;
    }

    /// Sends everything that is queued, then the result.
    async fn complete(&self, result: TaskResult) -> Outcome {
        let job = self.job;
        // Neither waits: what is queued has its time below.
        job.record.write(&format!("##[section]Finishing: {}", self.message.job_display_name));
        job.record.end(result, None);
        // The time of a cancelled job may also run out while its reports are being sent.
        let deadline = Deadline::hurried_by(job.flush.clone(), FLUSH_DEADLINE, HURRIED_FLUSH_DEADLINE);
        let flushed = job.reporter.finish(deadline).await;
        let mut result = result;
        if flushed.variables_lost {
            tracing::error!(lost = ?flushed.lost, "output variables could not be sent, so the job fails");
            result = TaskResult::merge(Some(result), TaskResult::Failed);
        } else if !flushed.lost.is_empty() {
            tracing::error!(lost = ?flushed.lost, "parts of the job's log could not be sent");
        }
        if let Some(issue) = flushed.issue {
            // Who runs the agent hears it too: the service may be what is wrong.
            let _ = self.progress.try_send(FromWorker::Warning { message: issue.message });
        }
        if self.message.plan.version < WORKER_REPORTS_FROM_VERSION {
            return Outcome { result, reported: false };
        }
        self.announce_report().await;
        let reported = match self.service.job_completed(self.message, result, job.settings.run_once).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = describe(&error), "could not report the job's result");
                false
            }
        };
        Outcome { result, reported }
    }

    /// From here on nobody else may report a result, so whoever follows the job should have heard it. Who
    /// does not in time does not listen.
    async fn announce_report(&self) {
        let heard = async {
            if self.progress.send(FromWorker::Course(Course::Reporting)).await.is_ok() {
                let mut control = self.control.clone();
                let is_heard = |now: &Control| now.heard >= Heard::Reporting || now.abandoned.is_some();
                let _ = control.wait_for(is_heard).await;
            }
        };
        if tokio::time::timeout(REPORTING_PATIENCE, heard).await.is_err() {
            tracing::warn!("the listener has not heard that the job is being reported");
        }
    }
}
