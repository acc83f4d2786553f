//! What is wanted of a job: the whole state, not changes of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::store::Cancelled;

/// What agent and service want of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The service cancels it.
    pub(crate) cancel: Option<Wanted>,
    /// How often console lines are wanted, in milliseconds.
    pub(crate) feed_interval_millis: Option<u64>,
    /// The agent is shutting down: everything must be over at this moment.
    pub(crate) stop_by: Option<Instant>,
    /// The service has given the agent another job, so this one is over.
    pub(crate) is_superseded: bool,
    /// Somebody else goes on with the job: let go of it.
    pub(crate) release: bool,
}

/// A cancellation that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// When.
    pub(crate) at: Timestamp,
    /// How long the job may take to end.
    pub(crate) timeout: Duration,
}

impl Wanted {
    /// It comes now.
    pub(crate) fn now(timeout: Duration) -> Self {
        Self { at: Timestamp::now(), timeout }
    }

    /// As it is written down.
    pub(crate) fn record(self) -> Cancelled {
        Cancelled { at: self.at, timeout_seconds: self.timeout.as_secs() }
    }
}

impl Wishes {
    /// What is written down of them.
    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.cancel.map(Wanted::record)
    }
}
