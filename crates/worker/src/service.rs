//! What the job loop itself asks of the service: the job's result, the build's number and tags, artifacts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_client::{Connection, ContainerUpload, Credential, ErrorKind, HttpSettings, JobPlan};
use dayfly_protocol::artifact::{ArtifactResource, BuildArtifact};
use dayfly_protocol::channel::WorkerSettings;
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::{BuildId, ContainerId, JobId, ProjectId, TaskResult};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Surroundings;

/// How often the result is sent before it is given up (`JobRunner.cs`).
const COMPLETION_ATTEMPTS: u32 = 5;
/// The pause between two attempts.
const COMPLETION_PAUSE: Duration = Duration::from_secs(5);
/// How much of a file is sent by one request.
const UPLOAD_PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// Why the service could not be asked or did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The message is not complete.
    #[error("the job message has no endpoint SystemVssConnection with an address and a token")]
    NoConnection,
    /// The job belongs to no build.
    #[error("the job has no variable Build.BuildId, so there is no build to change")]
    NoBuild,
    /// The build has no container.
    #[error("the job has no variable Build.ContainerId, so there is no container for files")]
    NoContainer,
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The step was cancelled.
    #[error("the operation was canceled")]
    Canceled,
    /// The connection could not be made.
    #[error("the connection to the service could not be set up")]
    Connect(#[source] dayfly_client::Error),
    /// A call failed.
    #[error("{doing} failed")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// The client's error.
        #[source]
        source: dayfly_client::Error,
    },
}

fn call(doing: &'static str) -> impl FnOnce(dayfly_client::Error) -> Error {
    move |source| Error::Call { doing, source }
}

/// An artifact to be named to the service.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    /// Such as `Container`.
    pub(crate) kind: String,
    /// Where it is.
    pub(crate) data: String,
    pub(crate) properties: BTreeMap<String, String>,
}

/// The service with the job's own token.
pub(crate) struct Service {
    plan: JobPlan,
    project: ProjectId,
    job: JobId,
    build: Option<BuildId>,
    container: Option<ContainerId>,
}

impl Service {
    /// Sets the connection up; nothing is sent yet.
    pub(crate) fn connect(
        message: &AgentJobRequestMessage,
        settings: &WorkerSettings,
        surroundings: &Surroundings,
    ) -> Result<Service, Error> {
        let endpoint = message.resources.system_connection().ok_or(Error::NoConnection)?;
        let url = endpoint.url.as_ref().ok_or(Error::NoConnection)?;
        let token = endpoint.access_token().ok_or(Error::NoConnection)?;
        let http = HttpSettings {
            ca_files: settings.ca_files.clone(),
            proxy: surroundings.proxy.clone(),
            ..HttpSettings::default()
        };
        let connection =
            Connection::new(url, Credential::Bearer(token.into()), http).map_err(Error::Connect)?;
        let number = |name: &str| {
            let (_, value) = message.variables.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            value.value.as_deref()?.trim().parse::<i64>().ok()
        };
        Ok(Service {
            plan: connection.plan(&message.plan),
            project: message.plan.scope_identifier,
            job: message.job_id,
            build: number("build.buildId").and_then(|id| i32::try_from(id).ok()).map(BuildId),
            container: number("build.containerId").map(ContainerId),
        })
    }

    /// The plan's part of the service.
    pub(crate) fn plan(&self) -> &JobPlan {
        &self.plan
    }

    fn connection(&self) -> &Connection {
        self.plan.connection()
    }

    /// The build the job belongs to.
    pub(crate) fn build(&self) -> Result<BuildId, Error> {
        self.build.ok_or(Error::NoBuild)
    }

