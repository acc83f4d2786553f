//! Exact decimal numbers, as .NET's `Decimal`: a whole number below 2^96, a sign and a scale of at most 28.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The largest mantissa: 2^96 - 1.
const MAX_MANTISSA: u128 = (1 << 96) - 1;
/// The most digits behind the point.
const MAX_SCALE: i64 = 28;
/// Digits behind the point that survive when a number becomes text (`0.#######` in
/// `ExpressionConstants.NumberFormat`).
const TEXT_SCALE: u8 = 7;

/// An exact decimal number of 28 digits.
///
/// Always kept in its shortest form: no zeros at the end of the fraction, and zero has no sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Number {
    negative: bool,
    mantissa: u128,
    scale: u8,
}

/// The text is not a number, or one beyond the range of a decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number")]
pub struct InvalidNumber;

impl Number {
    /// Zero.
    pub const ZERO: Number = Number { negative: false, mantissa: 0, scale: 0 };
    /// One.
    pub const ONE: Number = Number { negative: false, mantissa: 1, scale: 0 };

    /// A literal: an optional leading `-` or `+`, digits, at most one point. No exponent, no thousands, no
    /// blanks.
    pub fn parse_literal(text: &str) -> Option<Number> {
        let (negative, rest) = split_sign(text);
        decimal(negative, rest, Thousands::Refused)
    }

    /// The cast from text: blanks around it and commas between the digits before the point are allowed as
    /// well. Empty text is not handled here (it casts to zero).
    pub fn parse_text(text: &str) -> Option<Number> {
        let trimmed = text.trim_matches(|c: char| matches!(c, '\u{9}'..='\u{d}' | ' '));
        let (negative, rest) = split_sign(trimmed);
        decimal(negative, rest, Thousands::Allowed)
    }

    /// A number as JSON writes it, with an exponent.
    pub fn parse_json(text: &str) -> Option<Number> {
        let (negative, rest) = split_sign(text);
        let (digits, exponent) = match rest.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i64>().unwrap_or(i64::MAX)),
            None => (rest, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
            return None;
        }
        from_digits(negative, &all, i64::try_from(whole.len()).ok()?.saturating_add(exponent))
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// The index into a list which this number stands for: rounded down, none below zero.
    pub fn as_index(self) -> Option<usize> {
        if self.negative { None } else { usize::try_from(self.mantissa / pow10(self.scale)).ok() }
    }

    /// The whole number that is left when the fraction is cut off, if it fits.
    pub fn as_integer(self) -> Option<i64> {
        let magnitude = i128::try_from(self.mantissa / pow10(self.scale)).ok()?;
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }

    /// All digits, as JSON writes a number.
    pub fn to_json_text(self) -> String {
        self.digits(self.mantissa, self.scale)
    }

    fn digits(self, mantissa: u128, scale: u8) -> String {
        let mut out = String::new();
        if self.negative && mantissa != 0 {
            out.push('-');
        }
        let power = pow10(scale);
        out.push_str(&(mantissa / power).to_string());
        let fraction = mantissa % power;
        if fraction != 0 {
            let digits = format!("{fraction:0width$}", width = usize::from(scale));
            out.push('.');
            out.push_str(digits.trim_end_matches('0'));
        }
        out
    }
}

/// The text a number becomes: at most seven digits behind the point, rounded half away from zero.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale <= TEXT_SCALE {
            return f.write_str(&self.digits(self.mantissa, self.scale));
        }
        let divisor = pow10(self.scale - TEXT_SCALE);
        let rounded = self.mantissa / divisor + u128::from(self.mantissa % divisor * 2 >= divisor);
        f.write_str(&self.digits(rounded, TEXT_SCALE))
    }
}

impl FromStr for Number {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Number, InvalidNumber> {
        Number::parse_literal(text).ok_or(InvalidNumber)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self.negative, other.negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) => magnitude(*other).cmp(&magnitude(*self)),
            (false, false) => magnitude(*self).cmp(&magnitude(*other)),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number { negative: value < 0, mantissa: u128::from(value.unsigned_abs()), scale: 0 }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Number {
        Number { negative: false, mantissa: u128::from(value), scale: 0 }
    }
}

