//! The git program as checkout uses it (`GitCliManager.cs`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_client::random_pause;
use tokio_util::sync::CancellationToken;

use super::{StepError, credentials::Header};
use crate::context::StepContext;
use crate::process::{self, Command, Place};
use crate::steps::output::StepOutput;
use crate::steps::program::{ladder, which};
use crate::steps::shell::not_found;

/// How often a fetch is tried.
const FETCH_ATTEMPTS: u32 = 3;
/// How much of a small command's output is read.
const MAX_CAPTURED_BYTES: usize = 64 * 1024;

/// How much of a list of objects is read: some two million.
const MAX_LISTED_BYTES: usize = 256 * 1024 * 1024;

/// Turns hooks off: they would inherit the header.
const NO_HOOKS: &str = "core.hooksPath=/dev/null";

/// A version of git: major, minor, patch.
pub(super) type Version = (u32, u32, u32);

/// The oldest git that takes configuration from the environment (`--config-env`).
const CONFIG_ENV_SINCE: Version = (2, 31, 0);

/// Git for one step.
pub(super) struct Git<'a> {
    step: &'a StepContext,
    program: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    pub(super) version: Version,
    has_lfs: bool,
}

/// Configuration of one command.
#[derive(Default)]
pub(super) struct Configuration {
    /// Handed over by the environment.
    secret: Vec<(String, String)>,
    /// Handed over as arguments.
    plain: Vec<(String, String)>,
}

impl Configuration {
    /// Adds the login header under a key such as `http.extraheader`.
    pub(super) fn with_header(mut self, key: impl Into<String>, header: Option<&Header>) -> Configuration {
        if let Some(header) = header {
            self.secret.push((key.into(), header.value().to_owned()));
        }
        self
    }

    /// Adds a setting that may be seen.
    pub(super) fn with_setting(mut self, key: String, value: Option<&str>) -> Configuration {
        self.plain.extend(value.map(|value| (key, value.to_owned())));
        self
    }
}

impl<'a> Git<'a> {
    /// Finds git and asks its version.
    pub(super) async fn find(step: &'a StepContext, with_lfs: bool) -> Result<Git<'a>, StepError> {
        // As it was before the first step: what runs in a step must not choose the program that is given the
        // login (by `PATH`), nor what that loads (`GIT_EXEC_PATH`, `LD_PRELOAD`) or writes down
        // (`GIT_TRACE_CURL`).
        let mut environment = step.job.first_environment().clone();
        // What a step of an earlier job says of an object is nothing to go by.
        environment.insert("GIT_NO_REPLACE_OBJECTS".into(), "1".into());
        if !with_lfs {
            // Without `lfs: true`, pointers stay pointers even if large files are configured on this machine.
            environment.insert("GIT_LFS_SKIP_SMUDGE".into(), "1".into());
        }
        let program = which("git", &environment, &Place::Here)
            .await
            .ok_or_else(|| not_found(step, "git", &Place::Here))?;
        let has_lfs = which("git-lfs", &environment, &Place::Here).await.is_some();
        let mut git = Git { step, program, environment, version: (0, 0, 0), has_lfs };
        let folder = PathBuf::from(step.job.variable_or_empty("agent.workfolder"));
        let (code, text) = git.capture(&folder, &["version"]).await?;
        step.output(text.trim()).await;
        git.version = parse_version(&text).filter(|_| code == 0).ok_or_else(|| {
            StepError::Failed(format!("'git version' failed with exit code {code}: {}", text.trim()))
        })?;
        if git.version < (2, 0, 0) {
            return Err(StepError::Failed(format!(
                "Min required git version is '2.0', your git ('{}') version is '{}'",
                git.program.display(),
                git.version_text()
            )));
        }
        let agent = format!("git/{} (dayfly-git/{})", git.version_text(), env!("CARGO_PKG_VERSION"));
        git.environment.insert("GIT_HTTP_USER_AGENT".into(), agent.into());
        git.environment.insert("GIT_TERMINAL_PROMPT".into(), "0".into());
        if with_lfs {
            git.require_lfs(&folder).await?;
        }
        Ok(git)
    }

    async fn require_lfs(&self, folder: &Path) -> Result<(), StepError> {
        if !self.has_lfs {
            return Err(StepError::Failed(
                "The checkout asks for large files (lfs: true), but git-lfs is not installed on this agent."
                    .to_owned(),
            ));
        }
        let (_, text) = self.capture(folder, &["lfs", "version"]).await?;
        self.step.output(text.trim()).await;
        Ok(())
    }

    /// `2.43.0`.
    pub(super) fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }

