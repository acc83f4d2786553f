//! Pauses between tries: exponential, capped, and never the same for two agents.

use std::time::Duration;

use dayfly_client::random_pause;

/// `mean`, half as long up to one and a half times as long.
pub(crate) fn around(mean: Duration) -> Duration {
    random_pause(mean / 2, mean + mean / 2)
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
        self.count();
        around(doubled.min(limit))
    }

    /// One more failure, without a pause of its own.
    pub(crate) fn count(&mut self) {
        self.failures = self.failures.saturating_add(1);
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
}
