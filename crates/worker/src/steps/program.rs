//! The program that a step consists of: found, given its environment, run with its commands carried out.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dayfly_processes::programs;
use dayfly_protocol::TaskResult;

use super::{Prepared, StepError};
use crate::containers::inherited;
use crate::context::StepContext;
use crate::environment;
use crate::process::{self, Command, Exit, Ladder, Place, Reach, Sink, Stubborn};

/// A program to run for a step.
pub(super) struct Program {
    /// Its full path.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// The folder it runs in.
    pub(super) directory: PathBuf,
    /// Its whole environment.
    pub(super) environment: BTreeMap<OsString, OsString>,
}

/// How it ended.
pub(super) enum Ended {
    /// By itself.
    Exited(Exit),
    /// It was ended, since it had said that the step is complete, with this result.
    Completed(TaskResult),
}

impl Program {
    /// Runs it at `place`; `output` gets its lines.
    pub(super) async fn run(
        self,
        step: &StepContext,
        place: &Place,
        output: &mut impl Sink,
    ) -> Result<Ended, StepError> {
        let mut command = Command::new(self.program.clone(), self.directory);
        command.arguments = self.arguments;
        command.environment = self.environment;
        command.place = place.clone();
        command.cancel = ladder(step);
        command.background = Some(step.job.background.clone());
        command.out_of_memory_score = out_of_memory_score(step).or(command.out_of_memory_score);
        let stop = step.cancel.child_token();
        let ended = {
            let run = process::run(command, &stop, output);
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
            return Ok(Ended::Completed(step.result().unwrap_or(TaskResult::Succeeded)));
        }
        Ok(Ended::Exited(ended.exit))
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

/// The adjustment the job asks for (`ProcessInvoker.cs`, `PIPELINE_JOB_OOMSCOREADJ`).
fn out_of_memory_score(step: &StepContext) -> Option<i32> {
    let text = step.job.inherited.get(OsStr::new("PIPELINE_JOB_OOMSCOREADJ"))?;
    text.to_str()?.trim().parse().ok()
}
