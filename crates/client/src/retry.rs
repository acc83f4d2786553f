//! Pauses between attempts.

use std::time::Duration;

use crate::error::Error;
use crate::operation::{Operation, Repeat};
use crate::settings::RetryPolicy;

/// The longest `Retry-After` that is waited for within a call; a longer one is the caller's to wait for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The pause before the next attempt after `attempt` of them failed (counted from 1); `None` = give up.
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
    let bound = policy
        .first_pause
        .saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX))
        .min(policy.longest_pause);
    Some(random_pause(Duration::ZERO, bound))
}

/// A random duration from `low` to `high`, so that many who wait for the same do not come at the same moment.
pub fn random_pause(low: Duration, high: Duration) -> Duration {
    // The random bits of a UUID of version 4 save a dependency on a generator.
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    let fraction = f64::from((bits >> 32) as u32) / f64::from(u32::MAX);
    low + high.saturating_sub(low).mul_f64(fraction)
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
                assert!(pause <= Duration::from_millis(500 << (attempt - 1)).min(Duration::from_secs(15)));
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
}
