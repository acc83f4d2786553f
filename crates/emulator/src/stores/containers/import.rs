//! A folder of the user's as what a container holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::{Error, FileContainers, Result, StoredFile, Writing, clean_path, disk};

/// A file to be copied, and the one in the container that is to hold it, which nobody else writes meanwhile.
struct Copying {
    from: PathBuf,
    length: u64,
    into: Arc<StoredFile>,
    writing: OwnedMutexGuard<Writing>,
}

impl FileContainers {
    /// Copies the files below `folder` to below `path`.
    ///
    /// # Errors
    /// If the folder cannot be read, a name in it is none that a container may have, the bounds are reached
    /// or the disk fails.
    pub(crate) async fn copy_from(
        &self,
        container: i64,
        path: &str,
        folder: &Path,
        now: Timestamp,
    ) -> Result<()> {
        let top = folder.to_path_buf();
        let found = self.disk.run(move || files_below(&top)).await;
        let mut copies = Vec::new();
        for (name, length) in found.map_err(|source| disk(folder, source))?? {
            let from = folder.join(&name);
            let Some(name) = name.to_str() else { return Err(Error::Path(name.display().to_string())) };
            let into = self.file(container, &clean_path(&format!("{path}/{name}"))?, now)?;
            let mut writing = Arc::clone(&into.writing).lock_owned().await;
            writing.hold(length)?;
            copies.push(Copying { from, length, into, writing });
        }
        let copied = self.disk.run(move || copies.into_iter().try_for_each(Copying::copy)).await;
        copied.map_err(|source| disk(folder, source))?
    }
}

impl Copying {
    fn copy(mut self) -> Result<()> {
        std::fs::copy(&self.from, &self.into.content).map_err(|source| disk(&self.from, source))?;
        self.writing.received = self.length;
        let mut facts = self.into.facts();
        facts.length = self.length;
        facts.is_complete = true;
        Ok(())
    }
}

/// The files at all depths below a folder, by their places in it, with their lengths. Links are followed, but
/// not to folders, which may contain themselves.
fn files_below(top: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let place = top.join(&folder);
        let failed = |source| disk(&place, source);
        for entry in std::fs::read_dir(&place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = folder.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push(name);
                continue;
            }
            let facts = std::fs::metadata(entry.path()).map_err(|source| disk(&entry.path(), source))?;
            if facts.is_file() {
                files.push((name, facts.len()));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::disk::Disk;

    #[tokio::test]
    async fn a_folder_is_there_with_all_its_files() {
        let (folder, from) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::create_dir_all(from.path().join("drop/deep")).expect("folders");
        std::fs::write(from.path().join("drop/a.txt"), "a").expect("a file");
        std::fs::write(from.path().join("drop/deep/b.txt"), "bb").expect("a file");
        std::os::unix::fs::symlink(".", from.path().join("drop/loop")).expect("a link");
        let containers = FileContainers::new(folder.path().to_owned(), Disk::new(3));
        let id = containers.create().await.expect("a container");
        containers
            .copy_from(id, "drop", &from.path().join("drop"), Timestamp::now())
            .await
            .expect("it is copied");
        let items = containers.list(id, "").expect("the container");
        let paths: Vec<_> = items.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths, ["drop", "drop/a.txt", "drop/deep", "drop/deep/b.txt"]);
        let (content, length) = containers.read(id, "drop/deep/b.txt").await.expect("the file");
        assert!(matches!(content, super::super::Content::Bytes(bytes) if bytes == "bb") && length == 2);
        let more = containers.copy_from(id, "more", from.path(), Timestamp::now()).await;
        assert!(matches!(more, Err(Error::Full(_))), "{more:?}");
    }
}