    /// Refuses to log in with a git that would need the token in its arguments.
    pub(super) fn require_secret_passing(&self, header: Option<&Header>) -> Result<(), StepError> {
        if header.is_some() && self.version < CONFIG_ENV_SINCE {
            return Err(StepError::Failed(format!(
                "Git {} cannot be given credentials without showing them to every process on this machine. \
                 Install git 2.31 or newer.",
                self.version_text()
            )));
        }
        Ok(())
    }

    /// Runs a command of git with its output in the log; answers the exit code.
    pub(super) async fn run(
        &self,
        folder: &Path,
        arguments: &[&str],
        configuration: &Configuration,
    ) -> Result<i32, StepError> {
        let (command, text) = self.command(folder, arguments, configuration);
        self.step.command(&text).await;
        let mut output = StepOutput::of_program(self.step);
        let ended = process::run(command, &self.step.cancel, &mut output).await?;
        if self.step.cancel.is_cancelled() {
            return Err(StepError::Canceled);
        }
        Ok(ended.exit.code())
    }

    /// Runs a command and fails the step with these words unless it succeeds.
    pub(super) async fn must(
        &self,
        what: &str,
        folder: &Path,
        arguments: &[&str],
        configuration: &Configuration,
    ) -> Result<(), StepError> {
        match self.run(folder, arguments, configuration).await? {
            0 => Ok(()),
            code => Err(StepError::Failed(format!("{what} failed with exit code: {code}"))),
        }
    }

    /// Runs a command and keeps its output from the log, since it may hold credentials; answers exit code and
    /// output.
    pub(super) async fn quiet(&self, folder: &Path, arguments: &[&str]) -> Result<(i32, String), StepError> {
        let (_, text) = self.command(folder, arguments, &Configuration::default());
        self.step.command(&text).await;
        self.capture(folder, arguments).await
    }

    /// The lines that a command prints; none if it fails or prints too many.
    pub(super) async fn list(&self, folder: &Path, arguments: &[&str]) -> Result<Option<String>, StepError> {
        self.capture_of(folder, arguments, None, MAX_LISTED_BYTES).await
    }

    /// Gives a command its input; answers what it prints, none if it fails.
    pub(super) async fn feed(
        &self,
        folder: &Path,
        arguments: &[&str],
        input: String,
    ) -> Result<Option<String>, StepError> {
        self.capture_of(folder, arguments, Some(input), MAX_CAPTURED_BYTES).await
    }

    async fn capture_of(
        &self,
        folder: &Path,
        arguments: &[&str],
        input: Option<String>,
        max_bytes: usize,
    ) -> Result<Option<String>, StepError> {
        let (mut command, text) = self.command(folder, arguments, &Configuration::default());
        self.step.command(&text).await;
        command.stdin = input.map(String::into_bytes);
        let captured = process::capture(command, &self.step.cancel, max_bytes).await?;
        if self.step.cancel.is_cancelled() {
            return Err(StepError::Canceled);
        }
        self.step.debug(captured.stderr.trim()).await;
        // Where lines were left out, there is no room for another.
        let is_whole =
            captured.stdout.len() + MAX_CAPTURED_BYTES < max_bytes || max_bytes == MAX_CAPTURED_BYTES;
        Ok((is_whole && captured.ended.exit.code() == 0).then_some(captured.stdout))
    }

