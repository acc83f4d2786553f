//! Where a worker runs: the trait between a lease and the thing that runs its job.
//!
//! An executor makes a place for an accepted job and hands back a [`RunningJob`]: orders go in, progress
//! comes out, and at the end there is one [`WorkerExit`]. It owns the place and its words, decides nothing
//! about the job's result, and never talks to the service; that is the lease's business. Orders are the whole
//! state that holds; dropping a [`RunningJob`] lets go of the job, and only [`RunningJob::kill`] is an order
//! to end it (a place that cannot outlive us ends with us anyway).

mod converse;
mod detached;
mod lines;
mod process;
mod program;
mod worker;

use std::{fmt, sync::Arc, time::Duration};

use dayfly_protocol::{
    TaskResult,
    channel::{LostContainer, MAX_REMARKS, Orders, Remark, SecretJson, WorkerSettings},
    job::AgentJobRequestMessage,
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use self::{
    converse::converse,
    detached::DetachedExecutor,
    process::{ProcessExecutor, listed_environment},
};
use crate::{
    events::JobLabel,
    notes::{Note, Progress},
    store::{Claim, Ledger, Reported},
};

/// How much progress may wait for the lease, which takes it at once.
const WAITING_PROGRESS: usize = 16;

/// A job that is to be run, once it may be.
#[derive(Debug, Clone)]
pub struct AcceptedJob {
    /// Which one.
    pub label: JobLabel,
    /// The job message as it was decrypted, with the job's own token in it; this is what the worker gets.
    pub body: Arc<SecretJson>,
    /// What our types know of it.
    pub message: Arc<AgentJobRequestMessage>,
    /// What the worker must know beside it. What the place decides, the executor fills in.
    pub worker: WorkerSettings,
    /// Who has the job already: it is adopted there, and never started anew.
    pub claimed: Option<Claim>,
    /// Where the claim is written down before the job is handed over.
    pub ledger: Ledger,
    /// How long the job's lock holds after a renewal, and so for how long a worker may go on without a
    /// listener.
    pub lock: Duration,
}

/// Runs workers.
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// Makes a place for `job`, or takes up the one there is. Does not wait, and does not fail: what goes
    /// wrong is told as the worker's end.
    fn run(&self, job: AcceptedJob) -> RunningJob;
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerExit {
    /// The job's result, when the worker came to one.
    pub result: Option<TaskResult>,
    /// Whether the service has it.
    pub reported: Reported,
    /// How the worker itself ended.
    pub ending: Ending,
    /// The last lines it wrote beside the job channel, oldest first, **not masked**.
    pub last_lines: Vec<String>,
}

/// How a worker itself ended, for people. It is shown to the job's owner and must hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// There was none, and another try would go the same way: what could not be started, and why.
    NotStarted(String),
    /// Such as "it ended with exit code 3" or "it was killed by signal 9 (SIGKILL)". If it did so before it
    /// had the job, the lease has another place made, a few times.
    Ended(String),
}

impl WorkerExit {
    /// There was no worker at all.
    pub fn not_started(reason: impl Into<String>) -> Self {
        Self {
            result: None,
            reported: Reported::No,
            ending: Ending::NotStarted(reason.into()),
            last_lines: Vec::new(),
        }
    }
}

/// The executor's ends of a running job.
#[derive(Debug)]
pub struct Controls {
    /// What the worker is to do.
    pub orders: watch::Receiver<Orders>,
    /// Fires when the worker and all it started must be killed, and its place be given up.
    pub kill: CancellationToken,
    /// Where progress goes.
    pub progress: mpsc::Sender<Progress>,
}

/// A job in its place.
#[derive(Debug)]
pub struct RunningJob {
    orders: watch::Sender<Orders>,
    kill: CancellationToken,
    progress: mpsc::Receiver<Progress>,
    /// Present until the job is dropped.
    worker: Option<AbortOnDropHandle<WorkerExit>>,
}

impl Drop for RunningJob {
    /// Lets go, unless a kill was ordered: that is carried out to its end.
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take()
            && self.kill.is_cancelled()
        {
            drop(worker.detach());
        }
    }
}

impl RunningJob {
    /// Spawns `run`, which minds the place to its end; it is aborted when the [`RunningJob`] is dropped.
    pub fn spawn<F, T>(run: F) -> Self
    where
        F: FnOnce(Controls) -> T,
        T: Future<Output = WorkerExit> + Send + 'static,
    {
        let (orders, order_receiver) = watch::channel(Orders::default());
        let (progress_sender, progress) = mpsc::channel(WAITING_PROGRESS);
        let kill = CancellationToken::new();
        let controls = Controls { orders: order_receiver, kill: kill.clone(), progress: progress_sender };
        Self { orders, kill, progress, worker: Some(AbortOnDropHandle::new(tokio::spawn(run(controls)))) }
    }

    /// Changes the orders that hold.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Has the worker put a note into the job's log. What is too much is left out.
    pub(crate) fn remark(&self, note: &Note) {
        let text = note.advice.iter().fold(note.text.clone(), |text, advice| format!("{text} {advice}"));
        let remark = Remark { text, is_problem: note.is_problem };
        self.orders.send_if_modified(|orders| {
            let is_new = orders.remarks.len() < MAX_REMARKS && !orders.remarks.contains(&remark);
            if is_new {
                orders.remarks.push(remark);
            }
            is_new
        });
    }

    /// Has the worker fail the steps that want this container.
    pub(crate) fn lose(&self, lost: LostContainer) {
        self.orders.send_if_modified(|orders| {
            let is_new = !orders.lost_containers.iter().any(|known| known.name == lost.name);
            if is_new {
                orders.lost_containers.push(lost);
            }
            is_new
        });
    }

    /// Kills the worker and all it started, and gives its place up. [`RunningJob::next`] still tells the end.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// The next thing that is told, or the end. Must not be called again after the end. Cancel safe.
    pub async fn next(&mut self) -> WorkerEvent {
        tokio::select! {
            // Progress first, so that none is lost to the end.
            biased;
            Some(progress) = self.progress.recv() => WorkerEvent::Progress(progress),
            exit = end_of(&mut self.worker) => WorkerEvent::Ended(exit.unwrap_or_else(|error| WorkerExit {
                result: None,
                reported: Reported::Perhaps,
                ending: Ending::Ended(format!("the task that minded it failed: {error}")),
                last_lines: Vec::new(),
            })),
        }
    }
}

async fn end_of(
    worker: &mut Option<AbortOnDropHandle<WorkerExit>>,
) -> Result<WorkerExit, tokio::task::JoinError> {
    match worker {
        Some(worker) => worker.await,
        None => std::future::pending().await,
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
