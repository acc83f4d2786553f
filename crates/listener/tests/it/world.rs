//! An emulator, a set of virtual agents with a real process executor, and jobs whose workers are shell
//! scripts.
//!
//! A script reports no result by itself (`"reported":false`), so that every result here has come through the
//! lease; what a worker reports itself is tested with the real one, in the tests of the command line.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use dayfly_client::{Connection, HttpSettings, RetryPolicy};
use dayfly_emulator::Settings;
use dayfly_listener::{
    AgentSet, Agents, Config, Description, Event as SetEvent, EventStream, Executor, InMemory, NextEvent,
    OnExisting, ProcessExecutor, Timings,
};
use dayfly_protocol::{JobId, channel::WorkerSettings, job::AgentJobRequestMessage, timeline::VariableValue};
use dayfly_testing::Service;
pub(crate) use dayfly_testing::{bounded, eventually};

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

/// A set's configuration, with waits of its own.
pub(crate) struct Tuned {
    config: Config,
    pub(crate) timings: Timings,
}

impl Deref for Tuned {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

impl DerefMut for Tuned {
    fn deref_mut(&mut self) -> &mut Config {
        &mut self.config
    }
}

/// Starts a set.
pub(crate) async fn start(
    tuned: Tuned,
    executor: Arc<dyn Executor>,
) -> Result<(AgentSet, EventStream), dayfly_listener::Error> {
    AgentSet::start_with(tuned.config, tuned.timings, executor).await
}

pub(crate) struct World {
    service: Service,
    plan_version: i32,
}

impl Deref for World {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(tune: impl FnOnce(&mut Settings)) -> Self {
        Self { service: Service::new(tune).await, plan_version: 8 }
    }

    pub(crate) async fn stop(self) {
        self.service.stop().await;
    }

    /// Jobs queued from now on have plans of this version.
    pub(crate) fn plan_version(&mut self, version: i32) {
        self.plan_version = version;
    }

    pub(crate) fn connection(&self) -> Connection {
        let retry = RetryPolicy {
            attempts: 2,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
        };
        self.connection_with(HttpSettings { retry, plain_http2: true, ..HttpSettings::default() })
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

    pub(crate) fn config(&self, names: &[&str]) -> Tuned {
        let capabilities = BTreeMap::from([("flavour".to_owned(), "small".to_owned())]);
        let config = Config {
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
            connecting: 16,
            store: Arc::new(InMemory::default()),
            registrations: Arc::new(InMemory::default()),
        };
        Tuned { config, timings: quick() }
    }

    /// Starts agents and waits until all are online.
    pub(crate) async fn agents(&self, names: &[&str], executor: Arc<dyn Executor>) -> AgentSet {
        self.set(self.config(names), names.len(), executor).await
    }

    pub(crate) async fn set(&self, config: Tuned, count: usize, executor: Arc<dyn Executor>) -> AgentSet {
        let (set, _) = start(config, executor).await.expect("the set starts");
        let online = bounded("agents are online", set.wait_online(count)).await;
        assert_eq!(online, count, "all agents are online");
        set
    }

    pub(crate) fn queue(&mut self, name: &str) -> JobId {
        self.queue_with(name, |_| {})
    }

    pub(crate) fn queue_with(&mut self, name: &str, tune: impl FnOnce(&mut AgentJobRequestMessage)) -> JobId {
        let version = self.plan_version;
        self.queue_job(name, |new| {
            new.message.plan.version = version;
            new.message.variables =
                BTreeMap::from([("system.servertype".to_owned(), VariableValue::read_only("Hosted"))]);
            tune(&mut new.message);
        })
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
        format!("*/_apis/distributedtask/hubs/*/plans/{}/events", self.message(job).plan.plan_id)
    }
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
