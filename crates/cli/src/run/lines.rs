//! How one line of a step's output looks: formatting commands become colours, control characters are taken
//! out.

use std::borrow::Cow;

use anstyle::{AnsiColor, Effects, Style};

/// Errors.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default();
/// Warnings.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// Success.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().effects(Effects::DIMMED);
/// Names.
pub(crate) const STRONG: Style = Style::new().effects(Effects::BOLD);
/// Commands and debug output.
const COMMAND: Style = AnsiColor::Cyan.on_default();

/// A line as it is shown; `None` for lines that only close a group.
pub(crate) fn format(line: &str) -> Option<String> {
    let Some((tag, text)) = line.strip_prefix("##[").and_then(|rest| rest.split_once(']')) else {
        return Some(sanitize(line));
    };
    let text = if ["error", "warning"].contains(&tag) { sanitize(&of_issue(text)) } else { sanitize(text) };
    match tag {
        "error" => Some(format!("{ERROR}error: {text}{ERROR:#}")),
        "warning" => Some(format!("{WARNING}warning: {text}{WARNING:#}")),
        "command" => Some(format!("{COMMAND}{text}{COMMAND:#}")),
        "section" => Some(format!("{STRONG}{text}{STRONG:#}")),
        "group" => Some(format!("{STRONG}▾ {text}{STRONG:#}")),
        "endgroup" => None,
        "debug" => Some(format!("{FAINT}debug: {text}{FAINT:#}")),
        _ => Some(sanitize(line)),
    }
}

/// The text of an issue. One about a place in a file is written as Microsoft's compilers do it, `a/b.py(12,):
/// error E1: text`; as `a/b.py:12: E1: text`, terminals and editors can jump there.
pub(crate) fn of_issue(text: &str) -> Cow<'_, str> {
    placed(text).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn placed(text: &str) -> Option<String> {
    let (place, rest) = text.split_once("): ")?;
    let (file, numbers) = place.rsplit_once('(')?;
    let (line, column) = numbers.split_once(',').unwrap_or((numbers, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (kind, message) = rest.split_once(": ")?;
    let (kind, code) = kind.split_once(' ').unwrap_or((kind, ""));
    let is_kind = ["error", "warning"].iter().any(|known| known.eq_ignore_ascii_case(kind));
    if file.is_empty() || line.is_empty() || !is_number(line) || !is_number(column) || !is_kind {
        return None;
    }
    let column = if column.is_empty() { String::new() } else { format!(":{column}") };
    let code = if code.trim().is_empty() { String::new() } else { format!("{}: ", code.trim()) };
    Some(format!("{file}:{line}{column}: {code}{message}"))
}

/// Keeps colours, takes out all else that could move the cursor or talk to the terminal. What colours are
/// left on are switched off at the end.
pub(crate) fn sanitize(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        clean.push_str(&rest[..at]);
        let sequence = &rest[at..];
        let length = escape_length(sequence);
        if is_colour(&sequence[..length]) {
            clean.push_str(&sequence[..length]);
            coloured = true;
        }
        rest = &sequence[length..];
    }
    clean.push_str(rest);
    if coloured {
        clean.push_str("\x1b[0m");
    }
    clean
}

/// The same for a text of several lines, which stay lines; all but the first are indented.
pub(crate) fn sanitize_lines(text: &str) -> String {
    text.lines().map(sanitize).collect::<Vec<_>>().join("\n  ")
}

fn is_colour(sequence: &str) -> bool {
    sequence.starts_with("\x1b[") && sequence.ends_with('m')
}

/// How many bytes the control sequence at the start of `text` has; at least its first character.
fn escape_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(0x1b), Some(b'[')) => {
            let end = bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte));
            end.map_or(text.len(), |end| end + 3)
        }
        // An operating system command ends with BEL or ST.
        (Some(0x1b), Some(b']')) => match text.find(['\x07', '\u{9c}']) {
            Some(end) => end + text[end..].chars().next().map_or(1, char::len_utf8),
            None => text.find("\x1b\\").map_or(text.len(), |end| end + 2),
        },
        (Some(0x1b), Some(byte)) if byte.is_ascii() => 2,
        _ => text.chars().next().map_or(0, char::len_utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_commands_become_words_and_colours() {
        for (line, expected) in [
            ("plain", Some("plain")),
            ("##[error]it broke", Some("error: it broke")),
            ("##[warning]take care", Some("warning: take care")),
            ("##[group]Details", Some("▾ Details")),
            ("##[endgroup]", None),
            ("##[strange]x", Some("##[strange]x")),
        ] {
            let shown = format(line).map(|text| anstream::adapter::strip_str(&text).to_string());
            assert_eq!(shown.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(sanitize_lines("first\r\nse\x1b[2Jcond\n"), "first\n  second");
    }

    #[test]
    fn places_in_files_are_written_so_that_one_can_jump_there() {
        for (text, expected) in [
            ("tests/b.py(12,): error : assertion failed", "tests/b.py:12: assertion failed"),
            ("tests/b.py(12): error: assertion failed", "tests/b.py:12: assertion failed"),
            ("Program.cs(13,18): error CS1002: ; expected", "Program.cs:13:18: CS1002: ; expected"),
            ("a (b).c(1,2): warning W: x: y", "a (b).c:1:2: W: x: y"),
            ("f(x): error : no place", "f(x): error : no place"),
            ("a(1,2): note : x", "a(1,2): note : x"),
            ("(,): error : nothing is known", "(,): error : nothing is known"),
            ("Bash exited with code '1'.", "Bash exited with code '1'."),
        ] {
            assert_eq!(of_issue(text), expected);
        }
    }

    #[test]
    fn only_colours_survive() {
        for (line, expected) in [
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
            ("a\x1b[2Jb", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]8;;http://x\x1b\\b", "ab"),
            ("progress\r100%", "progress100%"),
            ("tab\tstays", "tab\tstays"),
            ("cut \x1b[3", "cut "),
            ("\x1b", ""),
        ] {
            assert_eq!(sanitize(line), expected, "{line:?}");
        }
    }
}
