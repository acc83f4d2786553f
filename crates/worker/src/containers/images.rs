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
        let image = expand(&making.step.job, &source.image);
        images.insert(resource.alias.clone(), image.clone());
        if resource.properties.local_image == Some(true) || !pulled.insert(image.clone()) {
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
    let line = ["login", "--username", &login.user, "--password-stdin", &registry.key];
    making.run_plainly(call(&line, Some(&login.password))).await?;
    let pulled = making.run_plainly(call(&["pull", image], None)).await;
    // The file is removed in any case.
    if let Err(Failed::Canceled) = making.run_plainly(call(&["logout", &registry.key], None)).await {
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
