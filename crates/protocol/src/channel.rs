//! The job channel: what listener and worker tell each other.
//!
//! Each frame is one line of JSON, since a message's JSON holds no bare newline; a frame is at most
//! [`MAX_FRAME_BYTES`] long. With the process executor the frames travel over the worker's standard input and
//! output. When the channel closes on the worker's side before the job ended, the listener is gone: the worker cancels
//! the job and reports the result itself.

use serde::{Deserialize, Serialize};

use crate::job::AgentJobRequestMessage;
use crate::{AgentId, PoolId, TaskResult};

/// The longest frame that is read. Job messages with every limit of the service used are far smaller.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

/// From the listener to the worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToWorker {
    /// The job; sent once, first.
    Job(Box<JobStart>),
    /// Cancel the job: end within `timeout_seconds`.
    #[serde(rename_all = "camelCase")]
    Cancel {
        /// How long the job may take to end, 60 at least.
        timeout_seconds: u64,
        /// Who or what cancels, for the job's log.
        reason: CancelReason,
    },
    /// The time of a cancelled job is nearly over: upload what there is.
    FlushLogs,
    /// The pace of console lines changed.
    #[serde(rename_all = "camelCase")]
    Metadata {
        /// How often console lines should be posted, in milliseconds.
        post_lines_frequency_millis: u64,
    },
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

/// A job and what the worker must know beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStart {
    /// The job message.
    pub message: AgentJobRequestMessage,
    /// Where it runs.
    pub worker: WorkerSettings,
}

/// What a worker must know beside the job message. Holds no secret but what a proxy's address may hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// The address the agent was configured with; replaces scheme, host and port of the message's addresses when the
    /// service is on premises (`JobRunner.cs`).
    pub server_url: Option<url::Url>,
    /// Files with more certificate authorities, PEM.
    pub ca_files: Vec<std::path::PathBuf>,
    /// Whether the agent ends after this job (`--once`).
    pub run_once: bool,
    /// Keep the job's folders for a look at them.
    pub keep_work: bool,
    /// Whether the service is part of the listener's process: when the channel has closed and the service's address refuses, nobody will ever want a
    /// result, and whoever answers there later is somebody else.
    pub service_ends_with_listener: bool,
    /// Whether each job gets a work folder of its own below `work_directory`, called like the job, which is removed when the
    /// job is over unless `keep_work` says otherwise. Else jobs use the same one in turn.
    pub folder_per_job: bool,
    /// Whether a step that is cancelled gets its signals as from a terminal's keys, the whole process group at once. Else its first
    /// process alone gets them, as from the official agent.
    pub signal_groups: bool,
    /// Environment variables of the worker which steps do not inherit.
    pub hidden_environment: Vec<String>,
    /// A bare repository on this disk with the objects of `self`, absolute. A new clone of `self` copies them, so that its fetch
    /// transfers none; none if there is no such repository.
    pub self_repository: Option<std::path::PathBuf>,
}

/// From the worker to the listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FromWorker {
    /// The worker runs and wants the job.
    #[serde(rename_all = "camelCase")]
    Ready {
        /// Dayfly's version.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// A step began.
    #[serde(rename_all = "camelCase")]
    StepStarted {
        /// Its display name, masked.
        name: String,
        /// Its place, from 1.
        number: u32,
        /// How many there are.
        total: u32,
    },
    /// Something went wrong beside the job's steps, which who runs the agent should hear of.
    #[serde(rename_all = "camelCase")]
    Warning {
        /// What, masked.
        message: String,
    },
    /// From here on the worker may have told the service the result.
    Reporting,
    /// The job ended; the last frame.
    #[serde(rename_all = "camelCase")]
    Finished {
        /// How.
        result: TaskResult,
        /// Whether the service knows it: it answered the worker's report.
        reported: bool,
    },
}
