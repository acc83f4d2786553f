//! The job channel: what listener and worker tell each other.
//!
//! ```text
//! worker                                   listener
//!   Hello (who am I, where is my job)  ->
//!                                      <-  Welcome (the job; or: go on, wait, go elsewhere, go away)
//!                                      <-  Orders (cancel, flush, pace), whole: at each change, after Hello
//!   Course (step, reporting, finished) ->
//!                                      <-  Heard (the last course that may be forgotten)
//!   Pong                               <-> Ping
//! ```
//!
//! Each frame is one line of JSON ([`encode`], [`Decoder`]). The worker speaks first on every connection:
//! once at its start, and again whenever it has lost the connection and made a new one. Nothing on the
//! channel is an edge: orders are sent as the whole state that holds, and so is the course, so a connection
//! may break at any byte and nothing is lost with it.
//!
//! With the process executor the frames travel over the worker's standard input and output; that is one
//! connection, and its end means that the listener is gone ([`OnLoss::CancelNow`]). Elsewhere they travel
//! over sockets, and a worker that loses its connection makes a new one for as long as its job may be ours
//! ([`OnLoss::ReconnectFor`]), then cancels the job and reports the result itself.
//!
//! Either end may be of another version than the other. What is added within one [`PROTOCOL`] is ignored by
//! who does not know it; a listener refuses a worker of another protocol by [`Refusal::Protocol`], which each
//! version can read.

mod framing;
mod key;
mod secret_json;

use serde::{Deserialize, Serialize};

pub use self::framing::{
    Decoder, EncodeError, FrameError, Line, MAX_FRAME_BYTES, MAX_WORKER_FRAME_BYTES, Outbox, decode, encode,
};
pub use self::key::{Key, KeyDigest};
pub use self::secret_json::SecretJson;
use crate::{AgentId, JobId, PoolId, TaskResult};

/// The protocol that is spoken here. It changes when an older end could not go on with a newer one.
pub const PROTOCOL: u32 = 2;

/// From the worker to the listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromWorker {
    /// The first frame of every connection.
    Hello(Hello),
    /// Where the job is now.
    Course(Course),
    /// Something went wrong beside the job's steps, which who runs the agent should hear of.
    #[serde(rename_all = "camelCase")]
    Warning {
        /// What, masked.
        message: String,
    },
    /// The answer to a ping.
    Pong,
}

/// From the listener to the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ToWorker {
    /// The answer to a hello.
    Welcome(Welcome),
    /// What the worker is to do from now on, whole.
    Orders(Orders),
    /// A course that was heard, and will be remembered whatever becomes of this connection.
    Heard(Heard),
    /// Are you there?
    Ping,
}

/// Who a worker is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Dayfly's version.
    pub version: String,
    /// Its process, on the machine or in the container where it runs.
    pub process: u32,
    /// What proves which place it runs in, where the connection itself does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Key>,
    /// Drawn by the worker at its start. The job it is given is bound to it: nobody else takes part in it
    /// later.
    pub resume: Key,
    /// The job it has; none before it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Where that job is.
    pub course: Course,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Welcome {
    /// Run this.
    Job(Box<JobStart>),
    /// Go on with the job you have.
    Resumed,
    /// There is no job yet; stay.
    Wait,
    /// Another listener has your job: connect there.
    Elsewhere(String),
    /// We have nothing to do with each other.
    Refused(Refusal),
}

/// Why a worker is sent away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// It speaks another protocol.
    #[serde(rename_all = "camelCase")]
    Protocol {
        /// What the listener speaks.
        protocol: u32,
        /// The listener's version.
        version: String,
    },
    /// No job is meant for it, or the job it names is not its own, or is over.
    Unknown,
}

/// A job and what the worker must know beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStart {
    /// The job message as it was decrypted, with all that our types do not know.
    pub message: SecretJson,
    /// Where it runs.
    pub worker: WorkerSettings,
    /// What to do when the connection is lost.
    pub on_loss: OnLoss,
}

/// What a worker does that has lost its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnLoss {
    /// It cancels its job: there is no second connection.
    CancelNow,
    /// It makes a new connection, and cancels its job when it has had none for so long.
    #[serde(rename_all = "camelCase")]
    ReconnectFor {
        /// In seconds; about as long as the job's lock holds after its last renewal.
        seconds: u64,
    },
}

/// What a worker is to do: the whole state, not a change of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orders {
    /// Cancel the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancel>,
    /// The time of a cancelled job is nearly over: upload what there is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flush_logs: bool,
    /// How often console lines should be posted, in milliseconds; none leaves it to the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_interval_millis: Option<u64>,
    /// What happened to the place where the worker runs, oldest first, [`MAX_REMARKS`] at the most: the
    /// worker puts it into the job's log, each remark once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
    /// Containers of the job's pod in which nothing can run any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_containers: Vec<LostContainer>,
}

