//! A record of the timeline with its log: what a step talks to.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dayfly_mask::MaskStream;
use dayfly_protocol::timeline::{
    Issue, IssueType, MOST_ISSUES, TaskReference, TimelineRecord, TimelineRecordState, VariableValue,
};
use dayfly_protocol::{DateTime, RecordId, TaskResult};

use tokio::time::Instant;

use super::pages::Message;
use super::stamp::Stamp;
use super::upload::{Attachment, Item};
use super::{Error, Shared};

/// Lines go to the page writer in blocks of about this size.
const BLOCK_BYTES: usize = 32 * 1024;

/// A longer line becomes several.
const LONGEST_LINE_BYTES: usize = dayfly_mask::LONGEST_LINE_BYTES;

/// What a new record is.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Its id.
    pub id: RecordId,
    /// The record above; none: the job's.
    pub parent: Option<RecordId>,
    /// `Task`, usually.
    pub kind: String,
    /// What people read.
    pub name: String,
    /// The name in the YAML.
    pub ref_name: Option<String>,
    /// Its place among its siblings, from 1.
    pub order: Option<i32>,
    /// The task it runs.
    pub task: Option<TaskReference>,
}

/// A record. Cheap to clone; the clones are the same record. Everything given to it is masked.
#[derive(Clone)]
pub struct Record {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    id: RecordId,
    shared: Arc<Shared>,
    /// The job's record, whose log has the lines of all records.
    job: Option<Arc<Inner>>,
    log: Mutex<Log>,
    issues: Mutex<Issues>,
}

#[derive(Default)]
struct Issues {
    kept: Vec<Issue>,
    errors: i32,
    warnings: i32,
}

/// What is not yet with the page writer.
struct Log {
    stream: MaskStream,
    /// Masked text whose last line is not complete.
    masked: String,
    /// Since when the stream holds text back.
    held_since: Option<Instant>,
    stamp: Stamp,
    buffer: Vec<u8>,
    buffer_lines: u64,
    /// Lines so far, as `logFileLineNumber` counts them.
    lines: i64,
    /// Lines given to the console.
    console_lines: i64,
    has_open_group: bool,
}

impl Log {
    fn write(&mut self, line: &str) {
        self.stamp.write(&mut self.buffer);
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        self.buffer_lines += 1;
    }

