//! Logins to registries, as Microsoft's task keeps them (`containerconnection.ts`): in a `config.json` of
//! Docker's in the job's folder for temporary files, which the variable DOCKER_CONFIG names.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::registries::{self, Login, Registry};
use serde_json::{Map, Value, json};

use super::super::super::StepError;
use super::super::cluster::{endpoint, unknown_connection};
use super::super::is_local;
use super::valid_name;
use crate::context::StepContext;
use crate::variables::Flags;

/// The variable that names the folder for Docker, and the one that names the file for Podman and Buildah.
const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
const AUTH_FILE: &str = "REGISTRY_AUTH_FILE";

/// The member of the file with the logins by registries.
const AUTHS: &str = "auths";

/// The registry that a step names, with its login for as long as the step runs.
pub(super) struct Logins<'a> {
    step: &'a StepContext,
    /// None: the step names no service connection, or one that this machine does not know.
    pub(super) registry: Option<Registry>,
    /// What was there of earlier logins.
    earlier: Option<ConfigFile>,
    /// The file with the login, if there is one.
    file: Option<ConfigFile>,
}

impl<'a> Logins<'a> {
    /// Writes down the login of the service connection that a step names.
    pub(super) async fn open(step: &'a StepContext, connection: Option<&str>) -> Result<Self, StepError> {
        let earlier = ConfigFile::earlier(step)?;
        let registry = match connection {
            Some(connection) => named(step, connection).await?,
            None => None,
        };
        let login = registry.as_ref().and_then(|registry| Some((registry, registry.login.as_ref()?)));
        let file = match login {
            Some((registry, login)) => {
                let mut file = match &earlier {
                    Some(earlier) => earlier.clone(),
                    None => ConfigFile::new(step)?,
                };
                file.add(registry, login);
                file.write()?;
                Some(file)
            }
            None => None,
        };
        Ok(Self { step, registry, earlier, file })
    }

    /// The names under which an image is built and pushed: with the registry of the service connection, or
    /// else with those of earlier logins.
    pub(super) fn names(&self, repository: &str) -> Vec<String> {
        let at = |authority: Option<&str>| {
            let whole =
                authority.map_or(repository.to_owned(), |authority| format!("{authority}/{repository}"));
            valid_name(&whole)
        };
        match (&self.registry, &self.earlier) {
            _ if repository.is_empty() => Vec::new(),
            (Some(registry), _) => vec![at(registry.authority.as_deref())],
            (None, Some(earlier)) => {
                let keys = earlier.content[AUTHS].as_object().into_iter().flat_map(Map::keys);
                // Docker Hub is the only one whose key is an address.
                keys.map(|key| at(Some(key.as_str()).filter(|key| !key.contains("://")))).collect()
            }
            (None, None) => vec![at(None)],
        }
    }

    /// The environment in which a program finds the logins.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        self.file.as_ref().map(ConfigFile::variables).unwrap_or_default()
    }

    /// Keeps the login for later steps.
    pub(super) fn keep(&self) -> Result<(), StepError> {
        let file =
            self.file.as_ref().ok_or(StepError::failed("Docker registry service connection not found"))?;
        for (name, value) in file.variables() {
            self.step.set_variable(name, &value, false, Flags::default());
        }
        Ok(())
    }

    /// Takes the login away again; earlier ones stay.
    pub(super) fn close(&self) -> Result<(), StepError> {
        match (&self.file, &self.earlier) {
            (Some(_), Some(earlier)) => earlier.write(),
            (Some(file), None) => file.remove(),
            (None, _) => Ok(()),
        }
    }
}

/// Takes the login of a registry, or all logins, from the steps that follow.
pub(super) async fn log_out(step: &StepContext, connection: Option<&str>) -> Result<(), StepError> {
    let registry = match connection {
        Some(connection) => named(step, connection).await?,
        None => None,
    };
    let Some(mut file) = ConfigFile::earlier(step)? else { return Ok(()) };
    if let (Some(registry), Some(auths)) = (&registry, file.content[AUTHS].as_object_mut()) {
        auths.remove(registry.key());
        if !auths.is_empty() {
            return file.write();
        }
    }
    for (name, _) in file.variables() {
        step.set_variable(name, "", false, Flags::default());
    }
    file.remove()
}

/// The registry of a service connection. A run on this machine goes on without one that it does not know.
async fn named(step: &StepContext, connection: &str) -> Result<Option<Registry>, StepError> {
    let Some(endpoint) = endpoint(step, connection) else {
        let unknown = unknown_connection(connection);
        if !is_local(&step.job) {
            return Err(StepError::Failed(unknown));
        }
        step.warning(&format!("This step does not log in: {unknown}")).await;
        return Ok(None);
    };
    let name = endpoint.name.as_deref().unwrap_or(connection);
    let refused = |reason: &str| {
        StepError::Failed(format!("The service connection '{name}' cannot be used for a registry: {reason}."))
    };
    let registry = registries::registry(endpoint).map_err(|reason| refused(&reason))?;
    match registry.login {
        Some(_) => Ok(Some(registry)),
        None => Err(refused(
            "its login is an exchange with Microsoft Entra, which Dayfly's native worker does not do; use \
             one with a user and a password",
        )),
    }
}

/// The file `config.json` of a folder of Docker's.
#[derive(Clone)]
struct ConfigFile {
    folder: PathBuf,
    content: Value,
}

impl ConfigFile {
    /// The one of an earlier login. What DOCKER_CONFIG names elsewhere is the user's own.
    fn earlier(step: &StepContext) -> Result<Option<Self>, StepError> {
        let Some(folder) = step.job.variable(DOCKER_CONFIG).map(PathBuf::from) else { return Ok(None) };
        if !folder.starts_with(step.job.variable_or_empty("agent.tempDirectory")) {
            return Ok(None);
        }
        let text = match std::fs::read_to_string(folder.join("config.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&folder, "read", &error)),
        };
        let content = serde_json::from_str(&text).ok().filter(|content: &Value| content[AUTHS].is_object());
        let content = content.unwrap_or_else(|| json!({ AUTHS: {} }));
        Ok(Some(Self { folder, content }))
    }

    /// One in a folder of its own.
    fn new(step: &StepContext) -> Result<Self, StepError> {
        let parent = PathBuf::from(step.job.variable_or_empty("agent.tempDirectory"));
        let folder = parent.join(format!("DockerConfig_{}", uuid::Uuid::new_v4().simple()));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, "made", &error))?;
        Ok(Self { folder, content: json!({ AUTHS: {} }) })
    }

    fn add(&mut self, registry: &Registry, login: &Login) {
        let auth = STANDARD.encode(format!("{}:{}", login.user, login.password));
        self.content[AUTHS][registry.key()] = json!({ "auth": auth });
    }

    fn write(&self) -> Result<(), StepError> {
        let path = self.folder.join("config.json");
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = opened.and_then(|mut file| file.write_all(self.content.to_string().as_bytes()));
        written.map_err(|error| failed(&path, "written", &error))
    }

    fn remove(&self) -> Result<(), StepError> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(&self.folder, "deleted", &error))
            }
            _ => Ok(()),
        }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![(DOCKER_CONFIG, text(self.folder.clone())), (AUTH_FILE, text(self.folder.join("config.json")))]
    }
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> StepError {
    StepError::Failed(format!("{} could not be {what}: {error}", path.display()))
}
