//! Uploads files into the build's container.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use dayfly_client::{ContainerUpload, describe, open_file_blocking};
use dayfly_protocol::ContainerId;
use dayfly_protocol::artifact::BuildArtifact;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::{self, Found};
use super::log::{Log, Progress};
use super::{Artifacts, Error, Result, noun};

/// The official chunk size.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// The official number of files at a time.
const PARALLEL_FILES: usize = 2;

/// Files whose failure is told, one by one.
const MAX_TOLD: usize = 20;

/// The property by which a pipeline artifact is known, since the service has both kinds in containers here.
const KIND: &str = "artifactkind";
const PIPELINE: &str = "pipeline";

/// Which of the service's two kinds of artifacts a job makes. Both are in the build's container here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `PublishBuildArtifacts` and `artifact.upload`: several uploads to one name are one artifact.
    Build,
    /// `publish`: a name can be used once in a build, and `.artifactignore` says what is left out.
    Pipeline,
}

/// An artifact to be made.
#[derive(Debug, Clone)]
pub struct NewArtifact<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
    /// Its folder in the container.
    pub folder: &'a str,
    /// The file or folder on this machine.
    pub source: &'a Path,
    /// What the service keeps with it.
    pub properties: BTreeMap<String, String>,
}

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
    /// Uploads a file or a folder to the container and names it as an artifact. What it does is told to
    /// `log`, line by line. None if the folder has no files: then there is no artifact, of which the caller
    /// warns.
    ///
    /// # Errors
    ///
    /// If there is nothing to upload, a file cannot be read, or the service refuses, or fails for longer than
    /// both rounds take.
    pub async fn upload(
        &self,
        new: NewArtifact<'_>,
        cancel: &CancellationToken,
        log: mpsc::Sender<String>,
    ) -> Result<Option<Uploaded>> {
        let log = Log(log);
        tokio::select! {
            uploaded = self.upload_all(new, cancel, &log) => uploaded,
            () = cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    async fn upload_all(
        &self,
        mut new: NewArtifact<'_>,
        cancel: &CancellationToken,
        log: &Log,
    ) -> Result<Option<Uploaded>> {
        let container = self.container.ok_or(Error::NoContainer)?;
        // Before anything is added to the files of another.
        match self.find(new.name).await {
            Ok(present) => self.check_shared(&new, &present)?,
            Err(Error::NoArtifact { .. }) => {}
            Err(error) => return Err(error),
        }
        let (source, kind, cancel) = (new.source.to_owned(), new.kind, cancel.clone());
        let found = match tokio::task::spawn_blocking(move || files::find(&source, kind, &cancel)).await {
            Ok(found) => found?,
            Err(_) => return Err(Error::Cancelled),
        };
        log.found(&found).await;
        let count = found.files.len();
        if count == 0 {
            return Ok(None);
        }
        let folder = new.folder.trim_end_matches('/');
        let bytes = self.upload_files(container, folder, found, log).await?;
        let place = format!("#/{container}/{folder}");
        log.line(format!("Uploaded '{}' to file container '{place}'", new.source.display())).await;
        new.properties.insert("artifactsize".to_owned(), bytes.to_string());
        if new.kind == Kind::Pipeline {
            new.properties.insert(KIND.to_owned(), PIPELINE.to_owned());
        }
        let properties = std::mem::take(&mut new.properties);
        let artifact = self.associate(new.name, "Container", &place, properties).await?;
        // The service answers with what another job made meanwhile, if there is such.
        if artifact.source.as_ref().is_some_and(|job| *job != self.job.to_string()) {
            self.check_shared(&new, &artifact)?;
        }
        log.line(format!("Associated artifact {} with build {}", artifact.id, self.build)).await;
        Ok(Some(Uploaded { artifact, files: count, bytes }))
    }

    /// Refuses an artifact of the same name, unless both are build artifacts.
    fn check_shared(&self, new: &NewArtifact<'_>, present: &BuildArtifact) -> Result<()> {
        let is_pipeline = present.resource.properties.get(KIND).is_some_and(|kind| kind == PIPELINE);
        if new.kind == Kind::Pipeline || is_pipeline {
            return Err(Error::Exists { name: new.name.to_owned(), build: self.build });
        }
        Ok(())
    }

    /// Uploads files in two rounds, and gives their size.
    async fn upload_files(
        &self,
        container: ContainerId,
        folder: &str,
        found: Found,
        log: &Log,
    ) -> Result<u64> {
        let Found { root, files, .. } = found;
        let target = Target { container, folder, root: &root };
        let mut round = self.round(target, files, log).await;
        let mut bytes = round.bytes;
        if !round.failed.is_empty() && round.may_pass() {
            let seconds = self.retry_pause.as_secs();
            let failed = round.failed.len();
            log.line(format!("{failed} {} failed; next attempt in {seconds} seconds", noun(failed))).await;
            tokio::time::sleep(self.retry_pause).await;
            let failed = round.failed.into_iter().map(|(file, _)| file).collect();
            round = self.round(target, failed, log).await;
            bytes += round.bytes;
        }
        let count = round.failed.len();
        match round.failed.into_iter().next() {
            Some((file, error)) => {
                Err(Error::Incomplete { count, first: root.join(file), source: Box::new(error) })
            }
            None => Ok(bytes),
        }
    }

    /// Tries each file once, up to the first that cannot be uploaded however often it is tried.
    async fn round(&self, target: Target<'_>, files: Vec<String>, log: &Log) -> Round {
        let mut progress = Progress::new("Uploaded", files.len());
        let uploads = futures::stream::iter(files).map(|file| async move {
            let result = self.upload_file(target, &file).await;
            (file, result)
        });
        let mut uploads = std::pin::pin!(uploads.buffer_unordered(PARALLEL_FILES));
        let mut round = Round::default();
        while let Some((file, result)) = uploads.next().await {
            match result {
                Ok(bytes) => round.bytes += bytes,
                Err(error) => {
                    let is_hopeless = !may_pass(&error);
                    if round.failed.len() < MAX_TOLD {
                        let path = target.root.join(&file);
                        log.line(format!("Upload of '{}' failed: {}", path.display(), describe(&error)))
                            .await;
                    }
                    round.failed.push((file, error));
                    if is_hopeless {
                        break;
                    }
                }
            }
            progress.one_more(log).await;
        }
        round
    }

    async fn upload_file(&self, target: Target<'_>, file: &str) -> Result<u64> {
        let local = target.root.join(file);
        let read_error = |source| Error::File { action: "read", path: local.clone(), source };
        // A small file is opened and read at once: with thousands of them, the way to the threads that wait
        // for the disk and back is what takes the time.
        let opened = local.clone();
        let first = move || {
            // A file that grows meanwhile is sent up to its length now.
            let (mut content, total_bytes) = open_file_blocking(&opened)?;
            let piece = read_piece(&mut content, total_bytes)?;
            Ok((content, total_bytes, piece))
        };
        let (mut content, total_bytes, mut piece) = on_disk(first).await.map_err(read_error)?;
        let path = files::item_path(target.folder, file);
        let mut offset = 0;
        loop {
            let length = piece.len() as u64;
            if length == 0 && offset < total_bytes {
                return Err(Error::Changed { path: local });
            }
            let upload = ContainerUpload {
                container: target.container,
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
            let next = move || {
                let piece = read_piece(&mut content, total_bytes - offset)?;
                Ok((content, piece))
            };
            (content, piece) = on_disk(next).await.map_err(read_error)?;
        }
    }
}

/// Does work that waits for the disk beside the runtime's own threads.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// From where to where files go.
#[derive(Clone, Copy)]
struct Target<'a> {
    container: ContainerId,
    folder: &'a str,
    root: &'a Path,
}

/// Whether the same upload may succeed a minute later.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Service { source, .. } => source.is_retryable(),
        Error::Changed { .. } => true,
        _ => false,
    }
}

#[derive(Default)]
struct Round {
    bytes: u64,
    failed: Vec<(String, Error)>,
}

impl Round {
    fn may_pass(&self) -> bool {
        self.failed.iter().all(|(_, error)| may_pass(error))
    }
}

/// The next piece; shorter than a piece only at the end of the file, or of what is `left` of it.
fn read_piece(content: &mut File, left: u64) -> std::io::Result<Bytes> {
    let size = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = Vec::with_capacity(size);
    content.take(size as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}
