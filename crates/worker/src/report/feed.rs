//! The console feed: what people see live.
//!
//! Lines are sent in order, in batches of at most 100 of one record, cut at 1024 characters. The first line goes at once, the
//! next follow every 500 ms for 30 rounds and then every second, or as the service asks (`JobServerQueue.cs`). At the end of a
//! record all of its lines go without waiting.
//!
//! The log is what must be complete; the feed is for watching. So a step never waits for it: if the service takes lines more
//! slowly than the step writes them, at most some MiB wait here, and past that the oldest are skipped. A line in
//! their place says how many. The official agent drops lines whenever a call fails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dayfly_protocol::RecordId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::losses::{Loss, Losses};
use super::patience::Patience;
use super::service::Service;

/// The service cuts longer lines off anyway.
const LONGEST_LINE_CHARACTERS: usize = 1024;

/// Lines in one call.
const LARGEST_BATCH: usize = 100;

/// Lines in one round, unless a record has ended: leaves the service room to breathe.
const LINES_PER_ROUND: usize = 1000;

/// Rounds with the short interval, so that the beginning is quick to be seen.
const EARLY_ROUNDS: u32 = 30;
const EARLY_INTERVAL: Duration = Duration::from_millis(500);
const LATE_INTERVAL: Duration = Duration::from_secs(1);

/// What may wait to be sent: text and bookkeeping.
const LARGEST_BACKLOG_BYTES: usize = 8 * 1024 * 1024;
/// What a line takes beside its text.
const LINE_OVERHEAD_BYTES: usize = 64;

/// What is not sent yet.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    backlog_bytes: usize,
    /// So many of the oldest waiting lines are to be sent without a pause.
    urgent: usize,
    /// What the service asks for; none: early and late interval.
    interval: Option<Duration>,
    is_closed: bool,
}

struct Line {
    record: RecordId,
    /// Within its record, from 1.
    number: i64,
    text: Box<str>,
    /// Lines of the same record that were skipped before this one.
    skipped: u64,
}

impl Line {
    fn size(&self) -> usize {
        self.text.len() + LINE_OVERHEAD_BYTES
    }
}

impl State {
    fn push(&mut self, line: Line) {
        self.backlog_bytes += line.size();
        self.lines.push_back(line);
        while self.backlog_bytes > LARGEST_BACKLOG_BYTES {
            self.skip_oldest();
        }
    }

    fn skip_oldest(&mut self) {
        let Some(oldest) = self.lines.pop_front() else { return };
        self.backlog_bytes -= oldest.size();
        self.urgent = self.urgent.saturating_sub(1);
        // The count is told with the next line of the record; if there is none, nobody misses it in the middle of a text.
        if let Some(next) = self.lines.front_mut().filter(|next| next.record == oldest.record) {
            next.skipped += oldest.skipped + 1;
        }
    }

    /// The next lines of one record.
    fn take_batch(&mut self) -> Option<Batch> {
        let first = self.lines.front()?;
        let mut batch = Batch { record: first.record, start: first.number, lines: Vec::new() };
        if first.skipped > 0 {
            batch.lines.push(format!("... {} lines are skipped here; the log has them all", first.skipped));
            batch.start -= 1;
        }
        while batch.lines.len() < LARGEST_BATCH {
            let expected = batch.start + i64::try_from(batch.lines.len()).unwrap_or(i64::MAX);
            let Some(line) =
                self.lines.pop_front_if(|line| line.record == batch.record && line.number == expected)
            else {
                break;
            };
            self.backlog_bytes -= line.size();
            self.urgent = self.urgent.saturating_sub(1);
            batch.lines.push(line.text.into_string());
        }
        Some(batch)
    }
}

struct Batch {
    record: RecordId,
    start: i64,
    lines: Vec<String>,
}

impl Queue {
    pub(super) fn new(interval: Option<Duration>) -> Queue {
        Queue { state: Mutex::new(State { interval, ..State::default() }), changed: Notify::new() }
    }

