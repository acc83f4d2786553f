//! The time stamp in front of each line of a log: `2026-01-31T23:59:59.1234567Z ` (.NET's format `O` in UTC).

use std::io::Write as _;

use jiff::Timestamp;
use jiff::tz::Offset;

/// Formats the present moment; the part down to the second is kept from line to line.
#[derive(Default)]
pub(super) struct Stamp {
    second: Option<i64>,
    /// The date and time down to the second.
    prefix: [u8; 19],
    /// Hundreds of nanoseconds.
    fraction: u32,
}

impl Stamp {
    /// Takes the present time for the next lines.
    pub(super) fn refresh(&mut self) {
        self.set(Timestamp::now());
    }

    fn set(&mut self, now: Timestamp) {
        // Times before the epoch have negative fractions.
        let (second, fraction) = match (now.as_second(), now.subsec_nanosecond()) {
            (second, nanosecond @ 0..) => (second, nanosecond),
            (second, nanosecond) => (second - 1, nanosecond + 1_000_000_000),
        };
        self.fraction = fraction.unsigned_abs() / 100;
        if self.second.replace(second) == Some(second) {
            return;
        }
        let time = Offset::UTC.to_datetime(now);
        let mut prefix = &mut self.prefix[..];
        // The years 0 to 9999 fit; the clock is not outside of them.
        let _ = write!(
            prefix,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
    }

    /// Appends the stamp and a blank.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        let mut digits = *b".0000000Z ";
        let mut rest = self.fraction;
        for digit in digits[1..8].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        buffer.extend_from_slice(&self.prefix);
        buffer.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_seven_digits() {
        let mut stamp = Stamp::default();
        let cases = [
            ("2026-01-31T23:59:59.123456789Z", "2026-01-31T23:59:59.1234567Z "),
            ("2026-01-31T23:59:59.9Z", "2026-01-31T23:59:59.9000000Z "),
            ("2026-02-01T00:00:00Z", "2026-02-01T00:00:00.0000000Z "),
        ];
        for (time, expected) in cases {
            stamp.set(time.parse().unwrap());
            let mut buffer = Vec::new();
            stamp.write(&mut buffer);
            assert_eq!(String::from_utf8(buffer).unwrap(), expected);
        }
    }
}
