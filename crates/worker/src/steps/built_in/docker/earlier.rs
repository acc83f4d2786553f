//! The versions 0 and 1 of Docker (`DockerV1/container.ts` and its commands), which differ in the names of
//! their inputs.

use std::ffi::OsString;

use dayfly_protocol::TaskResult;

use super::super::super::definition::{Input, aliased, path, text};
use super::super::super::{Inputs, Prepared, StepError};
use super::super::program::{arguments, words};
use super::logins::{Logins, log_out};
use super::{Docker, KEEPERS, valid_name};
use crate::context::StepContext;

const IMAGE: Input = text("imageName", "$(Build.Repository.Name):$(Build.BuildId)");
const NAMES_FILE: Input = path("dockerFile").or("**/Dockerfile");
const SUBSCRIPTION: Input = aliased("azureSubscriptionEndpoint", &["azureSubscription"], "");
const CONNECTION: Input = aliased("dockerRegistryEndpoint", &["dockerRegistryConnection"], "");
const QUALIFIES: Input = text("qualifyImageName", "true");
const NAMING: Input = text("enforceDockerNamingConvention", "true");
const LATEST: Input = text("includeLatestTag", "false");
const CONTAINER: Input = text("containerName", "");
const PORTS: Input = text("ports", "");
const VOLUMES: Input = text("volumes", "");
const ENVIRONMENT: Input = text("envVars", "");
const COMMAND: Input = text("containerCommand", "");
const RESTART: Input = text("restartPolicy", "no");

/// The inputs of version 1.
pub(super) const INPUTS_OF_1: &[Input] = &[
    SUBSCRIPTION,
    CONNECTION,
    text("command", "Build an image"),
    NAMES_FILE,
    text("arguments", ""),
    IMAGE,
    QUALIFIES,
    LATEST,
    text("addDefaultLabels", "true"),
    text("useDefaultContext", "true"),
    path("buildContext"),
    CONTAINER,
    PORTS,
    VOLUMES,
    ENVIRONMENT,
    text("workingDirectory", ""),
    text("entrypointOverride", ""),
    COMMAND,
    text("runInBackground", "true"),
    RESTART,
    text("maxRestartRetries", ""),
    text("memoryLimit", ""),
    NAMING,
];

/// The inputs of version 0.
pub(super) const INPUTS_OF_0: &[Input] = &[
    SUBSCRIPTION,
    CONNECTION,
    text("action", "Build an image"),
    NAMES_FILE,
    text("buildArguments", ""),
    text("defaultContext", "true"),
    path("context"),
    IMAGE,
    QUALIFIES,
    text("additionalImageTags", ""),
    LATEST,
    CONTAINER,
    PORTS,
    VOLUMES,
    ENVIRONMENT,
    text("workDir", ""),
    text("entrypoint", ""),
    COMMAND,
    text("detached", "true"),
    RESTART,
    text("restartMaxRetries", ""),
    text("memory", ""),
    text("customCommand", ""),
    NAMING,
];

/// What the inputs of a version are called.
pub(super) struct Names {
    command: &'static str,
    build_arguments: &'static str,
    uses_default_context: &'static str,
    context: &'static str,
    tags: &'static str,
    folder: &'static str,
    entry_point: &'static str,
    runs_in_background: &'static str,
    retries: &'static str,
    memory: &'static str,
}

pub(super) const NAMES_OF_1: Names = Names {
    command: "command",
    build_arguments: "arguments",
    uses_default_context: "useDefaultContext",
    context: "buildContext",
    tags: "arguments",
    folder: "workingDirectory",
    entry_point: "entrypointOverride",
    runs_in_background: "runInBackground",
    retries: "maxRestartRetries",
    memory: "memoryLimit",
};

pub(super) const NAMES_OF_0: Names = Names {
    command: "action",
    build_arguments: "buildArguments",
    uses_default_context: "defaultContext",
    context: "context",
    tags: "additionalImageTags",
    folder: "workDir",
    entry_point: "entrypoint",
    runs_in_background: "detached",
    retries: "restartMaxRetries",
    memory: "memory",
};

pub(super) async fn run(
    step: &StepContext,
    prepared: &Prepared,
    names: &Names,
) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let command = inputs.required(names.command)?.to_lowercase();
    let connection = inputs.get(CONNECTION.name);
    if command == "logout" {
        log_out(step, connection).await?;
        return Ok(TaskResult::Succeeded);
    }
    let logins = Logins::open(step, connection).await?;
    if command == "login" {
        return super::log_in(&logins, connection.or(inputs.get(SUBSCRIPTION.name)));
    }
    let done = command_by(&command, step, prepared, &logins, names).await;
    let closed = logins.close();
    done.and_then(|result| closed.map(|()| result))
}

