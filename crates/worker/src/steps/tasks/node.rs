//! Runs a part of a task by Node (`NodeHandler.cs`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;

use super::environment;
use super::manifest::{Handler, Stage};
use super::package::Package;
use crate::context::StepContext;
use crate::process::Exit;
use crate::steps::output::StepOutput;
use crate::steps::program::{Ended, Program, environment_of, which};
use crate::steps::{Prepared, StepError};

/// What the official agent says of a task that has no handler for this system.
const NO_HANDLER: &str = "A supported task execution handler was not found. This task does not have an \
                          implementation that is compatible with your current operating system. Contact the \
                          task author for more details.";

/// Runs a part of the task in `package`.
pub(crate) async fn run(
    step: &StepContext,
    package: &Package,
    stage: Stage,
    prepared: &Prepared,
) -> Result<TaskResult, StepError> {
    let manifest = &package.manifest;
    let Some(handler) = manifest.handler(stage) else {
        let names = manifest.handler_names(stage).join(", ");
        return Err(StepError::Failed(format!("{NO_HANDLER} (The task {} has: {names}.)", manifest.name)));
    };
    let mut environment = environment_of(step, prepared).await?;
    let node = node(step, prepared, &environment, package, &handler).await?;
    environment::add(&mut environment, step, manifest, &prepared.inputs);
    let current = package.folder.to_string_lossy();
    let rooted = |path: &str| package.folder.join(path.replace("$(currentdirectory)", &current));
    let target = rooted(&handler.target);
    let directory = handler.working_directory.as_deref().map_or_else(|| package.folder.clone(), rooted);
    let arguments = vec![OsString::from(&target)];
    let program = Program { program: node.clone(), arguments, directory, environment };
    let mut output = StepOutput::of_script(step, false);
    match program.run(step, &prepared.place, &mut output).await? {
        // How the task fared it says by commands.
        Ended::Exited(exit) if exit.code() == 0 => Ok(TaskResult::Succeeded),
        Ended::Exited(exit) => {
            step.error(&failure(&node, &target, exit)).await;
            Ok(TaskResult::Failed)
        }
        Ended::Completed(result) => Ok(result),
    }
}

fn failure(node: &Path, target: &Path, exit: Exit) -> String {
    let (node, target, code) = (node.display(), target.display(), exit.code());
    let mut text =
        format!("Exit code {code} returned from process: file name '{node}', arguments '\"{target}\"'.");
    if code == 137 {
        text.push_str(" It was killed; most likely it used more memory than there is.");
    }
    text
}

/// Node as the job began with it: a step that puts an old one on the path means its own scripts.
async fn node(
    step: &StepContext,
    prepared: &Prepared,
    environment: &BTreeMap<OsString, OsString>,
    package: &Package,
    handler: &Handler,
) -> Result<PathBuf, StepError> {
    let first = crate::containers::inherited(step, &prepared.place);
    for values in [&first, environment] {
        if values.contains_key(OsStr::new("PATH"))
            && let Some(node) = which("node", values, &prepared.place).await
        {
            return Ok(node);
        }
    }
    Err(StepError::Failed(format!(
        "The task {} runs on Node.js (handler {}), and there is no `node` on the PATH. Install Node.js {} or \
         newer on this agent, or use an image that has it.",
        package.manifest.name, handler.name, handler.node
    )))
}
