//! An Azure DevOps in this process, and what becomes of the jobs that are queued to it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use dayfly_client::{Connection, Credential, HttpSettings};
use dayfly_emulator::{CompletionReason, Emulator, Event, JobChange, JobSignal, NewJob, Settings};
use dayfly_protocol::{
    JobId, LogId, PoolId, TaskResult, job::AgentJobRequestMessage, timeline::TimelineRecord,
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::wait::bounded;

/// The personal access token that the service takes.
pub const PAT: &str = "the-personal-access-token";

/// See the module.
#[derive(Debug)]
pub struct Service {
    /// The service itself.
    pub emulator: Emulator,
    /// A folder for the test.
    pub folder: tempfile::TempDir,
    /// The pool of the agents.
    pub pool: PoolId,
    signals: mpsc::UnboundedReceiver<JobSignal>,
    _forwarder: AbortOnDropHandle<()>,
    /// What has happened to each job so far.
    seen: HashMap<JobId, Vec<JobChange>>,
    /// The console lines of each job, as those see them who look on.
    console: Arc<Mutex<HashMap<JobId, Vec<String>>>>,
    messages: HashMap<JobId, AgentJobRequestMessage>,
}

impl Service {
    /// A service whose settings are changed before.
    pub async fn new(tune: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(SecretString::from(PAT));
        tune(&mut settings);
        let emulator = Emulator::start(settings).await.unwrap();
        // All events must be taken, or the emulator waits for us.
        let (sender, signals) = mpsc::unbounded_channel();
        let mut events = emulator.events();
        let console = Arc::<Mutex<HashMap<JobId, Vec<String>>>>::default();
        let shown = console.clone();
        let forwarder = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    // The test may be over before the emulator.
                    Event::JobChanged(signal) => drop(sender.send(signal)),
                    Event::Lines { job, lines, .. } => {
                        shown.lock().unwrap().entry(job).or_default().extend(lines.iter().cloned());
                    }
                    _ => {}
                }
            }
        });
        Self {
            folder: tempfile::tempdir().unwrap(),
            pool: emulator.pool("Default").unwrap(),
            emulator,
            signals,
            _forwarder: AbortOnDropHandle::new(forwarder),
            seen: HashMap::new(),
            console,
            messages: HashMap::new(),
        }
    }

    /// A connection of somebody who may do everything.
    pub fn connection(&self) -> Connection {
        self.connection_with(HttpSettings::default())
    }

    /// The same with other settings.
    pub fn connection_with(&self, settings: HttpSettings) -> Connection {
        let credential = Credential::PersonalAccessToken(SecretString::from(PAT));
        Connection::new(self.emulator.url(), credential, settings).unwrap()
    }

    /// Ends the service, and all that waits for its answers.
    pub async fn stop(self) {
        self.emulator.stop().await;
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    // ---- jobs ----

    /// Queues a job that is changed before.
    pub fn queue_job(&mut self, name: &str, tune: impl FnOnce(&mut NewJob)) -> JobId {
        let mut new = self.emulator.single_job(self.pool, name).unwrap();
        tune(&mut new);
        let (job, mut message) = (new.message.job_id, new.message.clone());
        message.request_id = self.emulator.queue_job(new).unwrap();
        self.messages.insert(job, *message);
        job
    }

    /// The message of a job.
    pub fn message(&self, job: JobId) -> &AgentJobRequestMessage {
        &self.messages[&job]
    }

    /// Cancels a job that has no time to end by itself.
    pub fn cancel(&self, job: JobId) {
        let plan = self.messages[&job].plan.plan_id;
        self.emulator.cancel_job(plan, job, std::time::Duration::ZERO).unwrap();
    }

    /// The service takes a job for finished though nobody has reported it.
    pub async fn finish_by_itself(&self, job: JobId, result: TaskResult) {
        let (request, now) = (self.messages[&job].request_id, jiff::Timestamp::now().into());
        self.connection().finish_job_request(self.pool, request, result, now).await.unwrap();
    }

    // ---- what becomes of them ----

    /// Takes in what has happened so far, without waiting.
    pub fn look(&mut self) {
        while let Ok(signal) = self.signals.try_recv() {
            self.seen.entry(signal.job).or_default().push(signal.change);
        }
    }

    /// Waits until something has happened to a job.
    pub async fn until<T>(
        &mut self,
        job: JobId,
        what: &str,
        mut is_it: impl FnMut(&JobChange) -> Option<T>,
    ) -> T {
        if let Some(found) = self.seen.get(&job).into_iter().flatten().find_map(&mut is_it) {
            return found;
        }
        bounded(&format!("{what}: job {job}"), async {
            loop {
                let signal = self.signals.recv().await.unwrap();
                let found = (signal.job == job).then(|| is_it(&signal.change)).flatten();
                self.seen.entry(signal.job).or_default().push(signal.change);
                if let Some(found) = found {
                    return found;
                }
            }
        })
        .await
    }

    /// Waits until an agent has taken a job, and says which.
    pub async fn started(&mut self, job: JobId) -> String {
        self.until(job, "the job has started", |change| match change {
            JobChange::Started { agent } => Some(agent.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for a job's end: its result, and how the service came to know it.
    pub async fn completed(&mut self, job: JobId) -> (TaskResult, CompletionReason) {
        self.until(job, "the job has ended", completion).await
    }

    /// Waits for a job's result.
    pub async fn result(&mut self, job: JobId) -> TaskResult {
        self.completed(job).await.0
    }

    /// The results of a job so far: there should be one at the most.
    pub fn results(&self, job: JobId) -> Vec<(TaskResult, CompletionReason)> {
        self.seen.get(&job).into_iter().flatten().filter_map(completion).collect()
    }

    /// The console lines of a job so far.
    pub fn console(&self, job: JobId) -> Vec<String> {
        self.console.lock().unwrap().get(&job).cloned().unwrap_or_default()
    }

    /// All records of a job's timeline.
    pub async fn records(&self, job: JobId) -> Vec<TimelineRecord> {
        let message = &self.messages[&job];
        let timeline = self.connection().plan(&message.plan).timeline(message.timeline.id).await;
        timeline.unwrap().records
    }

    /// The job's own record.
    pub async fn record(&self, job: JobId) -> TimelineRecord {
        let records = self.records(job).await;
        records.into_iter().find(|record| record.id.0 == job.0).unwrap()
    }

    /// The texts of the issues of a job's own record.
    pub async fn issues(&self, job: JobId) -> Vec<String> {
        self.record(job).await.issues.into_iter().map(|issue| issue.message).collect()
    }

    /// The text of a log of a job's plan.
    pub async fn log(&self, job: JobId, log: LogId) -> String {
        let plan = &self.messages[&job].plan;
        let address = format!(
            "{}/{}/_apis/distributedtask/hubs/{}/plans/{}/logs/{log}",
            self.emulator.url(),
            plan.scope_identifier,
            plan.plan_type,
            plan.plan_id
        );
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(address).basic_auth("", Some(PAT)).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// Waits until a file of the test's folder has a whole line, and returns its text.
    pub async fn file(&self, name: &str) -> String {
        let file = self.path(name);
        crate::eventually(&format!("{name} is written"), || {
            std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))
        })
        .await
    }
}

fn completion(change: &JobChange) -> Option<(TaskResult, CompletionReason)> {
    match change {
        JobChange::Completed { result, reason, .. } => Some((*result, *reason)),
        _ => None,
    }
}
