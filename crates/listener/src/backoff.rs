//! Pauses between tries: exponential, capped, and never the same for two agents.

use std::time::Duration;

use uuid::Uuid;

/// A random duration in `[low, high]`.
pub(crate) fn between(low: Duration, high: Duration) -> Duration {
    let span = high.saturating_sub(low);
    low + span.mul_f64(fraction())
}

/// `mean`, half as long up to one and a half times as long.
pub(crate) fn around(mean: Duration) -> Duration {
    between(mean / 2, mean + mean / 2)
}

/// A random number in `[0, 1]`. Jitter needs no good randomness, but a version 4 UUID has it anyway and its generator is in the tree.
fn fraction() -> f64 {
    // The low 62 bits of a version 4 UUID are random (the two above them are its variant).
    let bits = (Uuid::new_v4().as_u128() & u128::from(u32::MAX)) as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

/// Counts failures in a row and says how long to wait before the next try.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure: doubles from `first` to `limit`, with jitter.
    pub(crate) fn after_failure(&mut self, first: Duration, limit: Duration) -> Duration {
        let doubled = first.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        around(doubled.min(limit))
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_anew_after_a_success() {
        let (first, limit) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut backoff = Backoff::default();
        for exponent in 0..40_u32 {
            let pause = backoff.after_failure(first, limit);
            let mean = first.saturating_mul(2_u32.pow(exponent.min(16))).min(limit);
            assert!(
                pause >= mean / 2 && pause <= mean + mean / 2,
                "pause {pause:?} after {exponent} failures"
            );
        }
        assert_eq!(backoff.failures(), 40);
        backoff.succeeded();
        assert!(backoff.after_failure(first, limit) <= Duration::from_millis(1500));
    }

    #[test]
    fn random_pauses_stay_in_their_range_and_differ() {
        let (low, high) = (Duration::from_secs(5), Duration::from_secs(15));
        let pauses: Vec<_> = (0..200).map(|_| between(low, high)).collect();
        assert!(pauses.iter().all(|pause| *pause >= low && *pause <= high));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
