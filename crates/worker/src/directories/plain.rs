//! Folders and files whose place an earlier job may have prepared: steps run as the same user, and may leave
//! links, pipes or unwritable folders where the next job expects its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use uuid::Uuid;

/// Makes the folder, one that may be written, and removes what is no folder in its place. Links that another
/// user made stay, since no step can make them: who looks after the machine may keep a folder elsewhere.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if is_planted(folder)? {
        fs::remove_file(folder)?;
    }
    fs::create_dir_all(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    if metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() {
        make_writable(folder)?;
    }
    Ok(())
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

/// Opens a file to lock it, and makes it if need be. What is no file in its place is removed; to open a pipe
/// would wait for ever.
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
        Ok(metadata) if metadata.is_dir() => remove_all(path)?,
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

/// Deletes whatever is there, also what steps made unwritable (Go's module cache is, of its own accord), and
/// folders deeper than a path may be long or a process may have open. Links are not followed. Blocks.
///
/// # Errors
///
/// The operating system's refusal. Not that there is nothing.
pub fn remove_all(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_tree(path),
        Ok(_) => or_gone(fs::remove_file(path)),
        Err(error) => or_gone(Err(error)),
    }
}

/// How long the path of a folder below the one that is deleted may be for it to be emptied where it lies.
/// Every look at a file takes as long as its path is, so it is far less than the system allows.
const LONGEST_PATH: usize = 200;

/// Deletes a folder without recursion, which (like that of `std`) would end with the stack or with the files
/// that may be open: a step may nest folders as deep as it likes. Those too deep for a path are moved up to
/// `top`.
fn remove_tree(top: &Path) -> io::Result<()> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.last().cloned() {
        make_writable(&folder)?;
        let inner = remove_files(&folder)?;
        if inner.is_empty() {
            fs::remove_dir(&folder)?;
            folders.pop();
        }
        for inner in inner {
            let is_deep = inner.as_os_str().len() > top.as_os_str().len() + LONGEST_PATH;
            folders.push(if is_deep { move_up(&inner, top)? } else { inner });
        }
    }
    Ok(())
}

fn move_up(folder: &Path, top: &Path) -> io::Result<PathBuf> {
    // Who moves a folder changes its `..`.
    make_writable(folder)?;
    let moved = top.join(Uuid::new_v4().simple().to_string());
    fs::rename(folder, &moved)?;
    Ok(moved)
}

/// Deletes what is in a folder but for the folders in it, which it returns.
fn remove_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        } else {
            or_gone(fs::remove_file(entry.path()))?;
        }
    }
    Ok(folders)
}

/// What is gone already need not be deleted.
fn or_gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Gives the user all rights on a folder.
fn make_writable(folder: &Path) -> io::Result<()> {
    let permissions = fs::symlink_metadata(folder)?.permissions();
    if permissions.mode() & 0o700 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(permissions.mode() | 0o700))
}
