//! What is on disk: repositories, snapshots of work trees, task packages, files of artifacts, and the room
//! for all of it.

pub(crate) mod containers;
pub(crate) mod disk;
pub mod git;
pub mod snapshot;
pub(crate) mod tasks;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::containers::FileContainers;
use self::disk::Disk;
use self::git::GitServer;
use self::tasks::TaskFolder;

/// What is on disk besides logs and attachments.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) git: GitServer,
    pub(crate) tasks: Arc<TaskFolder>,
    pub(crate) containers: FileContainers,
    pub(crate) disk: Disk,
    /// Where snapshots are made.
    pub(crate) snapshots: PathBuf,
}

/// Deletes the folder of a forgotten plan or snapshot.
pub(crate) async fn delete_folder(folder: &Path) {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "could not delete what a plan has left");
        }
        _ => {}
    }
}
