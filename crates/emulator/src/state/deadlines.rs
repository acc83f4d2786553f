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

/// Deadlines in order. Entries are not taken out when they move: whoever looks at one that is due checks it against
/// what it is about and puts it back if it has moved.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Timestamp, Deadline)>>,
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

    fn due(&mut self, now: Timestamp) -> Option<Deadline> {
        self.next().filter(|next| *next <= now)?;
        self.heap.pop().map(|Reverse((_, deadline))| deadline)
    }
}

impl State {
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
