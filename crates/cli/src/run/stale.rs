//! Folders of runs that were killed, which nobody else would remove.
//!
//! A run holds a lock on a file in its folder for as long as it lives, and so does each of its workers on one
//! in the job's folder; the system lets go of a lock when its process is gone, however it ended. A folder
//! without such a file was kept on purpose.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dayfly_worker::remove_all;

use super::work_folder::PREFIX;

/// The file whose lock a run holds. A worker's, in its work folder, has the same name.
const LOCK: &str = ".lock";
/// How many folders are removed at one start.
const MOST_FOLDERS: usize = 20;

/// Locks the folder of a run that begins. The file gets its name once it is locked: no other run ever sees it
/// free.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let unnamed = tempfile::NamedTempFile::new_in(folder)?;
    unnamed.as_file().lock()?;
    unnamed.persist(folder.join(LOCK)).map_err(|error| error.error)
}

/// Makes the folder one that is kept.
pub(super) fn unlock(folder: &Path) -> io::Result<()> {
    std::fs::remove_file(folder.join(LOCK))
}

/// Removes what dead runs of this user have left in the folder for temporary files. It is a service to the
/// user and no part of the run: what cannot be looked at or removed is left where it is.
pub(super) fn sweep(temporary: &Path) {
    let Ok(entries) = std::fs::read_dir(temporary) else { return };
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in named.map(|entry| entry.path()).filter(|folder| is_dead(folder)).take(MOST_FOLDERS) {
        match remove_all(&folder) {
            Ok(()) => tracing::info!(folder = %folder.display(), "removed what a killed run had left"),
            Err(error) => tracing::debug!(%error, folder = %folder.display(), "a killed run's folder stays"),
        }
    }
}

fn is_dead(folder: &Path) -> bool {
    let mine = nix::unistd::geteuid().as_raw();
    // A link is not followed: it could lead anywhere.
    let is_own = std::fs::symlink_metadata(folder)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == mine && metadata.mode() & 0o077 == 0);
    is_own
        && is_free(&folder.join(LOCK)) == Some(true)
        && workers(folder).all(|lock| is_free(&lock) != Some(false))
}

/// The locks of a run's workers, which may outlive it for some minutes.
fn workers(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let jobs = std::fs::read_dir(folder.join("work")).into_iter().flatten().flatten();
    jobs.map(|entry| entry.path().join(LOCK))
}

/// Whether nobody holds a lock; none if there is no such file.
fn is_free(lock: &Path) -> Option<bool> {
    let file = File::options().read(true).write(true).open(lock).ok()?;
    match file.try_lock() {
        Ok(()) => Some(true),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn run(temporary: &Path, name: &str) -> PathBuf {
        let folder = temporary.join(format!("{PREFIX}{name}"));
        std::fs::create_dir_all(folder.join("work/job")).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    #[test]
    fn only_folders_of_dead_runs_are_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let [dead, alive, kept, working] =
            ["dead", "alive", "kept", "working"].map(|name| run(temporary.path(), name));
        drop(lock(&dead).unwrap());
        let _held = lock(&alive).unwrap();
        drop(lock(&kept).unwrap());
        unlock(&kept).unwrap();
        drop(lock(&working).unwrap());
        let worker = lock(&working.join("work/job")).unwrap();
        let open = run(temporary.path(), "others-may-write");
        drop(lock(&open).unwrap());
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        drop(lock(elsewhere.path()).unwrap());
        let link = temporary.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();

        sweep(temporary.path());
        for (folder, stays) in
            [(&dead, false), (&alive, true), (&kept, true), (&working, true), (&open, true), (&link, true)]
        {
            assert_eq!(folder.exists(), stays, "{}", folder.display());
        }
        drop(worker);
        sweep(temporary.path());
        assert!(!working.exists());
    }
}
