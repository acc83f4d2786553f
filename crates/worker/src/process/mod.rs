//! Starts a step's process, reads its lines and stops it when the step is cancelled.
//!
//! A process gets exactly the environment it is given, no standard input unless bytes are given, and a
//! process group of its own. Its output is read no faster than the [`Sink`] takes it, so a slow disk slows
//! the process down instead of filling memory. The ladder of a cancellation is the official agent's
//! (`ProcessInvoker.cs`): SIGINT to the process itself (or to its group, see [`Reach`]), 7.5 seconds later
//! SIGTERM, 2.5 seconds later SIGKILL, which here goes to the whole tree.
//!
//! A process that has exited may leave children behind that hold its output open. They are waited for for
//! five seconds, as the official agent does; then the step ends, and a [`Background`] keeps reading what they
//! write, so that a server started for later steps does not die of a closed pipe.

mod child;
mod lines;
mod output;

pub use child::{ContainerPlace, Place};
pub use lines::LONGEST_LINE_BYTES;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use child::{Child, Started, start};
use output::Output;

/// How long output is waited for after the process has exited (`ProcessInvoker.cs`).
pub(crate) const OPEN_PIPE_PATIENCE: Duration = Duration::from_secs(5);

/// The same after a cancellation, when nobody wants the rest.
const OPEN_PIPE_PATIENCE_WHEN_CANCELLED: Duration = Duration::from_secs(1);

/// How long a killed process may take to go: longer only if the kernel cannot let it go.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// The official agent's adjustment: steps are killed before the agent is.
const OUT_OF_MEMORY_SCORE: i32 = 500;

/// Why a process could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The working directory is not there.
    #[error("the working directory '{}' does not exist or is not a directory", directory.display())]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// The program could not be started.
    #[error("cannot start '{}'", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The end of the process could not be found out.
    #[error("cannot find out how '{}' ended", program.display())]
    Wait {
        /// The program.
        program: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The process does not go away although it was killed.
    #[error("'{}' (process {process_id}) was killed, but the system has not ended it", program.display())]
    Stuck {
        /// The program.
        program: PathBuf,
        /// Its process id.
        process_id: i32,
    },
}

/// The times of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// From SIGINT to SIGTERM (`PROCESS_SIGINT_TIMEOUT`).
    pub interrupt: Duration,
    /// From SIGTERM to SIGKILL (`PROCESS_SIGTERM_TIMEOUT`).
    pub terminate: Duration,
    /// What happens when SIGINT is not enough.
    pub stubborn: Stubborn,
    /// Whom SIGINT and SIGTERM go to.
    pub reach: Reach,
}

/// Who gets the signals of a cancellation. SIGKILL goes to the whole tree in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process itself, as with the official agent (`ProcessInvoker.cs`).
    Process,
    /// Its whole group, as a terminal does it for Ctrl-C.
    Group,
}

/// What to do with a process that ignores SIGINT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stubborn {
    /// SIGTERM, then SIGKILL.
    Kill,
    /// Wait until it ends by itself (`USE_GRACEFUL_PROCESS_SHUTDOWN`).
    Wait,
}

impl Default for Ladder {
    fn default() -> Self {
        Ladder {
            interrupt: Duration::from_millis(7500),
            terminate: Duration::from_millis(2500),
            stubborn: Stubborn::Kill,
            reach: Reach::Process,
        }
    }
}

/// A process to be started.
pub struct Command {
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it is started.
    pub directory: PathBuf,
    /// Its whole environment: nothing is inherited.
    pub environment: BTreeMap<OsString, OsString>,
    /// What it reads from standard input; none: the null device.
    pub stdin: Option<Vec<u8>>,
    /// How it is cancelled.
    pub cancel: Ladder,
    /// Its out-of-memory score adjustment; none leaves the worker's.
    pub out_of_memory_score: Option<i32>,
    /// Where it runs.
    pub place: Place,
    /// Who goes on reading the output of children it leaves behind; none: the output is closed.
    pub background: Option<Background>,
}

/// Shows names only: arguments, environment and input may hold secrets.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Command {
    /// A command without arguments, environment and input.
    pub fn new(program: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Command {
        Command {
            program: program.into(),
            arguments: Vec::new(),
            directory: directory.into(),
            environment: BTreeMap::new(),
            stdin: None,
            cancel: Ladder::default(),
            out_of_memory_score: Some(OUT_OF_MEMORY_SCORE),
            place: Place::default(),
            background: None,
        }
    }
}

/// Which of a process's outputs a line is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it is from.
    pub stream: Stream,
    /// The text; bytes that are not UTF-8 are U+FFFD.
    pub text: &'a str,
    /// The line is longer than [`LONGEST_LINE_BYTES`]: more of it follows as the next line of this stream.
    pub continues: bool,
}

/// Takes the lines of a process, in order for each stream.
pub trait Sink: Send {
    /// Takes one line. As long as this waits, nothing more is read from the process.
    fn line(&mut self, line: Line<'_>) -> impl Future<Output = ()> + Send;
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The exit code as shells and .NET see it: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    fn new(status: ExitStatus) -> Exit {
        use std::os::unix::process::ExitStatusExt as _;
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }
    }
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub exit: Exit,
    /// It was cancelled while it ran.
    pub cancelled: bool,
    /// It ignored the signals of the cancellation and was killed.
    pub killed: bool,
    /// Children of it held its output open when the step went on.
    pub left_children: bool,
}

/// Reads and drops what processes write that outlive their step. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Without processes.
    pub fn new() -> Background {
        Background::default()
    }

    /// Closes all outputs that are still read and waits for the readers. To be called when the job ends.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn read(&self, mut output: Output) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = output.discard() => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Runs `command` to its end, or to its cancellation by `cancel`; `sink` gets its lines.
