//! What the service says on its rate limits, and how we keep to it.

use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest that one answer makes later calls wait; the service names a pause for each answer anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is believed. Callers add it to the present time, which more of it would overflow.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What the service delayed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Answers which said that they were delayed (with `X-RateLimit-Delay` and `X-RateLimit-Reset`, as `ThrottlingReportHandler.cs` counts them) or refused.
    pub answers: u64,
    /// Sum of the delays.
    pub total_delay: Duration,
    /// The resource that is short, such as `Concurrency`.
    pub resource: Option<String>,
    /// When the limit is reset, in seconds of the Unix epoch.
    pub reset: Option<i64>,
}

/// Keeps a connection's share of the limits. Shared by all connections of one login, since the service counts by user.
#[derive(Debug)]
pub(crate) struct Throttle {
    report: watch::Sender<Throttling>,
    /// Calls that can wait do so until then.
    pause_until: Mutex<Option<Instant>>,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { report: watch::Sender::new(Throttling::default()), pause_until: Mutex::new(None) }
    }
}

impl Throttle {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Throttling> {
        self.report.subscribe()
    }

    /// Notes what an answer says. A delayed answer has status 200 and may ask for a pause all the same.
    pub(crate) fn note(&self, headers: &HeaderMap) {
        let delay = number::<f64>(headers, "x-ratelimit-delay")
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|delay| !delay.is_zero());
        let reset = number::<i64>(headers, "x-ratelimit-reset");
        let pause = retry_after(headers);
        if let (Some(delay), Some(reset)) = (delay, reset) {
            self.report.send_modify(|report| {
                report.answers += 1;
                report.total_delay = report.total_delay.saturating_add(delay);
                report.reset = Some(reset);
                if let Some(resource) =
                    headers.get("x-ratelimit-resource").and_then(|value| value.to_str().ok())
                {
                    report.resource = Some(resource.to_owned());
                }
            });
        }
        if let Some(pause) = pause {
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
    let pause = Duration::try_from_secs_f64(number(headers, "retry-after")?).ok()?;
    Some(pause.min(LONGEST_RETRY_AFTER))
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
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

    #[tokio::test(start_paused = true)]
    async fn delays_are_counted_only_with_both_headers() {
        let throttle = Throttle::default();
        let report = throttle.subscribe();
        throttle.note(&headers(&[("x-ratelimit-delay", "1.5")]));
        assert_eq!(*report.borrow(), Throttling::default());
        for _ in 0..2 {
            throttle.note(&headers(&[
                ("x-ratelimit-delay", "1.5"),
                ("x-ratelimit-reset", "1800000000"),
                ("x-ratelimit-resource", "Concurrency"),
            ]));
        }
        let report = report.borrow();
        assert_eq!((report.answers, report.total_delay), (2, Duration::from_secs(3)));
        assert_eq!(report.resource.as_deref(), Some("Concurrency"));
        assert_eq!(throttle.pause(), None);
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
