//! The process executor: a worker is a child process, the job channel is its standard input and output.
//!
//! Nothing of the channel can be had by another process of the same user. Its three ends are sockets, which cannot be opened through `/proc/PID/fd` as
//! pipes can; the program starts hidden ([`Program`]); and the job is sent only once the worker has said that it is ready, when it has
//! made sure that nobody traces it.
//!
//! The child gets an environment of its own (nothing is inherited unless configured), leads a session that it makes itself (so no
//! terminal, neither its keys nor its prompts, reaches a job), and carries a marker by which all
//! of its descendants are found and killed at the end, however the end came. Its standard error is kept, the last lines only, for the case that it dies.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use dayfly_processes::{kill, orphans};
use dayfly_protocol::{
    TaskResult,
    channel::{FromWorker, JobStart, ToWorker},
    json,
};
use futures::{
    FutureExt,
    future::{BoxFuture, Either, FusedFuture},
};
use nix::unistd::Pid;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    net::UnixStream,
    process::Child,
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    executor::{
        AcceptedJob, Command, Controls, Executor, Progress, Reported, RunningJob, StartError, WorkerExit,
    },
    lines::Lines,
    program::Program,
};

/// The environment variable by which a job's processes are known, as with the official agent (`VSTS_PROCESS_LOOKUP_ID`): descendants inherit it however
/// they daemonise. Its value is random for each worker and no secret.
const MARKER_VARIABLE: &str = "DAYFLY_JOB_MARKER";

/// How long all that a dead worker has started may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long a worker may take to be ready for its job.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How long the worker may take to take in one frame (`JobDispatcher.cs`, channel timeout).
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the worker may live on after its last frame.
const EXIT_GRACE: Duration = Duration::from_secs(30);

/// How long the pipes of a dead worker are read on. Nobody holds them then who was not killed.
const DRAIN: Duration = Duration::from_secs(2);

/// Longest frame or line a worker may say; a longer one is skipped.
const LINE_BYTES: usize = 1024 * 1024;

/// How many of the last lines beside the channel are kept, and how much of each.
const KEPT_LINES: usize = 20;
const KEPT_LINE_CHARACTERS: usize = 1024;

/// Variables a worker inherits in [`listed_environment`]: what programs need to find each other, a home, a language and the network.
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

/// Starts each worker as a child process.
#[derive(Debug, Clone)]
pub struct ProcessExecutor {
    program: Program,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl ProcessExecutor {
    /// Workers are `program arguments...` with exactly `environment` (see [`listed_environment`]), and a marker beside it.
    ///
    /// Copies the program into memory, so this may block for some milliseconds.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Self {
        Self { program: Program::new(program.into()), arguments, environment }
    }
}

impl Executor for ProcessExecutor {
    fn start(&self, job: AcceptedJob) -> BoxFuture<'_, Result<RunningJob, StartError>> {
        Box::pin(async move {
            // Made before the child, so that nothing is started for a job that cannot be handed over.
            let message = first_frame(job)?;
            let marker = Uuid::new_v4().to_string();
            let (child, ends) = self.spawn(&marker)?;
            Ok(RunningJob::spawn(move |controls| Worker::new(child, marker).run(message, ends, controls)))
        })
    }
}

fn first_frame(job: AcceptedJob) -> Result<Vec<u8>, StartError> {
    let message = Arc::unwrap_or_clone(job.message);
    frame(&ToWorker::Job(Box::new(JobStart { message, worker: job.worker })))
        .map_err(|error| StartError::new("the job could not be written for the worker", Some(error.into())))
}