async fn command_by(
    command: &str,
    step: &StepContext,
    prepared: &Prepared,
    logins: &Logins<'_>,
    names: &Names,
) -> Result<TaskResult, StepError> {
    let docker = &Docker::new(step, prepared, logins, KEEPERS).await?;
    let inputs = &prepared.inputs;
    let image = image(inputs, logins)?;
    let is_named = inputs.get(CONNECTION.name).or(inputs.get(SUBSCRIPTION.name)).is_some();
    match command {
        "build an image" | "build" => build(docker, names, &image).await?,
        "push an image" | "push" if is_named && docker.logins.registry.is_none() => {
            docker.step.warning(super::NOT_PUSHED).await;
        }
        "push an image" | "push" => docker.run(arguments([&"push", &image])).await?,
        "tag image" | "tag images" | "tag" => {
            for tag in lines(inputs, names.tags) {
                let target =
                    if tag.contains(':') { tag.to_owned() } else { format!("{}:{tag}", bare(&image)) };
                docker.run(arguments([&"tag", &image, &target])).await?;
            }
        }
        "run an image" | "run" => docker.run(container(inputs, names, &image)?).await?,
        "run a docker command" => docker.run(words(inputs.required("customCommand")?)).await?,
        other if names.command == "command" => {
            let mut line = words(other);
            line.extend(words(inputs.text("arguments")));
            docker.run(line).await?;
        }
        other => return Err(StepError::Failed(format!("The action '{other}' is not known."))),
    }
    Ok(TaskResult::Succeeded)
}

/// The image, with the registry of the service connection if it has none.
fn image(inputs: &Inputs, logins: &Logins<'_>) -> Result<String, StepError> {
    let image = inputs.required(IMAGE.name)?;
    let has_registry = image.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']));
    let authority = logins.registry.as_ref().and_then(|registry| registry.authority.as_deref());
    let whole = match authority.filter(|_| inputs.flag(QUALIFIES.name) && !has_registry) {
        Some(authority) => format!("{authority}/{image}"),
        None => image.to_owned(),
    };
    Ok(if inputs.flag(NAMING.name) { valid_name(&whole) } else { whole })
}

/// An image without its tag.
fn bare(image: &str) -> &str {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

fn lines<'a>(inputs: &'a Inputs, name: &str) -> impl Iterator<Item = &'a str> {
    inputs.get(name).unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty())
}

async fn build(docker: &Docker<'_>, names: &Names, image: &str) -> Result<(), StepError> {
    let inputs = &docker.prepared.inputs;
    let file = docker.dockerfile(inputs.required(NAMES_FILE.name)?).await?;
    let mut line = arguments([&"build", &"-f", &file]);
    line.extend(
        docker.label_arguments(inputs.get("addDefaultLabels").is_none() || inputs.flag("addDefaultLabels")),
    );
    line.extend(lines(inputs, names.build_arguments).flat_map(words));
    let mut tags = vec![image.to_owned()];
    if names.tags != names.build_arguments {
        tags.extend(lines(inputs, names.tags).map(|tag| format!("{}:{tag}", bare(image))));
    }
    if inputs.flag(LATEST.name) && bare(image) != image {
        tags.push(bare(image).to_owned());
    }
    for tag in tags {
        line.extend(arguments([&"-t", &tag]));
    }
    if let Some(memory) = inputs.get(names.memory) {
        line.extend(arguments([&"-m", &memory]));
    }
    line.push(match inputs.flag(names.uses_default_context) {
        true => file.parent().unwrap_or(&file).into(),
        false => inputs.text(names.context).into(),
    });
    docker.run(line).await
}

/// The arguments by which an image is run.
fn container(inputs: &Inputs, names: &Names, image: &str) -> Result<Vec<OsString>, StepError> {
    let mut line: Vec<OsString> = vec!["run".into()];
    let in_background = inputs.flag(names.runs_in_background);
    line.extend(in_background.then(|| "-d".into()));
    if names.command == "command" {
        line.extend(lines(inputs, "arguments").flat_map(words));
    }
    if let Some(program) = inputs.get(names.entry_point) {
        line.extend(arguments([&"--entrypoint", &program]));
    }
    line.extend(lines(inputs, ENVIRONMENT.name).flat_map(|one| arguments([&"-e", &one])));
    if let Some(name) = inputs.get(CONTAINER.name) {
        line.extend(arguments([&"--name", &name]));
    }
    line.extend(lines(inputs, PORTS.name).flat_map(|one| arguments([&"-p", &one])));
    match in_background {
        false => line.push("--rm".into()),
        true => line.extend(arguments([&"--restart", &restart_policy(inputs, names)?])),
    }
    line.extend(lines(inputs, VOLUMES.name).flat_map(|one| arguments([&"-v", &one])));
    if let Some(folder) = inputs.get(names.folder) {
        line.extend(arguments([&"-w", &folder]));
    }
    if let Some(memory) = inputs.get(names.memory) {
        line.extend(arguments([&"-m", &memory]));
    }
    line.push(image.into());
    line.extend(words(inputs.text(COMMAND.name)));
    Ok(line)
}

fn restart_policy(inputs: &Inputs, names: &Names) -> Result<String, StepError> {
    let policy = match inputs.text(RESTART.name) {
        "onFailure" => "on-failure",
        "unlessStopped" => "unless-stopped",
        other => other,
    };
    match inputs.get(names.retries).filter(|_| policy == "on-failure") {
        Some(retries) if retries.parse::<u32>().is_err() => {
            Err(StepError::failed("Maximum Restart Retries is not a number."))
        }
        Some(retries) => Ok(format!("{policy}:{retries}")),
        None => Ok(policy.to_owned()),
    }
}
