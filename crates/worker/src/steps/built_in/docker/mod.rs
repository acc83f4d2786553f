//! Docker (`DockerV2/docker.ts` and its commands): by docker, podman, buildah or buildctl, whichever is
//! there.

mod buildkit;
mod earlier;
mod logins;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::program::environment_of;
use super::super::{Definition, Inputs, Prepared, StepError};
use super::Task;
use super::matching::{Links, files_in};
use super::program::{Program, arguments, first_of, words};
use crate::context::StepContext;
use crate::files;
use buildkit::BUILDCTL;
use logins::{Logins, log_out};

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

/// What keeps images, and all that builds them; the usual one before the others.
const KEEPERS: &[&str] = &["docker", "podman", "buildah"];
const ALL: &[&str] = &["docker", "podman", "buildah", BUILDCTL];

/// The variable of the environment that says which daemon is meant.
const DOCKER_HOST: &str = "DOCKER_HOST";

/// Said by a run on this machine whose service connection is not known.
const NOT_PUSHED: &str = "The image is not pushed, since the registry is not known.";

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
    let connection = inputs.get("containerRegistry");
    if command.eq_ignore_ascii_case("logout") {
        log_out(step, connection).await?;
        return Ok(TaskResult::Succeeded);
    }
    let logins = Logins::open(step, connection).await?;
    if command.eq_ignore_ascii_case("login") {
        return log_in(&logins, connection);
    }
    let done = command_by(command, step, prepared, &logins).await;
    let closed = logins.close();
    done.and_then(|result| closed.map(|()| result))
}

/// Has later steps find the login.
fn log_in(logins: &Logins<'_>, connection: Option<&str>) -> Result<TaskResult, StepError> {
    // A connection that this machine does not know has its warning.
    if connection.is_none() || logins.registry.is_some() {
        logins.keep()?;
    }
    Ok(TaskResult::Succeeded)
}

async fn command_by(
    command: &str,
    step: &StepContext,
    prepared: &Prepared,
    logins: &Logins<'_>,
) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let docker = Docker::new(step, prepared, logins, ALL).await?;
    if docker.engine.0 == BUILDCTL {
        return buildkit::run(&docker, command).await;
    }
    let arguments_given = words(inputs.text("arguments"));
    match command.to_ascii_lowercase().as_str() {
        "build" => build(&docker, &arguments_given).await?,
        "push" => push(&docker, &arguments_given).await?,
        "buildandpush" => {
            if inputs.get("arguments").is_some() {
                step.warning("The arguments input is ignored by the command buildAndPush.").await;
            }
            build(&docker, &[]).await?;
            push(&docker, &[]).await?;
        }
        "start" | "stop" => docker.run(arguments([&command, &inputs.required("container")?])).await?,
        _ => {
            let mut line = words(command);
            line.extend(arguments_given);
            docker.run(line).await?;
        }
    }
    Ok(TaskResult::Succeeded)
}

async fn build(docker: &Docker<'_>, extra: &[OsString]) -> Result<(), StepError> {
    let inputs = &docker.prepared.inputs;
    let file = docker.dockerfile(inputs.required("Dockerfile")?).await?;
    let mut line = arguments([&"build", &"-f", &file]);
    line.extend(extra.iter().cloned());
    line.extend(docker.label_arguments(inputs.flag("addPipelineData")));
    for name in names(docker) {
        line.extend(arguments([&"-t", &name]));
    }
    line.push(context(inputs, &file).into());
    docker.run(line).await
}

/// The folder whose files a build gets.
fn context(inputs: &Inputs, file: &Path) -> PathBuf {
    let context = inputs.text("buildContext");
    match context.ends_with("/**") {
        // The default: the folder of the file.
        true => file.parent().unwrap_or(Path::new("/")).to_owned(),
        false => PathBuf::from(context),
    }
}

/// Pushes to the registry of the service connection, or else to those of earlier logins, or else to the one
/// that the repository names.
async fn push(docker: &Docker<'_>, extra: &[OsString]) -> Result<(), StepError> {
    if !docker.pushes().await {
        return Ok(());
    }
    for name in names(docker) {
        let mut line = arguments([&"push", &name]);
        line.extend(extra.iter().cloned());
        docker.run(line).await?;
    }
    Ok(())
}