fn frame(message: &ToWorker) -> Result<Vec<u8>, json::Error> {
    let mut bytes = json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Our ends of what a worker has for its standard input, output and error.
struct Ends {
    orders: UnixStream,
    frames: UnixStream,
    noise: UnixStream,
}

impl ProcessExecutor {
    fn spawn(&self, marker: &str) -> Result<(Child, Ends), StartError> {
        let failed = |error: io::Error| {
            let message = format!("the worker `{}` could not be started", self.program.path().display());
            StartError::new(message, Some(error.into()))
        };
        if let Some(hidden) = self.program.hidden_path() {
            match self.spawn_from(hidden, marker) {
                Ok(spawned) => return Ok(spawned),
                // Machines can be set up to run nothing from memory.
                Err(error) => tracing::debug!(%error, "a worker cannot be started from its hidden program"),
            }
        }
        self.spawn_from(self.program.path().to_owned(), marker).map_err(failed)
    }

    fn spawn_from(&self, program: PathBuf, marker: &str) -> io::Result<(Child, Ends)> {
        let (orders, stdin) = socket_pair()?;
        let (frames, stdout) = socket_pair()?;
        let (noise, stderr) = socket_pair()?;
        let mut command = std::process::Command::new(program);
        command
            .arg0(self.program.path())
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(MARKER_VARIABLE, marker)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let mut command = tokio::process::Command::from(command);
        let child = orphans::spawn(|| command.kill_on_drop(true).spawn(), Child::id)?;
        Ok((child, Ends { orders, frames, noise }))
    }
}

/// Two ends of a connection, ours and a child's.
fn socket_pair() -> io::Result<(UnixStream, Stdio)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, OwnedFd::from(theirs).into()))
}

/// Kills a worker and all it has started when the task that minds it is dropped.
struct Guard {
    worker: Option<u32>,
    marker: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(id) = self.worker {
            // Blocks for some milliseconds, but only when a job is given up altogether.
            end_now(id, &self.marker);
        }
    }
}

/// Ends a worker and all it has started: its group, what carries its marker, and what it left to us as orphans.
fn end_now(worker: u32, marker: &str) -> usize {
    let group = Pid::from_raw(worker.cast_signed());
    kill::group(group);
    let ended = kill::with_variable(MARKER_VARIABLE, marker, Some(group)).len();
    ended + orphans::end_all(KILL_PATIENCE).len()
}

/// Does [`end_now`] beside the async threads: reading `/proc` blocks, if only for milliseconds.
async fn end(worker: u32, marker: String) -> usize {
    tokio::task::spawn_blocking(move || end_now(worker, &marker)).await.unwrap_or_else(|error| {
        tracing::warn!(%error, worker, "the processes left behind by a job could not be looked for");
        0
    })
}

/// One child process and what is known of it.
struct Worker {
    child: Child,
    guard: Guard,
    /// Cancelled when the worker can be given its job.
    ready: CancellationToken,
    finished: Option<(TaskResult, bool)>,
    is_reporting: bool,
    /// Why we killed it, if we did.
    killed: Option<&'static str>,
    last_lines: VecDeque<String>,
}

/// Everything that can happen to a worker.
enum Event {
    Said(FromWorker),
    Noise(String),
    ChannelClosed,
    WriteFailed(&'static str),
    GraceOver,
    Killed,
    Exited(std::io::Result<ExitStatus>),
}

impl Worker {
    fn new(child: Child, marker: String) -> Self {
        let guard = Guard { worker: child.id(), marker };
        Self {
            child,
            guard,
            ready: CancellationToken::new(),
            finished: None,
            is_reporting: false,
            killed: None,
            last_lines: VecDeque::new(),
        }
    }

