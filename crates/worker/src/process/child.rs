//! A step's process, in whichever container it runs.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use dayfly_processes::{kill, orphans};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::net::unix::pipe;

use super::{Command, Reach};
use crate::platform;
use crate::step_host::{Remote, Request, StepHost};

/// Where a process runs.
#[derive(Clone, Default)]
pub enum Place {
    /// Beside the worker.
    #[default]
    Here,
    /// In another container of the pod.
    Container(ContainerPlace),
}

/// Another container of the pod.
#[derive(Clone)]
pub struct ContainerPlace(Arc<StepHost>);

impl ContainerPlace {
    pub(crate) fn new(host: Arc<StepHost>) -> Self {
        Self(host)
    }

    pub(crate) fn host(&self) -> &StepHost {
        &self.0
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => formatter.write_str("Here"),
            Self::Container(place) => write!(formatter, "Container({})", place.0.container()),
        }
    }
}

/// A process that was started, and our ends of its pipes.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

/// A process that has not been waited for.
pub(super) enum Child {
    Here(tokio::process::Child, Pid),
    There(Remote),
}

impl Child {
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Here(child, _) => child.wait().await,
            Self::There(remote) => remote.wait().await,
        }
    }

    /// Its number where it runs.
    pub(super) fn process_id(&self) -> i32 {
        match self {
            Self::Here(_, process_id) => process_id.as_raw(),
            Self::There(remote) => remote.process_id(),
        }
    }

    /// Sends it a signal; false when it is gone. It has not been waited for, so its id is its own.
    pub(super) fn signal(&self, signal: Signal, reach: Reach) -> bool {
        match (self, reach) {
            (Self::Here(_, process_id), Reach::Process) => signal::kill(*process_id, signal).is_ok(),
            (Self::Here(_, process_id), Reach::Group) => signal::killpg(*process_id, signal).is_ok(),
            (Self::There(remote), reach) => {
                remote.signal(signal, reach == Reach::Group);
                true
            }
        }
    }

    /// What kills it and all that descends from it.
    pub(super) fn killer(&self) -> Box<dyn Fn() + Send + Sync> {
        match self {
            Self::Here(_, process_id) => {
                let process_id = *process_id;
                Box::new(move || kill::tree(process_id))
            }
            Self::There(remote) => Box::new(remote.killer()),
        }
    }

    /// To be called when it has been waited for.
    pub(super) fn forget(&self) {
        if let Self::Here(_, process_id) = self {
            orphans::forget(*process_id);
        }
    }
}

/// Starts a process at its place.
pub(super) async fn start(command: &mut Command) -> io::Result<Started> {
    let (stdin, input) = match command.stdin {
        Some(_) => {
            let (sender, receiver) = pipe::pipe()?;
            (Some(sender), receiver.into_blocking_fd()?)
        }
        None => (None, std::fs::File::open("/dev/null")?.into()),
    };
    let (output, stdout) = pipe::pipe()?;
    let (errors, stderr) = pipe::pipe()?;
    let pipes = [input, output.into_blocking_fd()?, errors.into_blocking_fd()?];
    let child = match command.place.clone() {
        Place::Here => start_here(command, pipes)?,
        Place::Container(place) => {
            let request = Request {
                program: command.program.clone(),
                arguments: std::mem::take(&mut command.arguments),
                directory: command.directory.clone(),
                environment: std::mem::take(&mut command.environment),
                out_of_memory_score: command.out_of_memory_score,
            };
            Child::There(place.0.start(request, pipes).await?)
        }
    };
    Ok(Started { child, stdin, stdout, stderr })
}

fn start_here(command: &Command, [stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<Child> {
    let mut process = tokio::process::Command::new(&command.program);
    process
        .args(&command.arguments)
        .current_dir(&command.directory)
        .env_clear()
        .envs(&command.environment)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0)
        .kill_on_drop(true);
    let child = orphans::spawn(|| process.spawn(), tokio::process::Child::id)?;
    let process_id = Pid::from_raw(child.id().expect("a child not waited for has an id").cast_signed());
    if let Some(score) = command.out_of_memory_score {
        platform::adjust_out_of_memory_score(process_id, score);
    }
    Ok(Child::Here(child, process_id))
}
