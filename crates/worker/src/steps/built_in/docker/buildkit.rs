//! Builds by BuildKit's `buildctl`, which pushes what it builds at once and keeps no images. Its daemon is
//! the one that `BUILDKIT_HOST` names.

use std::ffi::OsString;

use dayfly_protocol::TaskResult;

use super::super::super::StepError;
use super::super::program::{arguments, words};
use super::{Docker, context, names};

/// The program's name.
pub(super) const BUILDCTL: &str = "buildctl";

/// Options of `docker build` that have a value, and those of the frontend that mean the same.
const OPTIONS: &[(&str, &str)] = &[
    ("--build-arg", "build-arg:"),
    ("--label", "label:"),
    ("--target", "target="),
    ("--platform", "platform="),
    ("--add-host", "add-hosts="),
];

/// Does a command of Docker@2.
pub(super) async fn run(docker: &Docker<'_>, command: &str) -> Result<TaskResult, StepError> {
    let inputs = &docker.prepared.inputs;
    let pushes = match command.to_ascii_lowercase().as_str() {
        "build" => false,
        "buildandpush" => true,
        _ => {
            return Err(StepError::Failed(format!(
                "The command '{command}' needs docker, podman or buildah on the PATH: buildctl keeps no \
                 images. To build and push with it, use the command buildAndPush."
            )));
        }
    };
    let file = docker.dockerfile(inputs.required("Dockerfile")?).await?;
    let folder = file.parent().unwrap_or(&file);
    let mut line = arguments([&"build", &"--frontend", &"dockerfile.v0"]);
    line.extend(arguments([&"--local", &joined("context=", context(inputs, &file))]));
    line.extend(arguments([&"--local", &joined("dockerfile=", folder)]));
    line.extend(arguments([&"--opt", &joined("filename=", file.file_name().unwrap_or_default())]));
    for (name, value) in docker.labels(inputs.flag("addPipelineData")) {
        line.extend(arguments([&"--opt", &format!("label:{name}={value}")]));
    }
    if !pushes {
        line.extend(translated(&words(inputs.text("arguments")))?);
        docker.step.warning("buildctl keeps no images: this one is built and not stored.").await;
    } else if docker.pushes().await {
        let names = names(docker).join(",");
        line.extend(arguments([&"--output", &format!("type=image,\"name={names}\",push=true")]));
    }
    docker.run(line).await?;
    Ok(TaskResult::Succeeded)
}

/// The arguments of `docker build` as those of `buildctl build`.
fn translated(given: &[OsString]) -> Result<Vec<OsString>, StepError> {
    let mut line = Vec::new();
    let mut given = given.iter().map(|word| word.to_string_lossy());
    while let Some(word) = given.next() {
        let (option, joined_value) =
            word.split_once('=').map_or((&*word, None), |(option, value)| (option, Some(value.to_owned())));
        let mut value = || joined_value.clone().or_else(|| given.next().map(|next| next.into_owned()));
        if let Some((_, of_frontend)) = OPTIONS.iter().find(|(known, _)| *known == option) {
            let value = value().unwrap_or_default();
            line.extend(arguments([&"--opt", &format!("{of_frontend}{value}")]));
        } else if matches!(option, "--secret" | "--ssh" | "--progress") {
            line.extend(arguments([&option, &value().unwrap_or_default()]));
        } else if option == "--no-cache" {
            line.push(option.into());
        } else if option == "--pull" {
            line.extend(arguments([&"--opt", &"image-resolve-mode=pull"]));
        } else {
            return Err(StepError::Failed(format!(
                "buildctl does not know the argument '{option}' of docker build. Leave it out, or put \
                 docker, podman or buildah on the PATH."
            )));
        }
    }
    Ok(line)
}

fn joined(name: &str, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut text = OsString::from(name);
    text.push(value);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_docker_are_said_in_the_words_of_buildctl() {
        let line =
            words("--build-arg A=1 --build-arg=B=2=3 --target out --no-cache --pull --secret id=s,src=f");
        let said = translated(&line).unwrap();
        let expected = "--opt build-arg:A=1 --opt build-arg:B=2=3 --opt target=out --no-cache \
                        --opt image-resolve-mode=pull --secret id=s,src=f";
        assert_eq!(said, words(expected));
        assert!(translated(&words("--squash")).is_err());
    }
}
