//! File containers: where build artifacts are stored, file by file, in chunks (`FileContainerHttpClient.cs`).
//!
//! A container's paths are only names in memory; the bytes are in files of our own naming, in one folder per
//! container. So no path, however malicious, leads anywhere else on the disk, and names may differ by case
//! alone.

mod export;
mod import;
mod upload;

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;

use crate::stores::disk::{Disk, Full, Reserved};
pub(crate) use export::Zip;
pub(crate) use upload::{Chunk, Stored};

/// The longest path of an item, in bytes: the service's own bound is of this order.
const MAX_PATH_BYTES: usize = 2_048;
/// The largest file, in bytes, that is read at once.
const READ_AT_ONCE: u64 = 64 << 10;
/// Items in one container.
const MAX_ITEMS: usize = 200_000;

/// What went wrong with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such container.
    #[error("container {0} does not exist")]
    NoContainer(i64),
    /// There is no such item.
    #[error("`{path}` does not exist in container {container}")]
    NoItem {
        /// The container.
        container: i64,
        /// The item's path.
        path: String,
    },
    /// A path which is none, or leads out of its container.
    #[error("`{0}` is not a path inside a container")]
    Path(String),
    /// A path with more bytes than a path may have.
    #[error("the path `{start}…` is longer than {limit} bytes")]
    LongPath {
        /// Its first letters.
        start: String,
        /// The bound.
        limit: usize,
    },
    /// The `Content-Range` header, or the body's length, does not fit.
    #[error("cannot accept the chunk of `{path}`: {reason}")]
    Chunk {
        /// The item's path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The container has as many items as it may.
    #[error("container {container} already holds {limit} items")]
    TooManyItems {
        /// The container.
        container: i64,
        /// The bound.
        limit: usize,
    },
    /// There is no room for more bytes.
    #[error(transparent)]
    Full(#[from] Full),
    /// The client broke off in the middle of a chunk.
    #[error("the upload of `{0}` was interrupted")]
    Broken(String),
    /// The disk failed us.
    #[error("could not read or write `{}` of the file container", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// What is known of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Path inside the container, without a leading slash.
    pub(crate) path: String,
    /// `None` for a folder.
    pub(crate) file: Option<FileFacts>,
}

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// Bytes, as they were before any compression.
    pub(crate) length: u64,
    /// When its first chunk came.
    pub(crate) created: Timestamp,
    /// When its last chunk came.
    pub(crate) modified: Timestamp,
    /// Whether all chunks have come.
    pub(crate) is_complete: bool,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it.
    Bytes(bytes::Bytes),
    /// Still to be read.
    File(tokio::fs::File),
}

impl Content {
    fn open(path: &Path, length: u64) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        if length > READ_AT_ONCE {
            return Ok(Self::File(tokio::fs::File::from_std(file)));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        Ok(Self::Bytes(bytes.into()))
    }
}

#[derive(Debug)]
struct StoredFile {
    content: PathBuf,
    facts: Mutex<FileFacts>,
    /// Held by who writes; the others need the facts only.
    writing: Arc<tokio::sync::Mutex<Writing>>,
}

#[derive(Debug)]
struct Writing {
    /// Bytes received from the start on without a gap.
    received: u64,
    /// What the file may have on disk, at the most.
    on_disk: Reserved,
}

impl StoredFile {
    fn facts(&self) -> MutexGuard<'_, FileFacts> {
        self.facts.lock().expect("no one panics while holding the facts")
    }
}

#[derive(Debug)]
struct Container {
    folder: PathBuf,
    files: BTreeMap<String, Arc<StoredFile>>,
    last_file: u64,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<i64, Container>,
    last_container: i64,
}

/// All containers of an emulator.
#[derive(Debug)]
pub(crate) struct FileContainers {
    folder: PathBuf,
    disk: Disk,
    max_items: usize,
    state: Mutex<State>,
}

impl FileContainers {
    /// Containers whose bytes are kept below `folder`, which exists, and count on `disk`.
    pub(crate) fn new(folder: PathBuf, disk: Disk) -> Self {
        Self { folder, disk, max_items: MAX_ITEMS, state: Mutex::default() }
    }

