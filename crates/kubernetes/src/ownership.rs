//! Which controller may act for an agent set.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio_util::sync::CancellationToken;

/// Whether an agent set is still ours. Falls once, for good.
///
/// Who was stopped for a while (SIGSTOP, a slow machine) finds it fallen when it wakes up, before any timer has
/// had a chance to run: the moment until which it holds is compared with the monotonic clock.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    lost: CancellationToken,
    /// Until when it holds; without end if there is none.
    until: Arc<Mutex<Option<Instant>>>,
}

impl Fence {
    /// One that holds until it is told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the set is ours at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() >= until) {
            self.lose();
        }
        !self.lost.is_cancelled()
    }

    /// Ends when the set is ours no more.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Lets it fall.
    pub fn lose(&self) {
        self.lost.cancel();
    }
}
