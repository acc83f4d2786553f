//! Uploads blocks of logs and attachments, in order within a record and two records at a time.
//!
//! All blocks of a record are appended to one log, so that the record's log is complete. (The official agent
//! makes a new log for each page and leaves only the last one with the record: `JobServerQueue.cs`
//! `UploadFile`.) An append is not idempotent: when its answer was lost, the log's line count tells whether
//! it arrived.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dayfly_client::open_file;
use dayfly_protocol::logs::TaskLogReference;
use dayfly_protocol::timeline::TimelineRecord;
use dayfly_protocol::{LogId, RecordId, TimelineId};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::losses::{Loss, Losses};
use super::pages::Block;
use super::patience::Patience;
use super::service::{Error, Service};
use super::timeline;

/// Records whose uploads run side by side: each holds a page in memory.
const PARALLEL_UPLOADS: usize = 2;

/// A file that becomes a log goes in pieces of about this size.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Items taken from the queue before their turn.
const LOOK_AHEAD: usize = 64;

/// Something to upload.
pub(super) enum Item {
    Block(Block),
    Attachment(Attachment),
    /// A file that becomes a log of its own (`build.uploadlog`).
    Log {
        record: RecordId,
        path: PathBuf,
    },
}

pub(super) struct Attachment {
    pub(super) record: RecordId,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Item {
    fn record(&self) -> RecordId {
        match self {
            Item::Block(block) => block.record,
            Item::Attachment(attachment) => attachment.record,
            Item::Log { record, .. } => *record,
        }
    }
}

/// A record's log on the service.
#[derive(Default)]
struct Log {
    id: Option<LogId>,
    /// Whether the record says that this is its log.
    is_linked: bool,
    /// Lines that are surely there.
    lines: u64,
}

/// Uploads what comes until all senders are gone.
pub(super) async fn run(mut items: mpsc::Receiver<Item>, uploader: Uploader) {
    let mut logs: HashMap<RecordId, Log> = HashMap::new();
    let mut waiting: VecDeque<Item> = VecDeque::new();
    let mut busy: HashSet<RecordId> = HashSet::new();
    let mut running = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !waiting.is_empty() || !running.is_empty() {
        while running.len() < PARALLEL_UPLOADS
            && let Some(at) = waiting.iter().position(|item| !busy.contains(&item.record()))
            && let Some(item) = waiting.remove(at)
        {
            let record = item.record();
            busy.insert(record);
            let mut log = logs.remove(&record).unwrap_or_default();
            let uploader = &uploader;
            running.push(async move {
                uploader.upload(item, &mut log).await;
                (record, log)
            });
        }
        tokio::select! {
            Some((record, log)) = running.next() => {
                busy.remove(&record);
                logs.insert(record, log);
            }
            item = items.recv(), if is_open && waiting.len() < LOOK_AHEAD => match item {
                Some(item) => waiting.push_back(item),
                None => is_open = false,
            },
        }
    }
}

pub(super) struct Uploader {
    pub(super) service: Arc<Service>,
    pub(super) timeline: Arc<timeline::Queue>,
    pub(super) timeline_id: TimelineId,
    pub(super) losses: Arc<Losses>,
    pub(super) patience: Patience,
}

impl Uploader {
    async fn upload(&self, item: Item, log: &mut Log) {
        match item {
            Item::Block(block) => {
                if let Err(error) = self.append(&block, log).await {
                    self.losses.add_log(block.record, block.lines, &error);
                }
            }
            Item::Attachment(attachment) => {
                let Attachment { record, kind, name, path } = &attachment;
                let result = self.patience.retry(|| self.service.attach(*record, kind, name, path)).await;
                if let Err(error) = result {
                    self.losses.add(Loss::Attachment, &format!("the attachment '{name}'"), &error);
                }
            }
            Item::Log { record, path } => {
                if let Err(error) = self.upload_log(record, &path).await {
                    self.losses.add(Loss::Attachment, &format!("the log '{}'", path.display()), &error);
                }
            }
        }
    }

    async fn append(&self, block: &Block, log: &mut Log) -> Result<(), Error> {
        let bytes = block.content.read().await?;
        let id = match log.id {
            Some(id) => id,
            // A second empty log after a lost answer is never seen.
            None => self.patience.retry(|| self.service.create_log(block.record)).await?,
        };
        log.id = Some(id);
        self.append_once(id, log.lines, block.lines, bytes).await?;
        log.lines += block.lines;
        if !std::mem::replace(&mut log.is_linked, true) {
            let log = Some(TaskLogReference { id, location: None });
            self.timeline
                .add(self.timeline_id, TimelineRecord { id: block.record, log, ..TimelineRecord::default() });
        }
        Ok(())
    }

    /// Appends `bytes` of so many `lines` to a log which has `before` lines.
    async fn append_once(&self, id: LogId, before: u64, lines: u64, bytes: Bytes) -> Result<(), Error> {
        loop {
            let Err(error) = self.patience.attempt(self.service.append_log(id, bytes.clone())).await else {
                self.patience.succeeded();
                return Ok(());
            };
            if !error.is_passing() || self.patience.is_over() {
                return Err(error);
            }
            self.patience.pause(&error).await;
            if !error.left_untouched() {
                // If the service cannot tell, lines that are there twice are better than lines that are lost.
                let present = self.patience.retry(|| self.service.log_lines(id)).await;
                if present.is_ok_and(|present| present.is_some_and(|present| present >= before + lines)) {
                    return Ok(());
                }
            }
        }
    }

    /// Uploads what `path` has now as a log of its own, in pieces of whole lines.
    async fn upload_log(&self, record: RecordId, path: &Path) -> Result<(), Error> {
        let read_error = |source| Error::Read { path: path.to_owned(), source };
        let (file, length) = open_file(path).await.map_err(read_error)?;
        let mut file = file.take(length);
        let id = self.patience.retry(|| self.service.create_log(record)).await?;
        let mut lines_before = 0;
        let mut piece = Vec::new();
        loop {
            let room = PIECE_BYTES.saturating_sub(piece.len()) as u64;
            (&mut file).take(room).read_to_end(&mut piece).await.map_err(read_error)?;
            if piece.is_empty() {
                return Ok(());
            }
            let is_last = piece.len() < PIECE_BYTES;
            let whole = memchr::memrchr(b'\n', &piece).filter(|_| !is_last).map_or(piece.len(), |at| at + 1);
            let rest = piece.split_off(whole);
            let lines = memchr::memchr_iter(b'\n', &piece).count() as u64;
            self.append_once(id, lines_before, lines, std::mem::replace(&mut piece, rest).into()).await?;
            lines_before += lines;
        }
    }
}
