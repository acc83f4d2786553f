//! How the images of a job's containers come to this machine (`ContainerOperationProvider.cs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use dayfly_protocol::job::{AgentJobRequestMessage, ContainerResource};
use dayfly_protocol::registries::{Login, Registry, source};

use super::Error;
use super::engine::{Call, Failed, Kind};
use super::machine::Making;
use crate::steps::expand;

/// Pulls the images, each once, and answers them by the aliases of their containers. Logins are kept in
/// `logins`, which is there for as long as a login is needed.
pub(super) async fn pull<'a>(
    making: &Making<'_>,
    message: &AgentJobRequestMessage,
    resources: impl Iterator<Item = &'a ContainerResource>,
    logins: &Path,
) -> Result<BTreeMap<String, String>, Error> {
    let mut images = BTreeMap::new();
    let mut pulled = BTreeSet::new();
    for resource in resources {
        let source = source(message, resource)?;
        let is_local = resource.properties.local_image == Some(true);
        let mut image = expand(&making.step.job, &source.image);
        if making.engine.kind == Kind::Podman && !is_local {
            image = as_docker_reads(&image);
        }
        images.insert(resource.alias.clone(), image.clone());
        if is_local || !pulled.insert(image.clone()) {
            continue;
        }
        let got = match &source.registry {
            None => making.run_plainly(["pull", &image].into()).await.map(drop),
            Some(registry) => pull_by(making, registry, &image, logins).await?,
        };
        got.map_err(|reason| match reason {
            Failed::Canceled => Error::Canceled,
            reason => Error::Pull { container: resource.alias.clone(), image, reason },
        })?;
    }
    Ok(images)
}

/// The image whose name Docker takes for this one: without a registry it is one of Docker Hub
/// (`splitDockerDomain` of `distribution/reference`). Podman asks its own configuration, which mostly knows
/// no registry.
fn as_docker_reads(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

/// Pulls by the login of a service connection, which the user's own configuration never holds.
async fn pull_by(
    making: &Making<'_>,
    registry: &Registry,
    image: &str,
    logins: &Path,
) -> Result<Result<(), Failed>, Error> {
    let login = registry.login.as_ref().ok_or_else(|| Error::Login {
        connection: registry.connection.clone(),
        reason:
            "its login is one of Microsoft Entra's, which Dayfly cannot get here; use one with a user and \
                 a password, or log in on this machine and leave out `endpoint`"
                .to_owned(),
    })?;
    let failed = |source| Error::Folder { what: "the folder for a login", path: logins.to_owned(), source };
    DirBuilder::new().mode(0o700).recursive(true).create(logins).map_err(failed)?;
    std::fs::set_permissions(logins, Permissions::from_mode(0o700)).map_err(failed)?;
    let got = with_login(making, registry, login, image, logins).await;
    std::fs::remove_dir_all(logins).map_err(failed)?;
    Ok(got)
}

async fn with_login(
    making: &Making<'_>,
    registry: &Registry,
    login: &Login,
    image: &str,
    logins: &Path,
) -> Result<(), Failed> {
    let environment = environment(making, logins).await?;
    let call = |arguments: &[&str], input: Option<&str>| Call {
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: environment.clone(),
        input: input.map(|input| input.as_bytes().to_vec()),
    };
    let line = ["login", "--username", &login.user, "--password-stdin", registry.key()];
    making.run_plainly(call(&line, Some(&login.password))).await?;
    let pulled = making.run_plainly(call(&["pull", image], None)).await;
    // The file is removed in any case.
    if let Err(Failed::Canceled) = making.run_plainly(call(&["logout", registry.key()], None)).await {
        return Err(Failed::Canceled);
    }
    pulled.map(drop)
}

/// Where the engine keeps the login.
async fn environment(making: &Making<'_>, logins: &Path) -> Result<Vec<(OsString, OsString)>, Failed> {
    if making.engine.kind == Kind::Podman {
        return Ok(vec![("REGISTRY_AUTH_FILE".into(), logins.join("auth.json").into())]);
    }
    let mut environment = vec![("DOCKER_CONFIG".into(), logins.into())];
    if !making.step.job.inherited.contains_key(OsStr::new("DOCKER_HOST")) {
        // Which daemon it is, the user's own configuration may say.
        let host = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
        let host = making.engine.ask(host, making.cancel).await?;
        environment.push(("DOCKER_HOST".into(), host.trim().into()));
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_registry_is_one_of_docker_hub() {
        for (written, meant) in [
            ("postgres:16", "docker.io/library/postgres:16"),
            ("bitnami/redis", "docker.io/bitnami/redis"),
            ("localhost/tools:1", "localhost/tools:1"),
            ("registry:5000/tools", "registry:5000/tools"),
            ("mcr.microsoft.com/dotnet/sdk@sha256:ab", "mcr.microsoft.com/dotnet/sdk@sha256:ab"),
        ] {
            assert_eq!(as_docker_reads(written), meant);
        }
    }
}
