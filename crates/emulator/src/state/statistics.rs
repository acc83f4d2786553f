//! Numbers about all that is known.

use super::State;

/// Numbers about a running emulator, for tests and diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Statistics {
    /// Sessions open now.
    pub sessions: usize,
    /// Polls for messages that are held open now.
    pub open_polls: usize,
    /// Job requests without a result.
    pub unfinished_requests: usize,
    /// Job requests that are with agents.
    pub assigned_requests: usize,
    /// Plans that are remembered.
    pub plans: usize,
    /// Results that came after a job's first one and were refused.
    pub refused_completions: u64,
}

impl State {
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            sessions: self.sessions.len(),
            open_polls: self.sessions.open_polls(),
            unfinished_requests: self.requests.unfinished_count(),
            assigned_requests: self.requests.assigned(),
            plans: self.plans.len(),
            refused_completions: self.plans.refused_completions(),
        }
    }
}
