//! Runs a part of a task that is a program of the machine (`ProcessHandler.cs`). The official agent does so
//! on Windows alone, by `cmd.exe`; here the command line goes to bash.

use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;

use super::manifest::Handler;
use super::run::Part;
use crate::files;
use crate::steps::StepError;
use crate::steps::output::StepOutput;
use crate::steps::program::{Ended, Program, which};
use crate::steps::shell::not_found;
use crate::variables::convert_to_boolean;

pub(super) async fn run(part: Part<'_>, handler: &Handler<'_>) -> Result<TaskResult, StepError> {
    let (step, place) = (part.step, &part.prepared.place);
    let target = part.expanded(handler, "target");
    let is_on = |field| convert_to_boolean(&part.expanded(handler, field));
    let is_file = Path::new(&target).is_absolute() && files::is_file(&target).await;
    if is_on("disableInlineExecution") && !is_file {
        return Err(StepError::Failed(format!(
            "The task {} runs a file (handler {}), and there is no file '{target}'.",
            part.package.manifest.name, handler.name
        )));
    }
    if is_on("modifyEnvironment") {
        step.warning(&format!(
            "What the program of the task {} leaves in its environment does not reach later steps; use \
             `##vso[task.setvariable]` for that.",
            part.package.manifest.name
        ))
        .await;
    }
    let directory = directory(&part, handler, is_file.then_some(&target)).await?;
    let line = format!("{} {}", quoted(&target), part.expanded(handler, "argumentFormat"));
    let bash = which("bash", &part.environment, place).await.ok_or_else(|| not_found(step, "bash", place))?;
    step.output(&format!("[command]{}", line.trim_end())).await;
    let fails_on_stderr = part.prepared.inputs.given("failOnStandardError").is_none_or(convert_to_boolean);
    let mut output = StepOutput::of_script(step, fails_on_stderr);
    let arguments = vec!["-c".into(), line.into()];
    let program = Program { program: bash, arguments, directory, environment: part.environment };
    let exit = match program.run(step, place, &mut output).await? {
        Ended::Exited(exit) => exit,
        Ended::Completed(result) => return Ok(result),
    };
    if let Some(stderr) = output.into_stderr() {
        step.error(&stderr).await;
        if step.result().is_none() {
            return Err(StepError::Failed(format!(
                "Process completed with exit code {} and had 1 error(s) written to the error stream.",
                exit.code()
            )));
        }
    }
    match exit.code() {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!("Process completed with exit code {code}."))),
    }
}

/// Where it starts: where the handler says, else beside the program.
async fn directory(
    part: &Part<'_>,
    handler: &Handler<'_>,
    program: Option<&String>,
) -> Result<PathBuf, StepError> {
    let wanted = part.expanded(handler, "workingDirectory");
    let directory = match program.and_then(|program| Path::new(program).parent()) {
        _ if !wanted.is_empty() => part.default_directory().join(wanted),
        Some(folder) => folder.to_owned(),
        None => part.package.folder.join("DefaultTaskWorkingDirectory"),
    };
    tokio::fs::create_dir_all(&directory).await.map_err(|error| {
        StepError::Failed(format!("Could not make the folder {}: {error}", directory.display()))
    })?;
    Ok(directory)
}

/// Only what needs quotes gets them: what the shell has built in is no file of that name.
fn quoted(command: &str) -> String {
    if command.contains(' ') && !command.contains('"') {
        format!("\"{command}\"")
    } else {
        command.to_owned()
    }
}