    async fn run(mut self, first_frame: Vec<u8>, ends: Ends, controls: Controls) -> WorkerExit {
        let Controls { commands, kill, progress } = controls;
        let worker_done = CancellationToken::new();
        let (said, mut heard) = mpsc::channel(16);
        let ready = self.ready.clone();
        let orders = async {
            if is_ready(&ready, &worker_done, &said).await {
                write_frames(ends.orders, first_frame, commands, worker_done.clone(), said.clone()).await;
            }
        };
        // The three ends are served by futures of this very task: they end with it.
        let pipes = async {
            tokio::join!(
                orders,
                read_lines(ends.frames, LineKind::Frames, said.clone()),
                read_lines(ends.noise, LineKind::Noise, said.clone()),
            )
        };
        let mut pipes = std::pin::pin!(pipes.fuse());
        let mut grace = std::pin::pin!(Either::Left(std::future::pending::<()>()));
        let status = loop {
            let event = tokio::select! {
                biased;
                () = kill.cancelled(), if self.killed.is_none() => Event::Killed,
                Some(event) = heard.recv() => event,
                _ = &mut pipes => continue,
                () = &mut grace, if self.killed.is_none() => Event::GraceOver,
                status = self.child.wait() => Event::Exited(status),
            };
            match event {
                Event::Exited(status) => break status,
                Event::Said(frame) => {
                    let is_last = matches!(frame, FromWorker::Finished { .. });
                    self.hear(frame, &progress);
                    if is_last {
                        worker_done.cancel();
                        grace.set(Either::Right(tokio::time::sleep(EXIT_GRACE)));
                    }
                }
                Event::Noise(line) => self.keep_line(line),
                // A worker that closes its output cannot tell its result any more; it gets a little time to end.
                Event::ChannelClosed => grace.set(Either::Right(tokio::time::sleep(EXIT_GRACE))),
                Event::WriteFailed(reason) => self.kill(reason),
                Event::GraceOver => self.kill("it did not end after its job had"),
                Event::Killed => self.kill("it was told to stop and did not"),
            }
        };
        worker_done.cancel();
        // The children may hold the pipes open; once they are dead, the pipes end.
        if let Some(id) = self.guard.worker.take() {
            orphans::forget(Pid::from_raw(id.cast_signed()));
            let left = end(id, std::mem::take(&mut self.guard.marker)).await;
            if left > 0 {
                tracing::debug!(worker = id, left, "killed processes that a job had left behind");
            }
        }
        let drain = async {
            while !pipes.is_terminated() {
                tokio::select! {
                    biased;
                    Some(event) = heard.recv() => self.take_in(event, &progress),
                    _ = &mut pipes => {}
                }
            }
            while let Ok(event) = heard.try_recv() {
                self.take_in(event, &progress);
            }
        };
        if timeout(DRAIN, drain).await.is_err() {
            tracing::warn!("a dead worker's output is still held open by somebody");
        }
        self.exit(status)
    }

    /// What a dead worker had still said.
    fn take_in(&mut self, event: Event, progress: &mpsc::Sender<Progress>) {
        match event {
            Event::Said(frame) => self.hear(frame, progress),
            Event::Noise(line) => self.keep_line(line),
            Event::ChannelClosed
            | Event::WriteFailed(_)
            | Event::GraceOver
            | Event::Killed
            | Event::Exited(_) => {}
        }
    }

    fn hear(&mut self, frame: FromWorker, progress: &mpsc::Sender<Progress>) {
        match frame {
            FromWorker::Ready { version, pid } => {
                tracing::debug!(version, pid, "worker is ready");
                self.ready.cancel();
            }
            FromWorker::StepStarted { name, number, total } => {
                // Dropped when nobody takes it: it is for people only.
                let _ = progress.try_send(Progress::StepStarted { name, number, total });
            }
            FromWorker::Warning { message } => {
                let _ = progress.try_send(Progress::Warning { message });
            }
            FromWorker::Reporting => self.is_reporting = true,
            FromWorker::Finished { result, reported } => self.finished = Some((result, reported)),
        }
    }

    fn keep_line(&mut self, mut line: String) {
        tracing::trace!("a worker wrote a line beside the job channel");
        if let Some((end, _)) = line.char_indices().nth(KEPT_LINE_CHARACTERS) {
            line.truncate(end);
        }
        if self.last_lines.len() == KEPT_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }

    fn kill(&mut self, reason: &'static str) {
        self.killed.get_or_insert(reason);
        if let Some(id) = self.guard.worker {
            kill::group(Pid::from_raw(id.cast_signed()));
        }
        // The child itself too: as long as it has made no session, it leads no group.
        let _ = self.child.start_kill();
    }

