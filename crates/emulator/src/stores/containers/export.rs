//! Whole folders of a container, as a zip file or copied to a folder of the user's.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;

use super::{Error, FileContainers, Result, clean_top, disk};
use crate::stores::disk::Reserved;

/// A file of a container: its path and where its bytes are.
struct Source {
    path: String,
    content: PathBuf,
    length: u64,
}

/// A zip file without a name, which is gone when it is closed.
#[derive(Debug)]
pub(crate) struct Zip {
    /// At its begin.
    pub(crate) file: File,
    pub(crate) length: u64,
    /// To be held as long as the file.
    pub(crate) on_disk: Reserved,
}

impl FileContainers {
    /// Packs what is at and below `path`. Names in the zip begin with the last part of `path`, as the service
    /// has it.
    ///
    /// # Errors
    /// If there is nothing at `path`, there is no room for it once more, or the disk fails.
    pub(crate) async fn zip(&self, container: i64, path: &str) -> Result<Zip> {
        let top = clean_top(path)?;
        let sources = self.sources(container, &top)?;
        let on_disk = self.disk.reserve(sources.iter().map(|source| source.length).sum())?;
        let parent = top.rsplit_once('/').map_or(0, |(parent, _)| parent.len() + 1);
        let folder = self.folder.clone();
        let (file, length) = self.run(move |stop| zip_files(&sources, parent, &folder, stop)).await?;
        Ok(Zip { file, length, on_disk })
    }

    /// Copies what is at and below `path` into the folder `into`, without `path` itself in the names. Gives
    /// the number of files.
    ///
    /// # Errors
    /// If there is nothing at `path` or the disk fails.
    pub(crate) async fn copy_to(&self, container: i64, path: &str, into: &Path) -> Result<usize> {
        let top = clean_top(path)?;
        let sources = self.sources(container, &top)?;
        let into = into.to_path_buf();
        self.run(move |stop| copy_files(&sources, top.len(), &into, stop)).await
    }

    /// The complete files at and below a cleaned path.
    fn sources(&self, container: i64, top: &str) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for (path, file) in self.below(container, top)? {
            let (is_complete, length) = {
                let facts = file.facts();
                (facts.is_complete, facts.length)
            };
            if is_complete {
                sources.push(Source { path, content: file.content.clone(), length });
            }
        }
        if sources.is_empty() {
            return Err(Error::NoItem { container, path: top.to_owned() });
        }
        Ok(sources)
    }

    /// Works on the disk; when the caller goes away, the work is told to stop.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CancellationToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        self.disk.run(move || work(&stop)).await.map_err(|error| disk(&self.folder, error))?
    }
}

fn zip_files(
    sources: &[Source],
    skip: usize,
    folder: &Path,
    stop: &CancellationToken,
) -> Result<(File, u64)> {
    let failed = |source| disk(folder, source);
    let file = tempfile::tempfile_in(folder).map_err(failed)?;
    let mut archive = zip::ZipWriter::new(std::io::BufWriter::new(file));
    let options = zip::write::SimpleFileOptions::default().large_file(true);
    for source in sources {
        check(stop, folder)?;
        let mut content = File::open(&source.content).map_err(|error| disk(&source.content, error))?;
        archive.start_file(&source.path[skip..], options).map_err(|error| failed(error.into()))?;
        std::io::copy(&mut content, &mut archive).map_err(failed)?;
    }
    let mut writer = archive.finish().map_err(|error| failed(error.into()))?;
    writer.flush().map_err(failed)?;
    let mut file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    let length = file.metadata().map_err(failed)?.len();
    file.rewind().map_err(failed)?;
    Ok((file, length))
}

fn copy_files(sources: &[Source], top: usize, into: &Path, stop: &CancellationToken) -> Result<usize> {
    for source in sources {
        check(stop, into)?;
        let name = source.path[top..].trim_start_matches('/');
        let name = if name.is_empty() { source.path.rsplit('/').next().unwrap_or_default() } else { name };
        // The parts were checked when the file was stored: none of them leads upwards.
        let target = into.join(name);
        let parent = target.parent().unwrap_or(into);
        std::fs::create_dir_all(parent).map_err(|error| disk(parent, error))?;
        std::fs::copy(&source.content, &target).map_err(|error| disk(&target, error))?;
    }
    Ok(sources.len())
}

fn check(stop: &CancellationToken, folder: &Path) -> Result<()> {
    if stop.is_cancelled() { Err(disk(folder, std::io::ErrorKind::Interrupted.into())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use jiff::Timestamp;

    use super::super::Chunk;
    use super::*;
    use crate::stores::disk::Disk;

    async fn filled(folder: &Path) -> (FileContainers, i64) {
        let containers = FileContainers::new(folder.to_path_buf(), Disk::new(1_000));
        let id = containers.create().await.unwrap();
        for (path, text) in
            [("drop/a.txt", "a"), ("drop/in/b.txt", "bb"), ("drop-not", "c"), ("other/x", "d")]
        {
            let length = text.len() as u64;
            let chunk = Chunk { start: 0, length, total: length, is_gzip: false };
            let body =
                futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(text.as_bytes()))]);
            containers.put(id, path, Some(chunk), Timestamp::now(), body).await.unwrap();
        }
        (containers, id)
    }

    #[tokio::test]
    async fn a_zip_holds_the_folder_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (containers, id) = filled(folder.path()).await;
        let packed = containers.zip(id, "/drop").await.unwrap();
        assert_eq!(packed.file.metadata().unwrap().len(), packed.length);
        let mut archive = zip::ZipArchive::new(packed.file).unwrap();
        assert_eq!(
            archive.file_names().map(Result::unwrap).collect::<Vec<_>>(),
            ["drop/a.txt", "drop/in/b.txt"]
        );
        let mut text = String::new();
        archive.by_name("drop/in/b.txt").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "bb");
        assert!(matches!(containers.zip(id, "nothing").await.unwrap_err(), Error::NoItem { .. }));
    }

    #[tokio::test]
    async fn a_path_may_be_written_in_several_ways() {
        let folder = tempfile::tempdir().unwrap();
        let (containers, id) = filled(folder.path()).await;
        let into = tempfile::tempdir().unwrap();
        for path in ["drop//in", "drop\\in/", "//drop////////////////in//", "drop/in"] {
            let packed = containers.zip(id, path).await.unwrap();
            let archive = zip::ZipArchive::new(packed.file).unwrap();
            assert_eq!(archive.file_names().map(Result::unwrap).collect::<Vec<_>>(), ["in/b.txt"], "{path}");
            assert_eq!(containers.copy_to(id, path, into.path()).await.unwrap(), 1, "{path}");
            assert!(into.path().join("b.txt").is_file(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_copied_without_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let (containers, id) = filled(folder.path()).await;
        let into = tempfile::tempdir().unwrap();
        assert_eq!(containers.copy_to(id, "drop", into.path()).await.unwrap(), 2);
        assert_eq!(std::fs::read_to_string(into.path().join("in/b.txt")).unwrap(), "bb");
        assert_eq!(containers.copy_to(id, "other/x", into.path()).await.unwrap(), 1);
        assert_eq!(std::fs::read_to_string(into.path().join("x")).unwrap(), "d");
    }
}
