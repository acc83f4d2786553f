//! How long a sender goes on trying: for as long as the job runs, and at its end until the deadline.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dayfly_client::{Backoff, RetryPolicy};
use tokio_util::sync::CancellationToken;

use super::service::Error;

/// Its longest pause is how late we notice that the service is back.
const POLICY: RetryPolicy = RetryPolicy::endless(Duration::from_millis(250), Duration::from_secs(5));

/// Hears of another sender's calls.
pub(super) trait Witness: Send + Sync {
    /// A call begins: whether the service is there is open again.
    fn another_began(&self);

    /// The call came through.
    fn another_came_through(&self);
}

/// One sender's patience. A success of any of its calls makes its pauses short again.
pub(super) struct Patience {
    /// Cancelled at the deadline.
    over: CancellationToken,
    backoff: Mutex<Backoff>,
    witness: Option<Arc<dyn Witness>>,
}

impl Patience {
    pub(super) fn new(over: CancellationToken) -> Patience {
        Patience { over, backoff: Mutex::default(), witness: None }
    }

    /// Tells of its calls.
    pub(super) fn telling(self, witness: Arc<dyn Witness>) -> Patience {
        Patience { witness: Some(witness), ..self }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for the deadline.
    pub(super) async fn end(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn succeeded(&self) {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner).succeeded();
        if let Some(witness) = &self.witness {
            witness.another_came_through();
        }
    }

    /// One attempt, ended by the deadline.
    pub(super) async fn attempt<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if let Some(witness) = &self.witness {
            witness.another_began();
        }
        tokio::select! {
            biased;
            result = call => result,
            () = self.over.cancelled() => Err(Error::Deadline),
        }
    }

    /// Waits as long as is fit after `error`, or as the service asked, or until the deadline.
    pub(super) async fn pause(&self, error: &Error) {
        let pause = self.backoff.lock().unwrap_or_else(PoisonError::into_inner).after_failure(&POLICY);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use dayfly_client::{Call, Operation};
    use tokio::time::Instant;

    use super::*;

    fn passing() -> Error {
        let call = Call { operation: Operation::PostLines, object: String::new() };
        Error::Service(dayfly_client::Error::Deadline { call: Box::new(call), after: Duration::ZERO })
    }

    /// When the attempts are made of a call which fails until so much time has passed.
    async fn attempts(patience: &Patience, away: Duration) -> (Result<(), Error>, Vec<Duration>) {
        let begin = Instant::now();
        let attempts = RefCell::new(Vec::new());
        let result = patience
            .retry(|| {
                attempts.borrow_mut().push(begin.elapsed());
                let is_back = begin.elapsed() >= away;
                async move { if is_back { Ok(()) } else { Err(passing()) } }
            })
            .await;
        (result, attempts.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_away_for_ten_minutes_is_waited_for() {
        let away = Duration::from_secs(600);
        let (result, attempts) = attempts(&Patience::new(CancellationToken::new()), away).await;
        assert!(result.is_ok(), "{result:?}");
        let pauses: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Timers are good to a millisecond.
        let longest = POLICY.longest_pause + Duration::from_millis(2);
        assert!(pauses.iter().all(|pause| *pause <= longest), "{pauses:?}");
        assert!(pauses[0] <= POLICY.first_pause + Duration::from_millis(2), "{pauses:?}");
        assert!(
            attempts.last().is_some_and(|last| *last < away + longest),
            "it is seen at once: {attempts:?}"
        );
        assert!((120..400).contains(&attempts.len()), "neither idle nor a storm: {}", attempts.len());
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_the_waiting_and_a_final_error_ends_it_at_once() {
        let over = CancellationToken::new();
        let patience = Patience::new(over.clone());
        let deadline = async {
            tokio::time::sleep(Duration::from_secs(90)).await;
            over.cancel();
        };
        let begin = Instant::now();
        let ((result, attempts), ()) = tokio::join!(attempts(&patience, Duration::MAX), deadline);
        assert!(matches!(result, Err(Error::Deadline | Error::Service(_))), "{result:?}");
        assert!(begin.elapsed() < Duration::from_secs(91), "{:?}", begin.elapsed());
        assert!(attempts.len() > 15, "{}", attempts.len());

        let missing = || Error::Read { path: "gone".into(), source: std::io::ErrorKind::NotFound.into() };
        let calls = RefCell::new(0);
        let patience = Patience::new(CancellationToken::new());
        let result: Result<(), Error> = patience
            .retry(|| {
                *calls.borrow_mut() += 1;
                async { Err(missing()) }
            })
            .await;
        assert!(matches!(result, Err(Error::Read { .. })), "{result:?}");
        assert_eq!(calls.into_inner(), 1);
    }
}