    /// The lines for the page writer.
    fn take(&mut self, record: RecordId) -> Message {
        let text = std::mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4));
        Message::Lines { record, text, lines: std::mem::take(&mut self.buffer_lines) }
    }

    /// Counts a line. The end of a group is not shown and does not count (`Logging.cs`).
    fn count(&mut self, line: &str) {
        if line.starts_with("##[") {
            let tag = line.get(.."##[endgroup]".len()).unwrap_or(line).to_ascii_lowercase();
            if tag.starts_with("##[group]") {
                self.has_open_group = true;
            } else if tag == "##[endgroup]" && std::mem::take(&mut self.has_open_group) {
                return;
            }
        }
        self.lines += 1;
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl Record {
    pub(super) fn new(id: RecordId, shared: Arc<Shared>, job: Option<Arc<Inner>>) -> Record {
        let log = Log {
            stream: shared.masker.stream(),
            masked: String::new(),
            held_since: None,
            stamp: Stamp::default(),
            buffer: Vec::new(),
            buffer_lines: 0,
            lines: 0,
            console_lines: 0,
            has_open_group: false,
        };
        Record { inner: Arc::new(Inner { id, shared, job, log: Mutex::new(log), issues: Mutex::default() }) }
    }

    /// Its id.
    pub fn id(&self) -> RecordId {
        self.inner.id
    }

    /// It runs from now on.
    pub fn start(&self) {
        self.update(TimelineRecord {
            start_time: Some(now()),
            state: Some(TimelineRecordState::InProgress),
            worker_name: Some(self.inner.shared.worker_name.clone()),
            ..TimelineRecord::default()
        });
    }

    /// Changes the record: what is `None` or empty stays. Never waits.
    pub fn update(&self, mut change: TimelineRecord) {
        let shared = &self.inner.shared;
        change.id = self.inner.id;
        shared.mask(&mut change);
        shared.timeline.add(shared.timeline_id, change);
    }

    /// Says how far it is (0 to 100) and what it does.
    pub fn progress(&self, percent: Option<i32>, operation: Option<String>) {
        self.update(TimelineRecord {
            percent_complete: percent.map(|percent| percent.clamp(0, 100)),
            current_operation: operation,
            ..TimelineRecord::default()
        });
    }

    /// Sets an output variable, which later jobs can read.
    pub fn variable(&self, name: &str, value: &str, is_secret: bool) {
        let value = if is_secret { VariableValue::secret(value) } else { VariableValue::public(value) };
        self.update(TimelineRecord {
            variables: [(name.to_owned(), value)].into(),
            ..TimelineRecord::default()
        });
    }

    /// Adds an error or a warning. The first ten of each kind are kept, all are counted. Writes no line.
    pub fn issue(&self, mut issue: Issue) {
        let line = self.lines();
        issue.data.insert("logFileLineNumber".to_owned(), line.to_string());
        let change = {
            let mut issues = self.inner.issues.lock().unwrap_or_else(PoisonError::into_inner);
            let is_error = issue.issue_type == IssueType::Error;
            let count = if is_error { &mut issues.errors } else { &mut issues.warnings };
            *count += 1;
            if issues.kept.iter().filter(|kept| kept.issue_type == issue.issue_type).count() < MOST_ISSUES {
                self.inner.shared.mask_issue(&mut issue);
                issues.kept.push(issue);
            }
            TimelineRecord {
                error_count: Some(issues.errors),
                warning_count: Some(issues.warnings),
                issues: issues.kept.clone(),
                ..TimelineRecord::default()
            }
        };
        self.update(change);
    }

    /// How many lines its log has.
    pub fn lines(&self) -> i64 {
        self.inner.log().lines
    }

    /// Writes `text`, which may have several lines, to its log, the job's log and the console. Waits for the
    /// disk at most.
    pub async fn line(&self, text: &str) {
        self.write(text);
        self.inner.pass_on().await;
    }

    /// As [`Record::line`], without waiting: for single lines only.
    pub(crate) fn write(&self, text: &str) {
        let mut log = self.inner.log();
        let log = &mut *log;
        for line in text.split('\n') {
            let line = self.inner.shared.masker.mask_coloured(line.strip_suffix('\r').unwrap_or(line));
            log.stream.push_line(&line, &mut log.masked);
        }
        self.inner.emit(log);
    }

    /// Writes the first piece of a line; the rest comes with the next call.
    pub async fn part(&self, text: &str) {
        {
            let mut log = self.inner.log();
            let log = &mut *log;
            log.stream.push(text, &mut log.masked);
            self.inner.emit(log);
        }
        self.inner.pass_on().await;
    }

    /// Attaches `file` under `name`; it is uploaded in the background and must stay until the reporter is
    /// finished.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub async fn attach(&self, kind: &str, name: &str, file: PathBuf) -> Result<(), Error> {
        check_readable(&file).await?;
        let mut name = name.to_owned();
        self.inner.shared.mask_text(&mut name);
        let attachment = Attachment { record: self.inner.id, kind: kind.to_owned(), name, path: file };
        self.inner.shared.send(Item::Attachment(attachment)).await;
        Ok(())
    }

    /// Uploads `file` as a log of its own (`build.uploadlog`), as [`Record::attach`] does.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub async fn upload_log(&self, file: PathBuf) -> Result<(), Error> {
        check_readable(&file).await?;
        self.inner.shared.send(Item::Log { record: self.inner.id, path: file }).await;
        Ok(())
    }

    /// It has ended with `result`: the log is closed and uploaded, the console shows all of it soon.
    pub async fn finish(&self, result: TaskResult, result_code: Option<String>) {
        self.end(result, result_code);
        self.close_log().await;
    }

    /// As [`Record::finish`], but the log stays open until the reporter is finished. Never waits.
    pub(crate) fn end(&self, result: TaskResult, result_code: Option<String>) {
        self.update(TimelineRecord {
            finish_time: Some(now()),
            state: Some(TimelineRecordState::Completed),
            result: Some(result),
            result_code,
            percent_complete: Some(100),
            ..TimelineRecord::default()
        });
    }

    /// Closes the log. A line that still comes begins a further part of it.
    pub(super) async fn close_log(&self) {
        let inner = &self.inner;
        {
            let mut log = inner.log();
            inner.release(&mut log);
        }
        inner.pass_on().await;
        if let Some(ends) = inner.shared.ends()
            && let Ok(mut permits) = ends.pages.reserve_many(2).await
        {
            // In one go with the rest, so that no other task's lines come in between.
            let mut log = inner.log();
            if let (false, Some(permit)) = (log.buffer.is_empty(), permits.next()) {
                permit.send(log.take(inner.id));
            }
            if let Some(permit) = permits.next() {
                permit.send(Message::End { record: inner.id });
            }
        }
        inner.shared.feed.hurry();
    }

    /// Gives out what is held back for longer than `limit`: the beginning of a secret that does not go on.
    /// Returns whether something is still held.
    pub(super) async fn release_held(&self, limit: std::time::Duration) -> bool {
        let is_holding = {
            let mut log = self.inner.log();
            if log.held_since.is_some_and(|since| since.elapsed() >= limit) {
                self.inner.release(&mut log);
            }
            log.held_since.is_some()
        };
        self.inner.pass_on().await;
        is_holding
    }
}

