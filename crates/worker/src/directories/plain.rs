//! Folders and files whose place an earlier job may have prepared: steps run as the same user, and may leave links, pipes or unwritable
//! folders where the next job expects its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

/// Makes the folder, and removes what is no folder in its place. Links that another user made stay, since no step can make them: who
/// looks after the machine may keep a folder elsewhere.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if is_planted(folder)? {
        fs::remove_file(folder)?;
    }
    fs::create_dir_all(folder)
}

/// Makes the folders from `base`, which is trusted, down to `base/below`.
pub(super) fn make_folders(base: &Path, below: &Path) -> io::Result<()> {
    let mut folder = base.to_owned();
    for part in below.components() {
        folder.push(part);
        make_folder(&folder)?;
    }
    Ok(())
}

/// Whether there is something at a folder's place which a step may have put there and which is no folder.
pub(super) fn is_planted(folder: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) => {
            let is_own = metadata.uid() == nix::unistd::geteuid().as_raw();
            Ok(!metadata.is_dir() && (is_own || !metadata.is_symlink()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a file to lock it, and makes it if need be. What is no file in its place is removed; to open a pipe would wait for ever.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    let open = || {
        File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path)?,
        Ok(metadata) if !metadata.is_file() => fs::remove_file(path)?,
        _ => {}
    }
    open()
}

/// The content of a plain file; none if there is something else.
pub(super) fn read_file(path: &Path) -> Option<Vec<u8>> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    fs::read(path).ok()
}

/// Deletes whatever is there, also what steps made unwritable (Go's module cache is, of its own accord).
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// Gives the user all rights on the folders of a tree, which is what deletion needs.
fn make_writable(top: &Path) -> io::Result<()> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let permissions = fs::symlink_metadata(&folder)?.permissions();
        if permissions.mode() & 0o700 != 0o700 {
            fs::set_permissions(&folder, fs::Permissions::from_mode(permissions.mode() | 0o700))?;
        }
        for entry in fs::read_dir(&folder)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
