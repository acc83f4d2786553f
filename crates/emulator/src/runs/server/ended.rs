//! What tasks that need no agent are given, and how they end.

use dayfly_protocol::{BuildId, JobId, RecordId};

use crate::app::App;

/// How a task ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    SucceededWithIssues,
    /// Why.
    Failed(String),
    Canceled,
}

/// Who asks for a validation, or waits for others.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) app: &'a App,
    pub(super) build: BuildId,
    pub(super) job: JobId,
    pub(super) step: RecordId,
}
