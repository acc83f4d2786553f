//! Points and spans of time as .NET writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC. Written with seven digits of a second and `Z`; read with up to nine digits, with `Z`,
/// with an offset, or with neither (then it is UTC). The unset date is written without `Z`, as .NET does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub Timestamp);

/// The text is not a date with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a date and time such as 2026-01-31T13:45:00Z")]
pub struct ParseDateTimeError;

impl DateTime {
    /// What .NET writes for a date that was never set: `0001-01-01T00:00:00` (`DateTime.MinValue`).
    pub const UNSET: DateTime = DateTime(Timestamp::constant(-62_135_596_800, 0));

    /// Whether no date was set.
    pub fn is_unset(self) -> bool {
        self == Self::UNSET
    }
}

impl From<Timestamp> for DateTime {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unset() {
            return f.write_str("0001-01-01T00:00:00");
        }
        let utc = Offset::UTC.to_datetime(self.0);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:07}Z",
            utc.year(),
            utc.month(),
            utc.day(),
            utc.hour(),
            utc.minute(),
            utc.second(),
            utc.subsec_nanosecond() / 100
        )
    }
}

impl FromStr for DateTime {
    type Err = ParseDateTimeError;

    fn from_str(text: &str) -> Result<Self, ParseDateTimeError> {
        let text = text.trim();
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Ok(Self(timestamp));
        }
        let civil: jiff::civil::DateTime = text.parse().map_err(|_| ParseDateTimeError)?;
        Offset::UTC.to_timestamp(civil).map(Self).map_err(|_| ParseDateTimeError)
    }
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(TextVisitor { expected: "a date and time", parse: |text| text.parse().ok() })
    }
}

/// A span of time in .NET's constant format, `[d.]hh:mm:ss[.fffffff]`. Never negative here: a negative span
/// of the wire reads as zero, since nothing can wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(pub Duration);

/// The text is not a time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time span such as 00:05:00 or 1.02:03:04.5")]
pub struct ParseTimeSpanError;

impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<TimeSpan> for Duration {
    fn from(span: TimeSpan) -> Self {
        span.0
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        if days > 0 {
            write!(f, "{days}.")?;
        }
        write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
        match self.0.subsec_nanos() / 100 {
            0 => Ok(()),
            ticks => write!(f, ".{ticks:07}"),
        }
    }
}

/// Digits only, no sign, within `limit`.
fn number(text: &str, limit: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && *value <= limit)
}

/// `d`, `hh:mm` or `hh:mm:ss`, the latter two with days in front, the last with a fraction: what
/// `TimeSpan.Parse` takes of this format.
fn parse_time_span(text: &str) -> Option<Duration> {
    /// `TimeSpan.MaxValue` in whole days.
    const MAX_DAYS: u64 = 10_675_199;
    let parts: Vec<&str> = text.split(':').collect();
    let (first, minutes, seconds) = match parts[..] {
        [days] => return number(days, MAX_DAYS).map(|days| Duration::from_secs(days * 86_400)),
        [first, minutes] => (first, minutes, "00"),
        [first, minutes, seconds] => (first, minutes, seconds),
        _ => return None,
    };
    let (days, hours) = first.split_once('.').unwrap_or(("0", first));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    if fraction.is_empty() || fraction.len() > 7 {
        return None;
    }
    let ticks = number(&format!("{fraction:0<7}"), 9_999_999)?;
    let whole = number(days, MAX_DAYS)? * 86_400
        + number(hours, 23)? * 3_600
        + number(minutes, 59)? * 60
        + number(seconds, 59)?;
    Some(Duration::new(whole, u32::try_from(ticks * 100).ok()?))
}

impl FromStr for TimeSpan {
    type Err = ParseTimeSpanError;

    fn from_str(text: &str) -> Result<Self, ParseTimeSpanError> {
        let text = text.trim();
        let (negative, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let duration = parse_time_span(magnitude).ok_or(ParseTimeSpanError)?;
        Ok(Self(if negative { Duration::ZERO } else { duration }))
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor { expected: "a time span", parse: |text| text.parse().ok() })
    }
}

/// Reads a text by its parser; errors do not quote it.
struct TextVisitor<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text)
            .ok_or_else(|| E::custom(format_args!("expected {}, found another text", self.expected)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{from_str, to_string};

    #[test]
    fn time_spans_follow_the_constant_format() {
        for (text, seconds, canonical) in [
            ("00:05:00", 300.0, "00:05:00"),
            ("1.02:03:04.5", 93784.5, "1.02:03:04.5000000"),
            ("6", 518_400.0, "6.00:00:00"),
            ("06:12", 22_320.0, "06:12:00"),
            ("00:00:00.0000001", 0.000_000_1, "00:00:00.0000001"),
            ("-00:01:00", 0.0, "00:00:00"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_secs_f64(seconds), "{text}");
            assert_eq!(span.to_string(), canonical, "{text}");
        }
        for text in [
            "",
            "x",
            "24:00:00",
            "00:60:00",
            "1:2:3:4",
            "00:00:00.12345678",
            "1.5",
            "00:00:00.",
            ":",
            "+1:00:00",
        ] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn dates_are_read_with_and_without_zone() {
        let zoned: DateTime = "2026-11-24T20:30:00.1234567Z".parse().unwrap();
        for text in ["2026-11-24T20:30:00.1234567", "2026-11-24T21:30:00.1234567+01:00"] {
            assert_eq!(text.parse::<DateTime>().unwrap(), zoned, "{text}");
        }
        assert_eq!(zoned.to_string(), "2026-11-24T20:30:00.1234567Z");
        let unset: DateTime = from_str("\"0001-01-01T00:00:00\"").unwrap();
        assert!(unset.is_unset());
        assert_eq!(to_string(&unset).unwrap(), "\"0001-01-01T00:00:00\"");
        let error = from_str::<DateTime>("\"hunter2\"").unwrap_err();
        assert_eq!(error.to_string(), "expected a date and time, found another text");
    }

    proptest! {
        #[test]
        fn time_spans_round_trip(seconds in 0u64..922_337_203_685, ticks in 0u32..10_000_000) {
            let span = TimeSpan(Duration::new(seconds, ticks * 100));
            prop_assert_eq!(span.to_string().parse::<TimeSpan>(), Ok(span));
        }

        #[test]
        fn dates_round_trip(seconds in -62_135_596_799i64..253_402_207_199, ticks in 0i32..10_000_000) {
            let date = DateTime(Timestamp::new(seconds, ticks * 100).unwrap());
            prop_assert_eq!(date.to_string().parse::<DateTime>(), Ok(date));
        }
    }
}