    /// Makes an empty container and gives its id.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub(crate) async fn create(&self) -> Result<i64> {
        let id = {
            let mut state = self.lock();
            state.last_container += 1;
            state.last_container
        };
        let folder = self.folder.join(id.to_string());
        tokio::fs::create_dir(&folder).await.map_err(|source| disk(&folder, source))?;
        let container = Container { folder, files: BTreeMap::new(), last_file: 0 };
        self.lock().containers.insert(id, container);
        Ok(id)
    }

    /// Drops a container with its files, those which are written at this moment among them. Unknown ids are
    /// ignored.
    pub(crate) async fn remove(&self, id: i64) {
        let Some(container) = self.lock().containers.remove(&id) else { return };
        let gone = container.folder.with_extension("removed");
        let (folder, to) = (container.folder.clone(), gone.clone());
        let deleted = self.disk.run(move || {
            // Under another name first: then who writes makes no new file in it.
            let deleted = std::fs::rename(&folder, &to).and_then(|()| std::fs::remove_dir_all(&to));
            // Now its bytes are free, but for those that a writer still holds.
            drop(container);
            deleted
        });
        if let Err(error) = deleted.await.and_then(|deleted| deleted) {
            tracing::warn!(folder = %gone.display(), %error, "could not delete a file container");
        }
    }

    /// The items at and below `path`: folders and files, sorted by path.
    ///
    /// # Errors
    /// If there is no such container.
    pub(crate) fn list(&self, container: i64, path: &str) -> Result<Vec<Item>> {
        let top = clean_top(path)?;
        let mut items = BTreeMap::new();
        for (name, file) in self.below(container, &top)? {
            for (at, _) in name.match_indices('/').filter(|(at, _)| *at >= top.len()) {
                items.entry(name[..at].to_owned()).or_insert(None);
            }
            items.insert(name, Some(file.facts().clone()));
        }
        Ok(items.into_iter().map(|(path, file)| Item { path, file }).collect())
    }

    /// Opens a complete file for reading and gives its length. One of a few bytes is read at once.
    ///
    /// # Errors
    /// If there is no such container or file, or the disk fails.
    pub(crate) async fn read(&self, container: i64, path: &str) -> Result<(Content, u64)> {
        let path = clean_path(path)?;
        let file = {
            let state = self.lock();
            let found = state.containers.get(&container).ok_or(Error::NoContainer(container))?;
            found.files.get(&path).cloned()
        };
        let facts = file.as_ref().map(|file| file.facts().clone()).filter(|facts| facts.is_complete);
        let (Some(file), Some(facts)) = (file, facts) else {
            return Err(Error::NoItem { container, path });
        };
        let (place, length) = (file.content.clone(), facts.length);
        let opened = self.disk.run(move || Content::open(&place, length)).await;
        let content = opened.and_then(|opened| opened).map_err(|source| disk(&file.content, source))?;
        Ok((content, length))
    }

    /// The file at a cleaned path, which is made if there is none.
    fn file(&self, id: i64, path: &str, now: Timestamp) -> Result<Arc<StoredFile>> {
        let mut state = self.lock();
        let container = state.containers.get_mut(&id).ok_or(Error::NoContainer(id))?;
        if let Some(file) = container.files.get(path) {
            return Ok(Arc::clone(file));
        }
        if container.files.len() >= self.max_items {
            return Err(Error::TooManyItems { container: id, limit: self.max_items });
        }
        container.last_file += 1;
        let writing = Writing { received: 0, on_disk: self.disk.nothing() };
        let facts = FileFacts { length: 0, created: now, modified: now, is_complete: false };
        let file = Arc::new(StoredFile {
            content: container.folder.join(container.last_file.to_string()),
            facts: Mutex::new(facts),
            writing: Arc::new(tokio::sync::Mutex::new(writing)),
        });
        container.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// The files at and below a cleaned path.
    fn below(&self, container: i64, top: &str) -> Result<Vec<(String, Arc<StoredFile>)>> {
        let state = self.lock();
        let container = state.containers.get(&container).ok_or(Error::NoContainer(container))?;
        let folder = format!("{top}/");
        let inside = |name: &str| top.is_empty() || name == top || name.starts_with(&folder);
        // Between `a` and `a/b` other names sort, such as `a-b`; they all start with `a`.
        let files = container.files.range(top.to_owned()..).take_while(|(name, _)| name.starts_with(top));
        Ok(files
            .filter(|(name, _)| inside(name))
            .map(|(name, file)| (name.clone(), Arc::clone(file)))
            .collect())
    }

    fn exists(&self, container: i64) -> bool {
        self.lock().containers.contains_key(&container)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the containers")
    }
}

fn disk(path: &Path, source: std::io::Error) -> Error {
    Error::Disk { path: path.to_path_buf(), source }
}

/// The path as it is kept: `/` between the parts, none of them empty, `.` or `..`.
fn clean_path(path: &str) -> Result<String> {
    let unified = path.replace('\\', "/");
    let trimmed = unified.trim_matches('/');
    let refused = |part: &str| part == "." || part == ".." || part.chars().any(char::is_control);
    let parts: Vec<_> = trimmed.split('/').filter(|part| !part.is_empty()).collect();
    let start = || path.chars().take(200).collect();
    if trimmed.len() > MAX_PATH_BYTES {
        return Err(Error::LongPath { start: start(), limit: MAX_PATH_BYTES });
    }
    if parts.is_empty() || parts.iter().any(|part| refused(part)) {
        return Err(Error::Path(start()));
    }
    Ok(parts.join("/"))
}

/// The same for the top of what is listed or exported: nothing stands for the whole container.
fn clean_top(path: &str) -> Result<String> {
    if path.trim_matches('/').is_empty() { Ok(String::new()) } else { clean_path(path) }
}