impl Inner {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what the mask holds back.
    fn release(self: &Arc<Self>, log: &mut Log) {
        log.stream.finish(&mut log.masked);
        if !log.masked.is_empty() && !log.masked.ends_with('\n') {
            log.masked.push('\n');
        }
        self.emit(log);
    }

    /// Writes the complete lines of `log.masked`.
    fn emit(self: &Arc<Self>, log: &mut Log) {
        match (log.stream.is_holding(), log.held_since) {
            (true, None) => {
                log.held_since = Some(Instant::now());
                self.shared.watch(Arc::downgrade(self));
            }
            (false, Some(_)) => log.held_since = None,
            _ => {}
        }
        if log.masked.len() > LONGEST_LINE_BYTES && !log.masked.ends_with('\n') {
            log.masked.push('\n');
        }
        let Some(end) = memchr::memrchr(b'\n', log.masked.as_bytes()) else { return };
        let masked = std::mem::take(&mut log.masked);
        let text = &masked[..end];
        log.stamp.refresh();
        let mut job = self.job.as_ref().map(|job| job.log());
        if let Some(job) = &mut job {
            job.stamp.refresh();
        }
        let mut count = 0;
        for line in text.split('\n') {
            log.write(line);
            log.count(line);
            if let Some(job) = &mut job {
                job.write(line);
                job.lines += 1;
            }
            count += 1;
        }
        self.shared.feed.add(self.id, log.console_lines + 1, text.split('\n'));
        log.console_lines += count;
        // Keeps the allocation.
        let mut masked = masked;
        masked.drain(..=end);
        log.masked = masked;
    }

    /// Hands full buffers, its own, the job's and the console's, to the page writer; waits while that is
    /// busy.
    async fn pass_on(&self) {
        self.pass_on_own().await;
        if let Some(job) = &self.job {
            job.pass_on_own().await;
        }
        if self.shared.feed.has_chunk()
            && let Some(ends) = self.shared.ends()
            && let Ok(permit) = ends.pages.reserve().await
            && let Some(chunk) = self.shared.feed.take_chunk()
        {
            permit.send(Message::Console(chunk));
        }
    }

    async fn pass_on_own(&self) {
        if self.log().buffer.len() < BLOCK_BYTES {
            return;
        }
        let Some(ends) = self.shared.ends() else {
            // After the end: nobody takes the lines.
            let mut log = self.log();
            log.buffer.clear();
            log.buffer_lines = 0;
            return;
        };
        let Ok(permit) = ends.pages.reserve().await else { return };
        let mut log = self.log();
        // Another task may have been faster.
        if log.buffer.len() >= BLOCK_BYTES {
            permit.send(log.take(self.id));
        }
    }

    pub(super) fn upgrade(weak: &Weak<Inner>) -> Option<Record> {
        weak.upgrade().map(|inner| Record { inner })
    }
}

fn now() -> DateTime {
    jiff::Timestamp::now().into()
}

async fn check_readable(file: &Path) -> Result<(), Error> {
    match dayfly_client::open_file(file).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Read { path: file.to_owned(), source }),
    }
}
