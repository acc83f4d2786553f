//! What is wrong with a pipeline, and where.
//!
//! Everything the compiler finds is collected and reported at once. [`Diagnostics`] renders like a Rust
//! compiler (file, line, column, caret, help) and as JSON.

use std::{collections::HashMap, fmt, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use crate::Source;

/// How many errors and warnings are kept. A file with more is most likely no pipeline at all.
const MAX_KEPT: usize = 100;

/// How many calls of templates are named for one mistake.
const MAX_TRAIL: usize = 6;

/// Which source text a span belongs to: an index into the list of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SourceId(u32);

impl SourceId {
    /// The root file.
    pub(crate) const ROOT: Self = Self(0);
}

/// A stretch of a source text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    source: SourceId,
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn new(source: SourceId, start: usize, end: usize) -> Self {
        // Source texts are limited to far less than 4 GiB, see `yaml::MAX_TEXT_BYTES`.
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { source, start: narrow(start), end: narrow(end) }
    }

    /// From the beginning of `self` to the end of `other`.
    pub(crate) fn to(self, other: Self) -> Self {
        Self { end: other.end.max(self.start), ..self }
    }

    /// A stretch inside this one, by offsets from its beginning.
    pub(crate) fn inside(self, range: std::ops::Range<usize>) -> Self {
        let start = self.start as usize;
        Self::new(self.source, start + range.start, start + range.end)
    }

    /// Whether it holds no text.
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Where it begins.
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    /// The text it points into.
    pub(crate) fn source(self) -> SourceId {
        self.source
    }

    fn range(self, text: &str) -> std::ops::Range<usize> {
        let end = floor(text, self.end as usize);
        floor(text, self.start as usize).min(end)..end
    }
}

/// The nearest character border at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The pipeline cannot run.
    Error,
    /// The pipeline runs, but perhaps not as meant.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone)]
pub(crate) struct Diagnostic {
    severity: Severity,
    message: String,
    span: Span,
    help: Vec<String>,
    /// The calls that led to the file, the nearest first.
    trail: Vec<Span>,
    /// How many more calls place the file.
    elsewhere: usize,
    /// The file is right, but whoever runs it must give a value.
    asks: bool,
}

impl Diagnostic {
    /// Adds what to do about it.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help.push(on_one_line(help.into()));
        self
    }

    /// Says that nothing is wrong with the file: a value is missing, which whoever runs it must give.
    pub(crate) fn asks_for_a_value(&mut self) -> &mut Self {
        self.asks = true;
        self
    }
}

/// Writes line breaks and other control characters as escapes: messages name keys and values as they stand in
/// the file, and a key may span lines or steer a terminal.
fn on_one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line
}

/// Gathers diagnostics while a pipeline is compiled.
#[derive(Debug)]
pub(crate) struct Collector {
    sources: Vec<Source>,
    items: Vec<Diagnostic>,
    errors: usize,
    dropped: usize,
    /// Takes what is said after [`MAX_KEPT`].
    spill: Option<Diagnostic>,
    /// The templates that are open, with the calls that placed them.
    open: Vec<(SourceId, Span)>,
    /// Every call by which a file was placed.
    calls: HashMap<SourceId, Vec<Span>>,
}

