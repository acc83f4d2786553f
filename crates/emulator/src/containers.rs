//! File containers: where build artifacts are stored, file by file, in chunks (`FileContainerHttpClient.cs`).
//!
//! A container's paths are only names in memory; the bytes are in files of our own naming below one folder. So no path,
//! however malicious, leads anywhere else on the disk, and names may differ by case alone.

mod export;

use std::{
    collections::BTreeMap,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

/// The longest path of an item, in bytes: the service's own bound is of this order.
const MAX_PATH_BYTES: usize = 2_048;

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
    /// The `Content-Range` header, or the body's length, does not fit.
    #[error("the chunk of `{path}` is not acceptable: {reason}")]
    Chunk {
        /// The item's path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The containers are full.
    #[error("the file containers are full: {limit} {what}")]
    Full {
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// The client broke off in the middle of a chunk.
    #[error("the upload of `{0}` broke off")]
    Broken(String),
    /// The disk failed us.
    #[error("the file container's `{}` could not be read or written", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// Bounds on what clients may store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All bytes in all containers, before compression.
    pub bytes: u64,
    /// Items in one container.
    pub items: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, items: 200_000 }
    }
}

/// What is known of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Path inside the container, without a leading slash.
    pub path: String,
    /// `None` for a folder.
    pub file: Option<FileFacts>,
}

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Bytes, as they were before any compression.
    pub length: u64,
    /// When its first chunk came.
    pub created: Timestamp,
    /// When its last chunk came.
    pub modified: Timestamp,
    /// Whether all chunks have come.
    pub is_complete: bool,
}

/// What a stored chunk made of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// More chunks are expected.
    Part,
    /// The file is complete.
    Whole,
}

/// One chunk's place, from the request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First byte.
    pub start: u64,
    /// Bytes in the chunk.
    pub length: u64,
    /// Bytes of the whole stream, which is the compressed one if `is_gzip`.
    pub total: u64,
    /// Whether the stream (not the chunk alone) is compressed by gzip.
    pub is_gzip: bool,
}

impl Chunk {
    /// Reads `bytes START-END/TOTAL`.
    #[must_use]
    pub fn parse(range: &str, is_gzip: bool) -> Option<Self> {
        let (span, total) = range.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
        let (start, end) = span.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        let total = total.parse().ok()?;
        let length = end.checked_sub(start)?.checked_add(1)?;
        (end < total).then_some(Self { start, length, total, is_gzip })
    }
}

#[derive(Debug)]
struct StoredFile {
    facts: FileFacts,
    content: PathBuf,
    /// Bytes received from the start on without a gap.
    received: u64,
    /// What this file counts in the total.
    counted: u64,
}

#[derive(Debug, Default)]
struct Container {
    files: BTreeMap<String, Arc<tokio::sync::Mutex<StoredFile>>>,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<i64, Container>,
    next_container: i64,
    next_file: u64,
    bytes: u64,
}

/// All containers of an emulator.
#[derive(Debug)]
pub struct FileContainers {
    folder: PathBuf,
    limits: Limits,
    state: Mutex<State>,
}

impl FileContainers {
    /// Containers whose bytes are kept below `folder`, which exists.
    #[must_use]
    pub fn new(folder: PathBuf, limits: Limits) -> Self {
        Self { folder, limits, state: Mutex::default() }
    }

    /// Makes an empty container and gives its id.
    pub fn create(&self) -> i64 {
        let mut state = self.lock();
        state.next_container += 1;
        let id = state.next_container;
        state.containers.insert(id, Container::default());
        id
    }

    /// Drops a container and its files. Unknown ids are ignored.
    pub fn remove(&self, id: i64) {
        let removed = self.lock().containers.remove(&id);
        let mut freed = 0;
        for file in removed.into_iter().flat_map(|container| container.files.into_values()) {
            // A file which is being written to is left to its writer's error; the folder goes with the emulator.
            if let Ok(file) = file.try_lock() {
                freed += file.counted;
                let _ = std::fs::remove_file(&file.content);
            }
        }
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(freed);
    }

