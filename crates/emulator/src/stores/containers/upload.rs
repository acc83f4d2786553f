//! Files come into a container chunk by chunk.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;

use super::{Error, FileContainers, Result, StoredFile, Writing, clean_path, disk};
use crate::stores::disk::{Disk, Reserved};

/// What a stored chunk made of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// More chunks are expected.
    Part,
    /// The file is complete.
    Whole,
}

/// One chunk's place, from the request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// First byte.
    pub(crate) start: u64,
    /// Bytes in the chunk.
    pub(crate) length: u64,
    /// Bytes of the whole stream, which is the compressed one if `is_gzip`.
    pub(crate) total: u64,
    /// Whether the stream (not the chunk alone) is compressed by gzip.
    pub(crate) is_gzip: bool,
}

impl Chunk {
    /// Reads `bytes START-END/TOTAL`.
    pub(crate) fn parse(range: &str, is_gzip: bool) -> Option<Self> {
        let (span, total) = range.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
        let (start, end) = span.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        let total = total.parse().ok()?;
        let length = end.checked_sub(start)?.checked_add(1)?;
        (end < total).then_some(Self { start, length, total, is_gzip })
    }

    /// The first byte behind it.
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

impl FileContainers {
    /// Stores one chunk of a file, or an empty file if there is no chunk. Chunks of a file come in order, as
    /// the official client sends them; a chunk that was sent already may be sent again.
    ///
    /// # Errors
    /// If the path or the chunk is not acceptable, the bounds are reached, the client breaks off or the disk
    /// fails.
    pub(crate) async fn put<B, E>(
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
        let file = self.file(container, &path, now)?;
        let stored = match chunk {
            Some(chunk) => self.put_chunk(&file, &path, chunk, now, body).await,
            None => file.put_nothing(now).await,
        };
        // What came while the container was removed has gone with it.
        if self.exists(container) { stored } else { Err(Error::NoContainer(container)) }
    }

    async fn put_chunk<B, E>(
        &self,
        file: &Arc<StoredFile>,
        path: &str,
        chunk: Chunk,
        now: Timestamp,
        body: B,
    ) -> Result<Stored>
    where
        B: Stream<Item = Result<bytes::Bytes, E>> + Send,
    {
        let mut writing = Arc::clone(&file.writing).lock_owned().await;
        let is_complete = file.facts().is_complete;
        if chunk.start > writing.received {
            return Err(wrong(path, "an earlier chunk is missing"));
        }
        if is_complete && chunk.start > 0 {
            // The client did not hear that its last chunk had come. The bytes may be inflated by now, so they
            // stay as they are.
            return skip(path, body).await;
        }
        // A file that can never fit is refused with its first chunk.
        self.disk.has_room(chunk.total.saturating_sub(writing.on_disk.bytes()))?;
        writing.hold(chunk.end())?;
        if chunk.start == 0 {
            file.facts().is_complete = false;
            writing.received = 0;
        }
        write_chunk(&self.disk, &file.content, path, chunk, body).await?;
        writing.received = writing.received.max(chunk.end());
        let received = writing.received;
        writing.on_disk.shrink_to(received);
        {
            let mut facts = file.facts();
            facts.modified = now;
            facts.length = received;
        }
        if received < chunk.total {
            return Ok(Stored::Part);
        }
        if chunk.is_gzip {
            let (room, inflating, path) = (self.disk.clone(), Arc::clone(file), path.to_owned());
            let inflated = self.disk.run(move || inflating.inflate(&mut writing, &room, &path)).await;
            inflated.map_err(|source| disk(&file.content, source))??;
        } else {
            file.facts().is_complete = true;
        }
        Ok(Stored::Whole)
    }
}

impl Writing {
    /// Reserves that there may be so many bytes on disk.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<()> {
        Ok(self.on_disk.grow(bytes.saturating_sub(self.on_disk.bytes()))?)
    }
}

impl StoredFile {
    async fn put_nothing(&self, now: Timestamp) -> Result<Stored> {
        let mut writing = self.writing.lock().await;
        let made = tokio::fs::File::create(&self.content).await;
        made.map_err(|source| disk(&self.content, source))?;
        writing.received = 0;
        writing.on_disk.shrink_to(0);
        let mut facts = self.facts();
        facts.length = 0;
        facts.modified = now;
        facts.is_complete = true;
        Ok(Stored::Whole)
    }

