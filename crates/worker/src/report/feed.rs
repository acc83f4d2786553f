//! The console feed: what people see live.
//!
//! Lines are sent in order, in batches of one record, cut at 1024 characters. The first line goes at once,
//! the next follow every 500 ms for 30 rounds and then every second, or as the service asks
//! (`JobServerQueue.cs`). A round sends all that waits. At the end of a record its lines go without waiting.
//!
//! At the end of the job, lines that the service does not take are given up soon if it takes other reports;
//! the log has them.
//!
//! Nothing is skipped and no step waits for the network: of the lines that wait, the oldest are in memory
//! (some MiB) and the others on disk, in chunks which the page writer writes. (The official agent keeps all
//! in memory, sends no more than the last 200 lines of a step at its end, and drops lines whenever a call
//! fails.)

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dayfly_protocol::RecordId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chunk::{self, Line};
use super::losses::{Loss, Losses};
use super::pages::Content;
use super::patience::{Patience, Witness};
use super::service::{Error, Service};

/// The service cuts longer lines off anyway.
const LONGEST_LINE_CHARACTERS: usize = 1024;

/// Lines in one call of the official agent.
const USUAL_BATCH: usize = 100;

/// Lines and bytes in one call when many wait, until the service refuses that.
const LARGEST_BATCH: usize = 500;
const LARGEST_BATCH_BYTES: usize = 128 * 1024;

/// Rounds with the short interval, so that the beginning is quick to be seen.
const EARLY_ROUNDS: u32 = 30;
const EARLY_INTERVAL: Duration = Duration::from_millis(500);
const LATE_INTERVAL: Duration = Duration::from_secs(1);

/// What may wait in memory: text and bookkeeping. What comes then goes to disk.
const MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// What a line takes beside its text.
const LINE_OVERHEAD_BYTES: usize = 64;
/// The size of a chunk on disk.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What is not sent yet.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

/// From old to new: `lines`, `chunks`, the chunks on their way to the disk, `spill`.
#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    memory_bytes: usize,
    chunks: VecDeque<Chunk>,
    /// How many lines they have.
    chunks_on_their_way: VecDeque<u64>,
    spill: Vec<u8>,
    spilled_lines: u64,
    /// All lines that wait, wherever they are.
    waiting: u64,
    /// So many of the oldest lines are to be sent without a pause.
    urgent: u64,
    /// What the service asks for; none: early and late interval.
    interval: Option<Duration>,
    /// A call was begun since the last that came through.
    is_unanswered: bool,
    /// When another report came through since then, after which none was begun: the service is there, only
    /// the feed is not. (A report under way says nothing: the service may have gone away meanwhile.)
    others_since: Option<Instant>,
    is_closed: bool,
    /// Nobody sends any more.
    is_over: bool,
}

struct Chunk {
    content: Content,
    lines: u64,
}

impl State {
    fn is_spilling(&self) -> bool {
        !self.chunks.is_empty() || !self.chunks_on_their_way.is_empty() || !self.spill.is_empty()
    }

    fn push(&mut self, record: RecordId, number: i64, text: &str) {
        self.waiting += 1;
        if self.is_spilling() || self.memory_bytes > MEMORY_BYTES {
            chunk::write(&mut self.spill, record, number, &cut(text));
            self.spilled_lines += 1;
        } else {
            self.load(Line { record, number, text: cut(text) });
        }
    }

    fn load(&mut self, line: Line) {
        self.memory_bytes += line.text.len() + LINE_OVERHEAD_BYTES;
        self.lines.push_back(line);
    }

    /// Brings the next lines to memory if that needs no disk. Else gives the chunk to be read.
    fn next_chunk(&mut self) -> Option<Chunk> {
        if !self.lines.is_empty() {
            return None;
        }
        if let Some(chunk) = self.chunks.pop_front() {
            return Some(chunk);
        }
        if self.chunks_on_their_way.is_empty() {
            self.spilled_lines = 0;
            for line in chunk::read(&std::mem::take(&mut self.spill)) {
                self.load(line);
            }
        }
        None
    }

