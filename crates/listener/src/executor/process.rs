//! The process executor: a worker is a child process, the job channel is its standard input and output.
//!
//! Nothing of the channel can be had by another process of the same user. Its three ends are sockets, which
//! cannot be opened through `/proc/PID/fd` as pipes can; the program starts hidden ([`Program`]); and the job
//! is sent only once the worker has said hello, when it has made sure that nobody traces it.
//!
//! The child gets an environment of its own (nothing is inherited unless configured), leads a session that it
//! makes itself (so no terminal, neither its keys nor its prompts, reaches a job), and carries a marker by
//! which all of its descendants are found and killed at the end, however the end came. Its standard error is
//! kept, the last lines only, for the case that it dies.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::Stdio,
};

use dayfly_client::describe;
use dayfly_processes::orphans;
use dayfly_protocol::channel::{JobStart, OnLoss, Welcome};
use tokio::{
    io::AsyncRead,
    net::UnixStream,
    process::{Child, Command},
};
use uuid::Uuid;

use super::{
    AcceptedJob, Controls, Executor, RunningJob, WorkerExit,
    lines::Lines,
    program::Program,
    worker::{MARKER_VARIABLE, Process, Worker},
};
use crate::{
    channel::{Host, LastLines, Link, Parted},
    store::{Claim, ClaimError},
};

/// Longest line a worker may say beside the channel; a longer one is cut.
const LINE_BYTES: usize = 1024 * 1024;

/// Variables a worker inherits in [`listed_environment`]: what programs need to find each other, a home, a
/// language and the network.
const LISTED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "LANG",
    "LANGUAGE",
    "TERM",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// Those of `variables` that every worker may have: `PATH`, `HOME`, the locale, proxies and the like.
pub fn listed_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let is_listed = |name: &str| LISTED.contains(&name) || name.starts_with("LC_");
    variables.into_iter().filter(|(name, _)| name.to_str().is_some_and(is_listed)).collect()
}

/// Why there is no worker process.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    /// Its program cannot be run.
    #[error("cannot run `{}`", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The record of the job's claim names none.
    #[error("the record of the job does not say which process has it")]
    Unknown(#[source] serde_json::Error),
}

/// How worker processes are started.
#[derive(Debug, Clone)]
pub(super) struct Starter {
    program: Program,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// Starts each worker as a child process, which ends with us.
#[derive(Debug, Clone)]
pub struct ProcessExecutor(Starter);

impl ProcessExecutor {
    /// Workers are `program arguments...` with exactly `environment` (see [`listed_environment`]), and a
    /// marker beside it.
    ///
    /// Copies the program into memory, so this may block for some milliseconds.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Self {
        Self(Starter::new(program.into(), arguments, environment))
    }
}

impl Executor for ProcessExecutor {
    fn run(&self, job: AcceptedJob) -> RunningJob {
        let marker = Uuid::new_v4().to_string();
        let started = self.0.start(|command| {
            let (ends, [stdin, stdout, stderr]) = Ends::new()?;
            command
                .env(MARKER_VARIABLE, &marker)
                .stdin(stdin)
                .stdout(stdout)
                .stderr(stderr)
                .kill_on_drop(true);
            Ok((orphans::spawn(|| command.spawn(), Child::id)?, ends))
        });
        RunningJob::spawn(move |controls| async move {
            match started {
                Ok((child, ends)) => mind(child, marker, ends, job, controls).await,
                Err(error) => WorkerExit::not_started(describe(&error)),
            }
        })
    }
}

/// Our ends of what a worker has for its standard input, output and error.
struct Ends {
    orders: UnixStream,
    frames: UnixStream,
    noise: UnixStream,
}

impl Ends {
    fn new() -> io::Result<(Self, [Stdio; 3])> {
        let (orders, stdin) = socket_pair()?;
        let (frames, stdout) = socket_pair()?;
        let (noise, stderr) = socket_pair()?;
        Ok((Self { orders, frames, noise }, [stdin, stdout, stderr]))
    }
}

impl Starter {
    pub(super) fn new(
        program: PathBuf,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Self {
        Self { program: Program::new(program), arguments, environment }
    }

    /// Starts a worker by `spawn`, from its hidden program where that is possible.
    pub(super) fn start<T>(&self, spawn: impl Fn(&mut Command) -> io::Result<T>) -> Result<T, NotStarted> {
        if let Some(hidden) = self.program.hidden_path() {
            match spawn(&mut self.command(hidden)) {
                Ok(spawned) => return Ok(spawned),
                // Machines can be set up to run nothing from memory.
                Err(error) => tracing::debug!(%error, "cannot start a worker from its hidden program"),
            }
        }
        let path = self.program.path();
        let spawned = spawn(&mut self.command(path.to_owned()));
        spawned.map_err(|source| NotStarted::Program { path: path.to_owned(), source })
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = std::process::Command::new(program);
        command
            .arg0(self.program.path())
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Command::from(command)
    }
}

/// Two ends of a connection, ours and a child's.
fn socket_pair() -> io::Result<(UnixStream, Stdio)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, OwnedFd::from(theirs).into()))
}

async fn mind(child: Child, marker: String, ends: Ends, job: AcceptedJob, controls: Controls) -> WorkerExit {
    let last_lines = LastLines::default();
    let host = Host::new(controls.orders, controls.progress, job.ledger.clone(), last_lines.clone());
    let course = host.course();
    let talk = talk(host, Link::new(ends.frames, ends.orders), job);
    let noise = read_noise(ends.noise, last_lines.clone());
    let worker = Worker::new(Process::Child(child), marker, false);
    worker.run(controls.kill, course, talk, noise, last_lines).await
}

/// Hands the job over once the worker is there and the job may be had, and minds the worker to the end of its
/// only connection.
async fn talk(mut host: Host, mut link: Link, job: AcceptedJob) -> Result<Parted, ClaimError> {
    let hello = match host.hello(&mut link).await {
        Ok(hello) => hello,
        Err(parted) => return Ok(parted),
    };
    tracing::debug!(version = hello.version, process = hello.process, "a worker is ready");
    let AcceptedJob { body, worker, ledger, .. } = job;
    let claim = Claim { resume: hello.resume.digest(), place: String::new() };
    ledger.claim(claim).await?;
    let start = JobStart { message: (*body).clone(), worker, on_loss: OnLoss::CancelNow };
    drop(body);
    Ok(host.serve(&mut link, hello, Welcome::Job(Box::new(start)), false).await)
}

/// Reads what a worker writes beside the channel, to the end.
async fn read_noise<R: AsyncRead + Unpin>(pipe: R, last_lines: LastLines) {
    let mut lines = Lines::new(pipe, LINE_BYTES);
    while let Some(line) = lines.next().await {
        last_lines.keep(line);
    }
}