/// The image with each of its tags, in each registry.
fn names(docker: &Docker<'_>) -> Vec<String> {
    let inputs = &docker.prepared.inputs;
    let tags = inputs.text("tags").split(['\n', ',']).map(str::trim).filter(|tag| !tag.is_empty());
    let tags: Vec<_> = tags.collect();
    let images = docker.logins.names(inputs.text("repository")).into_iter();
    images
        .flat_map(|image| match tags.as_slice() {
            [] => vec![image],
            tags => tags.iter().map(|tag| format!("{image}:{tag}")).collect(),
        })
        .collect()
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
    async fn find(
        step: &StepContext,
        prepared: &Prepared,
        names: &[&'static str],
    ) -> Result<Engine, StepError> {
        let found = first_of(names, step, prepared).await?;
        found.map(Engine).ok_or_else(|| {
            StepError::Failed(format!(
                "There is none of {} on the PATH. Install one of them.",
                names.join(", ")
            ))
        })
    }
}

/// Which daemon is meant, where only the user's own configuration says it: with the logins, Docker reads
/// another one.
async fn daemon(step: &StepContext, prepared: &Prepared) -> Result<Option<String>, StepError> {
    if environment_of(step, prepared).await?.contains_key(OsStr::new(DOCKER_HOST)) {
        return Ok(None);
    }
    let line = arguments([&"context", &"inspect", &"--format", &"{{.Endpoints.docker.Host}}"]);
    let said = Program::new("docker", line, folder_of(step)).silently(step, prepared).await?;
    Ok(Some(said.stdout.trim().to_owned()).filter(|host| said.code == 0 && host.contains("://")))
}

fn folder_of(step: &StepContext) -> String {
    step.job.variable_or_empty("system.defaultWorkingDirectory")
}

/// What all versions do.
struct Docker<'a> {
    step: &'a StepContext,
    prepared: &'a Prepared,
    engine: Engine,
    logins: &'a Logins<'a>,
    /// The environment in which the engine finds the logins.
    variables: Vec<(&'static str, String)>,
}

impl<'a> Docker<'a> {
    async fn new(
        step: &'a StepContext,
        prepared: &'a Prepared,
        logins: &'a Logins<'a>,
        engines: &[&'static str],
    ) -> Result<Self, StepError> {
        let engine = Engine::find(step, prepared, engines).await?;
        let mut variables = logins.environment();
        if !variables.is_empty() && engine.0 == "docker" {
            variables.extend(daemon(step, prepared).await?.map(|host| (DOCKER_HOST, host)));
        }
        Ok(Self { step, prepared, engine, logins, variables })
    }

    async fn run(&self, line: Vec<OsString>) -> Result<(), StepError> {
        let variables = self.variables.clone();
        let program = Program { variables, ..Program::new(self.engine.0, line, folder_of(self.step)) };
        program.must(self.step, self.prepared).await
    }

    /// The file that is named, or the first that matches.
    async fn dockerfile(&self, pattern: &str) -> Result<PathBuf, StepError> {
        let found = match pattern.contains(['*', '?']) {
            true => files_in(self.step, "", pattern, Links::Followed).await?.into_iter().next(),
            false => files::exists(pattern).await.then(|| PathBuf::from(pattern)),
        };
        found.ok_or_else(|| StepError::Failed(format!("No Dockerfile matching {pattern} was found.")))
    }

    /// Whether the step pushes, and a warning if it does not.
    async fn pushes(&self) -> bool {
        let inputs = &self.prepared.inputs;
        if inputs.get("containerRegistry").is_some() && self.logins.registry.is_none() {
            self.step.warning(NOT_PUSHED).await;
            return false;
        }
        let is_named = !inputs.text("repository").is_empty();
        if !is_named {
            self.step.warning("No repository is specified. Nothing will be pushed.").await;
        }
        is_named
    }

    /// The labels that have a value.
    fn labels(&self, of_pipeline: bool) -> impl Iterator<Item = (String, String)> {
        let more = if of_pipeline { PIPELINE_LABELS } else { &[] };
        let values = LABELS.iter().chain(more).map(|name| (*name, self.step.job.variable_or_empty(name)));
        values
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (format!("com.azure.dev.image.{name}"), value))
    }

    fn label_arguments(&self, of_pipeline: bool) -> impl Iterator<Item = OsString> {
        let labels = self.labels(of_pipeline);
        labels.flat_map(|(name, value)| arguments([&"--label", &format!("{name}={value}")]))
    }
}
