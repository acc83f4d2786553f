//! Npm (`NpmV1/npm.ts`, `npmcustom.ts`): install, ci and custom commands; of version 0 (`NpmV0/npmtask.ts`)
//! one command with its arguments.

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::program::{Program, folder, words};
use crate::context::StepContext;

pub(super) static NPM: Task = Task {
    definition: Definition {
        friendly_name: "npm",
        description: "Install and publish npm packages, or run an npm command. Supports npmjs.com and \
                      authenticated registries like Azure Artifacts.",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/package/npm",
        inputs: &[
            text("command", "install"),
            path("workingDir"),
            text("verbose", ""),
            text("customCommand", ""),
            text("customRegistry", "useNpmrc"),
            text("customFeed", ""),
            text("customEndpoint", ""),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

pub(super) static NPM_0: Task = Task {
    definition: Definition {
        description: "Run an npm command. Use NpmAuthenticate@0 task for latest capabilities.",
        help: "[Learn more about this task](https://go.microsoft.com/fwlink/?LinkID=613746)",
        inputs: &[path("cwd"), text("command", "install"), text("arguments", "")],
        ..NPM.definition
    },
    works_where_scripts_do: true,
    run: |step, prepared| run_0(step, prepared).boxed(),
};

async fn run_0(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let folder = inputs.text("cwd");
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(|error| StepError::Failed(format!("Could not make the folder {folder}: {error}")))?;
    let command = inputs.required("command")?;
    if command.contains(' ') {
        return Err(StepError::Failed(
            "Only one command should be used for npm. Use 'Arguments' input for additional arguments."
                .to_owned(),
        ));
    }
    let mut line = vec![command.into()];
    line.extend(words(inputs.text("arguments")));
    match Program::new("npm", line, folder).run(step, prepared).await? {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!("npm exited with return code: {code}"))),
    }
}

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let line = match inputs.required("command")? {
        command @ ("install" | "ci") => command,
        "custom" => inputs.required("customCommand")?,
        "publish" => return Err(needs_service("npm publish")),
        other => return Err(StepError::Failed(format!("Unknown command: {other}"))),
    };
    if inputs.text("customRegistry") == "useFeed" {
        return Err(needs_service("The feed of an organization (customRegistry: useFeed)"));
    }
    if let Some(connections) = inputs.get("customEndpoint") {
        step.warning(&format!(
            "The credentials of '{connections}' are in Azure DevOps: npm goes on with those of this machine."
        ))
        .await;
    }
    let mut arguments = words(line);
    if inputs.flag("verbose") {
        arguments.push("--verbose".into());
    }
    let program = Program::new("npm", arguments, folder(inputs.text("workingDir")).await?);
    match program.run(step, prepared).await? {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!("Npm failed with return code: {code}"))),
    }
}

fn needs_service(what: &str) -> StepError {
    StepError::Failed(format!(
        "{what} needs the credentials of Azure DevOps, which Dayfly's native worker does not have. Run npm \
         by a script with credentials from a secret variable, or run this job on Microsoft's agent."
    ))
}