impl From<i32> for Number {
    fn from(value: i32) -> Number {
        Number::from(i64::from(value))
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Number {
        Number { negative: false, mantissa: value as u128, scale: 0 }
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Number {
        if value { Number::ONE } else { Number::ZERO }
    }
}

/// Whole part and fraction, the latter brought to one scale so that both can be compared.
fn magnitude(number: Number) -> (u128, u128) {
    let power = pow10(number.scale);
    (number.mantissa / power, number.mantissa % power * pow10(28 - number.scale))
}

fn pow10(exponent: u8) -> u128 {
    10u128.pow(u32::from(exponent))
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thousands {
    Allowed,
    Refused,
}

fn decimal(negative: bool, text: &str, thousands: Thousands) -> Option<Number> {
    let mut digits = Vec::with_capacity(text.len());
    let mut point = None;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => digits.push(byte),
            b'.' if point.is_none() => point = Some(digits.len()),
            // .NET takes a comma anywhere behind the first digit and before the point.
            b',' if thousands == Thousands::Allowed && point.is_none() && !digits.is_empty() => {}
            _ => return None,
        }
    }
    if digits.is_empty() {
        return None;
    }
    let point = i64::try_from(point.unwrap_or(digits.len())).ok()?;
    from_digits(negative, &digits, point)
}

/// The number whose decimal point stands before digit `point` of `digits` (which may lie outside of them).
/// Digits which do not fit are rounded half to even; none if the whole part does not fit.
fn from_digits(negative: bool, digits: &[u8], point: i64) -> Option<Number> {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let (digits, point) = (&digits[zeros..], point.saturating_sub(i64::try_from(zeros).ok()?));
    if digits.is_empty() || point < -MAX_SCALE {
        return Some(Number::ZERO);
    }
    if point > 29 {
        return None;
    }

    let mut mantissa = 0u128;
    let mut used = 0i64;
    while used < point + MAX_SCALE {
        let Some(digit) = usize::try_from(used).ok().and_then(|at| digits.get(at)) else { break };
        let next = mantissa * 10 + u128::from(digit - b'0');
        if next > MAX_MANTISSA {
            break;
        }
        mantissa = next;
        used += 1;
    }
    let left = &digits[usize::try_from(used).ok()?..];
    if used < point {
        if !left.is_empty() {
            return None;
        }
        for _ in used..point {
            mantissa = mantissa.checked_mul(10).filter(|m| *m <= MAX_MANTISSA)?;
        }
        used = point;
    }
    let mut scale = u8::try_from(used - point).ok()?;
    if round_up(mantissa, left) {
        mantissa += 1;
        if mantissa > MAX_MANTISSA {
            if scale == 0 {
                return None;
            }
            // 2^96 ends in 6, so that dropping its last digit rounds up.
            mantissa = mantissa / 10 + 1;
            scale -= 1;
        }
    }
    while scale > 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        scale -= 1;
    }
    Some(Number { negative: negative && mantissa != 0, mantissa, scale })
}

