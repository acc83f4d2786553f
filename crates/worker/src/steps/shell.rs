//! What the three script steps share: a file with the script, a shell that runs it, and what its end means.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use tokio::io::AsyncWriteExt;

use super::StepError;
use super::output::StepOutput;
use super::program::{Ended, Program};
use crate::context::StepContext;
use crate::files;
use crate::process::{Exit, Place};

/// The line before a script's output.
const STARTING: &str = "========================== Starting Command Output ===========================";

/// A script to run.
pub(super) struct Shell<'a> {
    /// What the messages call it: `Bash` or `PowerShell`.
    pub(super) name: &'a str,
    /// The full path of the program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// The folder it runs in.
    pub(super) directory: PathBuf,
    /// Fail when anything is written to the standard error.
    pub(super) fail_on_stderr: bool,
    /// Whether exit code 137 gets the words about memory.
    pub(super) explains_137: bool,
}

impl Shell<'_> {
    /// Runs it and says what its end means.
    pub(super) async fn run(
        self,
        step: &StepContext,
        environment: BTreeMap<OsString, OsString>,
        place: &Place,
    ) -> Result<TaskResult, StepError> {
        step.output(STARTING).await;
        step.output(&self.command_line()).await;
        let mut output = StepOutput::of_script(step, self.fail_on_stderr);
        let program = Program {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            directory: self.directory.clone(),
            environment,
        };
        let exit = match program.run(step, place, &mut output).await? {
            Ended::Exited(exit) => exit,
            Ended::Completed(result) => return Ok(result),
        };
        Ok(self.judge(step, exit, output.into_stderr()).await)
    }

    async fn judge(&self, step: &StepContext, exit: Exit, stderr: Option<String>) -> TaskResult {
        let mut result = TaskResult::Succeeded;
        let code = exit.code();
        if code != 0 {
            let message = if code == 137 && self.explains_137 {
                format!(
                    "{} exited with code 137, which means it ran out of memory. Make sure the agent \
                     (container) host has sufficient memory configured.",
                    self.name
                )
            } else {
                format!("{} exited with code '{code}'.", self.name)
            };
            step.error(&message).await;
            result = TaskResult::Failed;
        }
        if let Some(stderr) = stderr {
            step.error(&format!("{} wrote one or more lines to the standard error stream.", self.name)).await;
            step.error(&stderr).await;
            result = TaskResult::Failed;
        }
        result
    }

    fn command_line(&self) -> String {
        let mut line = format!("[command]{}", self.program.display());
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        line
    }
}

/// Writes a script into the job's folder for temporary files, readable by this user only: macros may have put
/// secrets into it.
pub(super) async fn write_script(
    step: &StepContext,
    extension: &str,
    contents: &str,
) -> Result<PathBuf, StepError> {
    let folder = step.job.variable_or_empty("agent.tempdirectory");
    if !files::is_folder(&folder).await {
        return Err(StepError::Failed(format!("Not found {folder} (agent.tempDirectory): {folder}")));
    }
    let path = Path::new(&folder).join(format!("{}.{extension}", uuid::Uuid::new_v4()));
    let written = async {
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).await?;
        file.write_all(contents.as_bytes()).await?;
        file.flush().await
    };
    match written.await {
        Ok(()) => Ok(path),
        Err(error) => {
            Err(StepError::Failed(format!("Could not write the script to {}: {error}", path.display())))
        }
    }
}

/// Prints a script of one line, unless it holds a logging command, which would be carried out.
pub(super) async fn print_one_liner(step: &StepContext, script: &str) {
    if !script.contains('\n') && !script.to_uppercase().contains("##VSO[") {
        step.output("Script contents:").await;
        step.output(script).await;
    }
}

/// Says that a program is missing, beginning as the task library does, and what to do about it.
pub(super) fn not_found(step: &StepContext, name: &str, place: &Place) -> StepError {
    // A variable for a path of one's own is easily called that, and is the PATH from then on.
    let replaced = step.job.with_variables(|variables| {
        let path = variables.iter().find(|variable| variable.name.eq_ignore_ascii_case("path"));
        path.filter(|variable| !variable.secret)
            .map(|variable| (variable.name.clone(), variable.value.clone()))
    });
    let advice = match (replaced, name) {
        (Some((variable, value)), _) => {
            format!("The variable '{variable}' replaces the PATH, which is '{value}' now; rename the \
                     variable.")
        }
        (None, "pwsh") => "This step needs PowerShell 7: install it from https://aka.ms/install-powershell, or use `bash:` instead of `pwsh:`.".to_owned(),
        (None, "git") => "Install git on this agent; checkout needs version 2.0 or newer.".to_owned(),
        (None, _) if matches!(place, Place::Container(_)) => {
            "It is not in the image of the container: use an image that has it.".to_owned()
        }
        (None, _) => "Install it on this agent, or add its folder to the PATH.".to_owned(),
    };
    StepError::Failed(format!("Unable to locate executable file: '{name}'. {advice}"))
}
