//! What agents and their jobs come to in numbers, and the text for Prometheus. Labels have a fixed set of
//! values, so that nothing a service or a job says makes new series.

mod histogram;

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dayfly_client::{Error as ClientError, Observer, Operation, describe};
use dayfly_kubernetes::PodStage;
use dayfly_listener::Event;
use dayfly_protocol::TaskResult;

use self::histogram::Histogram;
use super::health::Vitals;

/// What an agent can be doing.
const STATES: [&str; 4] = ["connecting", "online", "disconnected", "ended"];

/// How a job can end here, and the label for it. `None`: the service does not say.
const RESULTS: [(Option<TaskResult>, &str); 7] = [
    (Some(TaskResult::Succeeded), "succeeded"),
    (Some(TaskResult::SucceededWithIssues), "succeeded_with_issues"),
    (Some(TaskResult::Failed), "failed"),
    (Some(TaskResult::Canceled), "canceled"),
    (Some(TaskResult::Skipped), "skipped"),
    (Some(TaskResult::Abandoned), "abandoned"),
    (None, "unknown"),
];

/// The counts of one process, of all its agents together.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By the set they belong to, and their names.
    agents: BTreeMap<(Arc<str>, Arc<str>), &'static str>,
    /// Agents, by set and name, whose job was accepted and does not run yet, and those whose job runs.
    pending: HashSet<(Arc<str>, Arc<str>)>,
    running: HashSet<(Arc<str>, Arc<str>)>,
    queued: Histogram,
    /// Only a controller makes pods.
    pods: Option<[Histogram; PodStage::ALL.len()]>,
    /// By the kind of the object.
    failures: BTreeMap<&'static str, u64>,
    requests: BTreeMap<(&'static str, String), u64>,
    rate_limit_left: Option<u64>,
    /// Whether they work, by their names in the cluster, which can hold no quotation mark.
    connections: BTreeMap<String, bool>,
    results: [u64; RESULTS.len()],
    polls: BTreeMap<&'static str, u64>,
    renewals: BTreeMap<&'static str, u64>,
    outages: u64,
    is_stopping: bool,
    has_been_answered: bool,
    last_failure: Option<String>,
}

impl Metrics {
    /// Takes in what happened in a set of agents; its name is for telling agents of one name apart.
    pub(super) fn note(&self, set: &Arc<str>, event: &Event) {
        let mut counts = self.lock();
        match event {
            Event::Registered { agent, .. } => counts.now(set, agent, "connecting"),
            Event::Online { agent } | Event::Reconnected { agent } => counts.now(set, agent, "online"),
            Event::Disconnected { agent, away, .. } => {
                counts.now(set, agent, "disconnected");
                counts.outages += u64::from(away.is_zero());
            }
            Event::Ended { agent, .. } => {
                counts.now(set, agent, "ended");
                // A job that it was let go of with is somebody else's.
                counts.has_no_job(set, agent);
            }
            Event::JobAccepted { agent, queued, .. } => {
                counts.pending.insert((set.clone(), agent.clone()));
                if let Some(queued) = queued {
                    counts.queued.observe(*queued);
                }
            }
            Event::JobStarted { agent, .. } | Event::JobResumed { agent, .. } => {
                counts.has_no_job(set, agent);
                counts.running.insert((set.clone(), agent.clone()));
            }
            Event::JobFinished { agent, result, .. } => {
                counts.has_no_job(set, agent);
                if let Some(place) = RESULTS.iter().position(|(known, _)| known == result) {
                    counts.results[place] += 1;
                }
            }
            _ => {}
        }
    }

    /// Whether a connection of this name works; `None` once it is gone.
    pub(super) fn connection(&self, name: &str, is_ready: Option<bool>) {
        let mut counts = self.lock();
        match is_ready {
            Some(is_ready) => drop(counts.connections.insert(name.to_owned(), is_ready)),
            None => drop(counts.connections.remove(name)),
        }
    }

    /// The pod of a job has come that far, so long after the job was accepted.
    pub(super) fn pod_reached(&self, stage: PodStage, took: Duration) {
        let mut counts = self.lock();
        let pods = counts.pods.get_or_insert_default();
        if let Some(place) = PodStage::ALL.iter().position(|known| *known == stage) {
            pods[place].observe(took);
        }
    }

    /// An object of this kind could not be brought to what it says.
    pub(super) fn failed(&self, kind: &'static str) {
        *self.lock().failures.entry(kind).or_default() += 1;
    }

    /// From now on the agent takes no more jobs.
    pub(super) fn stopping(&self) {
        self.lock().is_stopping = true;
    }

