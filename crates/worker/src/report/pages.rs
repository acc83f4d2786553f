//! Log pages: what a log has until it is uploaded lies on disk, so that a long log or a service that is away
//! takes no memory.
//!
//! One thread writes the pages of all records. A page is closed at 8 MiB (`Logging.cs`) or at the end of its
//! record; a small log never touches the disk. When the disk is full, what follows goes through memory: in
//! small blocks, and with the steps waiting for their upload. So a full disk slows a job down and loses
//! nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use dayfly_protocol::RecordId;
use tokio::sync::mpsc;

use super::feed;
use super::service::Error;
use super::upload::Item;

/// The official page size.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// A page of at most this size stays in memory.
const SMALL_PAGE_BYTES: usize = 128 * 1024;

/// What goes in one block when there is no disk.
const DISKLESS_BLOCK_BYTES: usize = 1024 * 1024;

/// What pages in memory may take altogether until they are uploaded.
const MEMORY_BYTES: usize = 8 * 1024 * 1024;

/// To the writing thread.
pub(super) enum Message {
    /// Complete lines of a record's log.
    Lines { record: RecordId, text: Vec<u8>, lines: u64 },
    /// The log is complete.
    End { record: RecordId },
    /// Console lines that wait for the service.
    Console(Vec<u8>),
}

/// A part of a record's log, ready for upload.
pub(super) struct Block {
    pub(super) record: RecordId,
    pub(super) content: Content,
    /// How many lines it has.
    pub(super) lines: u64,
}

pub(super) enum Content {
    /// A page on disk. Removed when dropped.
    File(PageFile),
    Memory(Held),
}

impl Content {
    pub(super) async fn read(&self) -> Result<Bytes, Error> {
        match self {
            Content::Memory(held) => Ok(held.bytes.clone()),
            Content::File(PageFile(path)) => match tokio::fs::read(path).await {
                Ok(bytes) => Ok(bytes.into()),
                Err(source) => Err(Error::Read { path: path.clone(), source }),
            },
        }
    }

    /// Writes `bytes` to a file of its own in `folder`.
    pub(super) fn write(folder: &Path, bytes: &[u8]) -> io::Result<Content> {
        let (page, mut file) = create(folder)?;
        file.write_all(bytes)?;
        Ok(Content::File(page))
    }
}

/// A page's file.
pub(super) struct PageFile(PathBuf);

impl Drop for PageFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(page = %self.0.display(), %error, "a page of the log stays on disk");
        }
    }
}

/// Bytes which count against the budget until they are dropped.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    budget: Arc<Budget>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.release(self.bytes.len());
    }
}

/// Bounds the pages in memory.
#[derive(Default)]
pub(super) struct Budget {
    used: Mutex<usize>,
    released: Condvar,
}

impl Budget {
    fn try_take(self: &Arc<Self>, bytes: Vec<u8>) -> Result<Held, Vec<u8>> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if *used + bytes.len() > MEMORY_BYTES {
            return Err(bytes);
        }
        *used += bytes.len();
        Ok(Held { bytes: bytes.into(), budget: Arc::clone(self) })
    }

    fn take(self: &Arc<Self>, bytes: Vec<u8>) -> Held {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // A block on its own always fits; the uploader gives blocks back at its deadline at the latest.
        let mut used = self
            .released
            .wait_while(used, |used| *used > 0 && *used + bytes.len() > MEMORY_BYTES)
            .unwrap_or_else(PoisonError::into_inner);
        *used += bytes.len();
        Held { bytes: bytes.into(), budget: Arc::clone(self) }
    }

    fn release(&self, bytes: usize) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.released.notify_all();
    }
}

