//! The moment at which a job becomes a worker's: at most one worker, and none that was called back.

use std::sync::{Arc, Mutex, PoisonError};

use dayfly_protocol::{RequestId, TaskResult};
use tokio::sync::watch;

use super::{Change, Claim, JobStore, Reported, Stage, StoreError, Verdict};

/// Where a job is between lease and worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may come to nothing yet.
    Held,
    /// Whoever is there first may have it.
    Free,
    /// A worker has it.
    Taken,
    /// Nobody may have it any more.
    CalledBack,
}

/// Why a worker was not given a job.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The job was cancelled, or is not ours.
    #[error("the job was called back before a worker had it")]
    CalledBack,
    /// Another worker has it.
    #[error("another worker has the job")]
    Taken,
    /// It could not be written down who has it.
    #[error(transparent)]
    Store(StoreError),
}

/// The executor's side: what must be asked before a worker is handed its job.
#[derive(Debug, Clone)]
pub struct Ledger {
    request: RequestId,
    store: Arc<dyn JobStore>,
    state: Arc<Mutex<watch::Sender<State>>>,
}

impl Ledger {
    /// Of a job that may be handed over at once, by no lease: for executors that are tried out by themselves.
    pub fn open(request: RequestId, store: Arc<dyn JobStore>) -> Self {
        Self { request, store, state: Arc::new(Mutex::new(watch::Sender::new(State::Free))) }
    }

    /// Waits until the job may be handed over, and writes down who gets it. Once this has answered, nobody
    /// else ever gets it.
    ///
    /// # Errors
    ///
    /// The job must not be handed over.
    pub async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        let mut changes = self.with(watch::Sender::subscribe);
        // The sender is kept by `self`.
        let _ = changes.wait_for(|state| *state != State::Held).await;
        self.take()?;
        let change = Change::Stage(Stage::Claimed(claim));
        self.store.change(self.request, change).await.map_err(ClaimError::Store)
    }

    /// Writes down what a worker says of its end, before it is told that it was heard.
    ///
    /// # Errors
    ///
    /// It could not be written down.
    pub async fn finished(&self, result: TaskResult, is_reported: bool) -> Result<(), StoreError> {
        let reported = if is_reported { Reported::Yes } else { Reported::No };
        let verdict = Verdict { result, reported, reason: None };
        self.store.change(self.request, Change::Stage(Stage::Reporting(verdict))).await
    }

    fn take(&self) -> Result<(), ClaimError> {
        let was = self.with(|state| {
            let was = *state.borrow();
            if was == State::Free {
                state.send_replace(State::Taken);
            }
            was
        });
        match was {
            State::Free => Ok(()),
            State::Taken => Err(ClaimError::Taken),
            State::Held | State::CalledBack => Err(ClaimError::CalledBack),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&watch::Sender<State>) -> T) -> T {
        act(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The lease's side.
#[derive(Debug)]
pub(crate) struct HandOver(Ledger);

impl HandOver {
    /// The job may not be handed over yet.
    pub(crate) fn held(request: RequestId, store: Arc<dyn JobStore>) -> Self {
        Self(Ledger { request, store, state: Arc::new(Mutex::new(watch::Sender::new(State::Held))) })
    }

    /// The executor's side.
    pub(crate) fn ledger(&self) -> Ledger {
        self.0.clone()
    }

    /// From now on a worker may have the job.
    pub(crate) fn free(&self) {
        self.change(State::Held, State::Free);
    }

    /// A worker has had it since before our time.
    pub(crate) fn taken(&self) {
        self.change(State::Held, State::Taken);
    }

    /// Whether a worker has it.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.with(|state| *state.borrow() == State::Taken)
    }

    /// From now on nobody may have it. False if a worker has it already.
    pub(crate) fn call_back(&self) -> bool {
        self.0.with(|state| {
            let is_taken = *state.borrow() == State::Taken;
            if !is_taken {
                state.send_replace(State::CalledBack);
            }
            !is_taken
        })
    }

    fn change(&self, from: State, to: State) {
        self.0.with(|state| {
            state.send_if_modified(|state| {
                let is_so = *state == from;
                if is_so {
                    *state = to;
                }
                is_so
            });
        });
    }
}

impl Drop for HandOver {
    /// A lease that is gone cannot hand anything over; who is its successor has a ledger of its own.
    fn drop(&mut self) {
        self.call_back();
    }
}