    async fn capture(&self, folder: &Path, arguments: &[&str]) -> Result<(i32, String), StepError> {
        let (command, _) = self.command(folder, arguments, &Configuration::default());
        let captured = process::capture(command, &self.step.cancel, MAX_CAPTURED_BYTES).await?;
        if self.step.cancel.is_cancelled() {
            return Err(StepError::Canceled);
        }
        Ok((captured.ended.exit.code(), captured.stdout))
    }

    /// Fetches, three times at the most.
    pub(super) async fn fetch(
        &self,
        folder: &Path,
        arguments: &[&str],
        configuration: &Configuration,
    ) -> Result<(), StepError> {
        let mut attempt = 1;
        loop {
            let code = self.run(folder, arguments, configuration).await?;
            if code == 0 {
                return Ok(());
            }
            if attempt == FETCH_ATTEMPTS {
                return Err(StepError::Failed(format!("Git fetch failed with exit code: {code}")));
            }
            attempt += 1;
            let pause = random_pause(Duration::from_secs(1), Duration::from_secs(10));
            self.step
                .warning(&format!(
                    "Git fetch failed with exit code {code}, back off {:.1} seconds before retry.",
                    pause.as_secs_f64()
                ))
                .await;
            wait(pause, &self.step.cancel).await?;
        }
    }

    /// The command, and how the log shows it: the environment, where the secrets are, is not part of it.
    fn command(&self, folder: &Path, arguments: &[&str], configuration: &Configuration) -> (Command, String) {
        let mut command = Command::new(self.program.clone(), folder.to_owned());
        command.environment = self.environment.clone();
        if let Some(above) = folder.parent() {
            // A repository that is not whole must not make git look for another one above, which an earlier
            // job may have put there.
            command.environment.insert("GIT_CEILING_DIRECTORIES".into(), above.into());
        }
        command.cancel = ladder(self.step);
        let mut text = String::from("git");
        let mut set = |options: &[&str]| {
            for option in options {
                text.push(' ');
                text.push_str(option);
                command.arguments.push(OsStr::new(option).to_owned());
            }
        };
        if !configuration.secret.is_empty() {
            set(&["-c", NO_HOOKS]);
        }
        for (key, value) in &configuration.secret {
            let name = variable_of(key);
            set(&[&format!("--config-env={key}={name}")]);
            command.environment.insert(name.into(), value.into());
        }
        let own_authority = configuration.plain.iter().any(|(key, _)| key.ends_with(".sslcainfo"));
        // This variable of git's beats its configuration, also that for a single host. As configuration it
        // holds for all others.
        if own_authority && let Some(file) = command.environment.remove(OsStr::new("GIT_SSL_CAINFO")) {
            set(&["-c", &format!("http.sslcainfo={}", file.to_string_lossy())]);
        }
        for (key, value) in &configuration.plain {
            set(&["-c", &format!("{key}={value}")]);
        }
        set(arguments);
        (command, text)
    }
}

/// The environment variable for a setting. Shells drop variables whose names they cannot hold, and `git` may
/// be a shell script.
fn variable_of(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("env_var_{name}")
}

async fn wait(pause: Duration, cancel: &CancellationToken) -> Result<(), StepError> {
    tokio::select! {
        () = tokio::time::sleep(pause) => Ok(()),
        () = cancel.cancelled() => Err(StepError::Canceled),
    }
}

/// The version in what `git version` prints, such as `git version 2.39.3 (Apple Git-146)`.
fn parse_version(text: &str) -> Option<Version> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text[start..]
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?
        .split('.')
        .map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_all_kinds_of_git() {
        for (text, expected) in [
            ("git version 2.43.0\n", Some((2, 43, 0))),
            ("git version 2.39.3 (Apple Git-146)", Some((2, 39, 3))),
            ("git version 2.42.0.windows.2", Some((2, 42, 0))),
            ("git version 2.9", Some((2, 9, 0))),
            ("command not found", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }
}
