//! What tasks that need no agent are given, and how they end.

use dayfly_protocol::{BuildId, JobId};

use crate::app::App;

/// How a task ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    /// Why.
    Failed(String),
    Canceled,
}

/// Who asks for a validation.
pub(super) struct Asking<'a> {
    pub(super) app: &'a App,
    pub(super) build: BuildId,
    pub(super) job: JobId,
}
