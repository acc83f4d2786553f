//! Uploads files into the build's container.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use dayfly_client::{ContainerUpload, describe};
use dayfly_protocol::ContainerId;
use dayfly_protocol::artifact::BuildArtifact;
use futures::StreamExt as _;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::files::{self, LocalFile};
use super::{Artifacts, Error, Result};

/// The official chunk size.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// The official number of files at a time.
const PARALLEL_FILES: usize = 2;

/// What was uploaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Uploaded {
    /// The artifact, as the service knows it.
    pub artifact: BuildArtifact,
    /// How many files it has.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

impl Artifacts {
    /// Uploads `source`, a file or a folder, to `folder` of the container and names it as the artifact `name` (`artifact.upload`). What it did is added to `lines`, for the step's log.
    /// None if the folder has no files: then there is no artifact, of which the caller warns.
    ///
    /// # Errors
    ///
    /// If there is nothing at `source`, a file cannot be read, or the service fails for longer than both rounds take.
    pub async fn upload(
        &self,
        name: &str,
        folder: &str,
        source: &Path,
        properties: BTreeMap<String, String>,
        cancel: &CancellationToken,
        lines: &mut Vec<String>,
    ) -> Result<Option<Uploaded>> {
        tokio::select! {
            uploaded = self.upload_all(name, folder, source, properties, lines) => uploaded,
            () = cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    async fn upload_all(
        &self,
        name: &str,
        folder: &str,
        source: &Path,
        mut properties: BTreeMap<String, String>,
        lines: &mut Vec<String>,
    ) -> Result<Option<Uploaded>> {
        let container = self.container.ok_or(Error::NoContainer)?;
        let owned = source.to_owned();
        let files = match tokio::task::spawn_blocking(move || files::find(&owned)).await {
            Ok(files) => files?,
            Err(_) => return Err(Error::Cancelled),
        };
        if files.is_empty() {
            return Ok(None);
        }
        let count = files.len();
        let folder = folder.trim_end_matches('/');
        lines.push(format!("Uploading {count} {}", if count == 1 { "file" } else { "files" }));
        let mut round = self.round(container, folder, files, lines).await;
        let mut bytes = round.bytes;
        if !round.failed.is_empty() {
            let seconds = self.retry_pause.as_secs();
            lines.push(format!(
                "{} files failed and are tried again in {seconds} seconds",
                round.failed.len()
            ));
            tokio::time::sleep(self.retry_pause).await;
            let failed = round.failed.into_iter().map(|(file, _)| file).collect();
            round = self.round(container, folder, failed, lines).await;
            bytes += round.bytes;
        }
        let failed = round.failed.len();
        if let Some((file, error)) = round.failed.into_iter().next() {
            return Err(Error::Incomplete { count: failed, first: file.path, source: Box::new(error) });
        }
        let place = format!("#/{container}/{folder}");
        lines.push(format!("Uploaded '{}' to file container '{place}'", source.display()));
        properties.insert("artifactsize".to_owned(), bytes.to_string());
        let artifact = self.associate(name, "Container", &place, properties).await?;
        lines.push(format!("Associated artifact {} with build {}", artifact.id, self.build));
        Ok(Some(Uploaded { artifact, files: count, bytes }))
    }

    /// Tries each file once.
    async fn round(
        &self,
        container: ContainerId,
        folder: &str,
        files: Vec<LocalFile>,
        lines: &mut Vec<String>,
    ) -> Round {
        let uploads = futures::stream::iter(files).map(|file| async move {
            let result = self.upload_file(container, folder, &file).await;
            (file, result)
        });
        let mut uploads = std::pin::pin!(uploads.buffer_unordered(PARALLEL_FILES));
        let mut round = Round::default();
        while let Some((file, result)) = uploads.next().await {
            match result {
                Ok(bytes) => round.bytes += bytes,
                Err(error) => {
                    lines.push(format!("Upload of '{}' failed: {}", file.path.display(), describe(&error)));
                    round.failed.push((file, error));
                }
            }
        }
        round
    }

    async fn upload_file(&self, container: ContainerId, folder: &str, file: &LocalFile) -> Result<u64> {
        let read_error = |source| Error::File { action: "read", path: file.path.clone(), source };
        let mut content = File::open(&file.path).await.map_err(read_error)?;
        let total_bytes = content.metadata().await.map_err(read_error)?.len();
        let path = format!("{folder}/{}", file.relative);
        let mut offset = 0;
        loop {
            let piece = read_piece(&mut content, total_bytes - offset).await.map_err(read_error)?;
            let length = piece.len() as u64;
            if length == 0 && offset < total_bytes {
                return Err(Error::Changed { path: file.path.clone() });
            }
            let upload = ContainerUpload {
                container,
                project: self.project,
                path: &path,
                content: piece,
                offset,
                total_bytes,
            };
            let sent = self.connection.upload_item(upload).await;
            sent.map_err(|source| Error::Service { object: path.clone(), source })?;
            offset += length;
            if offset >= total_bytes {
                return Ok(total_bytes);
            }
        }
    }
}

#[derive(Default)]
struct Round {
    bytes: u64,
    failed: Vec<(LocalFile, Error)>,
}

/// The next piece; shorter than a piece only at the end of the file, or of what is `left` of it.
async fn read_piece(content: &mut File, left: u64) -> std::io::Result<Bytes> {
    let size = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = BytesMut::with_capacity(size);
    let mut content = content.take(size as u64);
    while piece.len() < size {
        if content.read_buf(&mut piece).await? == 0 {
            break;
        }
    }
    Ok(piece.freeze())
}
