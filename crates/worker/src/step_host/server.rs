//! The step host's side: starts what the worker asks for.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dayfly_processes::{kill, orphans, programs};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::wire::{Answer, DESCRIPTORS, Frames, FromHost, Start, ToHost, send};
use crate::platform;

/// How long the worker may take to listen. Its container is started before this one.
const WORKER_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Pause between two tries to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How long what steps have left running may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Signals that wait for their process, and answers that wait to be sent.
const QUEUE: usize = 64;

/// Why a step host could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ServeHostError {
    /// Nobody listens.
    #[error("no worker listens at {}", path.display())]
    NoWorker {
        /// The socket.
        path: PathBuf,
        /// What the system said last.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the connection to the worker broke")]
    Broken(#[from] io::Error),
}

/// Starts the steps of the worker that listens on `socket`, until it closes the connection; then kills all
/// that is left of them. `environment` is the container's.
///
/// # Errors
///
/// No worker listens, or the connection breaks.
pub async fn serve(
    socket: &Path,
    environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<(), ServeHostError> {
    let stream = connect(socket).await?;
    let environment = environment.into_iter().collect();
    send(&stream, &FromHost::Hello { environment }, &[]).await?;
    let served = Host::new(&stream).serve().await;
    end_all().await;
    Ok(served?)
}

async fn connect(socket: &Path) -> Result<UnixStream, ServeHostError> {
    let until = Instant::now() + WORKER_PATIENCE;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(source) if Instant::now() > until => {
                return Err(ServeHostError::NoWorker { path: socket.to_owned(), source });
            }
            Err(_) => sleep(CONNECT_PAUSE).await,
        }
    }
}

/// Ends everything else in the container, which is ours alone if this is its first process.
async fn end_all() {
    if std::process::id() == 1 {
        // That there is nobody is what we want.
        let _ = signal::kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    let _ = tokio::task::spawn_blocking(|| orphans::end_all(KILL_PATIENCE)).await;
}

/// A signal for a process, and whether for its whole group.
struct Order {
    signal: Signal,
    to_group: bool,
}

/// A process that has not ended.
struct Running {
    process_id: i32,
    orders: mpsc::Sender<Order>,
}

/// The conversation with the worker.
struct Host<'a> {
    stream: &'a UnixStream,
    answers: (mpsc::Sender<FromHost>, mpsc::Receiver<FromHost>),
    running: HashMap<u64, Running>,
    tasks: JoinSet<()>,
}

impl<'a> Host<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, answers: mpsc::channel(QUEUE), running: HashMap::new(), tasks: JoinSet::new() }
    }

    async fn serve(mut self) -> io::Result<()> {
        let mut frames = Frames::default();
        loop {
            tokio::select! {
                frame = frames.next(self.stream) => match frame? {
                    Some(frame) => self.obey(frame, &mut frames).await?,
                    None => return Ok(()),
                },
                Some(answer) = self.answers.1.recv() => {
                    if let FromHost::Answer { id, answer: Answer::Exited { .. } } = &answer {
                        self.running.remove(id);
                    }
                    send(self.stream, &answer, &[]).await?;
                }
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    async fn obey(&mut self, frame: ToHost, frames: &mut Frames) -> io::Result<()> {
        match frame {
            ToHost::Start(start) => {
                let pipes = frames.descriptors().ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "a process without file descriptors")
                })?;
                let id = start.id;
                let answer = self.start(*start, pipes);
                send(self.stream, &FromHost::Answer { id, answer }, &[]).await?;
            }
            ToHost::Signal { id, signal, to_group } => {
                if let (Some(running), Ok(signal)) = (self.running.get(&id), Signal::try_from(signal)) {
                    // One that has got so many signals has had this one as well.
                    let _ = running.orders.try_send(Order { signal, to_group });
                }
            }
            ToHost::Abandon { id } => {
                if let Some(running) = self.running.get(&id) {
                    self.kill_tree(running.process_id);
                }
            }
            ToHost::KillTree { process_id } => self.kill_tree(process_id),
            ToHost::Find { id, name, path } => {
                self.answer_by(id, move || Answer::Found { program: programs::find(&name, &path) });
            }
            ToHost::Sweep { id, lookup_id } => self.answer_by(id, move || {
                let ended = platform::kill_orphans(&lookup_id);
                Answer::Swept {
                    ended: ended.into_iter().map(|ended| (ended.process_id, ended.name)).collect(),
                }
            }),
        }
        Ok(())
    }

    fn kill_tree(&mut self, process_id: i32) {
        self.tasks.spawn_blocking(move || kill::tree(Pid::from_raw(process_id)));
    }

    /// Answers a request by what takes its time.
    fn answer_by(&mut self, id: u64, work: impl FnOnce() -> Answer + Send + 'static) {
        let answers = self.answers.0.clone();
        self.tasks.spawn_blocking(move || {
            let _ = answers.blocking_send(FromHost::Answer { id, answer: work() });
        });
    }

    fn start(&mut self, start: Start, pipes: [OwnedFd; DESCRIPTORS]) -> Answer {
        let child = match spawn(&start, pipes) {
            Ok(child) => child,
            Err(error) => {
                let is_directory_missing = !start.directory.is_dir();
                return Answer::NotStarted { errno: error.raw_os_error(), is_directory_missing };
            }
        };
        let process_id = child.id().expect("a child not waited for has an id").cast_signed();
        if let Some(score) = start.out_of_memory_score {
            platform::adjust_out_of_memory_score(Pid::from_raw(process_id), score);
        }
        let (orders, ordered) = mpsc::channel(QUEUE);
        self.running.insert(start.id, Running { process_id, orders });
        let (answers, id) = (self.answers.0.clone(), start.id);
        self.tasks.spawn(async move {
            let status = mind(child, process_id, ordered).await;
            let answer = Answer::Exited { status: status.into_raw() };
            let _ = answers.send(FromHost::Answer { id, answer }).await;
        });
        Answer::Started { process_id }
    }
}

fn spawn(start: &Start, [stdin, stdout, stderr]: [OwnedFd; DESCRIPTORS]) -> io::Result<Child> {
    let mut command = Command::new(&start.program);
    command
        .args(&start.arguments)
        .current_dir(&start.directory)
        .env_clear()
        .envs(start.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0)
        .kill_on_drop(true);
    orphans::spawn(|| command.spawn(), Child::id)
}

/// Waits for the end of a process, and hands signals to it until then: it is not reaped as long as there are
/// any, so its id is its own.
async fn mind(mut child: Child, process_id: i32, mut orders: mpsc::Receiver<Order>) -> ExitStatus {
    let process = Pid::from_raw(process_id);
    let status = loop {
        tokio::select! {
            biased;
            Some(order) = orders.recv() => {
                // One that has just ended needs no signal.
                let _ = match order.to_group {
                    true => signal::killpg(process, order.signal),
                    false => signal::kill(process, order.signal),
                };
            }
            status = child.wait() => break status,
        }
    };
    orphans::forget(process);
    status.unwrap_or_else(|error| {
        // Somebody else has waited for it, so how it ended is not known.
        tracing::warn!(process_id, %error, "the end of a process cannot be found out");
        ExitStatus::from_raw(Errno::ECHILD as i32)
    })
}
