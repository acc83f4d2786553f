//! What ends by itself, and when: one heap for all, looked at by one task.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use dayfly_protocol::{RequestId, SessionId};
use jiff::Timestamp;
use tokio::sync::Notify;

use super::State;

/// Something with an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// A session without polls.
    Session(SessionId),
    /// The lock on a request.
    Lock(RequestId),
    /// The time a job may run.
    Timeout(RequestId),
    /// The time a cancelled job may take to end.
    Cancel(RequestId),
}

/// Deadlines in order. Entries are not taken out when they move: whoever looks at one that is due checks it
/// against what it is about and puts it back if it has moved.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Timestamp, Deadline)>>,
    /// How many entries, at least, are about something that is over.
    stale: usize,
    earlier: Arc<Notify>,
}

impl Deadlines {
    pub(crate) fn set(&mut self, at: Timestamp, deadline: Deadline) {
        if self.next().is_none_or(|next| at < next) {
            self.earlier.notify_one();
        }
        self.heap.push(Reverse((at, deadline)));
    }

    /// The earliest one.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Notified when there is an earlier one than before.
    pub(crate) fn earlier(&self) -> Arc<Notify> {
        Arc::clone(&self.earlier)
    }

    /// How many entries there are, useless ones among them.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Notes that an entry has become useless; true when it is worth sweeping them out.
    fn note_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale >= STALE_MIN && self.stale * 2 > self.heap.len()
    }

    fn due(&mut self, now: Timestamp) -> Option<Deadline> {
        self.next().filter(|next| *next <= now)?;
        self.heap.pop().map(|Reverse((_, deadline))| deadline)
    }
}

/// Fewer useless entries are left until they come due.
const STALE_MIN: usize = 1_024;

impl State {
    /// To be called when something with a deadline is over, so that the entries do not pile up until they
    /// come due.
    pub(crate) fn forget_deadline(&mut self) {
        if self.deadlines.note_stale() {
            let Self { deadlines, sessions, requests, .. } = self;
            deadlines.stale = 0;
            deadlines.heap.retain(|Reverse((_, deadline))| match deadline {
                Deadline::Session(session) => sessions.is_open(*session),
                Deadline::Lock(request) | Deadline::Timeout(request) | Deadline::Cancel(request) => {
                    requests.get(*request).is_some_and(|request| request.result.is_none())
                }
            });
        }
    }

    /// Ends everything whose time has come.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while let Some(deadline) = self.deadlines.due(now) {
            match deadline {
                Deadline::Session(session) => self.expire_session(session, now),
                Deadline::Lock(request) => self.expire_lock(request, now),
                Deadline::Timeout(request) => self.time_out(request, now),
                Deadline::Cancel(request) => self.end_cancelled(request, now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::after;

    #[test]
    fn deadlines_come_due_in_order() {
        let at = |seconds| after(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds));
        let mut deadlines = Deadlines::default();
        for seconds in [3, 1, 2] {
            deadlines.set(at(seconds), Deadline::Lock(RequestId(seconds as i64)));
        }
        assert_eq!(deadlines.next(), Some(at(1)));
        assert_eq!(deadlines.due(at(0)), None);
        let due: Vec<_> = std::iter::from_fn(|| deadlines.due(at(2))).collect();
        assert_eq!(due, [Deadline::Lock(RequestId(1)), Deadline::Lock(RequestId(2))]);
    }
}
