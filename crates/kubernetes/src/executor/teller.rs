//! What is said of a job's pod while the job waits for it: in the job's log, and in its record.

use dayfly_listener::{Note, Progress};
use dayfly_protocol::channel::LostContainer;
use tokio::sync::mpsc;

/// How much may wait to be written down. What is too much is in the job's log only.
const QUEUE: usize = 16;

/// Longest reason in a record, in characters: it is a column of `kubectl get`.
const LONGEST_REASON: usize = 200;

/// What is written down.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) pod: Option<String>,
    pub(super) reason: Option<String>,
}

impl Said {
    /// Adds what was said later.
    pub(super) fn take(&mut self, later: Self) {
        self.pod = later.pod.or(self.pod.take());
        self.reason = later.reason.or(self.reason.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pod.is_none() && self.reason.is_none()
    }
}

/// Tells of one job's pod.
pub(super) struct Teller {
    progress: mpsc::Sender<Progress>,
    said: mpsc::Sender<Said>,
}

impl Teller {
    /// One that tells who minds the job, and whoever takes what comes out of the second part.
    pub(super) fn new(progress: mpsc::Sender<Progress>) -> (Self, mpsc::Receiver<Said>) {
        let (said, told) = mpsc::channel(QUEUE);
        (Self { progress, said }, told)
    }

    /// Says which pod it is.
    pub(super) fn pod(&self, name: &str) {
        let _ = self.said.try_send(Said { pod: Some(name.to_owned()), reason: None });
    }

    /// Says that a container is of no use.
    pub(super) async fn lose(&self, lost: LostContainer) {
        let _ = self.progress.send(Progress::ContainerLost(lost)).await;
    }

    /// Says what is the matter.
    pub(super) async fn tell(&self, note: Note) {
        // That nobody can be driven out says no more than that there is no room.
        let text = note.text.split(" preemption: ").next().unwrap_or_default();
        let reason = text.chars().take(LONGEST_REASON).collect();
        let _ = self.said.try_send(Said { pod: None, reason: Some(reason) });
        // Who minds the job takes it at once.
        let _ = self.progress.send(Progress::Noted(note)).await;
    }
}
