//! Docker (`DockerV2/docker.ts` and its commands): by docker, podman or buildah, whichever is there.
//!
//! A service connection is Azure DevOps' own. Here a step that names one builds, and does not push.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Inputs, Prepared, StepError};
use super::Task;
use super::matching::{Links, files_in};
use super::program::{Program, arguments, first_of, words};
use crate::context::StepContext;
use crate::files;

pub(super) static DOCKER: Task = Task {
    definition: Definition {
        friendly_name: "Docker",
        description: "Build or push Docker images, login or logout, start or stop containers, or run a \
                      Docker command",
        author: "Microsoft Corporation",
        help: "https://aka.ms/azpipes-docker-tsg",
        inputs: &[
            text("containerRegistry", ""),
            text("repository", ""),
            text("command", "buildAndPush"),
            path("Dockerfile").or("**/Dockerfile"),
            path("buildContext").or("**"),
            text("tags", "$(Build.BuildId)"),
            text("arguments", ""),
            text("addPipelineData", "true"),
            text("container", ""),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

/// The programs that build and push, the usual one first.
const PROGRAMS: &[&str] = &["docker", "podman", "buildah"];

/// Labels of an image that say what built it; those of the second kind may be left out.
const LABELS: &[&str] = &["system.teamfoundationcollectionuri", "build.sourceversion"];
const PIPELINE_LABELS: &[&str] = &[
    "system.teamproject",
    "build.repository.name",
    "build.repository.uri",
    "build.sourcebranchname",
    "build.definitionname",
    "build.buildnumber",
    "build.builduri",
];

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let command = inputs.required("command")?;
    if matches!(command, "login" | "logout") {
        step.output(&format!(
            "The login of '{}' is in Azure DevOps, so this step has nothing to do: pushes and pulls use the \
             logins of this machine.",
            inputs.text("containerRegistry")
        ))
        .await;
        return Ok(TaskResult::Succeeded);
    }
    let Some(program) = first_of(PROGRAMS, step, prepared).await? else {
        return Err(StepError::failed(
            "There is no docker, podman or buildah on the PATH. Install one of them.",
        ));
    };
    let docker = Docker { step, prepared, program };
    match command {
        "build" => docker.build(&words(inputs.text("arguments"))).await?,
        "push" => docker.push(&words(inputs.text("arguments"))).await?,
        "buildAndPush" => {
            if inputs.get("arguments").is_some() {
                step.warning("The arguments input is ignored by the command buildAndPush.").await;
            }
            docker.build(&[]).await?;
            docker.push(&[]).await?;
        }
        "start" | "stop" => docker.run(arguments([&command, &inputs.required("container")?])).await?,
        other => {
            let mut line = words(other);
            line.extend(words(inputs.text("arguments")));
            docker.run(line).await?;
        }
    }
    Ok(TaskResult::Succeeded)
}

/// The program of a step.
struct Docker<'a> {
    step: &'a StepContext,
    prepared: &'a Prepared,
    program: &'static str,
}

impl Docker<'_> {
    fn inputs(&self) -> &Inputs {
        &self.prepared.inputs
    }

    async fn run(&self, line: Vec<OsString>) -> Result<(), StepError> {
        let folder = self.step.job.variable_or_empty("system.defaultWorkingDirectory");
        Program::new(self.program, line, folder).must(self.step, self.prepared).await
    }

    async fn build(&self, extra: &[OsString]) -> Result<(), StepError> {
        let file = self.dockerfile().await?;
        let mut line = arguments([&"build", &"-f", &file]);
        line.extend(extra.iter().cloned());
        let more = if self.inputs().flag("addPipelineData") { PIPELINE_LABELS } else { &[] };
        for name in LABELS.iter().chain(more) {
            let value = self.step.job.variable_or_empty(name);
            if !value.is_empty() {
                line.extend(arguments([&"--label", &format!("com.azure.dev.image.{name}={value}")]));
            }
        }
        for name in self.names() {
            line.extend(arguments([&"-t", &name]));
        }
        let context = self.inputs().text("buildContext");
        let context = match context.ends_with("/**") {
            // The default: the folder of the file.
            true => file.parent().unwrap_or(Path::new("/")).to_owned(),
            false => PathBuf::from(context),
        };
        line.push(context.into());
        self.run(line).await
    }

    /// Pushes to the registry that the repository names.
    async fn push(&self, extra: &[OsString]) -> Result<(), StepError> {
        if let Some(connection) = self.inputs().get("containerRegistry") {
            self.step
                .warning(&format!(
                    "The image is not pushed: the registry and the login of '{connection}' are in Azure \
                     DevOps."
                ))
                .await;
            return Ok(());
        }
        for name in self.names() {
            let mut line = arguments([&"push", &name]);
            line.extend(extra.iter().cloned());
            self.run(line).await?;
        }
        Ok(())
    }

    /// The file that is named, or the first that matches.
    async fn dockerfile(&self) -> Result<PathBuf, StepError> {
        let pattern = self.inputs().required("Dockerfile")?;
        let found = match pattern.contains(['*', '?']) {
            true => files_in(self.step, "", pattern, Links::Followed).await?.into_iter().next(),
            false => files::exists(pattern).await.then(|| PathBuf::from(pattern)),
        };
        found.ok_or_else(|| StepError::Failed(format!("No Dockerfile matching {pattern} was found.")))
    }

    /// The image with each of its tags; names of images have no capitals.
    fn names(&self) -> Vec<String> {
        let repository = self.inputs().text("repository").to_lowercase().replace(' ', "");
        if repository.is_empty() {
            return Vec::new();
        }
        let tags = self.inputs().text("tags").split(['\n', ',']).map(str::trim).filter(|tag| !tag.is_empty());
        let names: Vec<String> = tags.map(|tag| format!("{repository}:{tag}")).collect();
        if names.is_empty() { vec![repository] } else { names }
    }
}
