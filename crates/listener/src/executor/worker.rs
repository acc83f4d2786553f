//! A worker that is a process on this machine, from its start to the end of the last process that it left
//! behind.

use std::{io, pin::pin, process::ExitStatus, time::Duration};

use dayfly_client::describe as explain;
use dayfly_processes::{Identity, kill, orphans};
use dayfly_protocol::{
    TaskResult,
    channel::{Course, Heard},
};
use futures::{FutureExt, future::FusedFuture};
use nix::unistd::Pid;
use tokio::{
    process::Child,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Ending, WorkerExit};
use crate::{
    channel::{LastLines, Parted},
    store::{ClaimError, Reported},
};

/// The environment variable by which a job's processes are known, as with the official agent
/// (`VSTS_PROCESS_LOOKUP_ID`): descendants inherit it however they daemonise. Its value is random for each
/// worker and no secret.
pub(super) const MARKER_VARIABLE: &str = "DAYFLY_JOB_MARKER";

/// How long all that a dead worker has started may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long the worker may live on after its last frame.
const EXIT_GRACE: Duration = Duration::from_secs(30);

/// How long the pipes of a dead worker are read on. Nobody holds them then who was not killed.
const DRAIN: Duration = Duration::from_secs(2);

/// How long the last frames of a worker that has ended may be on their way.
const LAST_FRAMES: Duration = Duration::from_millis(200);

/// How often it is looked whether a process lives that is not our child.
const LOOK: Duration = Duration::from_millis(200);

/// A process that is a worker.
pub(super) enum Process {
    /// Our child.
    Child(Child),
    /// The child of a listener that is gone.
    Adopted(Identity),
}

impl Process {
    fn id(&self) -> Option<u32> {
        match self {
            Self::Child(child) => child.id(),
            Self::Adopted(identity) => Some(identity.process),
        }
    }

    /// Waits for its end; how an adopted one ended only its own parent was told. Cancel safe.
    async fn wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Self::Child(child) => child.wait().await.map(Some),
            Self::Adopted(identity) => {
                while identity.is_alive() {
                    sleep(LOOK).await;
                }
                Ok(None)
            }
        }
    }

    fn kill(&mut self) {
        match self {
            // As long as it has made no session, it leads no group.
            Self::Child(child) => drop(child.start_kill()),
            Self::Adopted(identity) => identity.kill(),
        }
    }
}

/// Kills a worker and all it has started when the task that minds it is dropped.
struct Guard {
    worker: Option<u32>,
    marker: String,
    /// Whether the worker lives on without us.
    lets_go: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(id) = self.worker.filter(|_| !self.lets_go) {
            // Blocks for some milliseconds, but only when a job is given up altogether.
            end_now(id, &self.marker);
        }
    }
}

/// Ends a worker and all it has started: its group, what carries its marker, and what it left to us as
/// orphans.
fn end_now(worker: u32, marker: &str) -> usize {
    let group = Pid::from_raw(worker.cast_signed());
    kill::group(group);
    let ended = kill::with_variable(MARKER_VARIABLE, marker, Some(group)).len();
    ended + orphans::end_all(KILL_PATIENCE).len()
}

/// Does [`end_now`] beside the async threads: reading `/proc` blocks, if only for milliseconds.
async fn end(worker: u32, marker: String) -> usize {
    tokio::task::spawn_blocking(move || end_now(worker, &marker)).await.unwrap_or_else(|error| {
        tracing::warn!(%error, worker, "could not look for processes that a job left behind");
        0
    })
}

/// One worker process.
pub(super) struct Worker {
    process: Process,
    guard: Guard,
    /// Why we killed it, if we did.
    killed: Option<String>,
}

/// Everything that can happen to a worker.
enum Event {
    Finished,
    /// The conversation is over.
    Parted(Result<Parted, ClaimError>),
    GraceOver,
    Killed,
    Exited(io::Result<Option<ExitStatus>>),
}

impl Worker {
    /// A process whose descendants carry `marker`. `lets_go`: it lives on when it is not minded any more.
    pub(super) fn new(process: Process, marker: String, lets_go: bool) -> Self {
        let guard = Guard { worker: process.id(), marker, lets_go };
        Self { process, guard, killed: None }
    }

    /// Minds the worker to its end. `talk` is the conversation with it, `noise` reads what it writes beside
    /// that.
    pub(super) async fn run(
        mut self,
        kill: CancellationToken,
        course: watch::Receiver<Course>,
        talk: impl Future<Output = Result<Parted, ClaimError>>,
        noise: impl Future<Output = ()>,
        last_lines: LastLines,
    ) -> WorkerExit {
        // Both are served by futures of this very task: they end with it.
        let mut talk = pin!(talk.fuse());
        let mut noise = pin!(noise.fuse());
        let status = self.mind(&mut talk, &mut noise, &kill, course.clone()).await;
        // The children may hold the pipes open; once they are dead, the pipes end.
        if let Some(id) = self.guard.worker.take() {
            orphans::forget(Pid::from_raw(id.cast_signed()));
            let left = end(id, std::mem::take(&mut self.guard.marker)).await;
            if left > 0 {
                tracing::debug!(worker = id, left, "killed processes that a job had left behind");
            }
        }
        let drain = async {
            while !(talk.is_terminated() && noise.is_terminated()) {
                tokio::select! {
                    _ = &mut talk, if !talk.is_terminated() => {}
                    () = &mut noise, if !noise.is_terminated() => {}
                }
            }
        };
        // A worker that makes its connections itself makes none any more.
        let patience = if self.guard.lets_go { LAST_FRAMES } else { DRAIN };
        if timeout(patience, drain).await.is_err() && !self.guard.lets_go {
            tracing::warn!("another process still holds a dead worker's output open");
        }
        let course = course.borrow().clone();
        self.exit(status, &course, last_lines.take())
    }