    /// Stores one chunk of a file, or an empty file if there is no chunk. Chunks of a file come in order, as the official client
    /// sends them; a chunk that was sent already may be sent again.
    ///
    /// # Errors
    /// If the path or the chunk is not acceptable, the bounds are reached, the client breaks off or the disk fails.
    pub async fn put<B, E>(
        &self,
        container: i64,
        path: &str,
        chunk: Option<Chunk>,
        now: Timestamp,
        body: B,
    ) -> Result<Stored>
    where
        B: Stream<Item = Result<bytes::Bytes, E>> + Send,
    {
        let path = clean_path(path)?;
        let file = self.open(container, &path, now)?;
        let mut file = file.lock().await;
        let Some(chunk) = chunk else {
            self.count(&mut file, 0, container)?;
            return self.finish_empty(&mut file, now);
        };
        let wrong = |reason| Error::Chunk { path: path.clone(), reason };
        if chunk.start > file.received {
            return Err(wrong("an earlier chunk is missing"));
        }
        if file.facts.is_complete && chunk.start > 0 {
            // The client did not hear that its last chunk had come. The bytes may be inflated by now, so they stay as they are.
            return skip(&path, body).await;
        }
        if chunk.start == 0 {
            file.facts.is_complete = false;
            file.received = 0;
        }
        self.count(&mut file, chunk.total, container)?;
        write_chunk(&file.content, &path, chunk, body).await?;
        file.received = file.received.max(chunk.start + chunk.length);
        file.facts.modified = now;
        file.facts.length = file.received;
        if file.received < chunk.total {
            return Ok(Stored::Part);
        }
        if chunk.is_gzip {
            let left = self.limits.bytes.saturating_sub(self.lock().bytes.saturating_sub(file.counted));
            let content = file.content.clone();
            let inflated = tokio::task::spawn_blocking(move || inflate(&content, left)).await;
            let length = inflated.map_err(|error| disk(&file.content, std::io::Error::other(error)))?;
            let length = length
                .map_err(|source| disk(&file.content, source))?
                .ok_or_else(|| wrong("its compressed bytes are damaged or inflate to more than fits"))?;
            self.count(&mut file, length, container)?;
            file.facts.length = length;
        }
        let length = file.facts.length;
        self.count(&mut file, length, container)?;
        file.facts.is_complete = true;
        Ok(Stored::Whole)
    }

    /// The items at and below `path`: folders and files, sorted by path.
    ///
    /// # Errors
    /// If there is no such container.
    pub async fn list(&self, container: i64, path: &str) -> Result<Vec<Item>> {
        let top = clean_top(path)?;
        let found = self.below(container, &top)?;
        let mut items = BTreeMap::new();
        for (name, file) in found {
            for (at, _) in name.match_indices('/').filter(|(at, _)| *at >= top.len()) {
                items.entry(name[..at].to_owned()).or_insert(None);
            }
            let facts = file.lock().await.facts.clone();
            items.insert(name, Some(facts));
        }
        Ok(items.into_iter().map(|(path, file)| Item { path, file }).collect())
    }

    /// Opens a complete file for reading and gives its length.
    ///
    /// # Errors
    /// If there is no such container or file, or the disk fails.
    pub async fn read(&self, container: i64, path: &str) -> Result<(std::fs::File, u64)> {
        let path = clean_path(path)?;
        let file = {
            let state = self.lock();
            let found = state.containers.get(&container).ok_or(Error::NoContainer(container))?;
            found.files.get(&path).cloned()
        };
        let missing = || Error::NoItem { container, path: path.clone() };
        let file = file.ok_or_else(missing)?;
        let file = file.lock().await;
        if !file.facts.is_complete {
            return Err(missing());
        }
        let opened = std::fs::File::open(&file.content).map_err(|source| disk(&file.content, source))?;
        Ok((opened, file.facts.length))
    }

    fn open(&self, id: i64, path: &str, now: Timestamp) -> Result<Arc<tokio::sync::Mutex<StoredFile>>> {
        let mut state = self.lock();
        let number = state.next_file;
        let limit = self.limits.items;
        let container = state.containers.get_mut(&id).ok_or(Error::NoContainer(id))?;
        if let Some(file) = container.files.get(path) {
            return Ok(Arc::clone(file));
        }
        if container.files.len() >= limit {
            return Err(Error::Full { limit: limit as u64, what: "items in one container" });
        }
        let facts = FileFacts { length: 0, created: now, modified: now, is_complete: false };
        let content = self.folder.join(format!("{id}-{number}"));
        let file = Arc::new(tokio::sync::Mutex::new(StoredFile { facts, content, received: 0, counted: 0 }));
        container.files.insert(path.to_owned(), Arc::clone(&file));
        state.next_file += 1;
        Ok(file)
    }

    fn finish_empty(&self, file: &mut StoredFile, now: Timestamp) -> Result<Stored> {
        std::fs::File::create(&file.content).map_err(|source| disk(&file.content, source))?;
        file.received = 0;
        file.facts.length = 0;
        file.facts.modified = now;
        file.facts.is_complete = true;
        Ok(Stored::Whole)
    }

