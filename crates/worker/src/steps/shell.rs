//! What the three script steps share: a file with the script, a shell that runs it, and what its end means.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dayfly_processes::programs;
use dayfly_protocol::TaskResult;
use tokio::io::AsyncWriteExt;

use super::output::StepOutput;
use super::{Prepared, StepError};
use crate::containers::inherited;
use crate::context::StepContext;
use crate::environment;
use crate::files;
use crate::process::{self, Command, Exit, Ladder, Place, Reach, Stubborn};

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
        let mut command = Command::new(self.program.clone(), self.directory.clone());
        command.arguments.clone_from(&self.arguments);
        command.environment = environment;
        command.place = place.clone();
        command.cancel = ladder(step);
        command.background = Some(step.job.background.clone());
        command.out_of_memory_score = out_of_memory_score(step).or(command.out_of_memory_score);
        let mut output = StepOutput::of_script(step, self.fail_on_stderr);
        let stop = step.cancel.child_token();
        let ended = {
            let run = process::run(command, &stop, &mut output);
            tokio::pin!(run);
            tokio::select! {
                ended = &mut run => ended?,
                () = force_complete(step) => {
                    // The script said that it is done, so its process is in the way.
                    stop.cancel();
                    run.await?
                }
            }
        };
        if ended.left_children && !ended.cancelled {
            step.output(&left_children(&self.program)).await;
        }
        if step.cancel.is_cancelled() && ended.cancelled {
            return Err(StepError::Canceled);
        }
        if stop.is_cancelled() && ended.cancelled {
            return Ok(step.result().unwrap_or(TaskResult::Succeeded));
        }
        Ok(self.judge(step, &ended.exit, output.into_stderr()).await)
    }

    async fn judge(&self, step: &StepContext, exit: &Exit, stderr: Option<String>) -> TaskResult {
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

/// Why the step took longer than its process, in the words of the task library (`LIB_StdioNotClosed`).
fn left_children(program: &Path) -> String {
    format!(
        "The STDIO streams did not close within {} seconds of the exit event from process '{}'. This may \
         indicate a child process inherited the STDIO streams and has not yet exited.",
        process::OPEN_PIPE_PATIENCE.as_secs(),
        program.display()
    )
}

/// Ends five seconds after the step's process said `task.complete` with `done=true`
/// (`ExecutionContext.ForceTaskComplete`).
async fn force_complete(step: &StepContext) {
    const GRACE: std::time::Duration = std::time::Duration::from_secs(5);
    step.completed().cancelled_owned().await;
    tokio::time::sleep(GRACE).await;
}

/// The signals a cancelled process gets, with the times the job may have set (`AgentKnobs.cs`).
pub(super) fn ladder(step: &StepContext) -> Ladder {
    let mut ladder = Ladder::default();
    if step.job.settings.signal_groups {
        ladder.reach = Reach::Group;
    }
    step.job.with_variables(|variables| {
        let milliseconds = |name| {
            variables
                .get_number(name)
                .and_then(|n| u64::try_from(n).ok())
                .map(std::time::Duration::from_millis)
        };
        if let Some(interrupt) = milliseconds("PROCESS_SIGINT_TIMEOUT") {
            ladder.interrupt = interrupt;
        }
        if let Some(terminate) = milliseconds("PROCESS_SIGTERM_TIMEOUT") {
            ladder.terminate = terminate;
        }
        if variables.is_on("USE_GRACEFUL_PROCESS_SHUTDOWN") {
            ladder.stubborn = Stubborn::Wait;
        }
    });
    ladder
}

/// The environment of a script, from the step's own `env`.
pub(super) async fn environment_of(
    step: &StepContext,
    prepared: &Prepared,
) -> Result<BTreeMap<OsString, OsString>, StepError> {
    let environment =
        environment::of_step(&step.job, inherited(step, &prepared.place), &prepared.environment)
            .map_err(StepError::Failed)?;
    // Once is enough: the next steps have the same variables.
    let left_out = step.job.first_told(environment.left_out);
    if !left_out.is_empty() {
        step.warning(&left_out_of_environment(&left_out)).await;
    }
    Ok(environment.values)
}

/// Says which variables are too long for the environment.
fn left_out_of_environment(variables: &[(String, usize)]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> =
        variables.iter().take(SHOWN).map(|(name, length)| format!("'{name}' ({length} bytes)")).collect();
    if let Some(more @ 1..) = variables.len().checked_sub(SHOWN) {
        names.push(format!("{more} more"));
    }
    let example = &variables[0].0;
    let (variables, are, were) =
        if variables.len() == 1 { ("variable", "is", "was") } else { ("variables", "are", "were") };
    format!(
        "The {variables} {} {are} too large for the environment of a process and {were} left out of it. Use \
         `$({example})` in the script instead.",
        names.join(", ")
    )
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

/// Finds a program on the path the process will have, where it will run.
pub(super) async fn which(
    name: &str,
    environment: &BTreeMap<OsString, OsString>,
    place: &Place,
) -> Option<PathBuf> {
    let path = environment.get(OsStr::new("PATH"))?;
    if let Place::Container(place) = place {
        return place.host().find(name, path).await;
    }
    let (name, path) = (name.to_owned(), path.clone());
    tokio::task::spawn_blocking(move || programs::find(&name, &path)).await.ok()?
}

/// Says that a program is missing, beginning as the task library does, and what to do about it.
pub(super) fn not_found(step: &StepContext, name: &str) -> StepError {
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
        (None, _) => "Install it on this agent, or add its folder to the PATH.".to_owned(),
    };
    StepError::Failed(format!("Unable to locate executable file: '{name}'. {advice}"))
}

/// The adjustment the job asks for (`ProcessInvoker.cs`, `PIPELINE_JOB_OOMSCOREADJ`).
fn out_of_memory_score(step: &StepContext) -> Option<i32> {
    let text = step.job.inherited.get(OsStr::new("PIPELINE_JOB_OOMSCOREADJ"))?;
    text.to_str()?.trim().parse().ok()
}