    /// Replaces compressed bytes by what they hold, and completes the file.
    fn inflate(&self, writing: &mut Writing, room: &Disk, path: &str) -> Result<()> {
        let failed = |source| disk(&self.content, source);
        let source = std::io::BufReader::new(std::fs::File::open(&self.content).map_err(failed)?);
        let parent = self.content.parent().unwrap_or(Path::new("."));
        let mut inflated = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
        let mut on_disk: Reserved = room.nothing();
        let mut decoder = flate2::read::MultiGzDecoder::new(source);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match decoder.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(wrong(path, "its compressed bytes are damaged")),
            };
            on_disk.grow(read as u64)?;
            inflated.write_all(&buffer[..read]).map_err(failed)?;
        }
        inflated.persist(&self.content).map_err(|error| failed(error.error))?;
        let mut facts = self.facts();
        facts.length = on_disk.bytes();
        facts.is_complete = true;
        writing.on_disk = on_disk;
        Ok(())
    }
}

fn wrong(path: &str, reason: &'static str) -> Error {
    Error::Chunk { path: path.to_owned(), reason }
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

async fn write_chunk<B, E>(room: &Disk, content: &Path, path: &str, chunk: Chunk, body: B) -> Result<()>
where
    B: Stream<Item = Result<bytes::Bytes, E>> + Send,
{
    // What is there is written in one go, with the opening of the file: for a small file that is all.
    let mut body = std::pin::pin!(body.ready_chunks(PIECES_AT_ONCE));
    let mut left = chunk.length;
    let mut file = None;
    while let Some(pieces) = body.next().await {
        let pieces: Result<Vec<_>, E> = pieces.into_iter().collect();
        let pieces = pieces.map_err(|_| Error::Broken(path.to_owned()))?;
        for piece in &pieces {
            left = left
                .checked_sub(piece.len() as u64)
                .ok_or_else(|| wrong(path, "its body is longer than its range"))?;
        }
        let (opened, place) = (file.take(), content.to_owned());
        let written = room.run(move || write_pieces(opened, &place, chunk.start, &pieces)).await;
        file = Some(written.and_then(|written| written).map_err(|source| disk(content, source))?);
    }
    if left > 0 {
        return Err(wrong(path, "its body is shorter than its range"));
    }
    Ok(())
}

/// How many pieces of a body are written in one go.
const PIECES_AT_ONCE: usize = 16;

/// Writes pieces behind those before, or at the start of the chunk.
fn write_pieces(
    opened: Option<File>,
    content: &Path,
    start: u64,
    pieces: &[bytes::Bytes],
) -> std::io::Result<File> {
    let mut file = match opened {
        Some(file) => file,
        None => {
            let mut options = File::options();
            let mut file = options.write(true).create(true).truncate(start == 0).open(content)?;
            file.seek(SeekFrom::Start(start))?;
            file
        }
    };
    for piece in pieces {
        file.write_all(piece)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::ops::Not as _;

    use futures::channel::mpsc;
    use tokio::io::AsyncReadExt as _;

    use super::super::Content;
    use super::*;

    fn body(text: &[u8]) -> impl Stream<Item = std::result::Result<bytes::Bytes, std::io::Error>> + Send {
        futures::stream::iter(
            text.chunks(3).map(|part| Ok(bytes::Bytes::copy_from_slice(part))).collect::<Vec<_>>(),
        )
    }

    /// Containers for 1,000 bytes, and an empty one of them.
    async fn containers() -> (tempfile::TempDir, FileContainers, i64) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(1_000);
        let containers = FileContainers { max_items: 3, ..FileContainers::new(folder.path().into(), disk) };
        let id = containers.create().await.unwrap();
        (folder, containers, id)
    }

    async fn text(containers: &FileContainers, id: i64, path: &str) -> String {
        let (content, length) = containers.read(id, path).await.unwrap();
        let text = match content {
            Content::Bytes(bytes) => String::from_utf8(bytes.into()).unwrap(),
            Content::File(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text).await.unwrap();
                text
            }
        };
        assert_eq!(text.len() as u64, length);
        text
    }

    #[tokio::test]
    async fn chunks_make_a_file() {
        let (_folder, containers, id) = containers().await;
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
        let items = containers.list(id, "drop").unwrap();
        let names: Vec<_> = items.iter().map(|item| (item.path.as_str(), item.file.is_some())).collect();
        assert_eq!(names, [("drop", false), ("drop/a", false), ("drop/a/b.txt", true), ("drop/empty", true)]);
    }

    #[tokio::test]
    async fn compressed_streams_are_inflated_and_bounded() {
        let (_folder, containers, id) = containers().await;
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
            assert_eq!(matches!(stored, Err(Error::Full(_))), !fits);
            if fits {
                assert_eq!(text(&containers, id, "x").await.len(), length);
            }
        }
    }

    #[tokio::test]
    async fn the_last_chunk_of_a_compressed_stream_may_be_sent_again() {
        let (_folder, containers, id) = containers().await;
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
        let (_folder, containers, id) = containers().await;
        let now = Timestamp::now();
        for path in ["../x", "a/../../x", "a\\..\\x", "", "/", "a/./b", "a\0b", "a\nb"] {
            let error = containers.put(id, path, None, now, body(b"")).await.unwrap_err();
            assert!(matches!(error, Error::Path(_)), "{path:?}: {error}");
        }
        let large = Chunk { start: 0, length: 1, total: 2_000, is_gzip: false };
        assert!(matches!(
            containers.put(id, "large", Some(large), now, body(b"x")).await.unwrap_err(),
            Error::Full(_)
        ));
        for name in ["a", "b"] {
            containers.put(id, name, None, now, body(b"")).await.unwrap();
        }
        assert!(matches!(
            containers.put(id, "c", None, now, body(b"")).await.unwrap_err(),
            Error::TooManyItems { limit: 3, .. }
        ));
        assert!(matches!(containers.list(9, "").unwrap_err(), Error::NoContainer(9)));
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
        let (folder, containers, id) = containers().await;
        let chunk = Chunk { start: 0, length: 900, total: 900, is_gzip: false };
        containers.put(id, "x", Some(chunk), Timestamp::now(), body(&[b'a'; 900])).await.unwrap();
        assert!(containers.disk.has_room(101).is_err());
        containers.remove(id).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(containers.disk.has_room(1_000).is_ok());
    }

    #[tokio::test]
    async fn a_container_that_is_removed_during_an_upload_leaves_nothing() {
        // Removed before the last bytes of a first chunk, of a last one, and of a compressed one.
        for (total, is_gzip) in [(900, false), (400, false), (400, true)] {
            let (folder, containers, id) = containers().await;
            let chunk = Chunk { start: 0, length: 400, total, is_gzip };
            let (sender, receiver) = mpsc::unbounded::<Result<bytes::Bytes, std::io::Error>>();
            sender.unbounded_send(Ok(bytes::Bytes::from_static(&[b'a'; 300]))).unwrap();
            let mut put = Box::pin(containers.put(id, "x", Some(chunk), Timestamp::now(), receiver));
            let file = folder.path().join("1/1");
            let written = async {
                while std::fs::metadata(&file).is_ok_and(|file| file.len() >= 300).not() {
                    assert!(futures::poll!(put.as_mut()).is_pending());
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(30), written).await.unwrap();
            containers.remove(id).await;
            assert!(containers.disk.has_room(1_000).is_err(), "the writer holds what it may have on disk");
            sender.unbounded_send(Ok(bytes::Bytes::from_static(&[b'a'; 100]))).unwrap();
            drop(sender);
            assert!(matches!(put.await, Err(Error::NoContainer(_))));
            assert!(containers.disk.has_room(1_000).is_ok());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn an_upload_that_breaks_off_counts_what_it_may_have_written() {
        let (_folder, containers, id) = containers().await;
        let now = Timestamp::now();
        let chunk = Chunk { start: 0, length: 400, total: 900, is_gzip: false };
        for _ in 0..3 {
            let broken = [Ok(bytes::Bytes::from_static(b"abc")), Err(std::io::ErrorKind::ConnectionReset)];
            let put = containers.put(id, "x", Some(chunk), now, futures::stream::iter(broken));
            assert!(matches!(put.await, Err(Error::Broken(_))));
            // Cut off without a word: the request's future is dropped.
            let silent = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
            let mut put = Box::pin(containers.put(id, "x", Some(chunk), now, silent));
            assert!(futures::poll!(put.as_mut()).is_pending());
        }
        assert!(containers.disk.has_room(600).is_ok());
        // The client begins anew, with less.
        let chunk = Chunk { start: 0, length: 3, total: 3, is_gzip: false };
        assert_eq!(containers.put(id, "x", Some(chunk), now, body(b"abc")).await.unwrap(), Stored::Whole);
        assert!(containers.disk.has_room(997).is_ok());
        assert_eq!(text(&containers, id, "x").await, "abc");
    }
}
