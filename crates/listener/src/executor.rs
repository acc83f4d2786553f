//! Where a worker runs: the trait between a lease and the thing that runs its job.
//!
//! An executor starts a worker for an accepted job and hands back a [`RunningJob`]: commands go in, progress comes out, and at the end there is
//! one [`WorkerExit`]. An executor decides nothing about the job's result and never talks to the service; that is the lease's business.

use std::{fmt, sync::Arc, time::Duration};

use dayfly_protocol::{
    TaskResult,
    channel::{CancelReason, WorkerSettings},
    job::AgentJobRequestMessage,
};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How many commands may wait for a worker. A worker that takes none is stuck; it can still be killed.
const WAITING_COMMANDS: usize = 16;

/// How many notes of progress may wait for the lease; more are dropped, since they are for people only.
const WAITING_PROGRESS: usize = 16;

/// A job that is ours to run: its message could be read, its lock is held, and it cannot be delivered again.
#[derive(Debug, Clone)]
pub struct AcceptedJob {
    /// The job message, with the job's own token in it.
    pub message: Arc<AgentJobRequestMessage>,
    /// What the worker must know beside it.
    pub worker: WorkerSettings,
}

/// Starts workers.
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// Starts a worker for `job`. When the returned [`RunningJob`] is dropped, everything the job has started must be killed.
    ///
    /// # Errors
    ///
    /// Fails when no worker could be started at all; the message goes into the job's log.
    fn start(&self, job: AcceptedJob) -> BoxFuture<'_, Result<RunningJob, StartError>>;
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StartError {
    /// `message` says what could not be started and what to do; it is shown to the job's owner and must hold no secret.
    pub fn new(message: impl Into<String>, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { message: message.into(), source }
    }
}

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Cancel the job and end within `timeout`.
    Cancel {
        /// How long the job may take to end.
        timeout: Duration,
        /// Who cancels.
        reason: CancelReason,
    },
    /// Upload what logs there are: the kill is near.
    FlushLogs,
    /// Post console lines this often.
    Metadata {
        /// In milliseconds.
        post_lines_frequency_millis: u64,
    },
}

/// What a worker says on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step began.
    StepStarted {
        /// Its display name, masked by the worker.
        name: String,
        /// Its place, from 1.
        number: u32,
        /// How many there are.
        total: u32,
    },
    /// Something went wrong beside the steps.
    Warning {
        /// What, masked by the worker.
        message: String,
    },
}

/// Whether the service has the job's result from the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The service answered the worker's report.
    Yes,
    /// The worker never began to report.
    No,
    /// The worker began to report and did not say how that went.
    Perhaps,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerExit {
    /// The job's result, when the worker came to one.
    pub result: Option<TaskResult>,
    /// Whether the service has it.
    pub reported: Reported,
    /// How the worker itself ended, for people: "it ended with exit code 3", "it was killed by signal 9 (SIGKILL)".
    pub ending: String,
    /// The last lines it wrote beside the job channel, oldest first, **not masked**.
    pub last_lines: Vec<String>,
}

/// The executor's ends of a running job.
#[derive(Debug)]
pub struct Controls {
    /// What the worker is to be told.
    pub commands: mpsc::Receiver<Command>,
    /// Fires when the worker and all it started must be killed.
    pub kill: CancellationToken,
    /// Where progress goes, by `try_send`.
    pub progress: mpsc::Sender<Progress>,
}

/// A worker at its job.
#[derive(Debug)]
pub struct RunningJob {
    commands: mpsc::Sender<Command>,
    kill: CancellationToken,
    progress: mpsc::Receiver<Progress>,
    worker: AbortOnDropHandle<WorkerExit>,
}

impl RunningJob {
    /// Spawns `run`, which minds the worker to its end; it is aborted when the [`RunningJob`] is dropped.
    pub fn spawn<F, T>(run: F) -> Self
    where
        F: FnOnce(Controls) -> T,
        T: Future<Output = WorkerExit> + Send + 'static,
    {
        let (commands, command_receiver) = mpsc::channel(WAITING_COMMANDS);
        let (progress_sender, progress) = mpsc::channel(WAITING_PROGRESS);
        let kill = CancellationToken::new();
        let controls = Controls { commands: command_receiver, kill: kill.clone(), progress: progress_sender };
        Self { commands, kill, progress, worker: AbortOnDropHandle::new(tokio::spawn(run(controls))) }
    }

    /// Tells the worker something. False when it does not listen any more, or is stuck.
    pub fn tell(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Kills the worker and all it started. [`RunningJob::next`] still tells the end.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// The next thing the worker says, or its end. Must not be called again after the end. Cancel safe.
    pub async fn next(&mut self) -> WorkerEvent {
        tokio::select! {
            // Progress first, so that none is lost to the end.
            biased;
            Some(progress) = self.progress.recv() => WorkerEvent::Progress(progress),
            exit = &mut self.worker => WorkerEvent::Ended(exit.unwrap_or_else(|error| WorkerExit {
                result: None,
                reported: Reported::Perhaps,
                ending: format!("the task that minded it failed: {error}"),
                last_lines: Vec::new(),
            })),
        }
    }
}

/// See [`RunningJob::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// On its way.
    Progress(Progress),
    /// At its end; nothing it started is left.
    Ended(WorkerExit),
}
