//! Build artifacts in file containers: upload, association with the build, and download
//! (`FileContainerServer.cs`, `ArtifactCommandExtension.cs`).
//!
//! Files go in pieces of 4 MiB, two files at a time; files that fail are tried once more a minute later, as
//! the official agent does, and so each piece has the client's own repetitions twice. What the service
//! refuses is not: it would be refused again. The deduplicating blob store of Azure Pipelines is not spoken:
//! its protocol is not public.
//!
//! The service keeps no permissions of files, neither in containers nor in that store
//! (<https://github.com/microsoft/azure-pipelines-tasks/issues/21170>), so what is downloaded cannot be
//! executed.

mod download;
mod files;
mod ignore;
mod log;
mod patterns;
mod upload;

pub use download::Downloaded;
pub(crate) use patterns::{Patterns, translate};
pub use upload::{Kind, NewArtifact, Uploaded};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_client::Connection;
use dayfly_protocol::artifact::{ArtifactResource, BuildArtifact};
use dayfly_protocol::{BuildId, ContainerId, JobId, ProjectId};

/// `Result` of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Between the two rounds of an upload (`FileContainerServer.cs`).
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// What went wrong with an artifact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to upload at this path.
    #[error("'{}' does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The service failed or refused.
    #[error("the service did not take or give '{object}'")]
    Service {
        /// The file or artifact.
        object: String,
        /// The service's reason.
        #[source]
        source: dayfly_client::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} '{}'", path.display())]
    File {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file was changed while it was uploaded.
    #[error("'{}' became shorter while it was uploaded; upload it when nothing writes to it any more", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file's name cannot be written in an artifact.
    #[error("the name of '{}' is not UTF-8; rename the file", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A file's name has a character that the service does not take.
    #[error("the name of {path:?} contains {letter:?}, which an artifact cannot hold; rename the file")]
    Letter {
        /// The file.
        path: PathBuf,
        /// The character.
        letter: char,
    },
    /// Two files would have the same name in the artifact, where `\` parts folders.
    #[error("'{}' and '{other}' would be the same file in the artifact; rename one of them", path.display())]
    Collision {
        /// The one.
        path: PathBuf,
        /// The other, below the artifact.
        other: String,
    },
    /// What is to be published is neither a file nor a folder.
    #[error("'{}' is {what}, and an artifact holds only files; remove it or publish another folder", path.display())]
    Special {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A link leads nowhere.
    #[error("the link '{}' leads to '{}', which does not exist; remove the link or create its target", path.display(), target.display())]
    Dangling {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// There is more than an artifact may have.
    #[error("'{}' holds more than {limit} files and folders, counting those behind links; publish a smaller \
        folder or pack it into one file", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// A line of an `.artifactignore` is no pattern.
    #[error("line {line} of '{}' is not a valid pattern: {reason}", path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// Why not.
        reason: String,
    },
    /// A pipeline artifact can be published once.
    #[error("Artifact {name} already exists for build {build}. Publish it under another name.")]
    Exists {
        /// The artifact.
        name: String,
        /// The build.
        build: BuildId,
    },
    /// The artifact names a file outside of the folder it is downloaded to.
    #[error("the artifact's file '{path}' would be written outside of the target folder")]
    Outside {
        /// The path in the container.
        path: String,
    },
    /// The build has no artifact of this name.
    #[error("the build has no artifact '{name}'; it has {known}")]
    NoArtifact {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The artifact is kept where this worker cannot fetch it from.
    #[error(
        "the artifact '{name}' is of type '{kind}', which the native worker cannot download; run this job \
            on Microsoft's agent"
    )]
    Unsupported {
        /// The artifact.
        name: String,
        /// Its type.
        kind: String,
    },
    /// Some files could not be uploaded.
    #[error("{count} {} could not be uploaded, the first is '{}'", noun(*.count), first.display())]
    Incomplete {
        /// How many.
        count: usize,
        /// The first.
        first: PathBuf,
        /// Why the first could not be uploaded.
        #[source]
        source: Box<Error>,
    },
    /// The build has no container.
    #[error("the job has no variable Build.ContainerId, so there is no container for files")]
    NoContainer,
    /// The step was cancelled.
    #[error("the operation was canceled")]
    Cancelled,
}

/// What is said of a folder without files.
pub(crate) fn nothing_in(folder: &Path, name: &str) -> String {
    format!("Directory '{}' is empty. Nothing will be added to build artifact '{name}'.", folder.display())
}

/// The noun after a number of files.
fn noun(count: usize) -> &'static str {
    if count == 1 { "file" } else { "files" }
}

/// The artifacts of one build, as a job sees them.
#[derive(Clone)]
pub struct Artifacts {
    /// The connection with the job's token.
    pub connection: Connection,
    /// The project of the build.
    pub project: ProjectId,
    /// The build.
    pub build: BuildId,
    /// The build's file container (`build.containerId`), if it has one.
    pub container: Option<ContainerId>,
    /// The job, named as the artifacts' source.
    pub job: JobId,
    /// How long failed files wait for their second round.
    pub retry_pause: Duration,
}

impl Artifacts {
    /// The artifacts of `build`, with the official pause before the second round.
    pub fn new(
        connection: Connection,
        project: ProjectId,
        build: BuildId,
        container: Option<ContainerId>,
        job: JobId,
    ) -> Artifacts {
        Artifacts { connection, project, build, container, job, retry_pause: RETRY_PAUSE }
    }

    /// Names something as an artifact of the build (`artifact.associate`).
    ///
    /// # Errors
    ///
    /// If the service refuses, for example because another job has made an artifact of that name.
    pub async fn associate(
        &self,
        name: &str,
        resource_type: &str,
        data: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<BuildArtifact> {
        let artifact = BuildArtifact {
            name: name.to_owned(),
            source: Some(self.job.to_string()),
            resource: ArtifactResource {
                resource_type: resource_type.to_owned(),
                data: data.to_owned(),
                properties,
                ..ArtifactResource::default()
            },
            ..BuildArtifact::default()
        };
        let made = self.connection.create_artifact(self.project, self.build, &artifact).await;
        made.map_err(|source| Error::Service { object: name.to_owned(), source })
    }
}
