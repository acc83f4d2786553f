//! Programs on the search path.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The file of `program` when `path` (as the variable `PATH`) is searched. Only absolute folders are: the
/// others depend on who asks.
pub fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
