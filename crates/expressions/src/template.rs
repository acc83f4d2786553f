//! Finding expressions in text: `${{ }}` among other text, and `$[ ]` as a whole value.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that is taken as it stands, by its bytes in the whole.
    Text(Range<usize>),
    /// A `${{ }}`.
    Expression {
        /// The bytes between the markers, blanks included: what
        /// [`Expression::parse`](crate::Expression::parse) takes.
        inner: Range<usize>,
        /// The bytes with the markers.
        outer: Range<usize>,
    },
}

/// Cuts a text at its `${{ }}`. Markers within the quotes of an expression do not count, so that
/// `${{ '}}' }}` is one piece. Pieces are in order, never empty (but for the inside of an expression), and
/// together make up the whole text.
///
/// # Errors
/// [`ErrorKind::UnclosedTemplate`] if a `${{` has no `}}`.
pub fn split_template(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find("${{") {
        let open = from + open;
        if open > from {
            pieces.push(Piece::Text(from..open));
        }
        let start = open + 3;
        let Some(length) = inside(&text[start..]) else {
            let message = "the expression is not closed: `}}` is missing";
            return Err(Error::new(ErrorKind::UnclosedTemplate, text, open..start, message));
        };
        let inner = start..start + length;
        from = inner.end + 2;
        pieces.push(Piece::Expression { inner, outer: open..from });
    }
    if from < text.len() {
        pieces.push(Piece::Text(from..text.len()));
    }
    Ok(pieces)
}

/// The length of an expression up to its `}}`. A doubled quote leaves and enters a text at once, so that
/// plain toggling is right for it too.
fn inside(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.as_bytes().windows(2).position(|pair| {
        quoted ^= pair[0] == b'\'';
        !quoted && pair == b"}}"
    })
}

/// The bytes of the expression in a value that is `$[ ]` as a whole. Other text, also with a `$[ ]` inside,
/// is none.
pub fn runtime_expression(value: &str) -> Option<Range<usize>> {
    let inner = value.trim().strip_prefix("$[")?.strip_suffix(']')?;
    let start = value.len() - value.trim_start().len() + 2;
    Some(start..start + inner.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let shown: Vec<String> = split_template(text)
            .unwrap()
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(range) => text[range].to_owned(),
                Piece::Expression { inner, outer } => {
                    assert_eq!(text[outer.clone()], format!("${{{{{}}}}}", &text[inner.clone()]));
                    format!("<{}>", &text[inner])
                }
            })
            .collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn pieces() {
        check("", &[]);
        check("plain }} $[x] $(y)", &["plain }} $[x] $(y)"]);
        check("${{ a }}", &["< a >"]);
        check("x${{a}}${{b}}y", &["x", "<a>", "<b>", "y"]);
        check("${{}}", &["<>"]);
        check("${{ '}}' }}z", &["< '}}' >", "z"]);
        check("${{ 'it''s }}' }}", &["< 'it''s }}' >"]);
        check("${{ '${{' }}", &["< '${{' >"]);
        check("ü${{ ü }}ü", &["ü", "< ü >", "ü"]);
        check("${{ a }}}}", &["< a >", "}}"]);
        check("$${{a}}", &["$", "<a>"]);
    }

    #[test]
    fn missing_end_is_an_error_at_its_beginning() {
        for text in ["a ${{ b", "a ${{ 'b }}", "a ${{ b }", "a ${{"] {
            let error = split_template(text).unwrap_err();
            assert_eq!((error.kind, error.position), (ErrorKind::UnclosedTemplate, 2..5), "{text}");
        }
    }

    #[test]
    fn runtime_expressions_are_whole_values() {
        let inner = |value: &'static str| runtime_expression(value).map(|range| &value[range]);
        assert_eq!(inner("$[ a[0] ]"), Some(" a[0] "));
        assert_eq!(inner("  $[a]\n"), Some("a"));
        assert_eq!(inner("$[]"), Some(""));
        for value in ["", "$[", "x $[a]", "$[a] x", "$(a)", "[a]"] {
            assert_eq!(inner(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_text(text in r"([a-z ü'}$]|\$\{\{|\}\}|'')*") {
            if let Ok(pieces) = split_template(&text) {
                let mut at = 0;
                for piece in pieces {
                    let (Piece::Text(range) | Piece::Expression { outer: range, .. }) = piece;
                    prop_assert_eq!(range.start, at);
                    prop_assert!(range.end > at);
                    at = range.end;
                }
                prop_assert_eq!(at, text.len());
            }
        }

        #[test]
        fn any_text_is_taken_without_panic(text in any::<String>()) {
            let _ = (split_template(&text), runtime_expression(&text));
        }
    }
}