    /// Counts a file as `bytes` long from now on, if that fits.
    fn count(&self, file: &mut StoredFile, bytes: u64, container: i64) -> Result<()> {
        let mut state = self.lock();
        if !state.containers.contains_key(&container) {
            // It was removed while this file was held: what it left goes now.
            state.bytes = state.bytes.saturating_sub(std::mem::take(&mut file.counted));
            let _ = std::fs::remove_file(&file.content);
            return Err(Error::NoContainer(container));
        }
        let total = state.bytes.saturating_sub(file.counted).saturating_add(bytes);
        if total > self.limits.bytes {
            return Err(Error::Full { limit: self.limits.bytes, what: "bytes in all" });
        }
        state.bytes = total;
        file.counted = bytes;
        Ok(())
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
    if parts.is_empty() || trimmed.len() > MAX_PATH_BYTES || parts.iter().any(|part| refused(part)) {
        return Err(Error::Path(path.chars().take(200).collect()));
    }
    Ok(parts.join("/"))
}

/// The same for the top of what is listed or exported: nothing stands for the whole container.
fn clean_top(path: &str) -> Result<String> {
    if path.trim_matches('/').is_empty() { Ok(String::new()) } else { clean_path(path) }
}

/// Reads a chunk that is there already, so that the client can send it to its end.
async fn skip<B, E>(path: &str, body: B) -> Result<Stored>
where
    B: Stream<Item = Result<bytes::Bytes, E>> + Send,
{
    let mut body = std::pin::pin!(body);
    while let Some(bytes) = body.next().await {
        bytes.map_err(|_| Error::Broken(path.to_owned()))?;
    }
    Ok(Stored::Whole)
}

async fn write_chunk<B, E>(content: &Path, path: &str, chunk: Chunk, body: B) -> Result<()>
where
    B: Stream<Item = Result<bytes::Bytes, E>> + Send,
{
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(chunk.start == 0);
    let mut file = options.open(content).await.map_err(|source| disk(content, source))?;
    file.seek(SeekFrom::Start(chunk.start)).await.map_err(|source| disk(content, source))?;
    let mut body = std::pin::pin!(body);
    let mut left = chunk.length;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|_| Error::Broken(path.to_owned()))?;
        let reason = "its body is longer than its range";
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Error::Chunk { path: path.to_owned(), reason })?;
        file.write_all(&bytes).await.map_err(|source| disk(content, source))?;
    }
    file.flush().await.map_err(|source| disk(content, source))?;
    if left > 0 {
        return Err(Error::Chunk { path: path.to_owned(), reason: "its body is shorter than its range" });
    }
    Ok(())
}

