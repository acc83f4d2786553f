//! Quantities of Kubernetes, such as `500m` and `8Gi`, as far as they can be compared.

/// The suffixes, and what they multiply by in thousandths.
const SUFFIXES: [(&str, u128); 14] = [
    ("m", 1),
    ("", 1000),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
];

/// A quantity in thousandths, rounded up. `None` if it is none, is negative, or has an exponent.
pub(super) fn parse(text: &str) -> Option<u128> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = SUFFIXES.iter().find(|(known, _)| *known == suffix)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than any quantity has are none, so that nothing overflows.
    if number.len() > 15 || (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some(digits.checked_mul(factor)?.div_ceil(10_u128.pow(u32::try_from(fraction.len()).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_whatever_their_suffixes() {
        for (text, thousandths) in
            [("1", 1000), ("500m", 500), ("1.5", 1500), (".5", 500), ("2Ki", 2_048_000), ("2k", 2_000_000)]
        {
            assert_eq!(parse(text), Some(thousandths), "{text}");
        }
        assert!(parse("8Gi") > parse("8G"));
        for text in ["", ".", "Gi", "-1", "1e3", "1 Gi", "1gi", "1.2.3", "9999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
