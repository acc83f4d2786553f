//! Docker or Podman on this machine: which one there is, and how its commands are run
//! (`Container/DockerCommandManager.cs`).
//!
//! Docker comes first, if its daemon answers, since that is what pipelines are written for.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_processes::programs;
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::context::StepContext;
use crate::process::{self, Command, Line, Sink, Stream};

/// How long an engine may take to say what it is.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// How much of what a command prints is kept.
const MAX_KEPT_BYTES: usize = 256 * 1024;

/// How much of a reason is shown.
const MAX_REASON_CHARS: usize = 300;

/// No engine can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("containers need Docker or Podman, and {0}")]
pub struct NoEngine(String);

/// Why a command of the engine did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// It could not be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// It ended with an error.
    #[error("`{command}` failed with exit code {code}{}", because(reason))]
    Exit { command: String, code: i32, reason: String },
    /// It said something else than expected.
    #[error("`{command}` answers `{answer}`, which is not understood")]
    Answer { command: String, answer: String },
    /// It was stopped.
    #[error("The operation was canceled.")]
    Canceled,
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

impl Kind {
    /// The program's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// An engine that answers.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    /// Whether it runs as the user of this process, who is root in its containers then.
    pub(crate) is_rootless: bool,
    /// Why it is not Docker, if it is not.
    no_docker: String,
    environment: BTreeMap<OsString, OsString>,
}

impl Engine {
    /// The engine that a process with this environment finds.
    ///
    /// # Errors
    ///
    /// Neither is there, or neither answers.
    pub(crate) async fn find(
        environment: &BTreeMap<OsString, OsString>,
        cancel: &CancellationToken,
    ) -> Result<Self, NoEngine> {
        if !cfg!(target_os = "linux") {
            // Its own program, which starts the steps there, is one of this system.
            return Err(NoEngine("on this system Dayfly can use neither".to_owned()));
        }
        let docker = match Self::answering(Kind::Docker, environment, cancel).await {
            Ok(engine) => return Ok(engine),
            Err(reason) => reason,
        };
        let podman = match Self::answering(Kind::Podman, environment, cancel).await {
            Ok(engine) => return Ok(Self { no_docker: docker, ..engine }),
            Err(reason) => reason,
        };
        Err(NoEngine(format!("{docker}; {podman}")))
    }

    async fn answering(
        kind: Kind,
        environment: &BTreeMap<OsString, OsString>,
        cancel: &CancellationToken,
    ) -> Result<Self, String> {
        let name = kind.name();
        let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let found = tokio::task::spawn_blocking(move || programs::find(name, &path)).await.ok().flatten();
        let program = found.ok_or_else(|| format!("`{name}` is not on the PATH"))?;
        let mut engine = Self {
            kind,
            program,
            is_rootless: !nix::unistd::geteuid().is_root(),
            no_docker: String::new(),
            environment: environment.clone(),
        };
        if kind == Kind::Docker {
            engine.is_rootless = engine.ask_daemon(cancel).await?;
        }
        Ok(engine)
    }

    /// Whether Docker's daemon, which must answer, is one of a user's own.
    async fn ask_daemon(&self, cancel: &CancellationToken) -> Result<bool, String> {
        let asked = self.ask(["version", "--format", "{{json .Server}}"], cancel);
        let said = match timeout(ANSWER_PATIENCE, asked).await {
            Ok(said) => said.map_err(|error| format!("`docker` cannot be used: {error}"))?,
            Err(_) => {
                let seconds = ANSWER_PATIENCE.as_secs();
                return Err(format!("`docker` does not answer within {seconds} seconds"));
            }
        };
        let server: Server = serde_json::from_str(&said)
            .map_err(|_| format!("`docker` does not say what its daemon is: {}", shortened(&said)))?;
        Ok(server.components.iter().any(|one| one.name == ROOTLESS_COMPONENT))
    }

