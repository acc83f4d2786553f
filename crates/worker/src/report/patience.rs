//! How long a sender goes on trying: for as long as the job runs, and at its end until the deadline.

use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::service::Error;

/// Bound of the first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Bound of every pause: how late we notice that the service is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One sender's patience. Pauses double from failure to failure and are jittered; a success resets them.
pub(super) struct Patience {
    /// Cancelled at the deadline.
    over: CancellationToken,
    next: Mutex<Duration>,
}

impl Patience {
    pub(super) fn new(over: CancellationToken) -> Patience {
        Patience { over, next: Mutex::new(FIRST_PAUSE) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for the deadline.
    pub(super) async fn end(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn succeeded(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = FIRST_PAUSE;
    }

    /// One attempt, ended by the deadline.
    pub(super) async fn attempt<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = call => result,
            () = self.over.cancelled() => Err(Error::Deadline),
        }
    }

    /// Waits as long as is fit after `error`, or as the service asked, or until the deadline.
    pub(super) async fn pause(&self, error: &Error) {
        let pause = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let bound = *next;
            *next = (bound * 2).min(LONGEST_PAUSE);
            bound.mul_f64(0.5 + random_fraction() / 2.0)
        };
        let pause = error.retry_after().unwrap_or(pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.over.cancelled() => {}
        }
    }

    /// Attempts until it succeeds, fails for good, or the deadline.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            match self.attempt(call()).await {
                Ok(value) => {
                    self.succeeded();
                    return Ok(value);
                }
                Err(error) if !error.is_passing() || self.is_over() => return Err(error),
                Err(error) => self.pause(&error).await,
            }
        }
    }
}

/// A number from 0 to 1; not for secrets.
fn random_fraction() -> f64 {
    // The random bits of a UUID save a dependency on a generator.
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from((high >> 32) as u32) / f64::from(u32::MAX)
}