/// Replaces a compressed file by what it holds. `None`: damaged, or more than `limit` bytes.
fn inflate(content: &Path, limit: u64) -> std::io::Result<Option<u64>> {
    let source = std::io::BufReader::new(std::fs::File::open(content)?);
    let mut inflated = tempfile::NamedTempFile::new_in(content.parent().unwrap_or(Path::new(".")))?;
    let mut decoder = flate2::read::MultiGzDecoder::new(source).take(limit.saturating_add(1));
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0;
    loop {
        let read = match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Ok(None),
        };
        inflated.write_all(&buffer[..read])?;
        length += read as u64;
    }
    if length > limit {
        return Ok(None);
    }
    inflated.as_file_mut().rewind()?;
    inflated.persist(content).map_err(|error| error.error)?;
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &[u8]) -> impl Stream<Item = std::result::Result<bytes::Bytes, std::io::Error>> + Send {
        futures::stream::iter(
            text.chunks(3).map(|part| Ok(bytes::Bytes::copy_from_slice(part))).collect::<Vec<_>>(),
        )
    }

    fn containers() -> (tempfile::TempDir, FileContainers) {
        let folder = tempfile::tempdir().unwrap();
        let containers = FileContainers::new(folder.path().to_path_buf(), Limits { bytes: 1_000, items: 3 });
        (folder, containers)
    }

    async fn text(containers: &FileContainers, id: i64, path: &str) -> String {
        let (mut file, length) = containers.read(id, path).await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.len() as u64, length);
        text
    }

    #[tokio::test]
    async fn chunks_make_a_file() {
        let (_folder, containers) = containers();
        let id = containers.create();
        let now = Timestamp::now();
        let chunk = |range| Chunk::parse(range, false);
        let put = |range, text| containers.put(id, "drop/a/b.txt", chunk(range), now, body(text));
        assert_eq!(put("bytes 0-3/10", b"0123").await.unwrap(), Stored::Part);
        assert!(containers.read(id, "drop/a/b.txt").await.is_err());
        assert!(put("bytes 6-9/10", b"6789").await.unwrap_err().to_string().contains("earlier chunk"));
        assert_eq!(put("bytes 4-9/10", b"456789").await.unwrap(), Stored::Whole);
        assert_eq!(text(&containers, id, "/drop/a/b.txt").await, "0123456789");
        // A whole file sent once more replaces the first.
        assert_eq!(put("bytes 0-1/2", b"xy").await.unwrap(), Stored::Whole);
        assert_eq!(text(&containers, id, "drop\\a\\b.txt").await, "xy");
        containers.put(id, "drop/empty", None, now, body(b"")).await.unwrap();
        let items = containers.list(id, "drop").await.unwrap();
        let names: Vec<_> = items.iter().map(|item| (item.path.as_str(), item.file.is_some())).collect();
        assert_eq!(names, [("drop", false), ("drop/a", false), ("drop/a/b.txt", true), ("drop/empty", true)]);
    }

    #[tokio::test]
    async fn compressed_streams_are_inflated_and_bounded() {
        let (_folder, containers) = containers();
        let id = containers.create();
        let pack = |length: usize| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&vec![b'a'; length]).unwrap();
            encoder.finish().unwrap()
        };
        for (length, fits) in [(900, true), (100_000, false)] {
            let packed = pack(length);
            let chunk =
                Chunk { start: 0, length: packed.len() as u64, total: packed.len() as u64, is_gzip: true };
            let stored = containers.put(id, "x", Some(chunk), Timestamp::now(), body(&packed)).await;
            assert_eq!(stored.is_ok(), fits, "{stored:?}");
            if fits {
                assert_eq!(text(&containers, id, "x").await.len(), length);
            }
        }
    }

    #[tokio::test]
    async fn the_last_chunk_of_a_compressed_stream_may_be_sent_again() {
        let (_folder, containers) = containers();
        let id = containers.create();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"hello").unwrap();
        let packed = encoder.finish().unwrap();
        let total = packed.len() as u64;
        let (first, last) = packed.split_at(10);
        for (start, bytes, expected) in
            [(0, first, Stored::Part), (10, last, Stored::Whole), (10, last, Stored::Whole)]
        {
            let chunk = Chunk { start, length: bytes.len() as u64, total, is_gzip: true };
            let stored = containers.put(id, "x", Some(chunk), Timestamp::now(), body(bytes)).await;
            assert_eq!(stored.unwrap(), expected);
        }
        assert_eq!(text(&containers, id, "x").await, "hello");
    }

    #[tokio::test]
    async fn bounds_and_paths_are_kept() {
        let (_folder, containers) = containers();
        let id = containers.create();
        let now = Timestamp::now();
        for path in ["../x", "a/../../x", "a\\..\\x", "", "/", "a/./b", "a\0b", "a\nb"] {
            let error = containers.put(id, path, None, now, body(b"")).await.unwrap_err();
            assert!(matches!(error, Error::Path(_)), "{path:?}: {error}");
        }
        let large = Chunk { start: 0, length: 1, total: 2_000, is_gzip: false };
        assert!(matches!(
            containers.put(id, "large", Some(large), now, body(b"x")).await.unwrap_err(),
            Error::Full { .. }
        ));
        for name in ["a", "b"] {
            containers.put(id, name, None, now, body(b"")).await.unwrap();
        }
        assert!(matches!(
            containers.put(id, "c", None, now, body(b"")).await.unwrap_err(),
            Error::Full { .. }
        ));
        assert!(matches!(containers.list(9, "").await.unwrap_err(), Error::NoContainer(9)));
        let short = Chunk::parse("bytes 0-4/5", false);
        assert!(containers.put(id, "a", short, now, body(b"12")).await.is_err());
        assert!(containers.put(id, "a", short, now, body(b"123456")).await.is_err());
        assert!(containers.read(id, "a").await.is_err());
    }

    #[test]
    fn ranges_are_read_strictly() {
        let parse = |text| Chunk::parse(text, false).map(|chunk| (chunk.start, chunk.length, chunk.total));
        assert_eq!(parse("bytes 0-4/5"), Some((0, 5, 5)));
        assert_eq!(parse("bytes 5-9/20"), Some((5, 5, 20)));
        for text in [
            "bytes 4-0/5",
            "bytes 0-5/5",
            "bytes */5",
            "0-4/5",
            "bytes 0-18446744073709551615/5",
            "bytes -1-2/5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_removed_container_frees_its_bytes() {
        let (folder, containers) = containers();
        let id = containers.create();
        let chunk = Chunk { start: 0, length: 900, total: 900, is_gzip: false };
        containers.put(id, "x", Some(chunk), Timestamp::now(), body(&[b'a'; 900])).await.unwrap();
        containers.remove(id);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let id = containers.create();
        containers.put(id, "x", Some(chunk), Timestamp::now(), body(&[b'a'; 900])).await.unwrap();
    }
}