    /// Whether it can do more than be there. Podman has no daemon to ask, so that its storage and its user
    /// are first looked at here.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) async fn check(&self, cancel: &CancellationToken) -> Result<(), NoEngine> {
        if self.kind == Kind::Docker {
            return Ok(());
        }
        let said = self.ask(["ps", "--quiet"], cancel).await;
        said.map(drop)
            .map_err(|error| NoEngine(format!("{}; `podman` cannot be used: {error}", self.no_docker)))
    }

    /// Runs a command without a word in the log, and answers what it prints.
    pub(crate) async fn ask<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        cancel: &CancellationToken,
    ) -> Result<String, Failed> {
        let command = self.command(arguments);
        let shown = shown(&command);
        let said = process::capture(command, cancel, MAX_KEPT_BYTES).await?;
        if said.ended.cancelled {
            return Err(Failed::Canceled);
        }
        match said.ended.exit.code() {
            0 => Ok(said.stdout),
            code => Err(Failed::Exit { command: shown, code, reason: shortened(&said.stderr) }),
        }
    }

    /// Runs a command whose line and output go into the log, and answers what it prints.
    pub(crate) async fn run(
        &self,
        step: &StepContext,
        call: Call,
        cancel: &CancellationToken,
    ) -> Result<String, Failed> {
        let mut command = self.command(call.arguments);
        command.environment.extend(call.environment);
        command.stdin = call.input;
        let shown = shown(&command);
        step.command(&shown).await;
        let mut told = Told { step, stdout: String::new(), reason: String::new() };
        let ended = process::run(command, cancel, &mut told).await?;
        if ended.cancelled {
            return Err(Failed::Canceled);
        }
        match ended.exit.code() {
            0 => Ok(told.stdout),
            code => {
                let command = brief(&self.program, &shown);
                Err(Failed::Exit { command, code, reason: shortened(&told.reason) })
            }
        }
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program, Path::new("/"));
        command.arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        command.environment = self.environment.clone();
        // The engine's own processes are not the job's: they must not be killed before it.
        command.out_of_memory_score = None;
        command
    }
}

/// What one command of the engine is given.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) arguments: Vec<OsString>,
    /// Beside the environment of the engine.
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) input: Option<Vec<u8>>,
}

impl<S: Into<OsString>, const N: usize> From<[S; N]> for Call {
    fn from(arguments: [S; N]) -> Self {
        Self { arguments: arguments.map(Into::into).into(), ..Self::default() }
    }
}

/// The command as the log shows it.
fn shown(command: &Command) -> String {
    let mut line = command.program.display().to_string();
    for argument in &command.arguments {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// The program and its first word: the log has the whole line.
fn brief(program: &Path, line: &str) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let after = line.get(program.as_os_str().len()..).unwrap_or_default();
    format!("{name} {}", after.split_whitespace().next().unwrap_or_default())
}

/// The last lines of a reason, on one line.
fn shortened(text: &str) -> String {
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_REASON_CHARS).collect()
}

/// How Docker's daemon calls the part that only a rootless one has.
const ROOTLESS_COMPONENT: &str = "rootlesskit";

/// What `docker version` says of the daemon.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

/// Puts what a command prints into the log, and keeps it.
struct Told<'a> {
    step: &'a StepContext,
    stdout: String,
    /// The last line of the standard error, or the last that calls itself an error.
    reason: String,
}

impl Sink for Told<'_> {
    async fn line(&mut self, line: Line<'_>) {
        self.step.output(line.text).await;
        match line.stream {
            Stream::Stdout if self.stdout.len() + line.text.len() < MAX_KEPT_BYTES => {
                self.stdout.push_str(line.text);
                self.stdout.push('\n');
            }
            Stream::Stdout => {}
            Stream::Stderr if line.text.trim().is_empty() => {}
            Stream::Stderr if is_error(&self.reason) && !is_error(line.text) => {}
            Stream::Stderr => line.text.clone_into(&mut self.reason),
        }
    }
}

fn is_error(line: &str) -> bool {
    line.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"))
}