    /// Reports the job's result, five times at the most; a plan that does not want it is not asked again.
    pub(crate) async fn job_completed(
        &self,
        message: &AgentJobRequestMessage,
        result: TaskResult,
        agent_goes_away: bool,
    ) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            match self.plan.complete_job(message.job_id, message.request_id, result, agent_goes_away).await {
                Ok(()) => return Ok(()),
                Err(source) if attempt == COMPLETION_ATTEMPTS || is_final(source.kind()) => {
                    return Err(Error::Call { doing: "reporting the result of the job", source });
                }
                Err(error) => {
                    tracing::warn!(%error, attempt, "the result of the job could not be reported yet");
                    attempt += 1;
                    sleep(COMPLETION_PAUSE).await;
                }
            }
        }
    }

    /// Gives the build another number.
    pub(crate) async fn update_build_number(&self, number: &str) -> Result<(), Error> {
        let build = self.build()?;
        self.connection()
            .update_build_number(self.project, build, number)
            .await
            .map_err(call("changing the build's number"))
    }

    /// Adds a tag to the build and answers all its tags.
    pub(crate) async fn add_build_tag(&self, tag: &str) -> Result<Vec<String>, Error> {
        let build = self.build()?;
        self.connection()
            .add_build_tag(self.project, build, tag)
            .await
            .map_err(call("adding a tag to the build"))
    }

    /// Uploads a file or a folder to the build's container below `folder` and makes an artifact of it; answers lines for the log.
    pub(crate) async fn upload_artifact(
        &self,
        name: &str,
        folder: &str,
        path: &Path,
        mut properties: BTreeMap<String, String>,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, Error> {
        let build = self.build()?;
        let container = self.container.ok_or(Error::NoContainer)?;
        let files = files_of(path, folder)?;
        let mut lines = vec![format!("Uploading {} files", files.len())];
        let mut size = 0;
        for file in &files {
            tokio::select! {
                sent = self.upload_file(container, file) => size += sent?,
                () = cancel.cancelled() => return Err(Error::Canceled),
            }
        }
        properties.insert("artifactsize".to_owned(), size.to_string());
        let data = format!("#/{container}/{folder}");
        lines.push(format!("Upload '{}' to file container: '{data}'", path.display()));
        let artifact = Artifact { name: name.to_owned(), kind: "Container".to_owned(), data, properties };
        let id = self.associate(artifact).await?;
        lines.push(format!("Associated artifact {id} with build {build}"));
        Ok(lines)
    }

    /// Sends one file in pieces and answers its size in bytes.
    async fn upload_file(&self, container: ContainerId, file: &ArtifactFile) -> Result<u64, Error> {
        let read = |source| Error::Read { path: file.local.clone(), source };
        let mut content = tokio::fs::File::open(&file.local).await.map_err(read)?;
        let total_bytes = content.metadata().await.map_err(read)?.len();
        let mut offset = 0;
        loop {
            let mut piece = Vec::new();
            (&mut content).take(UPLOAD_PIECE_BYTES).read_to_end(&mut piece).await.map_err(read)?;
            let sent = piece.len() as u64;
            if sent == 0 && offset > 0 {
                return Ok(offset);
            }
            self.connection()
                .upload_item(ContainerUpload {
                    container,
                    project: self.project,
                    path: &file.remote,
                    content: piece.into(),
                    offset,
                    // A file that grows while it is sent is cut where it ended at first.
                    total_bytes: total_bytes.max(offset + sent),
                })
                .await
                .map_err(call("uploading a file of the artifact"))?;
            offset += sent;
            if offset >= total_bytes {
                return Ok(offset);
            }
        }
    }

    /// Names an artifact of the build and answers its number.
    pub(crate) async fn associate(&self, artifact: Artifact) -> Result<i32, Error> {
        let build = self.build()?;
        let artifact = BuildArtifact {
            name: artifact.name,
            source: Some(self.job.to_string()),
            resource: ArtifactResource {
                resource_type: artifact.kind,
                data: artifact.data,
                properties: artifact.properties,
                ..ArtifactResource::default()
            },
            ..BuildArtifact::default()
        };
        let created = self
            .connection()
            .create_artifact(self.project, build, &artifact)
            .await
            .map_err(call("adding an artifact to the build"))?;
        Ok(created.id)
    }
}

/// A file of an artifact.
struct ArtifactFile {
    local: PathBuf,
    /// Its path in the container.
    remote: String,
}

/// The file itself, or all files below the folder, with their paths in the container. Links to folders are not followed.
fn files_of(path: &Path, folder: &str) -> Result<Vec<ArtifactFile>, Error> {
    let mut files = Vec::new();
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push(ArtifactFile { local: path.to_owned(), remote: format!("{folder}/{name}") });
        return Ok(files);
    }
    let mut folders = vec![path.to_owned()];
    while let Some(current) = folders.pop() {
        let read = |source| Error::Read { path: current.clone(), source };
        for entry in std::fs::read_dir(&current).map_err(read)? {
            let entry = entry.map_err(read)?;
            if entry.file_type().map_err(read)?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().is_file() {
                let local = entry.path();
                let below = local.strip_prefix(path).unwrap_or(&local).to_string_lossy();
                files.push(ArtifactFile { remote: format!("{folder}/{below}"), local });
            }
        }
    }
    files.sort_unstable_by(|left, right| left.remote.cmp(&right.remote));
    Ok(files)
}

/// Whether trying again cannot help: nobody waits for the result, or this token may not give it.
fn is_final(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PlanRejected
            | ErrorKind::JobNotFound
            | ErrorKind::NotFound
            | ErrorKind::Forbidden
            | ErrorKind::Unauthorized
    )
}
