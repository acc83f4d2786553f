//! The process executor whose workers outlive us: each makes its connection itself, to a socket in a folder
//! of ours.
//!
//! The kernel says which process connects, so a worker needs no token to be known. The next listener that
//! opens the folder finds in the job's record which process has the job, and the worker comes back to it with
//! the key that it drew at its start. Nothing of a worker is killed when we end; what it left behind is
//! killed when it ends, by whoever minds it then.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use dayfly_client::describe;
use dayfly_processes::{Identity, orphans};
use serde::{Deserialize, Serialize};
use tokio::process::Child;
use uuid::Uuid;

use super::{
    AcceptedJob, Controls, Ending, Executor, RunningJob, WorkerExit, converse,
    process::{NotStarted, Starter},
    worker::{MARKER_VARIABLE, Process, Worker},
};
use crate::{
    channel::{Gate, Host, KnownBy, LastLines},
    store::{Claim, Reported},
};

/// How much of what a worker wrote beside the channel is read for its last lines.
const TAIL_BYTES: u64 = 20 * 1024;

/// Starts each worker as a process that outlives us.
#[derive(Debug, Clone)]
pub struct DetachedExecutor {
    starter: Starter,
    gate: Arc<Gate>,
    folder: PathBuf,
}

/// Where a job is, as its record has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    worker: Identity,
    /// What its descendants carry.
    marker: String,
}

impl DetachedExecutor {
    /// Workers are `program arguments... --connect unix:SOCKET` with exactly `environment`, and a marker
    /// beside it. `folder` is ours alone; the socket is made in it, and what workers write beside the channel
    /// goes there as well.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub fn new(
        program: impl Into<PathBuf>,
        mut arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        folder: &Path,
    ) -> io::Result<Self> {
        let socket = folder.join("channel.sock");
        let gate = Arc::new(Gate::unix(&socket)?);
        let mut address = OsString::from("unix:");
        address.push(&socket);
        arguments.extend([OsString::from("--connect"), address]);
        Ok(Self {
            starter: Starter::new(program.into(), arguments, environment),
            gate,
            folder: folder.to_owned(),
        })
    }

    fn start(&self, noise: &Path, marker: &str) -> Result<Child, NotStarted> {
        self.starter.start(|command| {
            let file = File::options().create(true).append(true).mode(0o600).open(noise)?;
            let stderr = file.try_clone()?;
            command.env(MARKER_VARIABLE, marker).stdin(Stdio::null()).stdout(file).stderr(stderr);
            orphans::spawn(|| command.spawn(), Child::id)
        })
    }
}

impl Executor for DetachedExecutor {
    fn run(&self, job: AcceptedJob) -> RunningJob {
        let (gate, noise) = (self.gate.clone(), self.folder.join(format!("{}.out", job.label.request)));
        let placed = match &job.claimed {
            Some(claim) => adopted(claim),
            None => {
                let marker = Uuid::new_v4().to_string();
                self.start(&noise, &marker).map(|child| {
                    let worker = Identity::of(child.id().unwrap_or_default());
                    (Process::Child(child), Place { worker, marker })
                })
            }
        };
        RunningJob::spawn(move |controls| async move {
            match placed {
                Ok((process, place)) => mind(process, place, &gate, noise, job, controls).await,
                // It may have run, and reported.
                Err(error @ NotStarted::Unknown(_)) => WorkerExit {
                    result: None,
                    reported: Reported::Perhaps,
                    ending: Ending::Ended(describe(&error)),
                    last_lines: Vec::new(),
                },
                Err(error) => WorkerExit::not_started(describe(&error)),
            }
        })
    }
}

fn adopted(claim: &Claim) -> Result<(Process, Place), NotStarted> {
    let place: Place = serde_json::from_str(&claim.place).map_err(NotStarted::Unknown)?;
    Ok((Process::Adopted(place.worker.clone()), place))
}

async fn mind(
    process: Process,
    place: Place,
    gate: &Gate,
    noise: PathBuf,
    job: AcceptedJob,
    controls: Controls,
) -> WorkerExit {
    let known_by = match process {
        Process::Child(_) => KnownBy::Process(place.worker.process),
        Process::Adopted(_) => KnownBy::Nothing,
    };
    let resume = job.claimed.as_ref().map(|claim| claim.resume.clone());
    let expectation = gate.expect(job.label.id, known_by, resume);
    let last_lines = LastLines::default();
    let host = Host::new(controls.orders, controls.progress, job.ledger.clone(), last_lines.clone());
    let course = host.course();
    let worker = Worker::new(process, place.marker.clone(), true);
    let place = serde_json::to_string(&place).unwrap_or_default();
    let talk = converse(host, expectation, job, place);
    let mut exit = worker.run(controls.kill, course, talk, async {}, last_lines).await;
    exit.last_lines = tokio::task::spawn_blocking(move || tail(&noise)).await.unwrap_or_default();
    exit
}

/// The last lines of a worker that has ended. Their file is of no use any more.
fn tail(noise: &Path) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(noise)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let lines = LastLines::default();
    for line in read().unwrap_or_default().lines() {
        lines.keep(line.to_owned());
    }
    if let Err(error) = std::fs::remove_file(noise)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, file = %noise.display(), "could not delete the output of a worker");
    }
    lines.take()
}
