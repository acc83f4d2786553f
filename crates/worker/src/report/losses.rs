//! What could not be reported, for the job's result and the worker's own log.

use std::sync::{Mutex, PoisonError};

use dayfly_protocol::timeline::TimelineRecord;

use super::service::Error;

/// Descriptions that are kept.
const MOST_DESCRIPTIONS: usize = 20;

/// What was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Timeline,
    /// A record with output variables: later jobs depend on it.
    Outputs,
    Log,
    Console,
    Attachment,
}

/// Collected losses.
#[derive(Default)]
pub(super) struct Losses {
    state: Mutex<State>,
}

#[derive(Default, Clone)]
pub(super) struct State {
    pub(super) outputs_lost: bool,
    pub(super) descriptions: Vec<String>,
}

impl Losses {
    pub(super) fn add(&self, loss: Loss, object: &str, error: &Error) {
        self.describe(loss, format!("{object} could not be sent: {error}"));
    }

    pub(super) fn add_record(&self, record: &TimelineRecord, error: &Error) {
        let loss = if record.variables.is_empty() { Loss::Timeline } else { Loss::Outputs };
        self.add(loss, &format!("an update of record {}", record.id), error);
    }

    pub(super) fn describe(&self, loss: Loss, description: String) {
        tracing::warn!(?loss, "{description}");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outputs_lost |= loss == Loss::Outputs;
        if state.descriptions.len() < MOST_DESCRIPTIONS && !state.descriptions.contains(&description) {
            state.descriptions.push(description);
        }
    }

    pub(super) fn snapshot(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
