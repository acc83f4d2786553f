//! What agents and their jobs come to in numbers, and the text for Prometheus. Labels have a fixed set of
//! values, so that nothing a service or a job says makes new series.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dayfly_client::{Error as ClientError, Observer, Operation, describe};
use dayfly_listener::Event;
use dayfly_protocol::{RequestId, TaskResult};

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
    running: HashSet<(Arc<str>, RequestId)>,
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
            Event::Ended { agent, .. } => counts.now(set, agent, "ended"),
            Event::JobStarted { job, .. } | Event::JobResumed { job, .. } => {
                counts.running.insert((set.clone(), job.request));
            }
            Event::JobFinished { job, result, .. } => {
                counts.running.remove(&(set.clone(), job.request));
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
        let running = [(String::new(), counts.running.len() as u64)];
        family(&mut text, "dayfly_jobs_running", "gauge", "Jobs that run now.", running);
        let results = RESULTS.iter().zip(counts.results);
        let results = results.map(|((_, name), count)| (format!("{{result=\"{name}\"}}"), count));
        family(&mut text, "dayfly_jobs_total", "counter", "Jobs that have ended, by result.", results);
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
        match operation {
            Operation::NextMessage => *counts.polls.entry(answer).or_default() += 1,
            Operation::RenewJobRequest => *counts.renewals.entry(answer).or_default() += 1,
            _ => {}
        }
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
