//! What forgotten things leave on disk, until who does I/O has deleted it.

use std::path::PathBuf;
use std::sync::Arc;

use dayfly_protocol::ContainerId;
use tokio::sync::Notify;

/// Something to be deleted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The folder of a plan, or of a snapshot.
    Folder(PathBuf),
    /// The file container of a run.
    Container(ContainerId),
}

/// All that is to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    left: Vec<Left>,
    more: Arc<Notify>,
}

impl Garbage {
    pub(crate) fn push(&mut self, left: Left) {
        self.left.push(left);
        self.more.notify_one();
    }

    pub(crate) fn take(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }

    /// Notified when there is more.
    pub(crate) fn more(&self) -> Arc<Notify> {
        Arc::clone(&self.more)
    }
}