    /// The next lines of one record.
    fn take_batch(&mut self, most: usize) -> Option<Batch> {
        let first = self.lines.front()?;
        let mut batch = Batch { record: first.record, start: first.number, lines: Vec::new() };
        let mut bytes = 0;
        let mut next = first.number;
        while batch.lines.len() < most
            && (batch.lines.len() < USUAL_BATCH || bytes < LARGEST_BATCH_BYTES)
            && let Some(line) =
                self.lines.pop_front_if(|line| line.record == batch.record && line.number == next)
        {
            bytes += line.text.len();
            self.memory_bytes -= line.text.len() + LINE_OVERHEAD_BYTES;
            batch.lines.push(line.text.into_string());
            next += 1;
        }
        Some(batch)
    }

    /// Lines are being sent (false) or came through (true).
    fn note(&mut self, came_through: bool) {
        if came_through {
            self.others_since = None;
        }
        self.is_unanswered = !came_through;
    }

    fn count_sent(&mut self, lines: u64) {
        self.waiting -= lines;
        self.urgent = self.urgent.saturating_sub(lines);
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
            if state.is_over {
                return;
            }
            for (number, line) in (start..).zip(lines) {
                state.push(record, number, line);
            }
        }
        self.changed.notify_one();
    }

    /// Whether a chunk is to be written to disk.
    pub(super) fn has_chunk(&self) -> bool {
        self.lock().spill.len() >= CHUNK_BYTES
    }

    /// The chunk to be written; its content is to be given back by `add_chunk`, in the same order.
    pub(super) fn take_chunk(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if state.spill.len() < CHUNK_BYTES {
            return None;
        }
        let lines = std::mem::take(&mut state.spilled_lines);
        state.chunks_on_their_way.push_back(lines);
        Some(std::mem::take(&mut state.spill))
    }

    /// Takes a written chunk back.
    pub(super) fn add_chunk(&self, content: Content) {
        {
            let mut state = self.lock();
            let lines = state.chunks_on_their_way.pop_front().unwrap_or_default();
            if !state.is_over {
                state.chunks.push_back(Chunk { content, lines });
            }
        }
        self.changed.notify_one();
    }

    /// What waits now is to be sent without pauses.
    pub(super) fn hurry(&self) {
        {
            let mut state = self.lock();
            state.urgent = state.waiting;
        }
        self.changed.notify_one();
    }

    /// Sets the pause between two rounds, and begins one.
    pub(super) fn set_interval(&self, interval: Duration) {
        {
            let mut state = self.lock();
            state.interval = Some(interval);
            state.urgent = state.urgent.max(state.waiting.min(1));
        }
        self.changed.notify_one();
    }

    /// No line comes any more: the sender ends when all is sent.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the feed alone has failed for `patience` while other reports came through.
    pub(super) async fn is_hopeless(&self, patience: Duration) {
        const LOOK: Duration = Duration::from_millis(100);
        while self.lock().others_since.is_none_or(|since| since.elapsed() < patience) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for lines. False if there are none and never will be.
    async fn wait(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if state.waiting > 0 || state.is_closed {
                    return state.waiting > 0;
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

    /// The next lines, read from disk if they are there; waits for those on their way to it.
    async fn batch(&self, most: usize) -> Result<Option<Batch>, Error> {
        loop {
            let chunk = {
                let mut state = self.lock();
                let chunk = state.next_chunk();
                if chunk.is_none() {
                    match state.take_batch(most) {
                        Some(batch) => return Ok(Some(batch)),
                        None if state.waiting == 0 => return Ok(None),
                        None => {}
                    }
                }
                chunk
            };
            match chunk {
                Some(chunk) => self.load(chunk).await?,
                None => self.changed.notified().await,
            }
        }
    }

    async fn load(&self, chunk: Chunk) -> Result<(), Error> {
        let read = chunk.content.read().await;
        let mut state = self.lock();
        let before = state.lines.len();
        for line in read.iter().flat_map(|bytes| chunk::read(bytes)) {
            state.load(line);
        }
        // Lines that cannot be read any more do not wait.
        let loaded = (state.lines.len() - before) as u64;
        state.count_sent(chunk.lines.saturating_sub(loaded));
        read.map(|_| ())
    }

    /// Gives up; returns how many lines are not sent.
    fn end(&self) -> u64 {
        let mut state = self.lock();
        state.is_over = true;
        state.lines.clear();
        state.chunks.clear();
        state.spill = Vec::new();
        std::mem::take(&mut state.waiting)
    }
}

impl Witness for Queue {
    fn another_began(&self) {
        self.lock().others_since = None;
    }

    fn another_came_through(&self) {
        let mut state = self.lock();
        if state.is_unanswered {
            state.others_since = Some(Instant::now());
        }
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

/// When the rounds begin.
struct Pace {
    rounds: u32,
    next: Instant,
}

impl Pace {
    /// The first round begins at once.
    fn new() -> Pace {
        Pace { rounds: 0, next: Instant::now() }
    }

    /// Waits for the beginning of the next round.
    async fn turn(&mut self, queue: &Queue) {
        tokio::select! {
            () = tokio::time::sleep_until(self.next) => {}
            () = queue.wait_until_urgent() => {}
        }
        let usual = if self.rounds < EARLY_ROUNDS { EARLY_INTERVAL } else { LATE_INTERVAL };
        self.next = Instant::now() + queue.lock().interval.unwrap_or(usual);
        self.rounds = self.rounds.saturating_add(1);
    }
}

/// Sends the lines of a queue.
pub(super) struct Sender {
    pub(super) queue: Arc<Queue>,
    pub(super) service: Arc<Service>,
    pub(super) losses: Arc<Losses>,
    pub(super) patience: Patience,
}

impl Sender {
    /// Sends until the queue is closed and empty, or patience ends. Returns how many lines were not sent.
    pub(super) async fn run(self) -> u64 {
        let mut largest_batch = LARGEST_BATCH;
        let mut pace = Pace::new();
        while self.queue.wait().await && !self.patience.is_over() {
            pace.turn(&self.queue).await;
            self.round(&mut largest_batch).await;
        }
        self.queue.end()
    }

    /// Sends what waits now, and what is urgent.
    async fn round(&self, largest_batch: &mut usize) {
        let mut left = self.queue.lock().waiting;
        while (left > 0 || self.queue.is_urgent()) && !self.patience.is_over() {
            let most = if left > USUAL_BATCH as u64 { *largest_batch } else { USUAL_BATCH };
            let batch = tokio::select! {
                batch = self.queue.batch(most) => batch,
                () = self.patience.end() => return,
            };
            match batch {
                Ok(Some(batch)) => {
                    self.post(&batch, largest_batch).await;
                    let sent = batch.lines.len() as u64;
                    left = left.saturating_sub(sent);
                    if !self.patience.is_over() {
                        self.queue.lock().count_sent(sent);
                    }
                }
                Ok(None) => return,
                Err(error) => self.losses.add(Loss::Console, "console lines (the log has them)", &error),
            }
        }
    }

    async fn post(&self, batch: &Batch, largest_batch: &mut usize) {
        let mut start = batch.start;
        let mut lines = batch.lines.as_slice();
        while !lines.is_empty() {
            let count = lines.len().min(*largest_batch);
            self.queue.lock().note(false);
            let result =
                self.patience.retry(|| self.service.post_lines(batch.record, start, &lines[..count])).await;
            if result.is_ok() {
                self.queue.lock().note(true);
            }
            match result {
                Err(_) if count > USUAL_BATCH && !self.patience.is_over() => {
                    // The service may not take that many at once.
                    *largest_batch = USUAL_BATCH;
                    continue;
                }
                Err(error) if !self.patience.is_over() => {
                    self.losses.add(Loss::Console, "console lines (the log has them)", &error);
                }
                _ => {}
            }
            start += i64::try_from(count).unwrap_or(i64::MAX);
            lines = &lines[count..];
        }
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
        while let Some(batch) = state.take_batch(100) {
            batches.push((batch.record, batch.start, batch.lines.concat()));
        }
        assert_eq!(
            batches,
            [(record(1), 1, "ab".to_owned()), (record(2), 1, "c".to_owned()), (record(1), 3, "d".to_owned())]
        );
        assert_eq!(state.memory_bytes, 0);
    }

    #[test]
    fn a_batch_is_bounded_in_lines_and_bytes() {
        let queue = Queue::new(None);
        queue.add(record(1), 1, std::iter::repeat_n("x", 250));
        let long = "y".repeat(1000);
        queue.add(record(1), 251, std::iter::repeat_n(long.as_str(), 500));
        let mut state = queue.lock();
        assert_eq!(state.take_batch(100).map(|batch| batch.lines.len()), Some(100));
        assert_eq!(state.take_batch(150).map(|batch| (batch.start, batch.lines.len())), Some((101, 150)));
        assert_eq!(state.take_batch(500).map(|batch| batch.lines.len()), Some(132));
    }

    #[test]
    fn long_lines_are_cut_at_characters() {
        assert_eq!(&*cut(&"é".repeat(1024)), "é".repeat(1024));
        assert_eq!(&*cut(&"é".repeat(1025)), format!("{}...", "é".repeat(1024)));
    }

    /// Adds a line every 100 ms and takes all that wait in each round; answers when the rounds began, in ms.
    async fn rounds(queue: &Queue, count: usize) -> Vec<u128> {
        let begin = Instant::now();
        let written = async {
            for number in 1.. {
                queue.add(record(1), number, std::iter::once("line"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let taken = async {
            let mut pace = Pace::new();
            let mut rounds = Vec::new();
            while rounds.len() < count && queue.wait().await {
                pace.turn(queue).await;
                rounds.push(begin.elapsed().as_millis());
                while let Some(batch) = queue.batch(LARGEST_BATCH).await.unwrap() {
                    queue.lock().count_sent(batch.lines.len() as u64);
                }
            }
            rounds
        };
        tokio::select! {
            rounds = taken => rounds,
            () = written => Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_line_goes_at_once_then_every_half_second_then_every_second() {
        let rounds = rounds(&Queue::new(None), 40).await;
        assert_eq!(rounds[0], 0);
        let pauses: Vec<u128> = rounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Timers are good to a millisecond.
        let is = |pause: &u128, wanted: u128| (wanted..wanted + 2).contains(pause);
        assert!(pauses[..EARLY_ROUNDS as usize].iter().all(|pause| is(pause, 500)), "{pauses:?}");
        assert!(pauses[EARLY_ROUNDS as usize..].iter().all(|pause| is(pause, 1000)), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_sets_the_pace_and_the_end_of_a_record_does_not_wait_for_it() {
        let queue = Queue::new(Some(Duration::from_secs(10)));
        let (rounds, ()) = tokio::join!(rounds(&queue, 6), async {
            tokio::time::sleep(Duration::from_millis(12_050)).await;
            queue.hurry();
            tokio::time::sleep(Duration::from_secs(1)).await;
            queue.set_interval(Duration::from_secs(3));
        });
        // At once; after ten seconds; at the end of a record; with the new pace at once, and at that pace.
        let wanted = [0, 10_000, 12_050, 13_050, 16_050, 19_050];
        let is_near = |(round, wanted): (&u128, u128)| (wanted..wanted + 5).contains(round);
        assert!(rounds.iter().zip(wanted).all(is_near), "{rounds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_feed_is_hopeless_only_if_it_alone_fails() {
        const PATIENCE: Duration = Duration::from_secs(15);
        let queue = Queue::new(None);
        let soon = || async {
            let wait = PATIENCE + Duration::from_millis(200);
            tokio::time::timeout(wait, queue.is_hopeless(PATIENCE)).await.is_ok()
        };
        queue.lock().note(false);
        queue.another_began();
        queue.another_came_through();
        // The service goes away: the next report and the lines wait for it alike.
        queue.another_began();
        assert!(!soon().await);
        queue.another_came_through();
        assert!(soon().await);
        queue.lock().note(true);
        assert!(!soon().await);
    }

    #[tokio::test]
    async fn what_memory_does_not_take_goes_through_chunks_in_order() {
        let queue = Queue::new(None);
        let folder = tempfile::tempdir().unwrap();
        let text = "x".repeat(1000);
        let mut written = 0;
        let mut read = Vec::new();
        for number in 1..=20_000 {
            queue.add(record(1), number, std::iter::once(text.as_str()));
            if let Some(chunk) = queue.take_chunk() {
                written += 1;
                queue.add_chunk(Content::write(folder.path(), &chunk).unwrap());
            }
            {
                let state = queue.lock();
                assert!(state.memory_bytes < MEMORY_BYTES + 2048 && state.spill.len() < CHUNK_BYTES + 2048);
            }
            // Now and then the sender takes some, and begins on the chunks while they are still written.
            if number % 3 == 0 {
                let batch = queue.batch(1).await.unwrap().unwrap();
                queue.lock().count_sent(1);
                read.push(batch.start);
            }
        }
        assert!(written > 5, "{written}");
        while let Some(batch) = queue.batch(500).await.unwrap() {
            queue.lock().count_sent(batch.lines.len() as u64);
            read.extend((batch.start..).take(batch.lines.len()));
        }
        assert!(read == (1..=20_000).collect::<Vec<i64>>());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