    /// Adds masked lines of a record; `start` is the number of the first. Never waits.
    pub(super) fn add<'a>(&self, record: RecordId, start: i64, lines: impl Iterator<Item = &'a str>) {
        {
            let mut state = self.lock();
            for (number, line) in (start..).zip(lines) {
                state.push(Line { record, number, text: cut(line), skipped: 0 });
            }
        }
        self.changed.notify_one();
    }

    /// What waits now is to be sent without pauses.
    pub(super) fn hurry(&self) {
        {
            let mut state = self.lock();
            state.urgent = state.lines.len();
        }
        self.changed.notify_one();
    }

    /// Sets the pause between two rounds, and begins one.
    pub(super) fn set_interval(&self, interval: Duration) {
        {
            let mut state = self.lock();
            state.interval = Some(interval);
            state.urgent = state.urgent.max(state.lines.len().min(1));
        }
        self.changed.notify_one();
    }

    /// No line comes any more: the sender ends when all is sent.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines. False if there are none and never will be.
    async fn wait(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if !state.lines.is_empty() || state.is_closed {
                    return !state.lines.is_empty();
                }
            }
            self.changed.notified().await;
        }
    }

    async fn wait_until_urgent(&self) {
        while !self.is_urgent() {
            self.changed.notified().await;
        }
    }

    fn is_urgent(&self) -> bool {
        let state = self.lock();
        state.urgent > 0 || state.is_closed
    }
}

/// `line`, cut where the service would cut it.
fn cut(line: &str) -> Box<str> {
    if line.len() <= LONGEST_LINE_CHARACTERS {
        return line.into();
    }
    match line.char_indices().nth(LONGEST_LINE_CHARACTERS) {
        Some((end, _)) => format!("{}...", &line[..end]).into(),
        None => line.into(),
    }
}

/// Sends the lines of `queue` until it is closed and empty, or patience ends.
pub(super) async fn send(queue: Arc<Queue>, service: Arc<Service>, losses: Arc<Losses>, patience: Patience) {
    let mut round = 0u32;
    let mut next = Instant::now();
    while queue.wait().await {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = queue.wait_until_urgent() => {}
        }
        let mut sent = 0;
        while sent < LINES_PER_ROUND || queue.is_urgent() {
            let Some(batch) = queue.lock().take_batch() else { break };
            sent += batch.lines.len();
            let result = patience.retry(|| service.post_lines(batch.record, batch.start, &batch.lines)).await;
            if let Err(error) = result {
                losses.add(Loss::Console, "console lines (the log has them)", &error);
            }
            if patience.is_over() {
                return;
            }
        }
        round = round.saturating_add(1);
        let usual = if round < EARLY_ROUNDS { EARLY_INTERVAL } else { LATE_INTERVAL };
        next = Instant::now() + queue.lock().interval.unwrap_or(usual);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn record(number: u128) -> RecordId {
        RecordId(Uuid::from_u128(number))
    }

    #[test]
    fn a_batch_holds_consecutive_lines_of_one_record() {
        let queue = Queue::new(None);
        queue.add(record(1), 1, ["a", "b"].into_iter());
        queue.add(record(2), 1, ["c"].into_iter());
        queue.add(record(1), 3, ["d"].into_iter());
        let mut state = queue.lock();
        let mut batches = Vec::new();
        while let Some(batch) = state.take_batch() {
            batches.push((batch.record, batch.start, batch.lines.concat()));
        }
        assert_eq!(
            batches,
            [(record(1), 1, "ab".to_owned()), (record(2), 1, "c".to_owned()), (record(1), 3, "d".to_owned())]
        );
        assert_eq!(state.backlog_bytes, 0);
    }

    #[test]
    fn a_batch_has_at_most_a_hundred_lines() {
        let queue = Queue::new(None);
        queue.add(record(1), 1, std::iter::repeat_n("x", 250));
        let mut state = queue.lock();
        assert_eq!(state.take_batch().map(|batch| batch.lines.len()), Some(100));
        assert_eq!(state.take_batch().map(|batch| (batch.start, batch.lines.len())), Some((101, 100)));
        assert_eq!(state.take_batch().map(|batch| batch.lines.len()), Some(50));
    }

    #[test]
    fn long_lines_are_cut_at_characters() {
        assert_eq!(&*cut(&"é".repeat(1024)), "é".repeat(1024));
        assert_eq!(&*cut(&"é".repeat(1025)), format!("{}...", "é".repeat(1024)));
    }

    #[test]
    fn a_backlog_is_bounded_and_what_is_skipped_is_counted() {
        let queue = Queue::new(None);
        let line = "x".repeat(1000);
        queue.add(record(1), 1, std::iter::repeat_n(line.as_str(), 20_000));
        let mut state = queue.lock();
        assert!(state.backlog_bytes <= LARGEST_BACKLOG_BYTES);
        let kept = state.lines.len();
        let batch = state.take_batch().unwrap();
        assert_eq!(
            batch.lines[0],
            format!("... {} lines are skipped here; the log has them all", 20_000 - kept)
        );
        assert_eq!(batch.lines.len(), 100);
        assert_eq!(batch.start, i64::try_from(20_000 - kept).unwrap());
    }
}
