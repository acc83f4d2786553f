//! Go (`GoV0/main.ts`).

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError};
use super::program::{Program, folder, words};
use super::{Running, Task};
use crate::context::StepContext;

pub(super) static GO: Go = Go;

static DEFINITION: Definition = Definition {
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
};

pub(super) struct Go;

impl Task for Go {
    fn definition(&self) -> &'static Definition {
        &DEFINITION
    }

    fn works_where_scripts_do(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, step: &'a StepContext, prepared: &'a Prepared) -> Running<'a> {
        run(step, prepared).boxed()
    }
}

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let command = match inputs.required("command")? {
        "custom" => inputs.required("customCommand")?,
        command => command,
    };
    let mut arguments = vec![command.into()];
    arguments.extend(words(inputs.text("arguments")));
    let program = Program {
        name: "go".to_owned(),
        arguments,
        folder: folder(inputs.text("workingDirectory")).await?,
        fails_on_stderr: false,
    };
    match program.must(step, prepared).await {
        Err(StepError::Failed(why)) => {
            Err(StepError::Failed(format!("The Go task failed with an error: Error: {why}")))
        }
        ended => ended.map(|()| TaskResult::Succeeded),
    }
}
