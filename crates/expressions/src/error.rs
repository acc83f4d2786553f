//! What can be wrong with an expression, and where.

use std::fmt::Write as _;
use std::ops::Range;

/// Result of parsing or evaluating.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The widest excerpt of the expression that [`Error::render`] shows, in characters.
const EXCERPT_WIDTH: usize = 100;

/// The mistakes told apart. The first group comes from parsing, the second from evaluating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing but white space where an expression is needed.
    Empty,
    /// A symbol or word that may not stand there.
    UnexpectedSymbol,
    /// A word that is neither a literal nor a name known in this scope, or a malformed number.
    UnrecognizedValue,
    /// A called name that is no function of this scope.
    UnrecognizedFunction,
    /// A `.` without a property name or `*` behind it.
    ExpectedPropertyName,
    /// The name of a function without `(` behind it.
    ExpectedParenthesis,
    /// A function's `(` without its `)`.
    UnclosedFunction,
    /// An index's `[` without its `]`.
    UnclosedIndex,
    /// A text without its closing quote.
    UnclosedString,
    /// Fewer arguments than the function takes.
    TooFewArguments,
    /// More arguments than the function takes.
    TooManyArguments,
    /// Nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    TooDeep,
    /// Longer than [`MAX_LENGTH`](crate::MAX_LENGTH).
    TooLong,
    /// A `${{` without its `}}`.
    UnclosedTemplate,
    /// A value that cannot become the kind which a comparison or a function needs.
    Cast,
    /// An argument of the right kind which the function cannot work with (format string, position, empty
    /// search text).
    Argument,
    /// The texts and lists made during the evaluation passed [`MAX_MEMORY_BYTES`](crate::MAX_MEMORY_BYTES).
    Memory,
    /// The caller's function refused or is missing.
    Host,
}

/// A mistake in an expression. Never holds a value which the expression read, so it is safe to log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at position {column}")]
pub struct Error {
    /// Which mistake.
    pub kind: ErrorKind,
    /// The bytes of the expression's text that are at fault. Empty at the very end of the text.
    pub position: Range<usize>,
    /// What is wrong, without the position.
    pub message: String,
    /// What was probably meant, where it is known.
    pub help: Option<&'static str>,
    column: usize,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        text: &str,
        position: Range<usize>,
        message: impl Into<String>,
    ) -> Error {
        let column = text.get(..position.start).map_or(0, |before| before.chars().count()) + 1;
        Error { kind, position, message: message.into(), help: None, column }
    }

    pub(crate) fn with_help(self, help: Option<&'static str>) -> Error {
        Error { help, ..self }
    }

    /// The position of the first character at fault, in characters, from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The line of `text` (the text that was parsed) with carets under the part at fault, in two lines
    /// without a line break at the end. Long lines are cut to the neighbourhood of the mistake.
    pub fn render(&self, text: &str) -> String {
        let start = floor_boundary(text, self.position.start);
        let end = floor_boundary(text, self.position.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let before = text[line_start..start].chars().count();
        let marked = text[start..end.min(line_end)].chars().count().max(1);

        let (skipped, cut) = window(line.chars().count(), before);
        let shown: String = line.chars().skip(skipped).take(cut).collect();
        let prefix = if skipped > 0 { "…" } else { "" };
        let suffix = if skipped + cut < line.chars().count() { "…" } else { "" };

        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{prefix}{shown}{suffix}");
        out.push_str(if skipped > 0 { " " } else { "" });
        // A tab under a tab, so that the caret stands below its character however wide a tab is.
        out.extend(
            line.chars().skip(skipped).take(before - skipped).map(|c| if c == '\t' { '\t' } else { ' ' }),
        );
        out.extend(std::iter::repeat_n('^', marked.min((skipped + cut).saturating_sub(before).max(1))));
        out
    }
}

/// Which characters of a line to show: how many to skip and how many to take, so that `at` is among them.
fn window(length: usize, at: usize) -> (usize, usize) {
    if length <= EXCERPT_WIDTH {
        return (0, length);
    }
    let skipped = at.saturating_sub(EXCERPT_WIDTH / 2).min(length - EXCERPT_WIDTH);
    (skipped, EXCERPT_WIDTH)
}

/// The nearest character boundary at or before `at`; a text other than the parsed one must not make rendering
/// panic.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, position: Range<usize>) -> Error {
        Error::new(ErrorKind::UnexpectedSymbol, text, position, "unexpected symbol")
    }

    #[test]
    fn caret_stands_under_the_part_at_fault() {
        let text = "eq(1 2)";
        assert_eq!(error(text, 5..6).render(text), "eq(1 2)\n     ^");
        assert_eq!(error(text, 0..2).render(text), "eq(1 2)\n^^");
        assert_eq!(error(text, 7..7).render(text), "eq(1 2)\n       ^");
    }

    #[test]
    fn only_the_line_at_fault_is_shown() {
        let text = "and(\r\n\teq(ü, 1),\r\n  2)";
        let at = text.find("ü").unwrap();
        assert_eq!(error(text, at..at + 2).render(text), "\teq(ü, 1),\n\t   ^");
        assert_eq!(error(text, at..at + 2).column(), at + 1);
    }

    #[test]
    fn long_lines_are_cut_around_the_fault() {
        let text = format!("{}!{}", "a".repeat(300), "b".repeat(300));
        let rendered = error(&text, 300..301).render(&text);
        let (line, carets) = rendered.split_once('\n').unwrap();
        assert_eq!(line.chars().count(), EXCERPT_WIDTH + 2);
        assert_eq!(line.chars().position(|c| c == '!'), carets.chars().position(|c| c == '^'));
    }

    #[test]
    fn rendering_another_text_does_not_panic() {
        assert_eq!(error("0123456789", 8..9).render("ü"), "ü\n ^");
        assert_eq!(error("0123456789", 1..9).render("ü"), "ü\n^");
    }

    #[test]
    fn display_names_the_position_in_characters() {
        assert_eq!(error("'ü' x", 5..6).to_string(), "unexpected symbol at position 5");
    }
}
