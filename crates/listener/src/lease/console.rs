//! What people read of a job before it has a worker: a record "Prepare worker" below the job, with console
//! lines, a log and issues.
//!
//! It is there only if there is something to say. Its id comes from the job's, its log is written down in the
//! job's record, and the log knows how many lines were said: so a successor of this listener goes on with the
//! same record, and says no line twice.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use dayfly_client::{describe, pause_around};
use dayfly_protocol::{
    DateTime, JobId, LogId, RecordId, RequestId, TaskResult,
    logs::{FeedLines, TaskLogReference},
    timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState},
};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    failures::CallFailure,
    notes::Note,
    service::JobService,
    store::{Change, JobStore},
};

/// What people see.
const NAME: &str = "Prepare worker";

/// The record stands in front of those of the worker, which begin with 1.
const ORDER: i32 = 0;

/// How much a lease says of one job before its worker is there.
const MOST_BYTES: usize = 64 * 1024;

/// How many issues a record may carry (the official worker's bound).
const MOST_ISSUES: usize = 10;

/// Mean pause after it could not be said.
const PAUSE: Duration = Duration::from_millis(500);

/// How often saying something may fail in a row until nothing more is said.
const TRIES: u32 = 5;

/// Who says something of a job's worker, and whether it is at it.
#[derive(Debug, Default)]
pub(super) enum Console {
    /// Nobody, since nothing was to be said so far.
    #[default]
    Silent,
    /// It can be told something.
    Idle(Box<Writer>),
    /// It is saying something just now.
    Busy,
}

/// The notes of one job, each once.
#[derive(Debug, Default)]
pub(super) struct Notes {
    said: HashSet<(&'static str, String)>,
    bytes: usize,
    waiting: Vec<String>,
    issues: Vec<Issue>,
    has_new_issue: bool,
}

impl Notes {
    /// Takes a note in. One that was said before, word for word, is not said again.
    pub(super) fn add(&mut self, note: &Note, now: Timestamp) {
        if self.bytes > MOST_BYTES || !self.said.insert((note.word, note.text.clone())) {
            return;
        }
        self.bytes += note.text.len() + note.advice.as_ref().map_or(0, String::len);
        if self.bytes > MOST_BYTES {
            return self.waiting.push(line(now, "Further notes are left out, because there are too many."));
        }
        let mark = if note.is_problem { "##[warning]" } else { "" };
        self.waiting.extend(note.text.lines().map(|text| line(now, &format!("{mark}{text}"))));
        self.waiting.extend(note.advice.iter().flat_map(|advice| advice.lines()).map(|text| line(now, text)));
        if note.is_problem && self.issues.len() < MOST_ISSUES {
            self.has_new_issue = true;
            self.issues.push(Issue {
                issue_type: IssueType::Warning,
                category: Some("General".to_owned()),
                message: note
                    .advice
                    .iter()
                    .fold(note.text.clone(), |text, advice| format!("{text} {advice}")),
                data: Default::default(),
            });
        }
    }

    /// Whether anything was ever said.
    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    fn take(&mut self) -> Words {
        Words {
            lines: std::mem::take(&mut self.waiting),
            issues: std::mem::take(&mut self.has_new_issue).then(|| self.issues.clone()),
            result: None,
        }
    }
}

/// A line of the log, with its moment as the worker's lines have it.
fn line(now: Timestamp, text: &str) -> String {
    format!("{} {text}", now.strftime("%Y-%m-%dT%H:%M:%S%.7fZ"))
}

/// What is to be said at a time.
#[derive(Debug, Default)]
pub(super) struct Words {
    lines: Vec<String>,
    issues: Option<Vec<Issue>>,
    /// How preparing the worker ended, once it has.
    result: Option<TaskResult>,
}

/// Says words to the service, a batch at a time.
#[derive(Debug)]
pub(super) struct Writer {
    job: JobService,
    store: Arc<dyn JobStore>,
    request: RequestId,
    record: RecordId,
    parent: RecordId,
    log: Option<LogId>,
    /// How many lines the log had when that was last known.
    lines: Option<i64>,
    /// Lines may have arrived of which we do not know.
    is_unsure: bool,
    unsaid: Words,
    failures: u32,
    is_begun: bool,
    is_over: bool,
    /// Bound of one call.
    call: Duration,
}

impl Writer {
    pub(super) fn new(
        job: JobService,
        store: Arc<dyn JobStore>,
        (request, id): (RequestId, JobId),
        log: Option<LogId>,
        call: Duration,
    ) -> Self {
        Self {
            job,
            store,
            request,
            record: RecordId(Uuid::new_v5(&id.0, NAME.as_bytes())),
            parent: id.into(),
            log,
            lines: log.is_none().then_some(0),
            is_unsure: false,
            unsaid: Words::default(),
            failures: 0,
            is_begun: log.is_some(),
            is_over: false,
            call,
        }
    }