fn round_up(mantissa: u128, left: &[u8]) -> bool {
    match left {
        [] | [b'0'..=b'4', ..] => false,
        [b'5', rest @ ..] => mantissa % 2 == 1 || rest.iter().any(|digit| *digit != b'0'),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(text: &str) -> Option<String> {
        Number::parse_literal(text).map(Number::to_json_text)
    }

    #[test]
    fn literals() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("007", "7"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("5.", "5"),
            ("+5", "5"),
            ("1.50", "1.5"),
            ("79228162514264337593543950335", "79228162514264337593543950335"),
            ("-79228162514264337593543950335", "-79228162514264337593543950335"),
            ("0.0000000000000000000000000001", "0.0000000000000000000000000001"),
            ("0.00000000000000000000000000005", "0"),
            ("0.00000000000000000000000000006", "0.0000000000000000000000000001"),
            ("0.00000000000000000000000000015", "0.0000000000000000000000000002"),
            ("0.00000000000000000000000000025", "0.0000000000000000000000000002"),
            ("0.000000000000000000000000000250001", "0.0000000000000000000000000003"),
            ("7.9228162514264337593543950336", "7.922816251426433759354395034"),
            ("0.99999999999999999999999999999", "1"),
        ] {
            assert_eq!(literal(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "--1",
            "1e5",
            "1,000",
            " 1",
            "1 ",
            "0x1",
            "1.2.3",
            "79228162514264337593543950336",
            "1_0",
            "٣",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    #[test]
    fn text_may_have_blanks_and_commas() {
        for (text, expected) in [(" 123,456.789 ", "123456.789"), ("\t+1,2,3,\n", "123"), ("-1,000", "-1000")]
        {
            assert_eq!(
                Number::parse_text(text).map(Number::to_json_text).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        for text in ["", " ", ",1", "1.0,0", "- 1", "1 2", "\u{a0}1", "1-", "(1)", "1e3"] {
            assert_eq!(Number::parse_text(text), None, "{text}");
        }
    }

    #[test]
    fn json_numbers_may_have_exponents() {
        for (text, expected) in [
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("25e-1", "2.5"),
            ("-1e-28", "-0.0000000000000000000000000001"),
            ("1e-400", "0"),
            ("0e99999999999999999999", "0"),
            ("1e28", "10000000000000000000000000000"),
        ] {
            assert_eq!(
                Number::parse_json(text).map(Number::to_json_text).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(Number::parse_json("1e29"), None);
        assert_eq!(Number::parse_json("1e400"), None);
        assert_eq!(Number::parse_json("1e"), None);
        assert_eq!(Number::parse_json("x"), None);
    }

    #[test]
    fn text_has_at_most_seven_digits_behind_the_point() {
        for (text, expected) in [
            ("0.12345678", "0.1234568"),
            ("0.00000005", "0.0000001"),
            ("-0.00000005", "-0.0000001"),
            ("0.00000004", "0"),
            ("-0.00000004", "0"),
            ("1.99999999", "2"),
            ("123456.7890", "123456.789"),
        ] {
            assert_eq!(Number::parse_literal(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn parts() {
        let number = |text| Number::parse_literal(text).unwrap();
        assert_eq!(number("1.9").as_index(), Some(1));
        assert_eq!(number("-0.1").as_index(), None);
        assert_eq!(number("-1.9").as_integer(), Some(-1));
        assert_eq!(number("9223372036854775808").as_integer(), None);
        assert_eq!("1.5".parse::<Number>(), Ok(number("1.50")));
        assert_eq!("x".parse::<Number>(), Err(InvalidNumber));
    }

    proptest! {
        #[test]
        fn all_digits_round_trip(negative: bool, mantissa in 0u128..=MAX_MANTISSA, scale in 0u8..=28) {
            let digits = mantissa.to_string();
            let point = i64::try_from(digits.len()).unwrap() - i64::from(scale);
            let number = from_digits(negative, digits.as_bytes(), point).unwrap();
            prop_assert_eq!(Number::parse_literal(&number.to_json_text()), Some(number));
            prop_assert_eq!(Number::parse_json(&number.to_json_text()), Some(number));
        }

        #[test]
        fn text_round_trips_up_to_seven_digits(units: i64, scale in 0u8..=7) {
            let number = from_digits(units < 0, units.unsigned_abs().to_string().as_bytes(),
                i64::try_from(units.unsigned_abs().to_string().len()).unwrap() - i64::from(scale)).unwrap();
            prop_assert_eq!(Number::parse_text(&number.to_string()), Some(number));
        }

        #[test]
        fn order_is_that_of_the_scaled_integers(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let number = |units: i64| Number::parse_literal(&format!("{}{}.{:05}",
                if units < 0 { "-" } else { "" }, units.abs() / 100_000, units.abs() % 100_000)).unwrap();
            prop_assert_eq!(number(a).cmp(&number(b)), a.cmp(&b));
            prop_assert_eq!(number(a) == number(b), a == b);
        }

        #[test]
        fn any_text_is_taken_without_panic(text in any::<String>()) {
            let _ = (Number::parse_literal(&text), Number::parse_text(&text), Number::parse_json(&text));
        }

        #[test]
        fn any_number_like_text_is_taken_without_panic(text in "[-+]?[0-9,]{0,60}[.]?[0-9]{0,60}([eE][-+]?[0-9]{0,25})?") {
            let _ = (Number::parse_literal(&text), Number::parse_text(&text), Number::parse_json(&text));
        }
    }
}
