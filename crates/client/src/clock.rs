//! The service's clock, as far as we know it.

use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// What the service writes in front of its time when it refuses a login for its times
/// (`ConfigurationManager.cs`).
const SERVER_TIME: &str = "Current server time is";

/// Differences up to this many seconds are noise: `Date` has whole seconds and travels some time.
const NOISE_SECONDS: i64 = 5;

/// The difference between the service's clock and ours.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// The service's time less ours, in seconds.
    offset_seconds: AtomicI64,
}

impl Clock {
    /// The time by the service's clock.
    pub(crate) fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        let offset = self.offset_seconds.load(Ordering::Relaxed);
        Timestamp::from_second(now.as_second().saturating_add(offset)).unwrap_or(now)
    }

    /// Sets the clock right by the service's words in an error, or by the `Date` of its answer. Says whether
    /// a time was found that differs from what we took for it, so that another attempt can have another
    /// outcome.
    pub(crate) fn correct(&self, message: &str, headers: &HeaderMap) -> bool {
        let Some(server) = server_time(message).or_else(|| date(headers)) else { return false };
        let offset = server.as_second() - Timestamp::now().as_second();
        let offset = if offset.abs() <= NOISE_SECONDS { 0 } else { offset };
        let before = self.offset_seconds.swap(offset, Ordering::Relaxed);
        (before - offset).abs() > NOISE_SECONDS
    }
}

/// Whether an error of the token endpoint is about the clocks.
pub(crate) fn is_skew(message: &str) -> bool {
    message.contains(SERVER_TIME)
}

/// The time in a message such as `… Current server time is 11/24/2026 20:31:07.` (invariant culture) or
/// `… 11/24/2026 8:31:07 PM.` (American).
fn server_time(message: &str) -> Option<Timestamp> {
    let (_, rest) = message.split_once(SERVER_TIME)?;
    let rest = rest.trim_start();
    let words: Vec<&str> = rest.split_whitespace().take(3).collect();
    let tidy = |word: &str| word.trim_end_matches(['.', ',', '\'', '"']).to_owned();
    let first = tidy(words.first()?);
    if first.contains('T') {
        return first.parse().ok().or_else(|| Offset::UTC.to_timestamp(first.parse().ok()?).ok());
    }
    let mut date = first.splitn(3, '/').map(|part| part.parse::<i16>().ok());
    let (month, day, year) = (date.next()??, date.next()??, date.next()??);
    let clock = tidy(words.get(1)?);
    let mut time = clock.splitn(3, ':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let hour = match words.get(2).map(|word| tidy(word).to_ascii_uppercase()).as_deref() {
        Some("PM") if hour < 12 => hour + 12,
        Some("AM") if hour == 12 => 0,
        _ => hour,
    };
    let time =
        DateTime::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?, hour, minute, second, 0)
            .ok()?;
    Offset::UTC.to_timestamp(time).ok()
}

/// The `Date` of an answer.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_times_are_read_in_the_formats_of_the_service() {
        let expected: Timestamp = "2026-11-24T20:31:07Z".parse().unwrap();
        for text in [
            "The bearer token expired on 1/1/2026 1:00:00 AM. Current server time is 11/24/2026 20:31:07.",
            "not valid until x. Current server time is 11/24/2026 8:31:07 PM.",
            "Current server time is 2026-11-24T20:31:07Z",
            "Current server time is 2026-11-24T20:31:07.",
        ] {
            assert_eq!(server_time(text), Some(expected), "{text}");
        }
        assert_eq!(
            server_time("Current server time is 12/31/2026 12:05:00 AM"),
            "2026-12-31T00:05:00Z".parse().ok()
        );
        for text in [
            "",
            "Current server time is",
            "Current server time is 99/99/2026 1:1:1",
            "Current server time is x",
        ] {
            assert_eq!(server_time(text), None, "{text}");
        }
    }

    #[test]
    fn the_clock_is_set_by_words_before_the_date_header() {
        let clock = Clock::default();
        let hour_ahead = Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let message = format!("Current server time is {hour_ahead}");
        let mut headers = HeaderMap::new();
        headers.insert(
            "date",
            jiff::fmt::rfc2822::to_string(&Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC))
                .unwrap()
                .parse()
                .unwrap(),
        );
        assert!(clock.correct(&message, &headers));
        let off_by = (clock.now().as_second() - hour_ahead.as_second()).abs();
        assert!(off_by <= 2, "{off_by}");
        assert!(!clock.correct(&message, &headers), "the second time nothing changes");
        assert!(clock.correct("no time in here", &headers), "the header sets it back");
        assert!(!clock.correct("", &HeaderMap::new()));
    }
}
