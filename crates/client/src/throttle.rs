//! What the service says on its rate limits, and how we keep to it.

use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// The longest that one answer makes later calls wait; the service names a pause for each answer anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is believed. Callers add it to the present time, which more of it would
/// overflow.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Keeps a connection's share of the limits. Shared by all connections of one login, since the service counts
/// by user.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Calls that can wait do so until then.
    pause_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Notes what an answer says. A delayed answer has status 200 and may still ask for a pause.
    pub(crate) fn note(&self, headers: &HeaderMap) {
        if let Some(pause) = retry_after(headers) {
            let until = Instant::now() + pause.min(LONGEST_PAUSE);
            let mut pause_until = self.pause_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *pause_until = Some(pause_until.map_or(until, |current| current.max(until)));
        }
    }

    /// How long a call that can wait should still wait.
    pub(crate) fn pause(&self) -> Option<Instant> {
        let mut pause_until = self.pause_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pause_until.is_some_and(|until| until <= Instant::now()) {
            *pause_until = None;
        }
        *pause_until
    }
}

/// `Retry-After` in seconds, as far as it is believed. The form with a date is not used by the service.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    let pause = Duration::try_from_secs_f64(seconds).ok()?;
    Some(pause.min(LONGEST_RETRY_AFTER))
}

/// What is left of the limit. The service says so only when a call comes near it.
pub(crate) fn limit_left(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-ratelimit-remaining")?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_pause_that_no_clock_holds_is_not_believed() {
        for (text, expected) in [
            ("7.5", Some(Duration::from_millis(7_500))),
            ("18000000000000000000", Some(LONGEST_RETRY_AFTER)),
            ("1e300", None),
            ("-1", None),
            ("NaN", None),
        ] {
            assert_eq!(retry_after(&headers(&[("retry-after", text)])), expected, "{text}");
        }
    }

    #[test]
    fn what_is_left_of_the_limit_is_a_whole_number() {
        assert_eq!(limit_left(&headers(&[("x-ratelimit-remaining", "42")])), Some(42));
        assert_eq!(limit_left(&headers(&[("x-ratelimit-remaining", "-1")])), None);
        assert_eq!(limit_left(&headers(&[])), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_bounded_and_passes() {
        let throttle = Throttle::default();
        throttle.note(&headers(&[("retry-after", "3600")]));
        assert_eq!(throttle.pause(), Some(Instant::now() + LONGEST_PAUSE));
        tokio::time::advance(LONGEST_PAUSE).await;
        assert_eq!(throttle.pause(), None);
        throttle.note(&headers(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]));
        assert_eq!(throttle.pause(), None);
    }
}
