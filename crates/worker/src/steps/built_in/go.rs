//! Go (`GoV0/main.ts`).

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::program::{Program, folder, words};
use crate::context::StepContext;

pub(super) static GO: Task = Task {
    definition: Definition {
        friendly_name: "Go",
        description: "Get, build, or test a Go application, or run a custom Go command",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/go",
        inputs: &[
            text("command", "get"),
            text("customCommand", ""),
            text("arguments", ""),
            path("workingDirectory"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let command = match inputs.required("command")? {
        "custom" => inputs.required("customCommand")?,
        command => command,
    };
    let mut arguments = vec![command.into()];
    arguments.extend(words(inputs.text("arguments")));
    let program = Program::new("go", arguments, folder(inputs.text("workingDirectory")).await?);
    match program.must(step, prepared).await {
        Err(StepError::Failed(why)) => {
            Err(StepError::Failed(format!("The Go task failed with an error: Error: {why}")))
        }
        ended => ended.map(|()| TaskResult::Succeeded),
    }
}
