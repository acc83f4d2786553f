//! The temporary folder of a run, and its removal.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dayfly_worker::remove_all;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{stale, warnings};
use crate::output;
use crate::signals::Signals;

/// What the names of these folders begin with.
pub(super) const PREFIX: &str = "dayfly-run-";

/// A folder for everything a run leaves on the disk.
pub(super) struct WorkFolder {
    folder: TempDir,
    /// Tells other runs that this one lives.
    lock: File,
    /// Removes what killed runs have left.
    sweep: JoinHandle<()>,
}

impl WorkFolder {
    pub(super) fn new() -> anyhow::Result<Self> {
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir().and_then(|folder| {
            let lock = stale::lock(folder.path())?;
            Ok((folder, lock))
        });
        let (folder, lock) = made.context("could not make a temporary folder; TMPDIR says where")?;
        let sweep = tokio::task::spawn_blocking(|| stale::sweep(&std::env::temp_dir()));
        Ok(Self { folder, lock, sweep })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves it where it is.
    pub(super) fn keep(self) -> PathBuf {
        let path = self.folder.keep();
        if let Err(error) = stale::unlock(&path) {
            output::note(&format!("warning: `{}` may be removed by a later run: {error}", path.display()));
        }
        path
    }

    /// Removes it with all that jobs have left in it. Says so if it takes a while, and what is left if it
    /// cannot be done or the user does not want to wait; the run's result is what it is.
    pub(super) async fn remove(self, signals: &mut Signals, as_json: bool) {
        let Self { folder, lock, sweep } = self;
        let path = folder.keep();
        let folder = path.clone();
        let removal = async {
            let removed = tokio::task::spawn_blocking(move || remove_all(&folder)).await;
            drop(lock);
            // It logs what it cannot do.
            let _ = sweep.await;
            removed
        };
        tokio::select! {
            removed = removal => {
                if let Err(error) = removed.map_err(io::Error::other).flatten() {
                    let path = path.display();
                    output::note(&format!("warning: could not remove the work folder `{path}`: {error}"));
                }
            }
            never = warnings::tell_if_slow("removing the work folders", as_json) => match never {},
            () = signals.next() => {
                // The lock goes with this process, so that the next run removes it.
                output::note(&format!("the next run will remove what is left in {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
