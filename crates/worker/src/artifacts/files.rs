//! The files of an artifact on this machine.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// A file to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalFile {
    pub(super) path: PathBuf,
    /// Below the artifact, with `/`.
    pub(super) relative: String,
}

/// `source` itself if it is a file, else all files below it, by name. Links are followed, each folder once.
pub(super) fn find(source: &Path) -> Result<Vec<LocalFile>> {
    let metadata = fs::metadata(source).map_err(|_| Error::Missing { path: source.to_owned() })?;
    if !metadata.is_dir() {
        let name = source.file_name().unwrap_or(source.as_os_str());
        let relative = name.to_str().ok_or_else(|| Error::Name { path: source.to_owned() })?.to_owned();
        return Ok(vec![LocalFile { path: source.to_owned(), relative }]);
    }
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut folders = vec![(source.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let read_error = |source| Error::File { action: "read", path: folder.clone(), source };
        if !seen.insert(folder.canonicalize().map_err(read_error)?) {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| Error::Name { path: path.clone() })?;
            let relative = format!("{prefix}{name}");
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => folders.push((path, format!("{relative}/"))),
                Ok(metadata) if metadata.is_file() => files.push(LocalFile { path, relative }),
                // Sockets and pipes have no content to keep.
                Ok(_) => {}
                Err(source) => return Err(Error::File { action: "read", path, source }),
            }
        }
    }
    files.sort_by(|one, other| one.relative.cmp(&other.relative));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_below_a_folder_are_found_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/deep.txt"), "x").unwrap();
        fs::write(folder.path().join("top.txt"), "x").unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink("top.txt", folder.path().join("link.txt")).unwrap();
        let names: Vec<String> = find(folder.path()).unwrap().into_iter().map(|file| file.relative).collect();
        assert_eq!(names, ["a/b/deep.txt", "link.txt", "top.txt"]);
    }

    #[test]
    fn a_single_file_is_named_by_its_last_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.bin");
        fs::write(&path, "x").unwrap();
        assert_eq!(find(&path).unwrap(), [LocalFile { path: path.clone(), relative: "one.bin".to_owned() }]);
        assert!(matches!(find(&folder.path().join("none")), Err(Error::Missing { .. })));
    }
}
