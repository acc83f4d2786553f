//! The timeline queue: changes of records, merged by record, sent in order at most every half second.
//!
//! Its memory is bounded by the number of records, since a second change of a record merges into the first
//! (`JobServerQueue.cs` `MergeTimelineRecords`). What could not be sent is merged back under newer changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dayfly_protocol::timeline::TimelineRecord;
use dayfly_protocol::{RecordId, TimelineId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::losses::{Loss, Losses};
use super::patience::Patience;
use super::service::Service;

/// Between two updates (`JobServerQueue.cs`). The first change after a pause is sent at once.
const INTERVAL: Duration = Duration::from_millis(500);

/// Records in one update.
const LARGEST_BATCH: usize = 25;

/// What is not sent yet.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// In the order of each record's first change.
    order: Vec<(TimelineId, RecordId)>,
    changes: HashMap<(TimelineId, RecordId), TimelineRecord>,
    /// Timelines of details which the service may not know yet.
    new_timelines: Vec<TimelineId>,
    is_closed: bool,
}

impl State {
    fn add(&mut self, timeline: TimelineId, change: TimelineRecord) {
        let key = (timeline, change.id);
        match self.changes.get_mut(&key) {
            Some(earlier) => earlier.merge(change),
            None => {
                self.order.push(key);
                self.changes.insert(key, change);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty() && self.new_timelines.is_empty()
    }

    /// The next changes, all of one timeline.
    fn take_batch(&mut self) -> Option<(TimelineId, Vec<TimelineRecord>)> {
        let (timeline, _) = *self.order.first()?;
        let mut batch = Vec::new();
        let mut rest = Vec::new();
        for key in self.order.drain(..) {
            if key.0 == timeline && batch.len() < LARGEST_BATCH {
                batch.extend(self.changes.remove(&key));
            } else {
                rest.push(key);
            }
        }
        self.order = rest;
        Some((timeline, batch))
    }

    /// Puts changes back which could not be sent: before all others, and older than what came since.
    fn put_back(&mut self, timeline: TimelineId, batch: Vec<TimelineRecord>) {
        let later = std::mem::take(&mut self.order);
        for mut change in batch {
            let key = (timeline, change.id);
            if let Some(newer) = self.changes.remove(&key) {
                change.merge(newer);
            }
            self.order.push(key);
            self.changes.insert(key, change);
        }
        for key in later {
            if !self.order.contains(&key) {
                self.order.push(key);
            }
        }
    }
}

impl Queue {
    /// Adds a change. Never waits.
    pub(super) fn add(&self, timeline: TimelineId, change: TimelineRecord) {
        self.with(|state| state.add(timeline, change));
    }

    /// Adds a timeline of details, to be created before its records.
    pub(super) fn add_timeline(&self, timeline: TimelineId) {
        self.with(|state| state.new_timelines.push(timeline));
    }

    /// No change comes any more: the sender ends when all is sent.
    pub(super) fn close(&self) {
        self.with(|state| state.is_closed = true);
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        result
    }

    fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for something to send. False if there is nothing and never will be.
    async fn wait(&self) -> bool {
        loop {
            let (is_empty, is_closed) = self.look(|state| (state.is_empty(), state.is_closed));
            if !is_empty || is_closed {
                return !is_empty;
            }
            self.changed.notified().await;
        }
    }

    async fn wait_until_closed(&self) {
        while !self.look(|state| state.is_closed) {
            self.changed.notified().await;
        }
    }
}

/// Sends what is in `queue` until it is closed and empty, or patience ends.
pub(super) async fn send(queue: Arc<Queue>, service: Arc<Service>, losses: Arc<Losses>, patience: Patience) {
    let mut last = None::<Instant>;
    while queue.wait().await {
        if let Some(last) = last {
            tokio::select! {
                () = tokio::time::sleep_until(last + INTERVAL) => {}
                () = queue.wait_until_closed() => {}
            }
        }
        // What is there now; changes that come while it is sent are for the next round.
        let mut rounds = queue.look(|state| state.order.len().div_ceil(LARGEST_BATCH) + 1);
        while rounds > 0 && send_batch(&queue, &service, &losses, &patience).await {
            rounds -= 1;
        }
        last = Some(Instant::now());
    }
}

/// Sends one batch; false if there was none.
async fn send_batch(queue: &Queue, service: &Service, losses: &Losses, patience: &Patience) -> bool {
    for timeline in queue.look(|state| std::mem::take(&mut state.new_timelines)) {
        if let Err(error) = patience.retry(|| service.create_timeline(timeline)).await {
            losses.add(Loss::Timeline, "a timeline of details", &error);
        }
    }
    let Some((timeline, batch)) = queue.look(State::take_batch) else { return false };
    let Err(error) = patience.attempt(service.update_records(timeline, &batch)).await else {
        patience.succeeded();
        return true;
    };
    if error.is_passing() && !patience.is_over() {
        queue.look(|state| state.put_back(timeline, batch));
        patience.pause(&error).await;
        return true;
    }
    if batch.len() > 1 && !patience.is_over() {
        // One record that the service refuses must not take the others with it.
        for change in batch {
            let result =
                patience.retry(|| service.update_records(timeline, std::slice::from_ref(&change))).await;
            if let Err(error) = result {
                losses.add_record(&change, &error);
            }
        }
    } else {
        for change in &batch {
            losses.add_record(change, &error);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::timeline::{TimelineRecordState, VariableValue};
    use uuid::Uuid;

    use super::*;

    fn record(number: u128) -> TimelineRecord {
        TimelineRecord { id: RecordId(Uuid::from_u128(number)), ..TimelineRecord::default() }
    }

    fn named(number: u128, name: &str) -> TimelineRecord {
        TimelineRecord { name: Some(name.to_owned()), ..record(number) }
    }

    #[test]
    fn changes_of_a_record_merge_and_keep_what_they_do_not_name() {
        let mut state = State::default();
        let timeline = TimelineId::default();
        let variable = |name: &str| [(name.to_owned(), VariableValue::public(name))].into();
        state.add(timeline, TimelineRecord { variables: variable("a"), ..named(1, "one") });
        state.add(timeline, named(2, "two"));
        state.add(
            timeline,
            TimelineRecord {
                state: Some(TimelineRecordState::Completed),
                variables: variable("b"),
                ..record(1)
            },
        );
        let (_, batch) = state.take_batch().unwrap();
        assert_eq!(batch.len(), 2);
        assert_eq!(batch[0].name.as_deref(), Some("one"));
        assert_eq!(batch[0].state, Some(TimelineRecordState::Completed));
        assert_eq!(batch[0].variables.len(), 2);
        assert!(state.is_empty());
    }

    #[test]
    fn what_is_put_back_is_older_than_what_came_since() {
        let mut state = State::default();
        let timeline = TimelineId::default();
        state.add(timeline, TimelineRecord { order: Some(1), ..named(1, "old") });
        let (_, batch) = state.take_batch().unwrap();
        state.add(timeline, named(2, "other"));
        state.add(timeline, named(1, "new"));
        state.put_back(timeline, batch);
        let (_, batch) = state.take_batch().unwrap();
        assert_eq!(batch[0].name.as_deref(), Some("new"));
        assert_eq!(batch[0].order, Some(1));
        assert_eq!(batch[1].name.as_deref(), Some("other"));
    }

    #[test]
    fn a_batch_is_of_one_timeline_and_bounded() {
        let mut state = State::default();
        let [first, second] = [TimelineId(Uuid::from_u128(1)), TimelineId(Uuid::from_u128(2))];
        for number in 0..40 {
            state.add(if number == 1 { second } else { first }, record(number));
        }
        assert_eq!(state.take_batch().map(|(timeline, batch)| (timeline, batch.len())), Some((first, 25)));
        assert_eq!(state.take_batch().map(|(timeline, batch)| (timeline, batch.len())), Some((second, 1)));
        assert_eq!(state.take_batch().map(|(timeline, batch)| (timeline, batch.len())), Some((first, 14)));
        assert!(state.take_batch().is_none());
    }
}
