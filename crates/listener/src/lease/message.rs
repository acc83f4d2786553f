//! The message by which a job came, perhaps more than once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dayfly_protocol::MessageId;

/// Which message must be deleted before a worker may have the job.
#[derive(Debug)]
pub(crate) struct Delivered(Mutex<State>);

#[derive(Debug)]
struct State {
    newest: MessageId,
    is_deleted: bool,
}

impl Delivered {
    pub(crate) fn new(message: MessageId) -> Self {
        Self(Mutex::new(State { newest: message, is_deleted: false }))
    }

    /// The one that came last.
    pub(crate) fn newest(&self) -> MessageId {
        self.state().newest
    }

    /// A message is gone. False if the job has come by another one since.
    pub(crate) fn deleted(&self, message: MessageId) -> bool {
        let mut state = self.state();
        state.is_deleted |= state.newest == message;
        state.is_deleted
    }

    /// The job came again, as it does with a new session. Returns whether who sees it must delete the
    /// message; else the lease does.
    pub(crate) fn came_again(&self, message: MessageId) -> bool {
        let mut state = self.state();
        state.newest = message;
        state.is_deleted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_last_deletes_the_newest() {
        let delivered = Delivered::new(MessageId(1));
        assert!(!delivered.came_again(MessageId(2)), "the lease is at it");
        assert!(!delivered.deleted(MessageId(1)), "there is a newer one");
        assert_eq!(delivered.newest(), MessageId(2));
        assert!(delivered.deleted(MessageId(2)));
        assert!(delivered.came_again(MessageId(3)), "the lease has done with it");
    }
}
