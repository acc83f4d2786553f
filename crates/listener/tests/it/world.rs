//! An emulator, a set of virtual agents with a real process executor, and jobs whose workers are shell
//! scripts.
//!
//! A script reports no result by itself (`"reported":false`), so that every result here has come through the
//! lease; what a worker reports itself is tested with the real one, in the tests of the command line.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dayfly_client::{Connection, Credential, HttpSettings, RetryPolicy};
use dayfly_emulator::{CompletionReason, Emulator, Event, JobChange, JobSignal, Settings};
use dayfly_listener::{
    AgentSet, Agents, Config, Description, Event as SetEvent, EventStream, Executor, InMemory, NextEvent,
    OnExisting, ProcessExecutor, Timings,
};
use dayfly_protocol::{
    JobId, LogId, PoolId, TaskResult,
    channel::WorkerSettings,
    job::AgentJobRequestMessage,
    timeline::{TimelineRecord, VariableValue},
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Far longer than anything here takes; a bound, not a measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PAT: &str = "the-personal-access-token";

/// The waits of the listener, all of them short.
pub(crate) fn quick() -> Timings {
    let ms = Duration::from_millis;
    Timings {
        conflict_retry: ms(50),
        conflict_limit: ms(400),
        retry_first: ms(20),
        retry_limit: ms(200),
        empty_poll_pause: ms(20),
        call: ms(5_000),
        usual_lock: ms(10_000),
        renew_interval: ms(200),
        first_renewal_retries: 5,
        first_renewal_pause: ms(50),
        renewal_pause: ms(30),
        renewal_grace: ms(500),
        cancel_minimum: ms(300),
        flush_before: ms(200),
        kill_after: ms(200),
        overdue: ms(200),
        zombie_grace: ms(300),
        claim_limit: ms(3_000),
        report_limit: ms(10_000),
        report_pause: ms(50),
    }
}

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) pool: PoolId,
    plan_version: i32,
    signals: mpsc::UnboundedReceiver<JobSignal>,
    _forwarder: AbortOnDropHandle<()>,
    /// What has happened to each job so far.
    seen: HashMap<JobId, Vec<JobChange>>,
    messages: HashMap<JobId, AgentJobRequestMessage>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(tune: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(SecretString::from(PAT));
        tune(&mut settings);
        let emulator = Emulator::start(settings).await.expect("the emulator starts");
        // All events must be taken, or the emulator waits for us.
        let (sender, signals) = mpsc::unbounded_channel();
        let mut events = emulator.events();
        let forwarder = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::JobChanged(signal) = event {
                    // The world may be gone before the emulator.
                    let _ = sender.send(signal);
                }
            }
        });
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            pool: emulator.pool("Default").expect("there is a pool"),
            plan_version: 8,
            _forwarder: AbortOnDropHandle::new(forwarder),
            emulator,
            signals,
            seen: HashMap::new(),
            messages: HashMap::new(),
        }
    }

    /// Jobs queued from now on have plans of this version.
    pub(crate) fn plan_version(&mut self, version: i32) {
        self.plan_version = version;
    }

    pub(crate) fn connection(&self) -> Connection {
        let credential = Credential::PersonalAccessToken(SecretString::from(PAT));
        let retry = RetryPolicy {
            attempts: 2,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
        };
        let settings = HttpSettings { retry, plain_http2: true, ..HttpSettings::default() };
        Connection::new(self.emulator.url(), credential, settings).expect("a connection")
    }

    /// The file to which [`World::script`]s append the id of each job they run.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// How often each job was run.
    pub(crate) fn runs(&self) -> BTreeMap<String, usize> {
        let text = std::fs::read_to_string(self.journal()).unwrap_or_default();
        let mut runs = BTreeMap::new();
        for line in text.lines() {
            *runs.entry(line.to_owned()).or_default() += 1;
        }
        runs
    }

    /// A worker that notes its job in the journal, then does `body` (with `$id` and `$job` at hand).
    pub(crate) fn script(&self, body: &str) -> Arc<dyn Executor> {
        shell(&format!(
            "read -r job; read -r orders; id=${{job#*'\"jobId\":\"'}}; id=${{id%%'\"'*}}; echo \"$id\" >> '{}'; {body}",
            self.journal().display()
        ))
    }

    pub(crate) fn config(&self, names: &[&str]) -> Config {
        let capabilities = BTreeMap::from([("flavour".to_owned(), "small".to_owned())]);
        Config {
            server_url: self.emulator.url().clone(),
            agents: Agents::Managed {
                connection: self.connection(),
                pool: "Default".to_owned(),
                names: names.iter().map(|name| Arc::from(*name)).collect(),
                key: None,
                on_existing: OnExisting::Adopt,
                remove_at_end: false,
            },
            description: Description {
                version: "4.264.0".to_owned(),
                operating_system: "Linux".to_owned(),
                owner_name: "machine".to_owned(),
                capabilities: Arc::new(capabilities),
            },
            worker: WorkerSettings {
                work_directory: self.folder.path().join("work"),
                ..WorkerSettings::default()
            },
            once: false,
            timings: quick(),
            connecting: 16,
            store: Arc::new(InMemory::default()),
            registrations: Arc::new(InMemory::default()),
        }
    }

    /// Starts agents and waits until all are online.
    pub(crate) async fn agents(&self, names: &[&str], executor: Arc<dyn Executor>) -> AgentSet {
        self.set(self.config(names), names.len(), executor).await
    }

    pub(crate) async fn set(&self, config: Config, count: usize, executor: Arc<dyn Executor>) -> AgentSet {
        let (set, _) = AgentSet::start(config, executor).await.expect("the set starts");
        let online = bounded("agents are online", set.wait_online(count)).await;
        assert_eq!(online, count, "all agents are online");
        set
    }

    pub(crate) fn queue(&mut self, name: &str) -> JobId {
        self.queue_with(name, |_| {})
    }

    pub(crate) fn queue_with(&mut self, name: &str, tune: impl FnOnce(&mut AgentJobRequestMessage)) -> JobId {
        let mut new = self.emulator.single_job(self.pool, name).expect("a plan");
        new.message.plan.version = self.plan_version;
        new.message.variables =
            BTreeMap::from([("system.servertype".to_owned(), VariableValue::read_only("Hosted"))]);
        tune(&mut new.message);
        let (job, mut message) = (new.message.job_id, new.message.clone());
        message.request_id = self.emulator.queue_job(new).expect("the job is queued");
        self.messages.insert(job, *message);
        job
    }

    /// How often a rule has struck.
    pub(crate) fn strikes(&self, rule: u64) -> u64 {
        self.emulator.strikes(rule).expect("the rule")
    }

    /// Waits until a rule has struck so often.
    pub(crate) async fn struck(&self, rule: u64, count: u64) {
        bounded(&format!("rule {rule} has struck"), async {
            while self.strikes(rule) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Where the results of a job are reported.
    pub(crate) fn events_of(&self, job: JobId) -> String {
        format!("*/_apis/distributedtask/hubs/*/plans/{}/events", self.messages[&job].plan.plan_id)
    }

    /// The service takes a job for finished though nobody has reported it.
    pub(crate) async fn finish_at_the_service(&self, job: JobId, result: TaskResult) {
        let now = jiff::Timestamp::now().into();
        let connection = self.connection();
        let finished =
            connection.finish_job_request(self.pool, self.messages[&job].request_id, result, now).await;
        finished.expect("the request is finished");
    }

    /// The message of a job, to make other messages of.
    pub(crate) fn message(&self, job: JobId) -> &AgentJobRequestMessage {
        &self.messages[&job]
    }

    pub(crate) fn cancel(&self, job: JobId) {
        self.emulator
            .cancel_job(self.messages[&job].plan.plan_id, job, Duration::ZERO)
            .expect("the job can be cancelled");
    }

    /// Waits until something has happened to a job.
    pub(crate) async fn until<T>(
        &mut self,
        job: JobId,
        what: &str,
        mut is_it: impl FnMut(&JobChange) -> Option<T>,
    ) -> T {
        if let Some(found) = self.seen.get(&job).into_iter().flatten().find_map(&mut is_it) {
            return found;
        }
        bounded(what, async {
            loop {
                let signal = self.signals.recv().await.expect("the emulator lives");
                let found = (signal.job == job).then(|| is_it(&signal.change)).flatten();
                self.seen.entry(signal.job).or_default().push(signal.change);
                if let Some(found) = found {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn started(&mut self, job: JobId) -> String {
        self.until(job, "the job has started", |change| match change {
            JobChange::Started { agent } => Some(agent.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn completed(&mut self, job: JobId) -> (TaskResult, CompletionReason) {
        self.until(job, "the job has ended", |change| match change {
            JobChange::Completed { result, reason, .. } => Some((*result, *reason)),
            _ => None,
        })
        .await
    }

    /// The job's own record in its timeline.
    pub(crate) async fn record(&self, job: JobId) -> TimelineRecord {
        let message = &self.messages[&job];
        let plan = self.connection().plan(&message.plan);
        let timeline = plan.timeline(message.timeline.id).await.expect("the timeline");
        timeline.records.into_iter().find(|record| record.id.0 == job.0).expect("the job's record")
    }

    /// All records of the job's timeline.
    pub(crate) async fn records(&self, job: JobId) -> Vec<TimelineRecord> {
        let message = &self.messages[&job];
        let plan = self.connection().plan(&message.plan);
        plan.timeline(message.timeline.id).await.expect("the timeline").records
    }

    /// The text of a log of the job's plan.
    pub(crate) async fn log(&self, job: JobId, log: LogId) -> String {
        let plan = &self.messages[&job].plan;
        let address = format!(
            "{}/{}/_apis/distributedtask/hubs/{}/plans/{}/logs/{log}",
            self.emulator.url(),
            plan.scope_identifier,
            plan.plan_type,
            plan.plan_id
        );
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(address).basic_auth("", Some(PAT)).send().await.expect("an answer");
        answer.error_for_status().expect("a log").text().await.expect("text")
    }

    /// The texts of the job's errors.
    pub(crate) async fn issues(&self, job: JobId) -> Vec<String> {
        self.record(job).await.issues.into_iter().map(|issue| issue.message).collect()
    }

    /// Waits until a file is there, and returns what is in it.
    pub(crate) async fn file(&self, name: &str) -> String {
        let file = self.folder.path().join(name);
        eventually(&format!("{name} is written"), || read_whole_line(&file)).await
    }
}

/// A file's text once it ends with a line's end, so that no half of a line is read.
fn read_whole_line(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))
}

/// What a worker says first.
pub(crate) const HELLO: &str =
    r#"{"hello":{"protocol":2,"version":"1","process":1,"resume":"key","course":"waiting"}}"#;

/// `sh -c script` as a worker that says hello.
pub(crate) fn shell(script: &str) -> Arc<dyn Executor> {
    let script = format!("echo '{HELLO}'; {script}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    Arc::new(ProcessExecutor::new("/bin/sh", vec!["-c".into(), script.into()], vec![("PATH".into(), path)]))
}

/// The last words of a worker that has not told the service.
pub(crate) fn finish(result: &str) -> String {
    format!(r#"echo '{{"course":{{"finished":{{"result":"{result}","reported":false}}}}}}'"#)
}

pub(crate) async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("in vain was waited until {what}"),
    }
}

/// Waits until something is there.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    bounded(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Waits for an event.
pub(crate) async fn event<T>(
    events: &mut EventStream,
    what: &str,
    mut is_it: impl FnMut(&SetEvent) -> Option<T>,
) -> T {
    bounded(what, async {
        loop {
            match events.next().await {
                NextEvent::Event(event) => {
                    if let Some(found) = is_it(&event) {
                        return found;
                    }
                }
                NextEvent::Missed(count) => panic!("{count} events were missed"),
                NextEvent::Closed => panic!("the set has ended before {what}"),
            }
        }
    })
    .await
}
