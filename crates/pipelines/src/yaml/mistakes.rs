//! What is wrong with a text that is not YAML, in words for people who do not know YAML's grammar.

use std::ops::Range;

/// A mistake with its place and what to do about it.
pub(super) struct Mistake {
    pub(super) range: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// A line that says something: not blank, no comment.
struct Line<'t> {
    number: usize,
    start: usize,
    /// Where its text begins, in spaces.
    indent: usize,
    /// Where its text begins behind the dashes of lists.
    content: usize,
    text: &'t str,
}

impl<'t> Line<'t> {
    fn new(number: usize, start: usize, line: &'t str) -> Option<Self> {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        if text.trim().is_empty() || text.starts_with('#') {
            return None;
        }
        let mut content = indent;
        let mut rest = text;
        while let Some(behind) = rest.strip_prefix("- ") {
            let behind = behind.trim_start_matches(' ');
            content += rest.len() - behind.len();
            rest = behind;
        }
        Some(Self { number, start, indent, content, text: text.trim_end() })
    }

    fn is_item(&self) -> bool {
        self.text.starts_with("- ") || self.text == "-"
    }

    fn range(&self) -> Range<usize> {
        self.start + self.indent..self.start + self.indent + self.text.len()
    }
}

/// What the parser's message at a place means.
pub(super) fn explain(text: &str, at: usize, info: &str) -> Mistake {
    let lines = lines(text, at);
    let known = lines.split_last().and_then(|(line, above)| {
        if info.starts_with("mapping values are not allowed") {
            return colon(text, at, line, above);
        }
        if info.contains("did not find expected") {
            return between(line, above);
        }
        if info.starts_with("simple key expected") {
            return Some(no_key(line, above));
        }
        None
    });
    known.unwrap_or_else(|| worded(text, at, info))
}

/// The lines up to the one that holds a place.
fn lines(text: &str, at: usize) -> Vec<Line<'_>> {
    let mut start = 0;
    let mut lines = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if start > at {
            break;
        }
        lines.extend(Line::new(index + 1, start, line));
        start += line.len();
    }
    lines
}

/// A `: ` where none may be: a second one in a line, or one in a line that is indented too deep.
fn colon(text: &str, at: usize, line: &Line<'_>, above: &[Line<'_>]) -> Option<Mistake> {
    let before = text.get(line.start + line.content..at)?;
    if let Some(first) = before.find(": ") {
        let range = line.start + line.content + first + 2..line.range().end;
        return Some(Mistake {
            range,
            message: "not valid YAML: there is a second `: ` in this line".to_owned(),
            help: Some("put the whole value in quotes".to_owned()),
        });
    }
    let last = above.last()?;
    (line.indent > last.content).then(|| Mistake {
        range: line.range(),
        message: format!(
            "not valid YAML: line {} is indented deeper than line {}, where its mapping began",
            line.number, last.number
        ),
        help: Some(format!("indent it with {}, like line {}", spaces(last.content), last.number)),
    })
}

/// A line that begins where nothing above it does.
fn between(line: &Line<'_>, above: &[Line<'_>]) -> Option<Mistake> {
    let item = above.iter().rev().find(|other| other.indent <= line.indent);
    if let Some(item) = item.filter(|item| item.indent == line.indent && item.is_item() && !line.is_item()) {
        return Some(Mistake {
            range: line.range(),
            message: format!(
                "not valid YAML: line {} stands in the list of line {}, but does not start with `- `",
                line.number, item.number
            ),
            help: Some(format!("start it with `- `, or indent it with {}", spaces(item.content))),
        });
    }
    let mut columns: Vec<usize> = Vec::new();
    let mut outermost = usize::MAX;
    for other in above.iter().rev() {
        if other.indent < outermost {
            outermost = other.indent;
            let column = if other.is_item() && !line.is_item() { other.content } else { other.indent };
            columns.push(column);
        }
    }
    columns.sort_unstable();
    columns.dedup();
    if columns.contains(&line.indent) || columns.is_empty() {
        return None;
    }
    let choices: Vec<String> = columns.iter().map(usize::to_string).collect();
    Some(Mistake {
        range: line.range(),
        message: format!(
            "not valid YAML: line {} is indented with {}, which matches no line above it",
            line.number,
            spaces(line.indent)
        ),
        help: Some(format!("indent it with {} spaces", choices.join(" or "))),
    })
}

/// A line without a key.
fn no_key(line: &Line<'_>, above: &[Line<'_>]) -> Mistake {
    let word = line.text.split(':').next().unwrap_or_default();
    let glued = line.text[word.len()..].strip_prefix(':').is_some_and(|rest| !rest.is_empty());
    let is_word =
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let (message, help) = if glued && is_word {
        (format!("a space is missing after `{word}:`"), None)
    } else {
        let help = match above.last() {
            Some(last) => format!(
                "write `key: value`; if it continues the value above, indent it deeper than line {}",
                last.number
            ),
            None => "write `key: value`".to_owned(),
        };
        (format!("line {} has no `:`, so it is not a key", line.number), Some(help))
    };
    Mistake { range: line.range(), message: format!("not valid YAML: {message}"), help }
}

/// Other messages of the parser, in plainer words where there are some.
fn worded(text: &str, at: usize, info: &str) -> Mistake {
    let line = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let before = text.get(line..at).unwrap_or_default();
    let first = text.get(at..).and_then(|rest| rest.chars().next());
    let (message, help) = match first {
        _ if before.contains('\t') && before.trim().is_empty() => {
            ("a tab in the indentation".to_owned(), Some("indent YAML with spaces, not with tabs"))
        }
        Some('`') if info.starts_with("unexpected character") => {
            ("a value cannot begin with a backtick".to_owned(), Some("put it in quotes"))
        }
        Some(first) if info.starts_with("unexpected character") => {
            (format!("a value cannot begin with `{first}`"), Some("put it in quotes"))
        }
        _ if info.contains("unknown escape") => (
            "a backslash in double quotes begins an escape, and this one does not exist".to_owned(),
            Some("write `\\\\` for a backslash, or use single quotes"),
        ),
        _ if info.contains("unknown anchor") => (
            "a value that begins with `*` is a YAML alias, which Azure Pipelines does not support".to_owned(),
            Some("put it in quotes"),
        ),
        _ => (info.to_owned(), None),
    };
    let message = format!("not valid YAML: {message}");
    Mistake { range: at..at, message, help: help.map(str::to_owned) }
}

fn spaces(count: usize) -> String {
    match count {
        0 => "no spaces".to_owned(),
        1 => "1 space".to_owned(),
        count => format!("{count} spaces"),
    }
}