    /// Whether there is something to say, and sense in trying; `result` says how preparing the worker ended.
    pub(super) fn has_words(&self, notes: &Notes, result: Option<TaskResult>) -> bool {
        let has_lines = !(notes.waiting.is_empty() && self.unsaid.lines.is_empty());
        let has_end = result.is_some() && self.is_begun;
        !self.is_over && self.failures < TRIES && (has_lines || has_end)
    }

    /// Takes over what is to be said; `result` ends the record, if there is one.
    pub(super) fn take(&mut self, notes: &mut Notes, result: Option<TaskResult>) {
        let words = notes.take();
        self.unsaid.lines.extend(words.lines);
        self.unsaid.issues = words.issues.or(self.unsaid.issues.take());
        self.unsaid.result = result.filter(|_| self.is_begun || !notes.is_empty());
    }

    /// Says what was taken over. What cannot be said is kept for the next time.
    pub(super) async fn write(mut self) -> Self {
        if self.is_over
            || (self.unsaid.lines.is_empty() && self.unsaid.issues.is_none() && self.unsaid.result.is_none())
        {
            return self;
        }
        let failure = match timeout(self.call, self.try_to_write()).await {
            Ok(Ok(())) => {
                self.failures = 0;
                return self;
            }
            Ok(Err(error)) => error,
            Err(_) => CallFailure::Late,
        };
        self.failed(&failure);
        sleep(pause_around(PAUSE)).await;
        self
    }

    fn failed(&mut self, failure: &CallFailure) {
        self.failures += 1;
        self.is_unsure = true;
        tracing::info!(
            request = %self.request,
            error = describe(failure),
            "could not tell a job's log how its worker is prepared"
        );
    }

    async fn try_to_write(&mut self) -> Result<(), CallFailure> {
        let log = self.begin().await?;
        let start = self.said_lines(log).await?;
        if !self.unsaid.lines.is_empty() {
            let text = self.unsaid.lines.iter().fold(String::new(), |text, line| text + line + "\n");
            self.job.append_log(log, Bytes::from(text)).await?;
            let lines = std::mem::take(&mut self.unsaid.lines);
            self.lines = Some(start + i64::try_from(lines.len()).unwrap_or(i64::MAX));
            // The log has them; who watches may miss some.
            let value: Vec<String> = lines.into_iter().map(|line| without_moment(&line).to_owned()).collect();
            let feed =
                FeedLines { count: value.len(), value, step_id: self.record, start_line: Some(start + 1) };
            if let Err(error) = self.job.post_lines(&feed).await {
                tracing::debug!(
                    request = %self.request, error = describe(&error),
                    "could not show console lines"
                );
            }
        }
        self.update().await
    }

