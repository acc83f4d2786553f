//! ShellScript (`ShellScriptV2/shellscript.ts`).

use std::path::Path;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::program::{Program, words};
use crate::context::StepContext;
use crate::files;

pub(super) static SHELL_SCRIPT: Task = Task {
    definition: Definition {
        friendly_name: "Shell script",
        description: "Run a shell script using Bash",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/shell-script",
        inputs: &[
            path("scriptPath"),
            text("args", ""),
            text("disableAutoCwd", "false"),
            text("cwd", ""),
            text("failOnStandardError", "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let script = inputs.required("scriptPath")?;
    if !files::exists(script).await {
        return Err(StepError::Failed(format!("Not found scriptPath: {script}")));
    }
    let sources = Path::new(&step.job.variable_or_empty("system.defaultWorkingDirectory")).to_owned();
    let folder = match inputs.get("cwd") {
        Some(folder) => sources.join(folder),
        None if inputs.flag("disableAutoCwd") => sources,
        None => Path::new(script).parent().unwrap_or(&sources).to_owned(),
    };
    let made = tokio::fs::create_dir_all(&folder).await;
    made.map_err(|error| StepError::Failed(format!("Cannot make {}: {error}", folder.display())))?;
    let mut arguments = vec![script.into()];
    arguments.extend(words(inputs.text("args")));
    let program = Program {
        fails_on_stderr: inputs.flag("failOnStandardError"),
        ..Program::new("bash", arguments, folder)
    };
    match program.run(step, prepared).await? {
        0 => {
            step.output("Bash exited with return code: 0").await;
            Ok(TaskResult::Succeeded)
        }
        137 => Err(StepError::failed(
            "Bash exited with code 137, which means it ran out of memory. Make sure the agent (container) \
             host has sufficient memory configured.",
        )),
        code => Err(StepError::Failed(format!("Bash failed with error: {code}"))),
    }
}
