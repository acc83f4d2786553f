//! YAML text to a tree of nodes that know where they were written.
//!
//! Azure Pipelines keeps scalars as the text that was written (`3.10` stays `3.10`), and does not know
//! anchors, aliases, tags, complex keys or several documents: each is reported here, at its place.

mod mistakes;

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser};

use crate::diagnostics::{Collector, SourceId, Span};

/// The most YAML text one file may hold, in bytes. The service limits the memory of parsing to 20 MB, which
/// its documentation puts at 0.6 to 2 MB of text.
pub(crate) const MAX_TEXT_BYTES: usize = 2 * 1024 * 1024;
/// How deep collections may be nested in one file.
pub(crate) const MAX_DEPTH: usize = 100;
/// How many nodes one file may hold.
const MAX_NODES: usize = 250_000;

/// A value of the tree.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Text as written, after YAML's own escapes and folding.
    Scalar(String),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file.
    Mapping(Vec<Entry>),
    /// Stands where a mistake was reported already; readers pass over it without another word.
    Invalid,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// The key of a mapping, always text.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Node {
    /// A scalar made by us.
    pub(crate) fn scalar(text: impl Into<String>, span: Span) -> Self {
        Self { kind: Kind::Scalar(text.into()), span }
    }

    /// The place holder of something that was reported.
    pub(crate) fn invalid(span: Span) -> Self {
        Self { kind: Kind::Invalid, span }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The entry with exactly this key, when the node is a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => {
                entries.iter().find(|entry| entry.key.text == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// Words for messages: "text", "a list", "a mapping".
    pub(crate) fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(text) if text.is_empty() => "nothing",
            Kind::Scalar(_) => "text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
            Kind::Invalid => "an invalid value",
        }
    }

    /// Whether the node is a scalar without text (`key:` or `''`).
    pub(crate) fn is_blank(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(text) if text.trim().is_empty())
    }
}

/// Parses one file. Mistakes go to `collector`; the answer is the tree, unless the text is no YAML at all.
pub(crate) fn parse(source: SourceId, text: &str, collector: &mut Collector) -> Option<Node> {
    if text.len() > MAX_TEXT_BYTES {
        collector
            .error(Span::new(source, 0, 0), format!("the file is larger than {} KiB", MAX_TEXT_BYTES / 1024))
            .help("move parts of the pipeline into scripts");
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder =
        Builder { source, text, collector, stack: Vec::new(), root: None, nodes: 0, documents: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                let span = builder.span(&span);
                if builder.accept(event, span).is_err() {
                    return None;
                }
            }
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
                let mistake = mistakes::explain(text, at, &error.info().to_string());
                let span = Span::new(source, mistake.range.start, mistake.range.end);
                let diagnostic = builder.collector.error(span, mistake.message);
                if let Some(help) = mistake.help {
                    diagnostic.help(help);
                }
                return None;
            }
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        collector
            .error(Span::new(source, 0, 0), "the file is empty")
            .help("a pipeline starts with `steps:`, `jobs:` or `stages:`");
    }
    root
}

/// The parse cannot go on (what was wrong is with the collector).
struct Stop;

/// A collection that is still open.
enum Open {
    Sequence {
        start: Span,
        items: Vec<Node>,
    },
    /// `seen` holds the keys so far, with their places.
    Mapping {
        start: Span,
        entries: Vec<Entry>,
        seen: HashMap<String, Span>,
        key: Option<Key>,
        skip_value: bool,
    },
}

struct Builder<'a> {
    source: SourceId,
    text: &'a str,
    collector: &'a mut Collector,
    stack: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

impl Builder<'_> {
    fn span(&self, span: &granit_parser::Span) -> Span {
        let range = span.byte_range().unwrap_or(0..0);
        let end = range.end.min(self.text.len());
        Span::new(self.source, range.start.min(end), end)
    }

    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.collector
                        .error(span, "a pipeline is a single YAML document, but a second one starts here");
                    return Err(Stop);
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.collector
                    .error(span, "YAML aliases (`*name`) are not supported by Azure Pipelines")
                    .help("write the value out, or use a parameter or a variable");
                self.add(Node::invalid(span))?;
            }
            Event::Scalar(text, _, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                // The parser writes the missing value of `key:` as `~`; nothing was written there.
                let text = if span.is_empty() { Default::default() } else { text };
                self.add(Node::scalar(text, span))?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                self.stack.push(Open::Sequence { start: span, items: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                self.stack.push(Open::Mapping {
                    start: span,
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                    skip_value: false,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop() {
                    Some(Open::Sequence { start, items }) => {
                        let end = items.last().map_or(span, |item| item.span);
                        Node { kind: Kind::Sequence(items), span: start.to(end) }
                    }
                    Some(Open::Mapping { start, entries, .. }) => {
                        let end = entries.last().map_or(span, |entry| entry.value.span);
                        Node { kind: Kind::Mapping(entries), span: start.to(end) }
                    }
                    None => return Ok(()),
                };
                self.add(node)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse_extras(&mut self, anchor: usize, tagged: bool, span: Span) {
        if anchor != 0 {
            self.collector
                .error(span, "YAML anchors (`&name`) are not supported by Azure Pipelines")
                .help("write the value out, or use a parameter or a variable");
        }
        if tagged {
            self.collector.error(span, "YAML tags (`!name`) are not supported by Azure Pipelines");
        }
    }

    fn add(&mut self, node: Node) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.collector.error(node.span, format!("the file has more than {MAX_NODES} values"));
            return Err(Stop);
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, seen, key: slot, skip_value, .. }) => match slot.take() {
                Some(key) => {
                    if !std::mem::take(skip_value) {
                        entries.push(Entry { key, value: node });
                    }
                }
                None => match node.kind {
                    Kind::Scalar(text) => {
                        // Directives such as `${{ if }}` may be repeated: each is its own branch.
                        let earlier = match text.contains("${{") {
                            true => None,
                            false => seen.insert(text.clone(), node.span),
                        };
                        if let Some(earlier) = earlier {
                            let line = self.collector.line_of(earlier);
                            self.collector
                                .error(node.span, format!("the key `{text}` appears twice"))
                                .help(format!("the first one is on line {line}; keep only one"));
                            *skip_value = true;
                        }
                        *slot = Some(Key { text, span: node.span });
                    }
                    _ => {
                        let span = node.span;
                        if !matches!(node.kind, Kind::Invalid) {
                            self.collector.error(span, format!("a key must be text, not {}", node.noun()));
                        }
                        *skip_value = true;
                        *slot = Some(Key { text: String::new(), span });
                    }
                },
            },
        }
        Ok(())
    }
}