    /// Waits for the worker's end, and brings it about where that is due.
    async fn mind(
        &mut self,
        talk: &mut (impl FusedFuture<Output = Result<Parted, ClaimError>> + Unpin),
        noise: &mut (impl FusedFuture<Output = ()> + Unpin),
        kill: &CancellationToken,
        mut course: watch::Receiver<Course>,
    ) -> io::Result<Option<ExitStatus>> {
        let mut finished = pin!(
            async move { drop(course.wait_for(|course| course.heard() == Heard::Finished).await) }.fuse()
        );
        let mut grace = pin!(futures::future::Fuse::terminated());
        loop {
            let event = tokio::select! {
                biased;
                () = kill.cancelled(), if self.killed.is_none() => Event::Killed,
                parted = &mut *talk, if !talk.is_terminated() => Event::Parted(parted),
                () = &mut *noise, if !noise.is_terminated() => continue,
                () = &mut finished, if !finished.is_terminated() => Event::Finished,
                () = &mut grace, if self.killed.is_none() && !grace.is_terminated() => Event::GraceOver,
                status = self.process.wait() => Event::Exited(status),
            };
            match event {
                Event::Exited(status) => return status,
                Event::Finished => grace.set(sleep(EXIT_GRACE).fuse()),
                Event::Parted(Ok(Parted::Closed)) => {
                    // A worker that closes its output cannot tell its result any more; it gets a little time
                    // to end.
                    if grace.is_terminated() {
                        grace.set(sleep(EXIT_GRACE).fuse());
                    }
                }
                Event::Parted(Ok(parted)) => self.kill(said(&parted)),
                Event::Parted(Err(error)) => self.kill(explain(&error)),
                Event::GraceOver => self.kill("it did not end after its job had".to_owned()),
                Event::Killed => self.kill("it did not stop when told to".to_owned()),
            }
        }
    }

    fn kill(&mut self, reason: String) {
        self.killed.get_or_insert(reason);
        if let Some(id) = self.guard.worker {
            kill::group(Pid::from_raw(id.cast_signed()));
        }
        self.process.kill();
    }

    fn exit(
        self,
        status: io::Result<Option<ExitStatus>>,
        course: &Course,
        last_lines: Vec<String>,
    ) -> WorkerExit {
        let is_reporting = course.heard() >= Heard::Reporting;
        let is_adopted = matches!(self.process, Process::Adopted(_));
        // A panic ends a process with 101 too, so that code is believed only of a worker that had come to its
        // result.
        let from_code = status
            .as_ref()
            .ok()
            .and_then(|status| TaskResult::from_exit_code((*status)?.code()?))
            .filter(|result| is_reporting || *result != TaskResult::SucceededWithIssues);
        let (result, reported) = match *course {
            Course::Finished { result, reported: true } => (Some(result), Reported::Yes),
            Course::Finished { result, reported: false } => (Some(result), Reported::No),
            _ if is_reporting || is_adopted || from_code.is_some() => (from_code, Reported::Perhaps),
            _ => (None, Reported::No),
        };
        let mut ending = match &status {
            Ok(Some(status)) => describe(*status),
            Ok(None) => {
                "it ended, nobody knows how, because it was the child of an agent that had died".to_owned()
            }
            Err(error) => format!("could not find out how it ended: {error}"),
        };
        if let Some(reason) = self.killed {
            ending = format!("{ending}, because {reason}");
        }
        WorkerExit { result, reported, ending: Ending::Ended(ending), last_lines }
    }
}

/// Why a worker is killed with which no conversation is possible.
fn said(parted: &Parted) -> String {
    match parted {
        Parted::Closed => "it closed the job channel".to_owned(),
        Parted::Stuck => "it did not read what it was sent within 30 s".to_owned(),
        Parted::Silent => "it did not answer for too long".to_owned(),
        Parted::NotReady => "it was not ready for its job within 60 s".to_owned(),
        Parted::Stranger(version) => format!(
            "its version {version} speaks another protocol than version {} of the agent; use the same \
             version of both",
            env!("CARGO_PKG_VERSION")
        ),
    }
}

/// How a process ended, for people.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("it was killed by signal {signal} ({name})"),
            Err(_) => format!("it was killed by signal {signal}"),
        },
        (None, None) => "it ended in an unknown way".to_owned(),
    }
}