impl Collector {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            sources: vec![source],
            items: Vec::new(),
            errors: 0,
            dropped: 0,
            spill: None,
            open: Vec::new(),
            calls: HashMap::new(),
        }
    }

    /// Takes in one more text that spans may point into.
    pub(crate) fn add_source(&mut self, source: Source) -> SourceId {
        self.sources.push(source);
        SourceId(u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX))
    }

    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, span, message.into())
    }

    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, span, message.into())
    }

    fn push(&mut self, severity: Severity, span: Span, message: String) -> &mut Diagnostic {
        let mut diagnostic = Diagnostic {
            severity,
            message: on_one_line(message),
            span,
            help: Vec::new(),
            trail: Vec::new(),
            elsewhere: 0,
            asks: false,
        };
        // A template that is placed twice has its mistakes twice; one telling is enough.
        if self.items.iter().any(|told| told.span == span && told.message == diagnostic.message) {
            return self.spill.insert(diagnostic);
        }
        self.errors += usize::from(severity == Severity::Error);
        if self.items.len() >= MAX_KEPT {
            self.dropped += 1;
            return self.spill.insert(diagnostic);
        }
        (diagnostic.trail, diagnostic.elsewhere) = self.trail(span.source);
        let at = self.items.len();
        self.items.push(diagnostic);
        &mut self.items[at]
    }

    /// A template is being placed: what is told from here on about its text came in by this call.
    pub(crate) fn enter(&mut self, template: SourceId, call: Span) {
        self.open.push((template, call));
        let calls = self.calls.entry(template).or_default();
        if !calls.contains(&call) {
            calls.push(call);
        }
    }

    /// The template that was entered last is placed.
    pub(crate) fn leave(&mut self) {
        self.open.pop();
    }

    /// The calls that led to a file, and how many more there are.
    fn trail(&self, source: SourceId) -> (Vec<Span>, usize) {
        let mut trail: Vec<Span> = Vec::new();
        if let Some(at) = self.open.iter().rposition(|(template, _)| *template == source) {
            for (_, call) in self.open[..=at].iter().rev() {
                if trail.len() < MAX_TRAIL && !trail.contains(call) {
                    trail.push(*call);
                }
            }
            return (trail, 0);
        }
        // The expansion is over: the first call stands for all.
        let mut at = source;
        while let Some(call) = self.calls.get(&at).and_then(|calls| calls.first())
            && trail.len() < MAX_TRAIL
            && !trail.contains(call)
        {
            trail.push(*call);
            at = call.source;
        }
        (trail, self.calls.get(&source).map_or(0, |calls| calls.len() - 1))
    }

    /// Forgets the warnings told since there were `before` diagnostics.
    pub(crate) fn forget_warnings(&mut self, before: usize) {
        let fresh = self.items.split_off(before.min(self.items.len()));
        self.items.extend(fresh.into_iter().filter(|item| item.severity == Severity::Error));
    }

    /// How many diagnostics are kept so far.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The source text under a span.
    pub(crate) fn slice(&self, span: Span) -> &str {
        self.sources.get(span.source.0 as usize).map_or("", |source| &source.text[span.range(&source.text)])
    }

    /// Whether nobody will read what else is reported. Searches for places and suggestions are left out then:
    /// they would take minutes for a file with a hundred thousand mistakes.
    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= MAX_KEPT
    }

    /// The line (from 1) in which a span begins, for the text of another diagnostic.
    pub(crate) fn line_of(&self, span: Span) -> usize {
        self.location(span).map_or(0, |location| location.line)
    }

    /// Where a span begins.
    pub(crate) fn location(&self, span: Span) -> Option<Location> {
        let source = self.sources.get(span.source.0 as usize).filter(|_| !self.is_full())?;
        Some(locate(source, span.range(&source.text).start))
    }

    /// Closes the collection.
    pub(crate) fn finish(mut self) -> Diagnostics {
        // Stable, so that mistakes at one place keep the order in which they were found.
        self.items.sort_by_key(|item| (item.span.source.0, item.span.start));
        Diagnostics {
            sources: self.sources.into(),
            items: self.items,
            errors: self.errors,
            dropped: self.dropped,
        }
    }
}

/// A place in a file, for people and editors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The name of the source as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

fn locate(source: &Source, at: usize) -> Location {
    let before = &source.text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Location {
        file: source.name.clone(),
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// Whether a rendering holds terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Colored,
}

/// Everything the compiler has to say about a pipeline, in the order of the file.
///
/// `Display` renders it as plain text.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    sources: Arc<[Source]>,
    items: Vec<Diagnostic>,
    errors: usize,
    dropped: usize,
}