///
/// If the returned future is dropped, the process's tree is killed.
///
/// # Errors
///
/// If the process could not be started or does not go away. A process that fails is no error.
pub async fn run<S: Sink>(
    mut command: Command,
    cancel: &CancellationToken,
    sink: &mut S,
) -> Result<Ended, Error> {
    let Started { mut child, stdin, stdout, stderr } =
        start(&mut command).await.map_err(|source| not_started(&command, source))?;
    let mut guard = TreeGuard { kill: child.killer(), is_armed: true };
    let input = feed(stdin, command.stdin.take());
    let mut output = Output::new(stdout, stderr);

    let (exited, deadline) = watch::channel(None);
    let supervised = async {
        let ended = supervise(&mut child, &command, cancel).await;
        // From here on nobody waits for the process itself; the rest of its group may still be there.
        let was_cancelled = !matches!(ended, Ok((_, false, _)));
        let patience = if was_cancelled { OPEN_PIPE_PATIENCE_WHEN_CANCELLED } else { OPEN_PIPE_PATIENCE };
        exited.send_replace(Some(Instant::now() + patience));
        ended
    };
    let (ended, ()) = tokio::select! {
        both = async { tokio::join!(supervised, output.pump(sink, deadline)) } => both,
        // A process that does not read its input must not keep the step once it has exited.
        never = async { input.await; std::future::pending().await } => never,
    };
    let (status, cancelled, killed) = ended?;
    guard.is_armed = false;
    child.forget();
    let left_children = output.is_open();
    if cancelled {
        (guard.kill)();
        let (_exited, deadline) = watch::channel(Some(Instant::now() + OPEN_PIPE_PATIENCE_WHEN_CANCELLED));
        output.pump(sink, deadline).await;
    }
    output.end(sink).await;
    if let Some(background) = command.background.take().filter(|_| output.is_open()) {
        background.read(output);
    }
    Ok(Ended { exit: Exit::new(status), cancelled, killed, left_children })
}

fn not_started(command: &Command, source: std::io::Error) -> Error {
    let is_there = match command.place {
        Place::Here => command.directory.is_dir(),
        Place::Container(_) => source.kind() != std::io::ErrorKind::NotADirectory,
    };
    match is_there {
        true => Error::Start { program: command.program.clone(), source },
        false => Error::NoDirectory { directory: command.directory.clone() },
    }
}

/// Kills the tree of a process whose run was dropped.
struct TreeGuard {
    kill: Box<dyn Fn() + Send + Sync>,
    is_armed: bool,
}

impl Drop for TreeGuard {
    fn drop(&mut self) {
        if self.is_armed {
            (self.kill)();
        }
    }
}

/// Waits for the end of the process; goes down the ladder when cancelled. Returns the status, whether it was
/// cancelled and whether killed.
async fn supervise(
    child: &mut Child,
    command: &Command,
    cancel: &CancellationToken,
) -> Result<(ExitStatus, bool, bool), Error> {
    let wait_error = |source| Error::Wait { program: command.program.clone(), source };
    tokio::select! {
        biased;
        status = child.wait() => return Ok((status.map_err(wait_error)?, false, false)),
        () = cancel.cancelled() => {}
    }
    let ladder = command.cancel;
    for (signal, patience) in [(Signal::SIGINT, ladder.interrupt), (Signal::SIGTERM, ladder.terminate)] {
        tracing::debug!(process_id = child.process_id(), %signal, "cancelling a process");
        if child.signal(signal, ladder.reach)
            && let Ok(status) = timeout(patience, child.wait()).await
        {
            return Ok((status.map_err(wait_error)?, true, false));
        }
        if ladder.stubborn == Stubborn::Wait {
            return Ok((child.wait().await.map_err(wait_error)?, true, false));
        }
    }
    (child.killer())();
    match timeout(KILL_PATIENCE, child.wait()).await {
        Ok(status) => Ok((status.map_err(wait_error)?, true, true)),
        Err(_) => Err(Error::Stuck { program: command.program.clone(), process_id: child.process_id() }),
    }
}

/// Writes the input and closes it.
async fn feed(pipe: Option<pipe::Sender>, input: Option<Vec<u8>>) {
    if let (Some(mut pipe), Some(input)) = (pipe, input)
        && let Err(error) = pipe.write_all(&input).await
    {
        // A process need not read all of its input.
        tracing::debug!(%error, "a process closed its input early");
    }
}

/// What a short command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// What became of the process.
    pub ended: Ended,
    /// The lines of its standard output, each with `\n`.
    pub stdout: String,
    /// The lines of its standard error, each with `\n`.
    pub stderr: String,
}

/// Runs `command` and keeps at most `limit_bytes` of each of its outputs (the rest is dropped).
///
/// # Errors
///
/// As [`run`].
pub async fn capture(
    command: Command,
    cancel: &CancellationToken,
    limit_bytes: usize,
) -> Result<Captured, Error> {
    let mut kept = Kept { limit_bytes, stdout: String::new(), stderr: String::new() };
    let ended = run(command, cancel, &mut kept).await?;
    Ok(Captured { ended, stdout: kept.stdout, stderr: kept.stderr })
}

struct Kept {
    limit_bytes: usize,
    stdout: String,
    stderr: String,
}

impl Sink for Kept {
    async fn line(&mut self, line: Line<'_>) {
        let kept = match line.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if kept.len() + line.text.len() < self.limit_bytes {
            kept.push_str(line.text);
            if !line.continues {
                kept.push('\n');
            }
        }
    }
}
