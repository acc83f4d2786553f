//! Downloads artifacts from file containers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use dayfly_client::{Again, RetryPolicy, describe};
use dayfly_protocol::ContainerId;
use dayfly_protocol::artifact::BuildArtifact;
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::log::{Log, Progress};
use super::{Artifacts, Error, Result};

/// Files at a time.
const PARALLEL_FILES: usize = 4;

/// How often a file is begun (`retryDownloadCount` of the official task).
const FILE: RetryPolicy =
    RetryPolicy { attempts: 4, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(2) };

/// What was downloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// How many files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

impl Artifacts {
    /// The artifacts of the build.
    ///
    /// # Errors
    ///
    /// If the service fails.
    pub async fn list(&self) -> Result<Vec<BuildArtifact>> {
        let listed = self.connection.list_artifacts(self.project, self.build).await;
        listed
            .map_err(|source| Error::Service { object: format!("artifacts of build {}", self.build), source })
    }

    /// The artifact of this name, in any case.
    ///
    /// # Errors
    ///
    /// If there is none, or the service fails.
    pub async fn find(&self, name: &str) -> Result<BuildArtifact> {
        let artifacts = self.list().await?;
        if let Some(artifact) = artifacts.iter().find(|artifact| artifact.name.eq_ignore_ascii_case(name)) {
            return Ok(artifact.clone());
        }
        let names: Vec<String> = artifacts.iter().map(|artifact| format!("'{}'", artifact.name)).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Error::NoArtifact { name: name.to_owned(), known })
    }

    /// Downloads those files of `artifact` to `target` whose path within the artifact `is_wanted`. How far it
    /// is is told to `log`.
    ///
    /// # Errors
    ///
    /// If it is not in a file container, the service fails, or a file cannot be written.
    pub async fn download(
        &self,
        artifact: &BuildArtifact,
        target: &Path,
        is_wanted: impl Fn(&str) -> bool,
        cancel: &CancellationToken,
        log: mpsc::Sender<String>,
    ) -> Result<Downloaded> {
        let log = Log(log);
        tokio::select! {
            downloaded = self.download_all(artifact, target, is_wanted, &log) => downloaded,
            () = cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    async fn download_all(
        &self,
        artifact: &BuildArtifact,
        target: &Path,
        is_wanted: impl Fn(&str) -> bool,
        log: &Log,
    ) -> Result<Downloaded> {
        let (container, folder) = place(artifact).ok_or_else(|| Error::Unsupported {
            name: artifact.name.clone(),
            kind: artifact.resource.resource_type.clone(),
        })?;
        let items = self.connection.list_items(self.project, container, &folder).await;
        let items = items.map_err(|source| Error::Service { object: folder.clone(), source })?;
        let mut files = Vec::new();
        for item in items.into_iter().filter(|item| item.item_type.eq_ignore_ascii_case("file")) {
            let Some(relative) = below(&item.path, &folder) else { continue };
            if is_wanted(relative) {
                let file =
                    target.join(inside(relative).ok_or_else(|| Error::Outside { path: item.path.clone() })?);
                files.push((item.path, file));
            }
        }
        let mut progress = Progress::new("Downloaded", files.len());
        let downloads =
            futures::stream::iter(files).map(|(path, file)| self.download_file(container, path, file));
        let mut downloads = std::pin::pin!(downloads.buffer_unordered(PARALLEL_FILES));
        let mut sum = Downloaded::default();
        while let Some(bytes) = downloads.next().await {
            sum.bytes += bytes?;
            sum.files += 1;
            progress.one_more(log).await;
        }
        Ok(sum)
    }

    /// Downloads a file. The client tries again only until the first byte has come, so a file that broke off
    /// begins anew here.
    async fn download_file(&self, container: ContainerId, path: String, file: PathBuf) -> Result<u64> {
        let again = |error: &Error, attempt| match error {
            Error::Service { source, .. } if source.is_retryable() => {
                tracing::debug!(error = describe(source), path, attempt, "a download broke off");
                Again::Yes
            }
            _ => Again::No,
        };
        FILE.retry(|| self.try_file(container, &path, &file), again).await
    }

    async fn try_file(&self, container: ContainerId, path: &str, file: &Path) -> Result<u64> {
        let write_error = |source| Error::File { action: "write", path: file.to_owned(), source };
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        // Under another name until it is whole, and gone if it never is: nobody may take a part for the file.
        let part = tokio::task::spawn_blocking(move || part_in(&folder)).await;
        let part = part.map_err(std::io::Error::other).and_then(|part| part).map_err(write_error)?;
        let (part, name) = part.into_parts();
        let mut content = tokio::fs::File::from_std(part);
        let bytes = self.connection.download_item(self.project, container, path, &mut content).await;
        let bytes = bytes.map_err(|source| Error::Service { object: path.to_owned(), source })?;
        content.flush().await.map_err(write_error)?;
        name.persist(file).map_err(|error| write_error(error.error))?;
        Ok(bytes)
    }
}

/// A new file that is removed when it is dropped, with the permissions of any other new file. The folder is
/// made if it is not there.
fn part_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    std::fs::create_dir_all(folder)?;
    tempfile::Builder::new()
        .prefix(".dayfly-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Container and folder of an artifact: `#/<container>/<folder>`.
fn place(artifact: &BuildArtifact) -> Option<(ContainerId, String)> {
    if !artifact.resource.resource_type.eq_ignore_ascii_case("Container") {
        return None;
    }
    let (container, folder) = artifact.resource.data.strip_prefix("#/")?.split_once('/')?;
    Some((container.parse().ok()?, folder.trim_end_matches('/').to_owned()))
}

/// The rest of `path` below `folder`.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let path = path.trim_start_matches('/');
    path.strip_prefix(folder)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// `relative` as a path, if it does not lead elsewhere.
fn inside(relative: &str) -> Option<PathBuf> {
    let path = PathBuf::from(relative);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        assert_eq!(inside("a/b.txt"), Some(PathBuf::from("a/b.txt")));
        for bad in ["../x", "a/../../x", "/etc/passwd", "a/./../x"] {
            assert_eq!(inside(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_is_below_the_folder_belongs_to_it() {
        assert_eq!(below("drop/a/b", "drop"), Some("a/b"));
        assert_eq!(below("/drop/a", "drop"), Some("a"));
        assert_eq!(below("drop2/a", "drop"), None);
        assert_eq!(below("drop", "drop"), None);
    }
}