/// A container that could not begin, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostContainer {
    /// Its name in the pod.
    pub name: String,
    /// Why, for the log of the step that wants it.
    pub reason: String,
}

/// How many remarks there may be on one job.
pub const MAX_REMARKS: usize = 20;

/// Something that the listener knows of the worker's place and that the job's owner should read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// What is so, in one line.
    pub text: String,
    /// Whether the job suffers from it, so that it becomes an issue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_problem: bool,
}

/// That a job is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// Who or what cancels, for the job's log.
    pub reason: CancelReason,
    /// How long the job may take to end, from when it was cancelled.
    pub timeout_seconds: u64,
}

/// Why a job is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CancelReason {
    /// The service asked: a user, or the job's timeout.
    Requested,
    /// The agent is shutting down.
    AgentShutdown,
    /// The lock on the job request was lost: nobody waits for a result any more.
    LockLost,
}

/// Where a worker's job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Course {
    /// The worker has no job yet.
    Waiting,
    /// It has one, and is about to begin with its steps.
    Beginning,
    /// A step began.
    Step(StepStarted),
    /// From here on the worker may have told the service the result.
    Reporting,
    /// The job ended.
    #[serde(rename_all = "camelCase")]
    Finished {
        /// How.
        result: TaskResult,
        /// Whether the service knows it: it answered the worker's report.
        reported: bool,
    },
}

impl Course {
    /// What must be acknowledged of it.
    pub fn heard(&self) -> Heard {
        match self {
            Course::Waiting | Course::Beginning | Course::Step(_) => Heard::Nothing,
            Course::Reporting => Heard::Reporting,
            Course::Finished { .. } => Heard::Finished,
        }
    }
}

/// The step that a job is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStarted {
    /// Its display name, masked.
    pub name: String,
    /// Its place, from 1.
    pub number: u32,
    /// How many there are.
    pub total: u32,
}

/// How much of a job's course was heard; later ones include the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Heard {
    /// Nothing that would matter later.
    #[default]
    Nothing,
    /// That the worker may report.
    Reporting,
    /// The result.
    Finished,
}

/// A proxy of the worker and its steps. Its address may hold a login, so it is not printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerProxy {
    /// Its address, with the login if it needs one.
    pub address: String,
    /// Hosts that are reached directly, separated by commas.
    pub no_proxy: String,
}

impl std::fmt::Debug for WorkerProxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WorkerProxy").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

/// What a worker must know beside the job message. Holds no secret but what a proxy's address may hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerSettings {
    /// `Agent.WorkFolder`, absolute.
    pub work_directory: std::path::PathBuf,
    /// `Agent.HomeDirectory`, absolute.
    pub home_directory: std::path::PathBuf,
    /// The agent's number.
    pub agent_id: AgentId,
    /// The agent's name.
    pub agent_name: String,
    /// The pool's number.
    pub pool_id: PoolId,
    /// The pool's name.
    pub pool_name: String,
    /// `Agent.MachineName`.
    pub machine_name: String,
    /// The address the agent was configured with; replaces scheme, host and port of the message's addresses
    /// when the service is on premises (`JobRunner.cs`).
    pub server_url: Option<url::Url>,
    /// Files with more certificate authorities, PEM.
    pub ca_files: Vec<std::path::PathBuf>,
    /// The proxy of the worker and its steps; none leaves them what their environment says.
    pub proxy: Option<WorkerProxy>,
    /// Whether the agent ends after this job (`--once`).
    pub run_once: bool,
    /// Keep the job's folders for a look at them.
    pub keep_work: bool,
    /// Whether the service is part of the listener's process: when the channel has closed and the service's
    /// address refuses, nobody will ever want a result, and whoever answers there later is somebody else.
    pub service_ends_with_listener: bool,
    /// Whether each job gets a work folder of its own below `work_directory`, called like the job, which is
    /// removed when the job is over unless `keep_work` says otherwise. Else jobs use the same one in turn.
    pub folder_per_job: bool,
    /// Whether a step that is cancelled gets its signals as from a terminal's keys, the whole process group
    /// at once. Else its first process alone gets them, as from the official agent.
    pub signal_groups: bool,
    /// Environment variables of the worker which steps do not inherit.
    pub hidden_environment: Vec<String>,
    /// A bare repository on this disk with the objects of `self`, absolute. A new clone of `self` copies
    /// them, so that its fetch transfers none; none if there is no such repository.
    pub self_repository: Option<std::path::PathBuf>,
    /// Where the task Cache keeps files for later jobs of an emulator; none keeps none.
    pub caches: Option<Caches>,
}

/// Where the task Cache keeps files on this disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Caches {
    /// The folder, absolute.
    pub folder: std::path::PathBuf,
    /// What tells the pipeline from others whose caches are in the same folder; none: its number.
    pub pipeline: Option<String>,
}
