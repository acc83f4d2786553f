//! CMake (`CMakeV1/cmake.ts`).

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::program::{Program, folder, words};
use crate::context::StepContext;

pub(super) static CMAKE: Task = Task {
    definition: Definition {
        friendly_name: "CMake",
        description: "Build with the CMake cross-platform build system",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/cmake",
        inputs: &[
            path("cwd").or("build").called(&["workingDirectory"]),
            text("cmakeArgs", ""),
            text("runInsideShell", "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let cwd = inputs.required("cwd")?;
    if inputs.flag("runInsideShell") {
        return Err(StepError::failed(
            "Dayfly does not run CMake inside a shell (runInsideShell). Run `cmake` by a script step.",
        ));
    }
    let made = tokio::fs::create_dir_all(cwd).await;
    made.map_err(|error| StepError::Failed(format!("Cannot make the folder {cwd}: {error}")))?;
    let program = Program::new("cmake", words(inputs.text("cmakeArgs")), folder(cwd).await?);
    match program.must(step, prepared).await {
        Err(StepError::Failed(why)) => Err(StepError::Failed(format!("CMake failed with error: {why}"))),
        ended => {
            ended?;
            step.output("CMake exited with return code: 0").await;
            Ok(TaskResult::Succeeded)
        }
    }
}
