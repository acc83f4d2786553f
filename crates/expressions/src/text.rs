//! Text comparison as .NET's `OrdinalIgnoreCase`: by UTF-16 units of the upper-case letters, no culture.

use std::borrow::Cow;
use std::cmp::Ordering;

/// The upper-case letter, where it is one character; .NET maps characters one to one, and none to ASCII that
/// is not ASCII itself (the dotless i, the long s).
pub(crate) fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(only), None) if !only.is_ascii() => only,
        _ => c,
    }
}

/// The lower-case letter, where it is one character.
pub(crate) fn lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut mapped = c.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

/// Whether both are the same but for case.
pub(crate) fn equal(left: &str, right: &str) -> bool {
    compare(left, right) == Ordering::Equal
}

/// The order of two texts without regard to case.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    for (left_byte, right_byte) in left.bytes().zip(right.bytes()) {
        if !left_byte.is_ascii() || !right_byte.is_ascii() {
            return compare_units(left, right);
        }
        let order = left_byte.to_ascii_uppercase().cmp(&right_byte.to_ascii_uppercase());
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

fn compare_units(left: &str, right: &str) -> Ordering {
    // A character beyond the basic plane is a pair of surrogates, which .NET sorts before U+E000.
    let units = |c: char| {
        let mut buffer = [0; 2];
        let length = c.encode_utf16(&mut buffer).len();
        buffer.into_iter().take(length)
    };
    left.chars().map(upper).flat_map(units).cmp(right.chars().map(upper).flat_map(units))
}

/// Whether `text` has `part` in it, whatever the case.
pub(crate) fn contains(text: &str, part: &str) -> bool {
    fold(text).contains(fold(part).as_ref())
}

/// Whether `text` begins with `part`, whatever the case.
pub(crate) fn starts_with(text: &str, part: &str) -> bool {
    let mut rest = text.chars().map(upper);
    part.chars().map(upper).all(|expected| rest.next() == Some(expected))
}

/// Whether `text` ends with `part`, whatever the case.
pub(crate) fn ends_with(text: &str, part: &str) -> bool {
    let mut rest = text.chars().rev().map(upper);
    part.chars().rev().map(upper).all(|expected| rest.next() == Some(expected))
}

fn fold(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| upper(c) == c) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(upper).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_does_not_matter_and_culture_neither() {
        assert!(equal("GRÜN", "grün"));
        assert!(!equal("ß", "SS"));
        assert!(!equal("ſ", "s") && !equal("ı", "I"));
        assert!(contains("Ein Straßenschild", "STRAßEN"));
        assert!(starts_with("Äpfel", "äP"));
        assert!(ends_with("CAFÉ", "fé"));
        assert!(!starts_with("a", "ab"));
        assert!(!ends_with("b", "ab"));
        // Letters sort above the underscore only in lower case, and the comparison is made in upper case.
        assert_eq!(compare("a", "_"), Ordering::Less);
        assert_eq!(compare("\u{10000}", "\u{e000}"), Ordering::Less);
    }

    proptest! {
        #[test]
        fn equality_and_order_agree(left in "[a-cA-CäÄſsSıI_𝄞\u{e000}]{0,3}", right in "[a-cA-CäÄſsSıI_𝄞\u{e000}]{0,3}") {
            prop_assert_eq!(equal(&left, &right), compare(&left, &right) == Ordering::Equal);
            prop_assert_eq!(compare(&left, &right), compare(&right, &left).reverse());
            prop_assert_eq!(compare(&left, &right), compare_units(&left, &right));
        }

        #[test]
        fn parts_are_found(before in any::<String>(), part in any::<String>(), after in any::<String>()) {
            let whole = format!("{before}{part}{after}");
            prop_assert!(contains(&whole, &part));
            prop_assert!(starts_with(&whole, &before));
            prop_assert!(ends_with(&whole, &after));
        }
    }
}
