//! Runs a part of a task by the handler that fits (`TaskRunner.cs`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;
use semver::Version;

use super::manifest::{Handler, Runner, Stage};
use super::package::Package;
use super::{environment, node, powershell, process};
use crate::AGENT_VERSION;
use crate::context::StepContext;
use crate::files;
use crate::process::Exit;
use crate::steps::inputs::normalize;
use crate::steps::output::StepOutput;
use crate::steps::program::{Ended, Program, environment_of};
use crate::steps::{Prepared, StepError};
use crate::variables::expand_macros;

/// What the official agent says of a task that has no handler for this system.
const NO_HANDLER: &str = "A supported task execution handler was not found. This task does not have an \
                          implementation that is compatible with your current operating system. Contact the \
                          task author for more details.";

/// A part of a task that is about to run.
pub(super) struct Part<'a> {
    pub(super) step: &'a StepContext,
    pub(super) package: &'a Package,
    pub(super) prepared: &'a Prepared,
    /// What any step has in its environment.
    pub(super) environment: BTreeMap<OsString, OsString>,
}

/// Runs a part of the task in `package`.
pub(crate) async fn run(
    step: &StepContext,
    package: &Package,
    stage: Stage,
    prepared: &Prepared,
) -> Result<TaskResult, StepError> {
    let manifest = &package.manifest;
    check_agent_version(&manifest.name, &manifest.minimum_agent_version).map_err(StepError::Failed)?;
    let handlers = manifest.runnable(stage);
    let Some(preferred) = handlers.first().copied() else {
        let names = manifest.handler_names(stage).join(", ");
        return Err(StepError::Failed(format!("{NO_HANDLER} (The task {} has: {names}.)", manifest.name)));
    };
    let environment = environment_of(step, prepared).await?;
    let part = Part { step, package, prepared, environment };
    // In boxes, since what runs a job is nested deeply enough for the compiler.
    match preferred.runner {
        Runner::Node(_) => node::run(part, &handlers).boxed(),
        Runner::PowerShell => powershell::run(part, &preferred).boxed(),
        Runner::Process => process::run(part, &preferred).boxed(),
    }
    .await
}

impl Part<'_> {
    /// What a handler says under this name, with its macros replaced: the package's folder, then inputs, then
    /// variables.
    pub(super) fn expanded(&self, handler: &Handler<'_>, field: &str) -> String {
        let folder = self.package.folder.to_string_lossy();
        let expanded = expand_macros(handler.field(field), |name| {
            if name.eq_ignore_ascii_case("currentdirectory") {
                return Some(folder.clone());
            }
            let mut inputs = self.prepared.inputs.iter();
            inputs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| Cow::Borrowed(value))
        });
        self.step.job.with_variables(|variables| variables.expand(&expanded))
    }

    /// The file that a handler names, which must be in the package.
    pub(super) async fn target(&self, handler: &Handler<'_>) -> Result<PathBuf, StepError> {
        let target = normalize(&self.package.folder.join(self.expanded(handler, "target")));
        if files::is_file(&target).await {
            return Ok(target);
        }
        Err(StepError::Failed(format!(
            "The task {} names {} in its handler {}, and there is no such file. Its package is incomplete: \
             delete {} to have it downloaded again, or ask its author, {}.",
            self.package.manifest.name,
            target.display(),
            handler.name,
            self.package.folder.display(),
            self.package.manifest.author
        )))
    }

    /// Where the processes of a task start unless it says otherwise.
    pub(super) fn default_directory(&self) -> PathBuf {
        self.step.job.variable_or_empty("System.DefaultWorkingDirectory").into()
    }

    /// Runs a program that says by logging commands how the task fared.
    pub(super) async fn start(
        mut self,
        program: PathBuf,
        arguments: Vec<OsString>,
        directory: PathBuf,
    ) -> Result<TaskResult, StepError> {
        environment::add(&mut self.environment, self.step, &self.package.manifest, &self.prepared.inputs);
        let mut output = StepOutput::of_script(self.step, false);
        let failure = |exit| failure(&program, arguments.last().map(Path::new), exit);
        let process = Program {
            program: program.clone(),
            arguments: arguments.clone(),
            directory,
            environment: self.environment,
        };
        match process.run(self.step, &self.prepared.place, &mut output).await? {
            Ended::Exited(exit) if exit.code() == 0 => Ok(TaskResult::Succeeded),
            Ended::Exited(exit) => {
                self.step.error(&failure(exit)).await;
                Ok(TaskResult::Failed)
            }
            Ended::Completed(result) => Ok(result),
        }
    }
}

/// In the words of the official agent (`ProcessExitCode`).
fn failure(program: &Path, argument: Option<&Path>, exit: Exit) -> String {
    let (program, code) = (program.display(), exit.code());
    let argument = argument.unwrap_or(Path::new("")).display();
    let mut text =
        format!("Exit code {code} returned from process: file name '{program}', arguments '\"{argument}\"'.");
    if code == 137 {
        text.push_str(" It was killed; most likely it used more memory than there is.");
    }
    text
}

/// Fails where a task wants a newer agent than the one that Dayfly follows. The service makes a demand of it,
/// but a task that came another way has none.
fn check_agent_version(task: &str, minimum: &str) -> Result<(), String> {
    let (Some(wanted), Some(ours)) = (version(minimum), version(AGENT_VERSION)) else { return Ok(()) };
    if wanted <= ours {
        return Ok(());
    }
    Err(format!(
        "The task {task} needs version {minimum} of Microsoft's agent, and Dayfly follows {AGENT_VERSION}. \
         Update Dayfly, or use an earlier version of the task."
    ))
}

/// A version of two or three numbers; those that are not numbers say nothing.
fn version(text: &str) -> Option<Version> {
    let mut parts = text.trim().split('.').map(|part| part.parse().ok());
    let [major, minor, patch] = [(); 3].map(|()| parts.next().unwrap_or(Some(0)));
    Some(Version::new(major?, minor?, patch?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_may_want_a_newer_agent() {
        for minimum in ["", "1.83.0", "2.144", "3.232.1", "4.260.0", "soon"] {
            assert_eq!(check_agent_version("Some", minimum), Ok(()), "{minimum}");
        }
        let error = check_agent_version("Some", "4.1000.0").expect_err("it is newer");
        assert!(error.starts_with("The task Some needs version 4.1000.0 of Microsoft's agent"), "{error}");
    }
}