/// One diagnostic as data, see [`Diagnostics::reports`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong: one line, lower case, no full stop.
    pub message: String,
    /// Where it begins.
    #[serde(flatten)]
    pub location: Location,
    /// The line in which it ends, from 1.
    #[serde(rename = "endLine")]
    pub end_line: usize,
    /// The column behind its last character, from 1.
    #[serde(rename = "endColumn")]
    pub end_column: usize,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
    /// The calls that placed the file, the nearest first.
    #[serde(rename = "includedFrom", skip_serializing_if = "Vec::is_empty")]
    pub included_from: Vec<Location>,
}

impl Diagnostics {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether all that is missing are values which whoever runs the pipeline must give.
    #[must_use]
    pub fn only_asks_for_values(&self) -> bool {
        let mut errors = self.items.iter().filter(|item| item.severity == Severity::Error).peekable();
        self.dropped == 0 && errors.peek().is_some() && errors.all(|error| error.asks)
    }

    /// How many errors there are, those beyond the kept ones included.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// The diagnostics as data.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.items
            .iter()
            .map(|item| {
                let source = self.source(item.span);
                let range = item.span.range(&source.text);
                let end = locate(source, range.end);
                Report {
                    severity: item.severity,
                    message: item.message.clone(),
                    location: locate(source, range.start),
                    end_line: end.line,
                    end_column: end.column,
                    help: item.help.clone(),
                    included_from: item.trail.iter().map(|call| self.location(*call)).collect(),
                }
            })
            .collect()
    }

    /// The diagnostics as a JSON list.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self.reports()).unwrap_or_default()
    }

    /// The diagnostics for people: file, line, column, the source line with a caret, help. Ends with a
    /// newline.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colored => Renderer::styled(),
        };
        let mut text = String::new();
        for item in &self.items {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&renderer.render(&[self.group(item)]));
            text.push('\n');
        }
        if self.dropped > 0 {
            text.push_str(&format!("\nand {} more\n", self.dropped));
        }
        text
    }

    fn location(&self, span: Span) -> Location {
        let source = self.source(span);
        locate(source, span.range(&source.text).start)
    }

    fn source(&self, span: Span) -> &Source {
        &self.sources[(span.source.0 as usize).min(self.sources.len() - 1)]
    }

    fn group<'a>(&'a self, item: &'a Diagnostic) -> Group<'a> {
        let source = self.source(item.span);
        let range = first_line(&source.text, item.span.range(&source.text));
        // The renderer gets the lines around only: it walks through all the text it is given, for every
        // diagnostic.
        let window = window(&source.text, &range);
        let line = source.text[..window.start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        let annotation = AnnotationKind::Primary.span(range.start - window.start..range.end - window.start);
        let level = match item.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let snippet = Snippet::source(&source.text[window])
            .line_start(line)
            .path(source.name.as_str())
            .annotation(annotation);
        let mut group = level.primary_title(item.message.as_str()).element(snippet);
        for help in &item.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        for (at, call) in item.trail.iter().enumerate() {
            let mut note = format!("included from {}", self.location(*call));
            match item.elsewhere {
                0 => {}
                1 if at == 0 => note.push_str(" and from one more place"),
                others if at == 0 => note.push_str(&format!(" and from {others} more places")),
                _ => {}
            }
            group = group.element(Level::NOTE.message(note));
        }
        group
    }
}

/// Cuts a span to its first line: a caret under a whole stage tells less than one under its beginning.
fn first_line(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let slice = &text[range.clone()];
    let length = slice.find(['\n', '\r']).unwrap_or(slice.len());
    range.start..range.start + length
}

/// The line which holds the range, without its end: the renderer would show a carriage return.
fn window(text: &str, range: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = text[..range.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[range.end..].find(['\n', '\r']).map_or(text.len(), |end| range.end + end);
    start..end
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Diagnostics {}
