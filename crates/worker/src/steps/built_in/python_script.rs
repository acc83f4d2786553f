//! PythonScript (`PythonScriptV0/pythonscript.ts`).

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::shell::write_script;
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::program::{Program, folder, words};
use crate::context::StepContext;
use crate::files;

pub(super) static PYTHON_SCRIPT: Task = Task {
    definition: Definition {
        friendly_name: "Python script",
        description: "Run a Python file or inline script",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/python-script",
        inputs: &[
            text("scriptSource", "filePath"),
            path("scriptPath"),
            text("script", ""),
            text("arguments", ""),
            text("pythonInterpreter", ""),
            path("workingDirectory"),
            text("failOnStderr", "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let script = if inputs.required("scriptSource")?.eq_ignore_ascii_case("filePath") {
        let script = inputs.text("scriptPath");
        if !files::is_file(script).await {
            return Err(StepError::Failed(format!("The given path was not to a file: '{script}'.")));
        }
        script.into()
    } else {
        let script = inputs.get("script");
        let script = script.ok_or_else(|| StepError::failed("The `script` parameter is required"))?;
        write_script(step, "py", script).await?
    };
    let mut arguments = vec![script.into()];
    arguments.extend(words(inputs.text("arguments")));
    let program = Program {
        name: inputs.get("pythonInterpreter").unwrap_or("python").to_owned(),
        arguments,
        folder: folder(inputs.text("workingDirectory")).await?,
        fails_on_stderr: inputs.flag("failOnStderr"),
        variables: Vec::new(),
    };
    program.must(step, prepared).await?;
    Ok(TaskResult::Succeeded)
}
