//! Starts the program that a task is about, as the task library does (`azure-pipelines-task-lib`,
//! `toolrunner.ts`).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::super::output::{Kept, StepOutput};
use super::super::program::{self, Ended, environment_of, which};
use super::super::shell::not_found;
use super::super::{Prepared, StepError};
use crate::context::StepContext;

/// A program with its arguments.
pub(super) struct Program {
    /// Its name on the PATH, or its path.
    pub(super) name: String,
    pub(super) arguments: Vec<OsString>,
    /// The folder it starts in.
    pub(super) folder: PathBuf,
    /// Whether it fails when anything is written to the standard error.
    pub(super) fails_on_stderr: bool,
    /// Variables of its environment beside those of the step.
    pub(super) variables: Vec<(&'static str, String)>,
}

impl Program {
    /// A program that gets what the step has.
    pub(super) fn new(
        name: impl Into<String>,
        arguments: Vec<OsString>,
        folder: impl Into<PathBuf>,
    ) -> Program {
        Program {
            name: name.into(),
            arguments,
            folder: folder.into(),
            fails_on_stderr: false,
            variables: Vec::new(),
        }
    }

    /// Runs it with its output in the log; answers the exit code.
    pub(super) async fn run(self, step: &StepContext, prepared: &Prepared) -> Result<i32, StepError> {
        let fails_on_stderr = self.fails_on_stderr;
        let program = self.found(step, prepared).await?;
        let path = program.program.clone();
        step.output(&command_line(&program)).await;
        let mut output = StepOutput::of_script(step, fails_on_stderr);
        let ended = program.run(step, &prepared.place, &mut output).await?;
        if output.into_stderr().is_some() {
            return Err(StepError::Failed(format!(
                "The process '{}' failed because one or more lines were written to the STDERR stream",
                path.display()
            )));
        }
        Ok(code_of(&ended))
    }

    /// Runs it with its output in the log, and keeps that, too.
    pub(super) async fn kept(self, step: &StepContext, prepared: &Prepared) -> Result<Output, StepError> {
        self.keep(step, prepared, true).await
    }

    /// Runs it with nothing in the log, and answers what it said.
    pub(super) async fn silently(self, step: &StepContext, prepared: &Prepared) -> Result<Output, StepError> {
        self.keep(step, prepared, false).await
    }

    async fn keep(
        self,
        step: &StepContext,
        prepared: &Prepared,
        is_shown: bool,
    ) -> Result<Output, StepError> {
        let program = self.found(step, prepared).await?;
        let path = program.program.clone();
        if is_shown {
            step.output(&command_line(&program)).await;
        }
        let mut kept = Kept::new(step, MOST_KEPT_BYTES, is_shown);
        let ended = program.run(step, &prepared.place, &mut kept).await?;
        let Kept { stdout, stderr, stdout_bytes, .. } = kept;
        Ok(Output { path, code: code_of(&ended), stdout, stderr, stdout_bytes })
    }

    /// The program with its path and its environment.
    async fn found(self, step: &StepContext, prepared: &Prepared) -> Result<program::Program, StepError> {
        let mut environment = environment_of(step, prepared).await?;
        environment.extend(self.variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        let path = if self.name.contains('/') {
            PathBuf::from(&self.name)
        } else {
            let found = which(&self.name, &environment, &prepared.place).await;
            found.ok_or_else(|| not_found(step, &self.name, &prepared.place))?
        };
        let (arguments, directory) = (self.arguments, self.folder);
        Ok(program::Program { program: path, arguments, directory, environment })
    }

    /// Runs it and fails unless it succeeds (`LIB_ProcessExitCode`).
    pub(super) async fn must(self, step: &StepContext, prepared: &Prepared) -> Result<(), StepError> {
        let name = self.name.clone();
        match self.run(step, prepared).await? {
            0 => Ok(()),
            code => Err(StepError::Failed(format!("The process '{name}' failed with exit code {code}"))),
        }
    }
}

/// How much of each output of a program is kept.
const MOST_KEPT_BYTES: usize = 16 * 1024 * 1024;

/// What a program said, and how it ended.
pub(super) struct Output {
    /// Its path.
    pub(super) path: PathBuf,
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// How much it wrote to its standard output, of which the first 16 MiB are kept.
    pub(super) stdout_bytes: usize,
}

impl Output {
    /// All that it wrote to its standard output; fails if that was too much to be kept.
    pub(super) fn whole(&self) -> Result<&str, StepError> {
        if self.stdout.len() == self.stdout_bytes {
            return Ok(&self.stdout);
        }
        Err(StepError::Failed(format!(
            "The process '{}' wrote {} bytes; at most {MOST_KEPT_BYTES} are taken.",
            self.path.display(),
            self.stdout_bytes
        )))
    }

    /// That it failed, in the words of the task library (`LIB_ProcessExitCode`).
    pub(super) fn failure(&self) -> StepError {
        StepError::Failed(format!(
            "The process '{}' failed with exit code {}",
            self.path.display(),
            self.code
        ))
    }
}

fn command_line(program: &program::Program) -> String {
    let mut line = format!("[command]{}", program.program.display());
    for argument in &program.arguments {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn code_of(ended: &Ended) -> i32 {
    match ended {
        Ended::Exited(exit) => exit.code(),
        // It said itself what its result is.
        Ended::Completed(_) => 0,
    }
}

/// The first of these programs that is on the path of the step.
pub(super) async fn first_of(
    names: &[&'static str],
    step: &StepContext,
    prepared: &Prepared,
) -> Result<Option<&'static str>, StepError> {
    let environment = environment_of(step, prepared).await?;
    for name in names {
        if which(name, &environment, &prepared.place).await.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Arguments of different kinds in one list.
pub(super) fn arguments<const N: usize>(list: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    list.map(|argument| argument.as_ref().to_owned()).into()
}

/// The words of a line (`_argStringToArray`): `"` holds words together, and `\"` within is a quote.
pub(super) fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let (mut word, mut is_quoted, mut has_word) = (String::new(), false, false);
    let mut letters = line.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                has_word = true;
            }
            '\\' if is_quoted && letters.peek() == Some(&'"') => word.extend(letters.next()),
            ' ' if !is_quoted => {
                if has_word || !word.is_empty() {
                    words.push(std::mem::take(&mut word).into());
                }
                has_word = false;
            }
            letter => word.push(letter),
        }
    }
    if has_word || !word.is_empty() {
        words.push(word.into());
    }
    words
}

/// A folder that must be there.
pub(super) async fn folder(path: &str) -> Result<PathBuf, StepError> {
    if crate::files::is_folder(path).await {
        Ok(Path::new(path).to_owned())
    } else {
        Err(StepError::Failed(format!("Not found workingDirectory: {path}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_the_task_library_does() {
        let cases: [(&str, &[&str]); 5] = [
            ("a  b", &["a", "b"]),
            ("--x=\"a b\" c", &["--x=a b", "c"]),
            ("\"say \\\"hi\\\"\"", &["say \"hi\""]),
            ("a\\b \"\"", &["a\\b", ""]),
            ("  ", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line), expected.iter().map(OsString::from).collect::<Vec<_>>(), "{line}");
        }
    }
}