    fn exit(self, status: std::io::Result<ExitStatus>) -> WorkerExit {
        // A panic ends a process with 101 too, so that code is believed only of a worker that had come to its result.
        let from_code = status
            .as_ref()
            .ok()
            .and_then(|status| TaskResult::from_exit_code(status.code()?))
            .filter(|result| self.is_reporting || *result != TaskResult::SucceededWithIssues);
        let reported = match self.finished {
            Some((_, true)) => Reported::Yes,
            Some((_, false)) => Reported::No,
            None if self.is_reporting || from_code.is_some() => Reported::Perhaps,
            None => Reported::No,
        };
        let mut ending = match &status {
            Ok(status) => describe(*status),
            Err(error) => format!("its end could not be learnt: {error}"),
        };
        if let Some(reason) = self.killed {
            ending = format!("{ending}, since {reason}");
        }
        WorkerExit {
            result: self.finished.map(|(result, _)| result).or(from_code),
            reported,
            ending,
            last_lines: self.last_lines.into(),
        }
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

/// Waits until the worker can be given its job; false if that does not come.
async fn is_ready(
    ready: &CancellationToken,
    worker_done: &CancellationToken,
    said: &mpsc::Sender<Event>,
) -> bool {
    tokio::select! {
        () = ready.cancelled() => true,
        () = worker_done.cancelled() => false,
        () = tokio::time::sleep(READY_PATIENCE) => {
            let _ = said.send(Event::WriteFailed("it was not ready for its job within 60 s")).await;
            false
        }
    }
}

/// Writes the job, then commands as they come, until the worker is done.
async fn write_frames(
    mut orders: UnixStream,
    first_frame: Vec<u8>,
    mut commands: mpsc::Receiver<Command>,
    worker_done: CancellationToken,
    said: mpsc::Sender<Event>,
) {
    let mut next = Some(first_frame);
    loop {
        if let Some(bytes) = next.take() {
            let written = timeout(CHANNEL_TIMEOUT, async {
                orders.write_all(&bytes).await?;
                orders.flush().await
            });
            match written.await {
                Ok(Ok(())) => {}
                // The worker does not listen: it is about to end, or has closed its input, and its exit tells the rest.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a worker closed its input");
                    return;
                }
                Err(_) => {
                    let _ = said
                        .send(Event::WriteFailed("it did not take in what it was told within 30 s"))
                        .await;
                    return;
                }
            }
        }
        let command = tokio::select! {
            () = worker_done.cancelled() => return,
            command = commands.recv() => match command {
                Some(command) => command,
                // The lease is gone, and with it the channel: the worker sees its input end.
                None => return,
            },
        };
        match frame(&to_worker(command)) {
            Ok(bytes) => next = Some(bytes),
            Err(error) => tracing::warn!(%error, "a command for a worker could not be written"),
        }
    }
}

fn to_worker(command: Command) -> ToWorker {
    match command {
        Command::Cancel { timeout, reason } => {
            ToWorker::Cancel { timeout_seconds: timeout.as_secs(), reason }
        }
        Command::FlushLogs => ToWorker::FlushLogs,
        Command::Metadata { post_lines_frequency_millis } => {
            ToWorker::Metadata { post_lines_frequency_millis }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum LineKind {
    Frames,
    Noise,
}

/// Reads lines to the end of the connection. A line that is no frame is noise.
async fn read_lines<R: AsyncRead + Unpin>(pipe: R, kind: LineKind, said: mpsc::Sender<Event>) {
    let mut lines = Lines::new(pipe, LINE_BYTES);
    while let Some(line) = lines.next().await {
        let frame = if kind == LineKind::Frames { json::from_str(&line).ok() } else { None };
        if said.send(frame.map_or(Event::Noise(line), Event::Said)).await.is_err() {
            return;
        }
    }
    if kind == LineKind::Frames {
        let _ = said.send(Event::ChannelClosed).await;
    }
}