    /// Makes the record and its log, unless they are there.
    async fn begin(&mut self) -> Result<LogId, CallFailure> {
        if let Some(log) = self.log.filter(|_| self.is_begun) {
            return Ok(log);
        }
        let log = match self.log {
            Some(log) => log,
            None => {
                let log = self.job.create_log(&format!(r"logs\{}", self.record)).await;
                let log = log?;
                // So that a successor goes on with it.
                self.store.change(self.request, Change::Log(log)).await?;
                self.log = Some(log);
                log
            }
        };
        let record = TimelineRecord {
            parent_id: Some(self.parent),
            record_type: Some("Task".to_owned()),
            name: Some(NAME.to_owned()),
            order: Some(ORDER),
            start_time: Some(DateTime::from(Timestamp::now())),
            state: Some(TimelineRecordState::InProgress),
            log: Some(TaskLogReference { id: log, location: None }),
            ..self.patch()
        };
        self.job.update_record(record).await?;
        self.is_begun = true;
        Ok(log)
    }

    /// How many lines the log has. If those that are to be said have arrived already, they are not said
    /// again.
    async fn said_lines(&mut self, log: LogId) -> Result<i64, CallFailure> {
        if let Some(lines) = self.lines.filter(|_| !self.is_unsure) {
            return Ok(lines);
        }
        let lines = self.job.log_lines(log).await?;
        if self.lines.is_some_and(|before| lines > before) {
            self.unsaid.lines.clear();
        }
        (self.lines, self.is_unsure) = (Some(lines), false);
        Ok(lines)
    }

    async fn update(&mut self) -> Result<(), CallFailure> {
        let (issues, result) = (self.unsaid.issues.take(), self.unsaid.result);
        if issues.is_none() && result.is_none() {
            return Ok(());
        }
        let mut record = self.patch();
        if let Some(issues) = &issues {
            record.warning_count = i32::try_from(issues.len()).ok();
            record.issues.clone_from(issues);
        }
        if let Some(result) = result {
            record.state = Some(TimelineRecordState::Completed);
            record.result = Some(result);
            record.finish_time = Some(DateTime::from(Timestamp::now()));
        }
        let updated = self.job.update_record(record).await;
        match updated {
            Ok(()) => self.is_over = result.is_some(),
            Err(_) => self.unsaid.issues = issues,
        }
        Ok(updated?)
    }

    fn patch(&self) -> TimelineRecord {
        TimelineRecord { id: self.record, ..TimelineRecord::default() }
    }
}

fn without_moment(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(word: &'static str, text: &str, is_problem: bool) -> Note {
        Note { word, text: text.to_owned(), advice: None, is_problem }
    }

    fn texts(words: &Words) -> Vec<&str> {
        words.lines.iter().map(|line| without_moment(line)).collect()
    }

    #[test]
    fn equal_notes_are_said_once_and_problems_become_issues() {
        let (mut notes, now) = (Notes::default(), Timestamp::UNIX_EPOCH);
        assert!(notes.is_empty());
        for _ in 0..100 {
            notes.add(&note("scheduling", "it waits for a machine", false), now);
            let advice = Some("make it smaller".to_owned());
            notes.add(&Note { advice, ..note("image-pull", "no such image", true) }, now);
        }
        let words = notes.take();
        assert_eq!(texts(&words), ["it waits for a machine", "##[warning]no such image", "make it smaller"]);
        assert!(words.lines[0].starts_with("1970-01-01T00:00:00.0000000Z "), "{:?}", words.lines);
        let issues = words.issues.expect("a problem");
        assert_eq!(issues.len(), 1);
        assert_eq!(issues[0].message, "no such image make it smaller");
        assert!(notes.take().lines.is_empty() && !notes.is_empty());
    }

    #[test]
    fn what_is_said_is_bounded() {
        let (mut notes, now) = (Notes::default(), Timestamp::UNIX_EPOCH);
        for number in 0..10_000 {
            notes.add(&note("scheduling", &format!("{number} {}", "x".repeat(100)), true), now);
        }
        let words = notes.take();
        let bytes: usize = words.lines.iter().map(String::len).sum();
        assert!(bytes < 2 * MOST_BYTES, "{bytes} bytes");
        assert_eq!(words.issues.as_ref().expect("problems").len(), MOST_ISSUES);
        assert_eq!(texts(&words).last(), Some(&"Further notes are left out, because there are too many."));
    }
}
