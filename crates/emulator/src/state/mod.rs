//! All that the emulator knows, behind one lock.
//!
//! Plain maps and synchronous functions which take `now`; nothing here waits, reads a clock or does I/O. A
//! function that changes something also tells whom it concerns: it wakes polls, posts events and sets
//! deadlines.
//!
//! ```text
//! queue_job -> bucket of its demands -> idle agent with a session -> message -> received -> finished
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

pub(crate) mod agents;
pub(crate) mod assignment;
pub(crate) mod attachments;
#[cfg(test)]
mod chaos;
pub(crate) mod deadlines;
pub(crate) mod definitions;
pub(crate) mod demands;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod garbage;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod plans;
pub(crate) mod pools;
pub(crate) mod projects;
mod records;
pub(crate) mod repositories;
pub(crate) mod requests;
pub(crate) mod runs;
pub(crate) mod secure_files;
pub(crate) mod server_jobs;
pub(crate) mod sessions;
mod statistics;
pub(crate) mod test_runs;
pub(crate) mod timelines;
pub(crate) mod tokens;

pub use error::Error;
pub use statistics::Statistics;

use crate::events::{Hub, JobSignal};
use crate::settings::{Limits, Settings};
use crate::stores::disk::Disk;

/// The outcome of a state function.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Namespace of the ids which are made from names, so that they are the same at every start.
const NAMESPACE: Uuid = uuid::uuid!("6d3c7a52-9a0e-5c1b-9b53-0f3f1c6f1d2a");

/// An id made from what it names.
pub(crate) fn named_id(kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{kind}/{name}").as_bytes())
}

/// The longest text that is kept of what clients name or describe things with, in bytes.
const TEXT_BYTES_MAX: usize = 2_048;

/// Refuses a text that is too long to be kept.
fn check_text(what: &'static str, text: &str) -> Result<()> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(Error::Invalid { what, reason: format!("it is longer than {TEXT_BYTES_MAX} bytes") })
}

/// Names longer than this are refused, as the service does.
const NAME_CHARS_MAX: usize = 256;

/// Refuses names which the service would refuse.
fn check_name(what: &'static str, name: &str) -> Result<()> {
    let reason = if name.trim().is_empty() {
        "it is empty".to_owned()
    } else if name.chars().count() > NAME_CHARS_MAX {
        format!("it is longer than {NAME_CHARS_MAX} characters")
    } else if let Some(bad) = name.chars().find(|c| c.is_control() || "\"/\\[]:|<>+=;?*,".contains(*c)) {
        format!("it must not contain `{}`", bad.escape_default())
    } else {
        return Ok(());
    };
    Err(Error::Invalid { what, reason })
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rules: Rules,
    pub(crate) projects: projects::Projects,
    pub(crate) pools: pools::Pools,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) requests: requests::Requests,
    pub(crate) plans: plans::Plans,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) deadlines: deadlines::Deadlines,
    pub(crate) repositories: repositories::Repositories,
    pub(crate) definitions: definitions::Definitions,
    pub(crate) runs: runs::Runs,
    pub(crate) server_jobs: server_jobs::ServerJobs,
    pub(crate) garbage: garbage::Garbage,
    /// Where logs and attachments count.
    pub(crate) disk: Disk,
    /// Where events for subscribers go.
    pub(crate) hub: Arc<Hub>,
    /// Where the steps of each job's life go, for whoever drives the runs. Each request sends few, so the
    /// channel is bounded by the number of unfinished requests.
    pub(crate) signals: UnboundedSender<JobSignal>,
}

/// The settings which state functions obey.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) organization: String,
    pub(crate) parallel_jobs: Option<usize>,
    pub(crate) session_timeout: Duration,
    pub(crate) lock_duration: Duration,
    pub(crate) agent_token_lifetime: Duration,
    pub(crate) limits: Limits,
    /// Where logs and attachments are kept.
    pub(crate) data: PathBuf,
}

impl State {
    /// The state at the start: pools, projects and tokens of the settings.
    pub(crate) fn new(
        settings: &Settings,
        data: PathBuf,
        disk: Disk,
        hub: Arc<Hub>,
        signals: UnboundedSender<JobSignal>,
        now: Timestamp,
    ) -> Self {
        let mut pools = pools::Pools::default();
        for name in &settings.pools {
            // A name given twice names one pool.
            if pools.find(name).is_none() {
                pools.insert(name, now);
            }
        }
        Self {
            rules: Rules {
                organization: settings.organization.clone(),
                parallel_jobs: settings.parallel_jobs.map(|limit| limit.get() as usize),
                session_timeout: settings.session_timeout,
                lock_duration: settings.lock_duration,
                agent_token_lifetime: settings.agent_token_lifetime,
                limits: settings.limits.clone(),
                data,
            },
            projects: projects::Projects::new(&settings.organization, &settings.projects),
            pools,
            sessions: sessions::Sessions::default(),
            requests: requests::Requests::default(),
            plans: plans::Plans::default(),
            tokens: tokens::Tokens::new(settings),
            deadlines: deadlines::Deadlines::default(),
            repositories: repositories::Repositories::default(),
            definitions: definitions::Definitions::default(),
            runs: runs::Runs::default(),
            server_jobs: server_jobs::ServerJobs::default(),
            garbage: garbage::Garbage::default(),
            disk,
            hub,
            signals,
        }
    }

    /// The id of the organization, which clients also see as the instance.
    pub(crate) fn organization_id(&self) -> Uuid {
        named_id("organization", &self.rules.organization)
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::agent::{TaskAgent, TaskAgentAuthorization, TaskAgentReference};
    use dayfly_protocol::crypto::AgentKey;
    use dayfly_protocol::session::TaskAgentSession;
    use dayfly_protocol::{AgentId, PoolId};

    use super::*;

    fn state() -> (State, Timestamp) {
        let settings = Settings::new("pat".into());
        let now = Timestamp::UNIX_EPOCH;
        let (signals, _) = tokio::sync::mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(1));
        (State::new(&settings, PathBuf::new(), Disk::new(0), hub, signals, now), now)
    }

    fn agent(state: &mut State, now: Timestamp) -> AgentId {
        let public_key = Some(AgentKey::generate().unwrap().public_key().to_wire());
        let agent = TaskAgent {
            name: "agent".to_owned(),
            authorization: Some(TaskAgentAuthorization { public_key, ..TaskAgentAuthorization::default() }),
            ..TaskAgent::default()
        };
        state.create_agent(PoolId(1), agent, now).unwrap()
    }

    #[test]
    fn sessions_that_come_and_go_leave_nothing_behind() {
        let (mut state, now) = state();
        let id = agent(&mut state, now);
        for _ in 0..10_000 {
            let wanted = TaskAgentSession {
                agent: TaskAgentReference { id, ..TaskAgentReference::default() },
                ..TaskAgentSession::default()
            };
            let session = state.create_session(PoolId(1), wanted, None, now).unwrap();
            state.delete_session(PoolId(1), session, now).unwrap();
        }
        assert_eq!(state.sessions.len(), 0);
        assert!(state.deadlines.len() < 3_000, "{} deadlines are kept", state.deadlines.len());
    }
}