/// The writing thread's work: ends when all senders of `messages` are gone. `disk_failed` is called once.
pub(super) fn write(
    mut messages: mpsc::Receiver<Message>,
    items: mpsc::Sender<Item>,
    feed: &feed::Queue,
    folder: PathBuf,
    disk_failed: impl FnOnce(io::Error),
) {
    let mut writer =
        Writer { items, folder, budget: Arc::default(), has_disk: true, disk_failed: Some(disk_failed) };
    let mut pages: HashMap<RecordId, Page> = HashMap::new();
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Lines { record, text, lines } => {
                writer.append(pages.entry(record).or_default(), record, text, lines)
            }
            Message::End { record } => {
                if let Some(mut page) = pages.remove(&record) {
                    writer.close(&mut page, record);
                }
            }
            Message::Console(chunk) => feed.add_chunk(writer.console(chunk)),
        }
    }
    for (record, mut page) in pages {
        writer.close(&mut page, record);
    }
}

/// The part of a log that is not yet a block.
#[derive(Default)]
struct Page {
    /// Not yet in the file.
    buffer: Vec<u8>,
    buffer_lines: u64,
    file: Option<(PageFile, File)>,
    file_bytes: usize,
    file_lines: u64,
}

impl Page {
    fn bytes(&self) -> usize {
        self.file_bytes + self.buffer.len()
    }

    /// Writes the buffer to the page's file.
    fn write(&mut self, folder: &Path) -> io::Result<()> {
        let (_, file) = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(folder)?),
        };
        if let Err(error) = file.write_all(&self.buffer) {
            // Part of the buffer may be in the file; it will go from memory instead. Shortening works on a
            // full disk.
            file.set_len(self.file_bytes as u64)?;
            return Err(error);
        }
        self.file_bytes += self.buffer.len();
        self.file_lines += std::mem::take(&mut self.buffer_lines);
        self.buffer.clear();
        Ok(())
    }
}

fn create(folder: &Path) -> io::Result<(PageFile, File)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}.log", uuid::Uuid::new_v4()));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((PageFile(path), file))
}

struct Writer<F> {
    items: mpsc::Sender<Item>,
    folder: PathBuf,
    budget: Arc<Budget>,
    has_disk: bool,
    disk_failed: Option<F>,
}

impl<F: FnOnce(io::Error)> Writer<F> {
    fn append(&mut self, page: &mut Page, record: RecordId, text: Vec<u8>, lines: u64) {
        if page.bytes() > 0 && page.bytes() + text.len() > PAGE_BYTES {
            self.close(page, record);
        }
        if page.buffer.is_empty() {
            page.buffer = text;
        } else {
            page.buffer.extend_from_slice(&text);
        }
        page.buffer_lines += lines;
        if page.file.is_some() || page.buffer.len() > SMALL_PAGE_BYTES {
            self.write(page);
        }
        if !self.has_disk && page.buffer.len() >= DISKLESS_BLOCK_BYTES {
            self.close(page, record);
        }
    }

