//! What an emulator is started with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use dayfly_protocol::job::ServiceEndpoint;
use dayfly_protocol::timeline::VariableValue;
use secrecy::SecretString;
use url::Url;

use crate::clock::Clock;
use crate::faults::FaultRule;

/// Everything that can be set about an emulator. [`Settings::new`] has the service's own values for all but
/// the personal access token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The address to listen on; port 0 lets the system choose. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// Scheme, host and port by which clients reach the emulator, when they differ from those of `listen`.
    pub public_url: Option<Url>,
    /// The name of the organization (collection): the first segment of every path.
    pub organization: String,
    /// The personal access token with all rights.
    pub pat: SecretString,
    /// Further personal access tokens with fewer rights.
    pub tokens: Vec<AccessToken>,
    /// The agent pools there are from the start. The first one is the default.
    pub pools: Vec<String>,
    /// The projects there are from the start. The first one is the default.
    pub projects: Vec<String>,
    /// How many jobs may run at a time in all pools; none means without limit.
    pub parallel_jobs: Option<NonZeroU32>,
    /// Whether message bodies are encrypted with the session's key, as the service does.
    pub encrypt_messages: bool,
    /// How long an empty poll for messages is held. The service holds it for about 50 seconds.
    pub poll_hold: Duration,
    /// How long a session lives without a poll.
    pub session_timeout: Duration,
    /// For how long a renewal locks a job request.
    pub lock_duration: Duration,
    /// How long an agent's access token is good for.
    pub agent_token_lifetime: Duration,
    /// A folder with one folder per task, each with a `task.json`; none means that no task can be downloaded.
    pub tasks_folder: Option<PathBuf>,
    /// Where the temporary folder with logs, artifacts, snapshots and task packages is made; none means the
    /// system's place for such.
    pub data_folder: Option<PathBuf>,
    /// What pipelines that are queued by REST find beside themselves.
    pub library: Library,
    /// Feature flags which are not off, by name.
    pub feature_flags: BTreeMap<String, bool>,
    /// Faults from the start.
    pub faults: Vec<FaultRule>,
    /// The seed of the generator which decides about faults with a probability.
    pub fault_seed: u64,
    /// Bounds of memory, disk and time.
    pub limits: Limits,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Settings {
    /// The service's own values, loopback, any free port, one pool `Default` and one project `dayfly`.
    pub fn new(pat: SecretString) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_url: None,
            organization: "dayfly".to_owned(),
            pat,
            tokens: Vec::new(),
            pools: vec!["Default".to_owned()],
            projects: vec!["dayfly".to_owned()],
            parallel_jobs: None,
            encrypt_messages: true,
            poll_hold: Duration::from_secs(50),
            session_timeout: Duration::from_secs(5 * 60),
            lock_duration: Duration::from_secs(10 * 60),
            agent_token_lifetime: Duration::from_secs(50 * 60),
            tasks_folder: None,
            data_folder: None,
            library: Library::default(),
            feature_flags: BTreeMap::new(),
            faults: Vec::new(),
            fault_seed: 0,
            limits: Limits::default(),
            clock: Clock::system(),
        }
    }
}

/// What projects of Azure DevOps hold beside their pipelines; all projects have the same here.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// Variable groups, by name.
    pub variable_groups: BTreeMap<String, BTreeMap<String, VariableValue>>,
    /// Service connections.
    pub service_connections: Vec<ServiceEndpoint>,
    /// Secure files, and where they are.
    pub secure_files: Vec<(String, PathBuf)>,
}

/// A personal access token with a part of the rights.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The token.
    pub token: SecretString,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// A right of a personal access token, by the names of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Everything (`Full access`).
    Full,
    /// See pools, agents and job requests (`vso.agentpools`).
    AgentPoolsRead,
    /// The same, and change pools and agents (`vso.agentpools_manage`).
    AgentPoolsManage,
    /// See builds, their logs and artifacts (`vso.build`).
    BuildRead,
    /// The same, and queue and cancel builds (`vso.build_execute`).
    BuildExecute,
    /// Read repositories (`vso.code`).
    CodeRead,
    /// See projects (`vso.project`).
    ProjectRead,
}

/// Bounds of memory, disk and time. Whatever would pass a bound is refused with an error that names it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at a time; more wait in the system's backlog.
    pub connections: usize,
    /// Streams open at a time on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// The largest JSON body, in bytes.
    pub json_bytes: usize,
    /// The largest block of a log, attachment or artifact in one request, in bytes.
    pub upload_bytes: usize,
    /// The bodies of all requests that are in memory at a time, in bytes; a request for which there is no
    /// room is answered 503.
    pub body_bytes: usize,
    /// All logs, attachments and artifacts together, in bytes on disk.
    pub data_bytes: u64,
    /// Agents in one pool.
    pub agents_per_pool: usize,
    /// Pools.
    pub pools: usize,
    /// Job requests without a result.
    pub unfinished_requests: usize,
    /// Job requests with a result that are remembered per pool; the oldest are forgotten first.
    pub finished_requests: usize,
    /// Finished plans which keep their timelines and logs; the oldest are forgotten first.
    pub finished_plans: usize,
    /// Timelines in one plan beyond which jobs get no more for details.
    pub timelines_per_plan: usize,
    /// The records of all timelines of one plan together, in bytes of memory.
    pub record_bytes_per_plan: usize,
    /// Records in one timeline.
    pub records_per_timeline: usize,
    /// Logs in one plan.
    pub logs_per_plan: usize,
    /// Attachments in one plan.
    pub attachments_per_plan: usize,
    /// Messages waiting in one session.
    pub messages_per_session: usize,
    /// Blocks of console lines, records and logs on their way to subscribers of events; requests with more
    /// wait.
    pub events: usize,
    /// How long a request may take beyond [`Settings::poll_hold`].
    pub request_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How long stopping waits for requests under way.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            connections: 20_000,
            streams_per_connection: 1_000,
            json_bytes: 16 * MIB,
            upload_bytes: 64 * MIB,
            body_bytes: 256 * MIB,
            data_bytes: 16 * 1024 * MIB as u64,
            agents_per_pool: 20_000,
            pools: 1_000,
            unfinished_requests: 20_000,
            finished_requests: 2_000,
            finished_plans: 500,
            timelines_per_plan: 100,
            record_bytes_per_plan: 64 * MIB,
            records_per_timeline: 5_000,
            logs_per_plan: 10_000,
            attachments_per_plan: 5_000,
            messages_per_session: 100,
            events: 1_024,
            request_timeout: Duration::from_secs(100),
            idle_timeout: Duration::from_secs(180),
            stop_timeout: Duration::from_secs(5),
        }
    }
}
