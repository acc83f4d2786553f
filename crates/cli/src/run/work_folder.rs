//! The temporary folder of a run, and its removal.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use super::warnings;
use crate::output;
use crate::signals::Signals;

/// Read, write and enter, for the owner.
const OWNER: u32 = 0o700;

/// A folder for everything a run leaves on the disk.
pub(super) struct WorkFolder(TempDir);

impl WorkFolder {
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dayfly-run-").tempdir();
        folder.map(Self).context("no temporary folder could be made; TMPDIR says where")
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves it where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.0.keep()
    }

    /// Removes it with all that jobs have left in it. Says so if it takes a while, and what is left if it cannot be done or
    /// the user does not want to wait; the run's result is what it is.
    pub(super) async fn remove(self, signals: &mut Signals, as_json: bool) {
        let path = self.0.keep();
        let folder = path.clone();
        tokio::select! {
            removed = tokio::task::spawn_blocking(move || remove_all(&folder)) => {
                if let Err(error) = removed.map_err(io::Error::other).flatten() {
                    let path = path.display();
                    output::note(&format!("warning: the work folder `{path}` could not be removed: {error}"));
                }
            }
            never = warnings::tell_if_slow("removing the work folders", as_json) => match never {},
            () = signals.next() => {
                output::note(&format!("what is left of the work folders is in {}", path.display()));
            }
        }
    }
}

/// Removes a folder. Steps leave folders that may not be written (Go's module cache is made of such): they are opened up
/// first if need be.
fn remove_all(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder);
            std::fs::remove_dir_all(folder)
        }
        other => other,
    }
}

/// Lets the owner change all folders. What cannot be opened is found out by the removal.
fn open_up(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if let Ok(metadata) = std::fs::symlink_metadata(&folder) {
            let mut permissions = metadata.permissions();
            permissions.set_mode(permissions.mode() | OWNER);
            let _ = std::fs::set_permissions(&folder, permissions);
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        // Links are not followed: `file_type` is that of the entry itself.
        folders.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_may_not_be_written_are_removed_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "").unwrap();
        std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
        let folder = tempfile::tempdir().unwrap().keep();
        let cache = folder.join("cache/module");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("source"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), cache.join("link")).unwrap();
        for closed in [&cache, &folder.join("cache")] {
            std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o500)).unwrap();
        }
        remove_all(&folder).unwrap();
        assert!(!folder.exists());
        assert!(outside.path().join("kept").exists());
        assert_eq!(std::fs::metadata(outside.path()).unwrap().permissions().mode() & 0o777, 0o500);
    }
}
