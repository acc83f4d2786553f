//! Docker (`DockerV2/docker.ts` and its commands): by docker, podman or buildah, whichever is there.
//!
//! A service connection is Azure DevOps' own. Here a step that names one builds, and does not push.

mod earlier;

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

const HELP: &str = "https://aka.ms/azpipes-docker-tsg";

pub(super) static DOCKER: Task = Task {
    definition: Definition {
        friendly_name: "Docker",
        description: "Build or push Docker images, login or logout, start or stop containers, or run a \
                      Docker command",
        author: "Microsoft Corporation",
        help: HELP,
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

const EARLIER: &str = "Build, tag, push, or run Docker images, or run a Docker command";

pub(super) static DOCKER_1: Task = Task {
    definition: Definition {
        friendly_name: "Docker",
        description: EARLIER,
        author: "Microsoft Corporation",
        help: HELP,
        inputs: earlier::INPUTS_OF_1,
    },
    works_where_scripts_do: true,
    run: |step, prepared| earlier::run(step, prepared, &earlier::NAMES_OF_1).boxed(),
};

pub(super) static DOCKER_0: Task = Task {
    definition: Definition {
        friendly_name: "Docker",
        description: EARLIER,
        author: "Microsoft Corporation",
        help: HELP,
        inputs: earlier::INPUTS_OF_0,
    },
    works_where_scripts_do: true,
    run: |step, prepared| earlier::run(step, prepared, &earlier::NAMES_OF_0).boxed(),
};

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
        return Ok(nothing_to_log_in(step, inputs.text("containerRegistry")).await);
    }
    let docker = Docker { step, prepared, engine: Engine::find(step, prepared).await? };
    match command {
        "build" => build(&docker, &words(inputs.text("arguments"))).await?,
        "push" => push(&docker, &words(inputs.text("arguments"))).await?,
        "buildAndPush" => {
            if inputs.get("arguments").is_some() {
                step.warning("The arguments input is ignored by the command buildAndPush.").await;
            }
            build(&docker, &[]).await?;
            push(&docker, &[]).await?;
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

async fn nothing_to_log_in(step: &StepContext, connection: &str) -> TaskResult {
    step.output(&format!(
        "The login of '{connection}' is in Azure DevOps, so this step has nothing to do: pushes and pulls \
         use the logins of this machine."
    ))
    .await;
    TaskResult::Succeeded
}

async fn not_pushed(step: &StepContext, connection: &str) {
    step.warning(&format!(
        "The image is not pushed: the registry and the login of '{connection}' are in Azure DevOps."
    ))
    .await;
}

async fn build(docker: &Docker<'_>, extra: &[OsString]) -> Result<(), StepError> {
    let inputs = &docker.prepared.inputs;
    let file = docker.dockerfile(inputs.required("Dockerfile")?).await?;
    let mut line = arguments([&"build", &"-f", &file]);
    line.extend(extra.iter().cloned());
    line.extend(docker.labels(inputs.flag("addPipelineData")));
    for name in names(inputs) {
        line.extend(arguments([&"-t", &name]));
    }
    let context = inputs.text("buildContext");
    let context = match context.ends_with("/**") {
        // The default: the folder of the file.
        true => file.parent().unwrap_or(Path::new("/")).to_owned(),
        false => PathBuf::from(context),
    };
    line.push(context.into());
    docker.run(line).await
}

/// Pushes to the registry that the repository names.
async fn push(docker: &Docker<'_>, extra: &[OsString]) -> Result<(), StepError> {
    let inputs = &docker.prepared.inputs;
    if let Some(connection) = inputs.get("containerRegistry") {
        not_pushed(docker.step, connection).await;
        return Ok(());
    }
    for name in names(inputs) {
        let mut line = arguments([&"push", &name]);
        line.extend(extra.iter().cloned());
        docker.run(line).await?;
    }
    Ok(())
}

/// The image with each of its tags.
fn names(inputs: &Inputs) -> Vec<String> {
    let repository = valid_name(inputs.text("repository"));
    if repository.is_empty() {
        return Vec::new();
    }
    let tags = inputs.text("tags").split(['\n', ',']).map(str::trim).filter(|tag| !tag.is_empty());
    let names: Vec<String> = tags.map(|tag| format!("{repository}:{tag}")).collect();
    if names.is_empty() { vec![repository] } else { names }
}

/// Names of images have no capitals and no spaces.
fn valid_name(name: &str) -> String {
    name.to_lowercase().replace(' ', "")
}

/// A program that builds images.
#[derive(Debug, Clone, Copy)]
struct Engine(&'static str);

impl Engine {
    /// The first that is there, the usual one before the others.
    async fn find(step: &StepContext, prepared: &Prepared) -> Result<Engine, StepError> {
        let found = first_of(&["docker", "podman", "buildah"], step, prepared).await?;
        found.map(Engine).ok_or_else(|| {
            StepError::failed("There is no docker, podman or buildah on the PATH. Install one of them.")
        })
    }
}

/// What all versions do.
struct Docker<'a> {
    step: &'a StepContext,
    prepared: &'a Prepared,
    engine: Engine,
}

impl Docker<'_> {
    async fn run(&self, line: Vec<OsString>) -> Result<(), StepError> {
        let folder = self.step.job.variable_or_empty("system.defaultWorkingDirectory");
        Program::new(self.engine.0, line, folder).must(self.step, self.prepared).await
    }

    /// The file that is named, or the first that matches.
    async fn dockerfile(&self, pattern: &str) -> Result<PathBuf, StepError> {
        let found = match pattern.contains(['*', '?']) {
            true => files_in(self.step, "", pattern, Links::Followed).await?.into_iter().next(),
            false => files::exists(pattern).await.then(|| PathBuf::from(pattern)),
        };
        found.ok_or_else(|| StepError::Failed(format!("No Dockerfile matching {pattern} was found.")))
    }

    /// The arguments for the labels that have a value.
    fn labels(&self, of_pipeline: bool) -> Vec<OsString> {
        let more = if of_pipeline { PIPELINE_LABELS } else { &[] };
        let values = LABELS.iter().chain(more).map(|name| (name, self.step.job.variable_or_empty(name)));
        values
            .filter(|(_, value)| !value.is_empty())
            .flat_map(|(name, value)| arguments([&"--label", &format!("com.azure.dev.image.{name}={value}")]))
            .collect()
    }
}
