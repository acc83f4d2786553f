//! How the controller calls the API server: bounded, fenced, patient.
//!
//! kube's own retry sends creates again and hides that it did, so the client has to be made without it
//! (`Config::default_retry = false`), and whoever writes here knows that an answer may have been lost.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use crate::ownership::Fence;

/// How many writes are on their way at once, of all sets together.
const WRITES_AT_ONCE: usize = 50;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// No new try begins later than this.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// A call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// What it was for is somebody else's by now.
    #[error("another controller now holds the agent set")]
    Lost,
    /// No answer in time.
    #[error("the Kubernetes API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Silent,
    /// What was read is not what was written.
    #[error("the Secret {secret} is damaged; delete the PipelineJob it belongs to")]
    Damaged {
        /// Its name.
        secret: String,
    },
    /// The API server refused, or could not be reached.
    #[error("the Kubernetes API server could not be used")]
    Refused(#[from] kube::Error),
}

impl CallError {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Refused(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_conflict)
    }

    /// How long to wait at least before it is tried again; `None` if that would not help.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Silent | Self::Refused(kube::Error::HyperError(_) | kube::Error::Service(_)) => {
                Some(Duration::ZERO)
            }
            Self::Refused(kube::Error::Api(status)) if matches!(status.code, 429 | 503 | 504) => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Some(Duration::from_secs(seconds.into()))
            }
            _ => None,
        }
    }
}

/// The way to the API server that all stores share.
#[derive(Debug)]
pub struct Calls {
    writes: Semaphore,
    written: AtomicU64,
}

impl Default for Calls {
    fn default() -> Self {
        Self { writes: Semaphore::new(WRITES_AT_ONCE), written: AtomicU64::new(0) }
    }
}

impl Calls {
    /// How many writes were sent so far, those that were sent again included.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Reads, again and again if need be.
    pub(crate) async fn read<T, F>(&self, fence: &Fence, mut call: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut patience = Patience::new();
        loop {
            match once(fence, call()).await {
                Ok(value) => return Ok(value),
                Err(error) => patience.after(error, fence).await?,
            }
        }
    }

    /// Writes, again and again if need be: `call` must not do harm when it is done twice. None is sent after
    /// the fence has fallen.
    pub(crate) async fn write<T, F>(&self, fence: &Fence, mut call: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut patience = Patience::new();
        loop {
            let permit = tokio::select! {
                permit = self.writes.acquire() => permit,
                () = fence.lost() => return Err(CallError::Lost),
            };
            if !fence.is_held() {
                return Err(CallError::Lost);
            }
            self.written.fetch_add(1, Ordering::Relaxed);
            let answer = once(fence, call()).await;
            drop(permit);
            match answer {
                Ok(value) => return Ok(value),
                Err(error) => patience.after(error, fence).await?,
            }
        }
    }
}

async fn once<T>(fence: &Fence, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    tokio::select! {
        answer = timeout(CALL_TIMEOUT, call) => Ok(answer.map_err(|_| CallError::Silent)??),
        () = fence.lost() => Err(CallError::Lost),
    }
}

/// How long a call is tried again, and when.
struct Patience {
    give_up: Instant,
    delay: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { give_up: Instant::now() + PATIENCE, delay: FIRST_DELAY }
    }

    /// Waits before the next try; the error is given back when there shall be none.
    async fn after(&mut self, error: CallError, fence: &Fence) -> Result<(), CallError> {
        let Some(at_least) = error.retry_after() else { return Err(error) };
        let wait = at_least + self.delay.mul_f64(0.5 + fastrand::f64() / 2.0);
        if Instant::now() + wait > self.give_up {
            return Err(error);
        }
        tracing::debug!(%error, wait_ms = wait.as_millis(), "a call to the API server is tried again");
        tokio::select! {
            () = sleep(wait) => {}
            () = fence.lost() => return Err(CallError::Lost),
        }
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        Ok(())
    }
}