    /// Writes the page's buffer to disk, if there is one.
    fn write(&mut self, page: &mut Page) {
        if self.has_disk
            && let Err(error) = page.write(&self.folder)
        {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.has_disk = false;
        if let Some(disk_failed) = self.disk_failed.take() {
            disk_failed(error);
        }
    }

    /// Puts console lines on disk, or else into memory when there is room.
    fn console(&mut self, chunk: Vec<u8>) -> Content {
        if self.has_disk {
            match Content::write(&self.folder, &chunk) {
                Ok(content) => return content,
                Err(error) => self.fail(error),
            }
        }
        Content::Memory(self.budget.take(chunk))
    }

    /// Hands what the page has over to the uploader.
    fn close(&mut self, page: &mut Page, record: RecordId) {
        if page.file.is_some() && !page.buffer.is_empty() {
            self.write(page);
        }
        let mut page = std::mem::take(page);
        let mut buffer = std::mem::take(&mut page.buffer);
        if !buffer.is_empty() && page.file.is_none() && self.has_disk {
            match self.budget.try_take(buffer) {
                Ok(held) => return self.send(record, Content::Memory(held), page.buffer_lines),
                Err(back) => {
                    page.buffer = back;
                    self.write(&mut page);
                    buffer = std::mem::take(&mut page.buffer);
                }
            }
        }
        if let Some((file, _)) = page.file.filter(|_| page.file_bytes > 0) {
            self.send(record, Content::File(file), page.file_lines);
        }
        if !buffer.is_empty() {
            let held = self.budget.take(buffer);
            self.send(record, Content::Memory(held), page.buffer_lines);
        }
    }

    fn send(&self, record: RecordId, content: Content, lines: u64) {
        // The uploader goes only after its deadline, and has told then that logs are lost.
        if self.items.blocking_send(Item::Block(Block { record, content, lines })).is_err() {
            tracing::debug!(%record, "a part of the log comes too late to be uploaded");
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Record, content, lines, whether it is a file.
    type Read = (RecordId, Vec<u8>, u64, bool);

    fn run(folder: &Path, messages: Vec<Message>) -> (Vec<Read>, Option<io::Error>) {
        let (sender, receiver) = mpsc::channel(1024);
        let (items, mut blocks) = mpsc::channel(1024);
        for message in messages {
            sender.try_send(message).map_err(|_| "full").expect("room");
        }
        drop(sender);
        let mut failure = None;
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            while let Some(item) = blocks.blocking_recv() {
                let Item::Block(block) = item else { panic!("only blocks are expected") };
                let (bytes, is_file) = match &block.content {
                    Content::File(file) => (std::fs::read(&file.0).expect("the page is there"), true),
                    Content::Memory(held) => (held.bytes.to_vec(), false),
                };
                read.push((block.record, bytes, block.lines, is_file));
            }
            read
        });
        write(receiver, items, &feed::Queue::new(None), folder.to_owned(), |error| failure = Some(error));
        (reader.join().expect("it reads"), failure)
    }

    fn record(number: u128) -> RecordId {
        RecordId(Uuid::from_u128(number))
    }

    fn lines(number: u128, count: usize) -> Message {
        Message::Lines {
            record: record(number),
            text: b"0123456789abcde\n".repeat(count),
            lines: count as u64,
        }
    }

    #[test]
    fn a_small_log_stays_in_memory_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (blocks, _) = run(
            folder.path(),
            vec![lines(1, 10), lines(2, 1), lines(1, 5), Message::End { record: record(1) }],
        );
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].0, blocks[0].1.len(), blocks[0].2, blocks[0].3), (record(1), 240, 15, false));
        assert_eq!(blocks[1].0, record(2));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_long_log_becomes_pages_of_bounded_size_and_complete_lines() {
        let folder = tempfile::tempdir().unwrap();
        let messages = (0..300).map(|_| lines(1, 8000)).collect();
        let (blocks, failure) = run(folder.path(), messages);
        assert!(failure.is_none());
        assert!(blocks.len() > 1);
        assert!(
            blocks.iter().all(|block| block.1.len() <= PAGE_BYTES && block.3 && block.1.ends_with(b"\n"))
        );
        assert_eq!(blocks.iter().map(|block| block.2).sum::<u64>(), 300 * 8000);
        assert_eq!(blocks.iter().map(|block| block.1.len()).sum::<usize>(), 300 * 8000 * 16);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_disk_all_lines_go_through_memory() {
        let folder = tempfile::tempdir().unwrap();
        let no_folder = folder.path().join("file");
        std::fs::write(&no_folder, b"in the way").unwrap();
        let messages = (0..200).map(|_| lines(1, 8000)).collect();
        let (blocks, failure) = run(&no_folder, messages);
        assert!(failure.is_some());
        assert!(blocks.iter().all(|block| block.1.len() <= 2 * DISKLESS_BLOCK_BYTES && !block.3));
        assert_eq!(blocks.iter().map(|block| block.1.len()).sum::<usize>(), 200 * 8000 * 16);
    }
}
