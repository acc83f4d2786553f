//! Trying again: one policy for all that do, and when a call of this client does.

use std::future::Future;
use std::time::Duration;

use crate::error::Error;
use crate::operation::{Operation, Repeat};

/// The longest `Retry-After` that is waited for within a call; a longer one is the caller's to wait for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How failed attempts are repeated: with pauses that double, each drawn between half of its bound and all of
/// it, so that many who failed together do not come back together. What the service asks for (`Retry-After`)
/// is waited for instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at the most, the first included; 1 = no repetition.
    pub attempts: u32,
    /// Bound of the first pause.
    pub first_pause: Duration,
    /// Bound of every pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 6,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
        }
    }
}

impl RetryPolicy {
    /// Attempts without end: something else says when it is enough.
    pub const fn endless(first_pause: Duration, longest_pause: Duration) -> RetryPolicy {
        RetryPolicy { attempts: u32::MAX, first_pause, longest_pause }
    }

    /// The pause after so many failures in a row (from 1).
    pub fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let bound = doubled.min(self.longest_pause);
        random_pause(bound / 2, bound)
    }

    /// Attempts until one succeeds, the policy has had enough, or `again` says of an error, and of how many
    /// there were, that another attempt cannot help.
    pub async fn retry<T, E, F>(
        &self,
        mut call: impl FnMut() -> F,
        again: impl Fn(&E, u32) -> Again,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut failures = 0;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            if failures >= self.attempts {
                return Err(error);
            }
            let pause = match again(&error, failures) {
                Again::No => return Err(error),
                Again::Yes => self.pause(failures),
                Again::After(pause) => pause,
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether another attempt may help after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It cannot.
    No,
    /// It may, after the pause of the policy.
    Yes,
    /// It may, after this pause.
    After(Duration),
}

impl Again {
    /// What an error of this client says of itself.
    pub fn of(error: &Error) -> Again {
        match error.retry_after() {
            _ if !error.is_retryable() => Again::No,
            Some(pause) => Again::After(pause),
            None => Again::Yes,
        }
    }
}

/// Failures in a row, for those who try again in their own time.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure.
    pub fn after_failure(&mut self, policy: &RetryPolicy) -> Duration {
        self.count();
        policy.pause(self.failures)
    }

    /// One more failure, without a pause of its own.
    pub fn count(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The pause before the next attempt of a call after `attempt` of them failed (counted from 1); `None` = give
/// up.
pub(crate) fn pause(
    policy: &RetryPolicy,
    operation: Operation,
    attempt: u32,
    error: &Error,
) -> Option<Duration> {
    // A token that could not be had was tried for enough.
    if operation != Operation::GetToken && error.is_of_login() {
        return None;
    }
    let repeatable = match operation.repeat() {
        Repeat::Always => error.is_retryable(),
        Repeat::IfUntouched => error.is_retryable() && error.left_untouched(),
        Repeat::Never => false,
    };
    if !repeatable || attempt >= policy.attempts {
        return None;
    }
    if let Some(after) = error.retry_after() {
        return (after <= LONGEST_RETRY_AFTER).then_some(after);
    }
    Some(policy.pause(attempt))
}

/// A random duration from `low` to `high`, so that many who wait for the same do not come at the same moment.
pub fn random_pause(low: Duration, high: Duration) -> Duration {
    low + high.saturating_sub(low).mul_f64(fastrand::f64())
}

/// A random duration from half of `mean` to one and a half times as long.
pub fn pause_around(mean: Duration) -> Duration {
    random_pause(mean / 2, mean + mean / 2)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::error::{Call, ServiceAnswer};

    fn error(operation: Operation, status: u16, retry_after: Option<u64>) -> Error {
        Error::Service {
            call: Box::new(Call { operation, object: String::new() }),
            answer: Box::new(ServiceAnswer {
                status: StatusCode::from_u16(status).unwrap(),
                type_key: None,
                message: String::new(),
                activity_id: None,
                retry_after: retry_after.map(Duration::from_secs),
                host_offline: false,
            }),
        }
    }

    fn pause_after(
        operation: Operation,
        status: u16,
        retry_after: Option<u64>,
        attempt: u32,
    ) -> Option<Duration> {
        pause(&RetryPolicy::default(), operation, attempt, &error(operation, status, retry_after))
    }

    #[test]
    fn random_pauses_stay_in_their_range_and_differ() {
        let (low, high) = (Duration::from_secs(5), Duration::from_secs(15));
        let pauses: Vec<_> = (0..200).map(|_| random_pause(low, high)).collect();
        assert!(pauses.iter().all(|pause| *pause >= low && *pause <= high));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert_eq!(random_pause(high, low), high);
    }

    #[test]
    fn pauses_grow_within_their_bounds_and_end() {
        for attempt in 1..6 {
            for _ in 0..50 {
                let pause = pause_after(Operation::FindPool, 503, None, attempt).unwrap();
                let bound = Duration::from_millis(500 << (attempt - 1)).min(Duration::from_secs(15));
                assert!(pause >= bound / 2 && pause <= bound, "{pause:?} after {attempt}");
            }
        }
        assert_eq!(pause_after(Operation::FindPool, 503, None, 6), None);
    }

    #[test]
    fn retry_after_is_waited_for_in_full_unless_it_is_long() {
        assert_eq!(pause_after(Operation::FindPool, 429, Some(7), 1), Some(Duration::from_secs(7)));
        assert_eq!(pause_after(Operation::FindPool, 429, Some(3600), 1), None);
    }

    #[test]
    fn what_may_have_had_an_effect_is_not_repeated() {
        assert!(pause_after(Operation::CreateAgent, 503, None, 1).is_some());
        assert_eq!(pause_after(Operation::CreateAgent, 500, None, 1), None);
        assert_eq!(pause_after(Operation::RenewJobRequest, 503, None, 1), None);
        assert_eq!(pause_after(Operation::FindPool, 404, None, 1), None);
    }

    #[test]
    fn pauses_start_anew_after_a_success_and_never_pass_their_bound() {
        let policy = RetryPolicy::endless(Duration::from_secs(1), Duration::from_secs(60));
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.after_failure(&policy) <= policy.longest_pause);
        }
        assert_eq!(backoff.failures(), 100);
        assert!(backoff.after_failure(&policy) >= policy.longest_pause / 2);
        backoff.succeeded();
        assert!(backoff.after_failure(&policy) <= policy.first_pause);
    }

    /// What is left of an outcome, the attempts made, and how long it took.
    async fn attempts(policy: RetryPolicy, again: Again, needed: u32) -> (Result<(), u32>, Duration) {
        let begin = tokio::time::Instant::now();
        let mut made = 0;
        let call = || {
            made += 1;
            std::future::ready(if made < needed { Err(made) } else { Ok(()) })
        };
        let result = policy.retry(call, |_, _| again).await;
        (result, begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_with_success_a_final_error_or_the_policy() {
        let second = Duration::from_secs(1);
        let policy = RetryPolicy { attempts: 3, first_pause: second, longest_pause: second };
        let (result, took) = attempts(policy, Again::Yes, 3).await;
        assert!(result.is_ok() && took >= second, "{result:?} in {took:?}");
        assert_eq!(attempts(policy, Again::Yes, 4).await.0, Err(3));
        assert_eq!(attempts(policy, Again::No, 2).await, (Err(1), Duration::ZERO));
        let (result, took) = attempts(policy, Again::After(second * 30), 2).await;
        assert!(result.is_ok() && took >= second * 30, "{result:?} in {took:?}");
    }
}