    /// What keeps the first calls: why the latest failed, or that none was answered so far.
    pub(super) fn trouble(&self) -> Option<String> {
        let counts = self.lock();
        let silence = || (!counts.has_been_answered).then(|| "no answer so far".to_owned());
        counts.last_failure.clone().or_else(silence)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vitals for Metrics {
    fn not_ready(&self) -> Option<&'static str> {
        let counts = self.lock();
        if counts.is_stopping {
            Some("the agent is stopping")
        } else if counts.agents.values().any(|state| *state == "online") {
            None
        } else {
            Some("no agent is online")
        }
    }

    fn text(&self) -> String {
        let counts = self.lock();
        let mut text = String::new();
        let states = STATES.map(|state| {
            let agents = counts.agents.values().filter(|now| **now == state).count();
            (format!("{{state=\"{state}\"}}"), agents as u64)
        });
        family(&mut text, "dayfly_agents", "gauge", "Agents by what they do now.", states);
        let pending = [(String::new(), counts.pending.len() as u64)];
        let help = "Jobs that were accepted and do not run yet.";
        family(&mut text, "dayfly_jobs_pending", "gauge", help, pending);
        let running = [(String::new(), counts.running.len() as u64)];
        family(&mut text, "dayfly_jobs_running", "gauge", "Jobs that run now.", running);
        let results = RESULTS.iter().zip(counts.results);
        let results = results.map(|((_, name), count)| (format!("{{result=\"{name}\"}}"), count));
        family(&mut text, "dayfly_jobs_total", "counter", "Jobs that have ended, by result.", results);
        let help = "How long jobs were in the queue of Azure DevOps before an agent had them.";
        family(&mut text, "dayfly_job_queue_seconds", "histogram", help, []);
        counts.queued.write(&mut text, "dayfly_job_queue_seconds", "");
        counts.write_pods(&mut text);
        for (name, help, answers) in [
            ("dayfly_polls_total", "Polls for jobs, by what they were answered with.", &counts.polls),
            (
                "dayfly_lock_renewals_total",
                "Tries to renew the lock of a job, by what they were answered with.",
                &counts.renewals,
            ),
        ] {
            let answers = answers.iter().map(|(answer, count)| (format!("{{answer=\"{answer}\"}}"), *count));
            family(&mut text, name, "counter", help, answers);
        }
        counts.write_requests(&mut text);
        let outages = [(String::new(), counts.outages)];
        family(&mut text, "dayfly_outages_total", "counter", "Times that the service went away.", outages);
        if !counts.connections.is_empty() {
            let connections = counts.connections.iter();
            let ready =
                connections.map(|(name, ready)| (format!("{{connection=\"{name}\"}}"), u64::from(*ready)));
            let help = "Whether Azure DevOps lets a connection in.";
            family(&mut text, "dayfly_connection_ready", "gauge", help, ready);
        }
        let version = [(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1)];
        family(&mut text, "dayfly_build_info", "gauge", "The version of this program.", version);
        text
    }
}

impl Counts {
    fn write_pods(&self, text: &mut String) {
        let Some(pods) = &self.pods else { return };
        let help = "How long after a job was accepted its pod had come that far.";
        family(text, "dayfly_pod_start_seconds", "histogram", help, []);
        for (stage, histogram) in PodStage::ALL.into_iter().zip(pods) {
            let stage = match stage {
                PodStage::Created => "created",
                PodStage::Scheduled => "scheduled",
                PodStage::Running => "running",
                PodStage::Claimed => "claimed",
            };
            histogram.write(text, "dayfly_pod_start_seconds", &format!("stage=\"{stage}\""));
        }
    }

    fn write_requests(&self, text: &mut String) {
        let requests = self.requests.iter().map(|((operation, answer), count)| {
            (format!("{{operation=\"{operation}\",answer=\"{answer}\"}}"), *count)
        });
        let help =
            "Calls to Azure DevOps, by what they were answered with: ok, an HTTP status, or unreachable.";
        family(text, "dayfly_requests_total", "counter", help, requests);
        if let Some(left) = self.rate_limit_left {
            let help = "What Azure DevOps said last of how much of its rate limit is left.";
            family(text, "dayfly_rate_limit_remaining", "gauge", help, [(String::new(), left)]);
        }
        if !self.failures.is_empty() {
            let failures = self.failures.iter().map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), *count));
            let help = "Times that an object could not be brought to what it says.";
            family(text, "dayfly_reconcile_errors_total", "counter", help, failures);
        }
    }

    fn has_no_job(&mut self, set: &Arc<str>, agent: &Arc<str>) {
        let agent = (set.clone(), agent.clone());
        self.pending.remove(&agent);
        self.running.remove(&agent);
    }

    fn now(&mut self, set: &Arc<str>, agent: &Arc<str>, state: &'static str) {
        self.agents.insert((set.clone(), agent.clone()), state);
    }
}

impl Observer for Metrics {
    fn attempted(&self, operation: Operation, outcome: Result<usize, &ClientError>) {
        let mut counts = self.lock();
        counts.has_been_answered |= outcome.is_ok();
        counts.last_failure = outcome.err().map(|error| describe(error));
        let answer = match outcome {
            Ok(0) if operation == Operation::NextMessage => "empty",
            Ok(_) if operation == Operation::NextMessage => "message",
            Ok(_) => "renewed",
            Err(ClientError::Connection { .. } | ClientError::Deadline { .. }) => "unreachable",
            // One of a few dozen words.
            Err(error) => error.label(),
        };
        // A service has a few dozen statuses.
        let status = match outcome {
            Ok(_) => "ok".to_owned(),
            Err(error) => {
                error.answer().map_or("unreachable".to_owned(), |answer| answer.status.as_u16().to_string())
            }
        };
        *counts.requests.entry((operation.label(), status)).or_default() += 1;
        match operation {
            Operation::NextMessage => *counts.polls.entry(answer).or_default() += 1,
            Operation::RenewJobRequest => *counts.renewals.entry(answer).or_default() += 1,
            _ => {}
        }
    }

    fn rate_limit_left(&self, left: u64) {
        self.lock().rate_limit_left = Some(left);
    }
}

/// Adds a family of samples: each its labels, in braces, and its value.
fn family(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, u64)>,
) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}
