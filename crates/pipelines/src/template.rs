//! `${{ }}`: expressions in values and keys, and the directives `if`, `elseif`, `else`, `each` and `insert`.
//!
//! One walk over the node tree of the root file gives a tree without any of them. Variables written in the file become
//! visible as the walk passes them: those of the root everywhere, those of a stage or job below it, and within one block
//! of variables to the entries further down.

use std::{collections::HashSet, sync::Arc};

use dayfly_expressions::{Context, Expression, Object, Piece, Scope, Value, split_template};

use crate::{
    diagnostics::{Collector, Span},
    expression, values,
    yaml::{Entry, Key, Kind, Node},
};

/// How many nodes the expansion may make, rounds of loops included. The service stops at 20 MB of memory.
const MAX_NODES: usize = 250_000;
/// How much text the expansion may make.
const MAX_TEXT_BYTES: usize = 20 * 1024 * 1024;

/// Keys of the root that hold no expressions.
const LITERAL_ROOT_KEYS: &[&str] = &["trigger", "pr", "schedules", "parameters"];

/// Expands the root file. Nothing when the expansion had to be given up.
pub(crate) fn expand(
    root: &Node,
    parameters: Object,
    variables: Object,
    collector: &mut Collector,
) -> Option<Node> {
    let mut expander = Expander {
        collector,
        parameters: parameters.into(),
        variables: Arc::new(variables),
        locals: Vec::new(),
        scope: Scope::template(),
        nodes: 0,
        bytes: 0,
        exhausted: false,
    };
    let body = expander.body(root, Level::Root);
    let exhausted = expander.exhausted;
    (!exhausted).then(|| body.into_node(root.span))
}

/// Reports the expressions in a part of the file that may hold none.
pub(crate) fn refuse(node: &Node, place: &str, collector: &mut Collector) {
    let mut tell = |span: Span| {
        collector.error(span, format!("no template expressions in {place}"));
    };
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        match &node.kind {
            Kind::Scalar(text) if text.contains("${{") => tell(node.span),
            Kind::Sequence(items) => open.extend(items),
            Kind::Mapping(entries) => {
                for entry in entries {
                    if entry.key.text.contains("${{") {
                        tell(entry.key.span);
                    }
                    open.push(&entry.value);
                }
            }
            _ => {}
        }
    }
}

/// Which part of a pipeline is being walked: it decides where variables become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Stages,
    Jobs,
    Variables,
    Other,
}

impl Level {
    /// Whether a mapping at this level has variables of its own.
    fn is_scope(self) -> bool {
        matches!(self, Self::Root | Self::Stages | Self::Jobs)
    }

    /// The level of the value of a key.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "stages") => Self::Stages,
            (Self::Root | Self::Stages, "jobs") => Self::Jobs,
            (Self::Root | Self::Stages | Self::Jobs, "variables") => Self::Variables,
            _ => Self::Other,
        }
    }
}

/// What a key says to do with its value.
enum Directive {
    If(Arc<Code>),
    ElseIf(Arc<Code>),
    Else,
    Each { name: String, list: Arc<Code> },
    Insert,
}

/// An expression with the way back to its place.
struct Code {
    expression: Expression,
    /// The scalar or key that holds it.
    node: Node,
    /// Where it begins in the text of the node.
    offset: usize,
}

/// The outcome of a mapping or a directive's value: lists are spliced into lists, mappings merged into mappings.
enum Body {
    Empty,
    Scalar(Node),
    Items(Vec<Node>),
    Entries(Vec<Entry>),
}

impl Body {
    fn into_node(self, span: Span) -> Node {
        match self {
            Self::Empty => Node::scalar("", span),
            Self::Scalar(node) => node,
            Self::Items(items) => Node { kind: Kind::Sequence(items), span },
            Self::Entries(entries) => Node { kind: Kind::Mapping(entries), span },
        }
    }
}

/// The state of a chain of `if`, `elseif` and `else`: whether a branch was taken. `None`: no chain is open.
type Chain = Option<bool>;

struct Expander<'a> {
    collector: &'a mut Collector,
    parameters: Value,
    variables: Arc<Object>,
    /// The variables of the loops around, innermost last.
    locals: Vec<(String, Value)>,
    scope: Scope,
    nodes: usize,
    bytes: usize,
    exhausted: bool,
}

impl Context for Expander<'_> {
    fn root(&self, name: &str) -> Option<Value> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| local.eq_ignore_ascii_case(name))
        {
            return Some(value.clone());
        }
        match name {
            "parameters" => Some(self.parameters.clone()),
            "variables" => Some(Value::Object(Arc::clone(&self.variables))),
            _ => None,
        }
    }
}

impl Expander<'_> {
    /// Counts what is made. `false`: enough of it.
    fn spend(&mut self, bytes: usize, span: Span) -> bool {
        self.nodes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if !self.exhausted && (self.nodes > MAX_NODES || self.bytes > MAX_TEXT_BYTES) {
            self.exhausted = true;
            self.collector
                .error(span, "the template expressions make the pipeline too large")
                .help(format!("at most {MAX_NODES} values and {} MiB of text", MAX_TEXT_BYTES / 1024 / 1024));
        }
        !self.exhausted
    }

    fn node(&mut self, node: &Node, level: Level) -> Node {
        self.body(node, level).into_node(node.span)
    }

    fn body(&mut self, node: &Node, level: Level) -> Body {
        if !self.spend(0, node.span) {
            return Body::Scalar(Node::invalid(node.span));
        }
        match &node.kind {
            Kind::Invalid => Body::Scalar(node.clone()),
            Kind::Scalar(_) => match self.scalar(node) {
                Node { kind: Kind::Sequence(items), .. } => Body::Items(items),
                Node { kind: Kind::Mapping(entries), .. } => Body::Entries(entries),
                scalar => Body::Scalar(scalar),
            },
            Kind::Sequence(items) => Body::Items(self.items(items, level)),
            Kind::Mapping(entries) => self.mapping(node.span, entries, level),
        }
    }

    fn items(&mut self, items: &[Node], level: Level) -> Vec<Node> {
        let mut result = Vec::with_capacity(items.len());
        let mut chain: Chain = None;
        for item in items {
            let before = result.len();
            match &item.kind {
                Kind::Mapping(entries)
                    if !entries.is_empty() && entries.iter().all(|entry| is_directive(&entry.key)) =>
                {
                    match self.directives(item.span, entries, level, &mut chain) {
                        Body::Empty => {}
                        Body::Items(items) => result.extend(items),
                        Body::Scalar(node) if node.is_blank() => {}
                        body => result.push(body.into_node(item.span)),
                    }
                }
                Kind::Scalar(text) if text.trim_start().starts_with("${{") => {
                    chain = None;
                    // A list in place of an item is flattened into the list.
                    match self.body(item, level) {
                        Body::Items(items) => result.extend(items),
                        body => result.push(body.into_node(item.span)),
                    }
                }
                _ => {
                    chain = None;
                    let node = self.node(item, level);
                    result.push(node);
                }
            }
            if level == Level::Variables {
                for node in &result[before..] {
                    self.define_item(node);
                }
            }
        }
        result
    }

    /// A list item that holds nothing but directives. The chain of `if` may have begun in an earlier item.
    fn directives(&mut self, span: Span, entries: &[Entry], level: Level, chain: &mut Chain) -> Body {
        let saved = Arc::clone(&self.variables);
        let mut body = Body::Empty;
        for entry in entries {
            self.entry(entry, level, chain, &mut body, span);
        }
        if level.is_scope() {
            self.variables = saved;
        }
        self.unique(body)
    }

    /// Reports keys that are there twice now, and keeps the first ones.
    fn unique(&mut self, body: Body) -> Body {
        let Body::Entries(mut entries) = body else { return body };
        let mut seen = HashSet::with_capacity(entries.len());
        entries.retain(|entry| {
            let fresh = seen.insert(entry.key.text.clone());
            if !fresh {
                let message =
                    format!("the key `{}` is given twice once the expressions are expanded", entry.key.text);
                self.collector.error(entry.key.span, message);
            }
            fresh
        });
        Body::Entries(entries)
    }

    fn mapping(&mut self, span: Span, entries: &[Entry], level: Level) -> Body {
        let saved = Arc::clone(&self.variables);
        // The variables of a stage are visible in all of it, wherever they are written.
        let mut variables = match level.is_scope() {
            true => entries
                .iter()
                .find(|entry| entry.key.text == "variables")
                .map(|entry| self.node(&entry.value, Level::Variables)),
            false => None,
        };
        let mut body = Body::Entries(Vec::with_capacity(entries.len()));
        let mut chain: Chain = None;
        for entry in entries {
            if entry.key.text == "variables"
                && let Some(value) = variables.take()
            {
                chain = None;
                self.push(&mut body, Entry { key: entry.key.clone(), value });
            } else if level == Level::Root && LITERAL_ROOT_KEYS.contains(&entry.key.text.as_str()) {
                chain = None;
                if entry.key.text != "parameters" {
                    refuse(&entry.value, &format!("`{}`", entry.key.text), self.collector);
                }
                self.push(&mut body, entry.clone());
            } else {
                self.entry(entry, level, &mut chain, &mut body, span);
            }
        }
        if level.is_scope() && level != Level::Root {
            self.variables = saved;
        }
        match body {
            // Only directives, none of which was taken.
            Body::Entries(made) if made.is_empty() && !entries.is_empty() => Body::Empty,
            body => self.unique(body),
        }
    }

    /// Walks one entry of a mapping and adds what it gives to `body`.
    fn entry(&mut self, entry: &Entry, level: Level, chain: &mut Chain, body: &mut Body, span: Span) {
        if !entry.key.text.contains("${{") {
            *chain = None;
            let value = self.node(&entry.value, level.below(&entry.key.text));
            self.push_at(body, Entry { key: entry.key.clone(), value }, level);
            return;
        }
        let directive = match self.directive(&entry.key) {
            Ok(directive) => directive,
            Err(Reported) => {
                *chain = Some(true);
                return;
            }
        };
        let Some(directive) = directive else {
            *chain = None;
            self.computed_key(entry, level, body, span);
            return;
        };
        let taken = match &directive {
            Directive::If(code) => {
                let taken = self.condition(code);
                *chain = Some(taken);
                taken
            }
            Directive::ElseIf(_) | Directive::Else if chain.is_none() => {
                self.collector
                    .error(entry.key.span, "`elseif` and `else` have to follow directly behind an `if`");
                return;
            }
            Directive::ElseIf(code) => {
                let taken = *chain == Some(false) && self.condition(code);
                *chain = chain.map(|before| before || taken);
                taken
            }
            Directive::Else => {
                let taken = *chain == Some(false);
                *chain = None;
                taken
            }
            Directive::Each { .. } | Directive::Insert => {
                *chain = None;
                true
            }
        };
        match directive {
            Directive::Each { name, list } => self.each(&name, &list, entry, level, body, span),
            _ if taken => {
                let made = self.body(&entry.value, level);
                self.merge(body, made, entry, level, span);
            }
            _ => self.check(&entry.value),
        }
    }

    fn each(&mut self, name: &str, list: &Code, entry: &Entry, level: Level, body: &mut Body, span: Span) {
        let rounds: Vec<Value> = match self.evaluate(list) {
            Ok(Value::Array(items)) => items.to_vec(),
            Ok(Value::Object(object)) => object
                .iter()
                .map(|(key, value)| {
                    Object::from_iter([("key", Value::from(key)), ("value", value.clone())]).into()
                })
                .collect(),
            Ok(Value::Null) => Vec::new(),
            Ok(Value::String(text)) if text.is_empty() => Vec::new(),
            Ok(_) => {
                self.collector
                    .error(entry.key.span, "`each` goes over a list or a mapping, and this is neither");
                Vec::new()
            }
            Err(Reported) => Vec::new(),
        };
        self.enter(name, Value::Null);
        if rounds.is_empty() {
            self.check(&entry.value);
        }
        for value in rounds {
            if !self.spend(0, entry.key.span) {
                break;
            }
            if let Some((_, local)) = self.locals.last_mut() {
                *local = value;
            }
            let made = self.body(&entry.value, level);
            self.merge(body, made, entry, level, span);
        }
        self.leave();
    }

    fn enter(&mut self, name: &str, value: Value) {
        self.locals.push((name.to_owned(), value));
        self.rescope();
    }

    fn leave(&mut self) {
        self.locals.pop();
        self.rescope();
    }

    fn rescope(&mut self) {
        self.scope =
            self.locals.iter().fold(Scope::template(), |scope, (name, _)| scope.with_root(name.clone()));
    }

    /// Adds what a directive gave.
    fn merge(&mut self, body: &mut Body, made: Body, entry: &Entry, level: Level, span: Span) {
        let fresh =
            matches!(body, Body::Empty) || matches!(body, Body::Entries(entries) if entries.is_empty());
        match made {
            Body::Empty => {}
            Body::Scalar(node) if node.is_blank() || matches!(node.kind, Kind::Invalid) => {}
            Body::Entries(entries) => {
                if fresh {
                    *body = Body::Entries(Vec::new());
                }
                if matches!(body, Body::Entries(_)) {
                    for entry in entries {
                        self.push_at(body, entry, level);
                    }
                } else {
                    self.mixed(entry, "a mapping");
                }
            }
            Body::Items(items) => match body {
                Body::Items(before) => before.extend(items),
                body if fresh => *body = Body::Items(items),
                _ => self.mixed(entry, "a list"),
            },
            Body::Scalar(node) => {
                if fresh {
                    *body = Body::Scalar(Node { span, ..node });
                } else {
                    self.mixed(entry, "text");
                }
            }
        }
    }

    fn mixed(&mut self, entry: &Entry, what: &str) {
        self.collector
            .error(entry.key.span, format!("this gives {what}, which does not fit to what stands beside it"));
    }

    fn push_at(&mut self, body: &mut Body, entry: Entry, level: Level) {
        if level == Level::Variables
            && let Some(text) = entry.value.text()
        {
            Arc::make_mut(&mut self.variables).insert(entry.key.text.as_str(), Value::from(text));
        }
        self.push(body, entry);
    }

    fn push(&mut self, body: &mut Body, entry: Entry) {
        if matches!(body, Body::Empty) {
            *body = Body::Entries(Vec::new());
        }
        let Body::Entries(entries) = body else {
            self.collector.error(entry.key.span, "this key stands beside something that gave no mapping");
            return;
        };
        entries.push(entry);
    }

    /// A key with an expression that is no directive: text, or a mapping to be merged.
    fn computed_key(&mut self, entry: &Entry, level: Level, body: &mut Body, span: Span) {
        let key = self.scalar(&Node::scalar(entry.key.text.clone(), entry.key.span));
        match key.kind {
            Kind::Scalar(text) => {
                let value = self.node(&entry.value, level.below(&text));
                self.push_at(body, Entry { key: Key { text, span: entry.key.span }, value }, level);
            }
            Kind::Mapping(entries) if entry.value.is_blank() => {
                self.merge(body, Body::Entries(entries), entry, level, span);
            }
            Kind::Invalid => {
                let _ = self.node(&entry.value, Level::Other);
            }
            _ => {
                self.collector
                    .error(entry.key.span, "a key has to be text, and this expression gives something else");
            }
        }
    }

    /// Makes an entry of a list of variables visible.
    fn define_item(&mut self, node: &Node) {
        if let (Some(name), Some(value)) =
            (node.get("name").and_then(Node::text), node.get("value").and_then(Node::text))
        {
            Arc::make_mut(&mut self.variables).insert(name, Value::from(value));
        }
    }

    /// Evaluates the expressions of a scalar.
    fn scalar(&mut self, node: &Node) -> Node {
        let Kind::Scalar(text) = &node.kind else { return node.clone() };
        if !text.contains("${{") {
            self.spend(text.len(), node.span);
            return node.clone();
        }
        let pieces = match split_template(text) {
            Ok(pieces) => pieces,
            Err(error) => {
                expression::report(self.collector, node, text, 0, &error);
                return Node::invalid(node.span);
            }
        };
        let whole = match pieces.as_slice() {
            [Piece::Expression { inner, .. }] => Some(inner.clone()),
            // Blanks around a lone expression do not make it text.
            pieces => {
                let mut lone = None;
                let blank = pieces.iter().all(|piece| match piece {
                    Piece::Text(range) => text[range.clone()].trim().is_empty(),
                    Piece::Expression { inner, .. } => lone.replace(inner.clone()).is_none(),
                });
                lone.filter(|_| blank)
            }
        };
        if let Some(inner) = whole {
            let value = self.parse(node, inner).and_then(|code| self.evaluate(&code));
            return match value {
                Ok(value) => {
                    let made = values::to_node(&value, node.span);
                    self.charge(&made);
                    made
                }
                Err(Reported) => Node::invalid(node.span),
            };
        }
        let mut glued = String::new();
        let mut failed = false;
        for piece in pieces {
            match piece {
                Piece::Text(range) => glued.push_str(&text[range]),
                Piece::Expression { inner, outer } => {
                    match self.parse(node, inner).and_then(|code| self.evaluate(&code)) {
                        Ok(value) => match value.as_text() {
                            Some(text) => glued.push_str(&text),
                            None => {
                                failed = true;
                                let span = expression::place(self.collector, node.span, text, outer);
                                let noun =
                                    if matches!(value, Value::Array(_)) { "a list" } else { "a mapping" };
                                self.collector
                                    .error(span, format!("{noun} cannot be put into text"))
                                    .help("use `convertToJson`, or `join` for a list");
                            }
                        },
                        Err(Reported) => failed = true,
                    }
                }
            }
            if glued.len() > MAX_TEXT_BYTES {
                break;
            }
        }
        if failed || !self.spend(glued.len(), node.span) {
            return Node::invalid(node.span);
        }
        Node::scalar(glued, node.span)
    }

    /// Counts a tree that an expression gave.
    fn charge(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(text) => {
                self.spend(text.len(), node.span);
            }
            Kind::Sequence(items) => items.iter().for_each(|item| self.charge(item)),
            Kind::Mapping(entries) => {
                for entry in entries {
                    self.spend(entry.key.text.len(), node.span);
                    self.charge(&entry.value);
                }
            }
            Kind::Invalid => {}
        }
    }

    fn parse(&mut self, node: &Node, inner: std::ops::Range<usize>) -> Result<Code, Reported> {
        let text = node.text().unwrap_or_default();
        match Expression::parse(&text[inner.clone()], &self.scope) {
            Ok(expression) => Ok(Code { expression, node: node.clone(), offset: inner.start }),
            Err(error) => {
                expression::report(self.collector, node, text, inner.start, &error);
                Err(Reported)
            }
        }
    }

    fn evaluate(&mut self, code: &Code) -> Result<Value, Reported> {
        code.expression.evaluate(&*self).map_err(|error| {
            let text = code.node.text().unwrap_or_default();
            expression::report(self.collector, &code.node, text, code.offset, &error);
            Reported
        })
    }

    fn condition(&mut self, code: &Code) -> bool {
        self.evaluate(code).is_ok_and(|value| value.to_boolean())
    }

    /// Reads a key as a directive. `None`: it is an ordinary expression.
    fn directive(&mut self, key: &Key) -> Result<Option<Directive>, Reported> {
        let Some((word, inner)) = directive_word(&key.text) else { return Ok(None) };
        let node = Node::scalar(key.text.clone(), key.span);
        let rest = inner.start + word.len()..inner.end;
        Ok(Some(match word {
            "if" => Directive::If(Arc::new(self.parse(&node, rest)?)),
            "elseif" => Directive::ElseIf(Arc::new(self.parse(&node, rest)?)),
            "else" | "insert" => {
                if !key.text[rest].trim().is_empty() {
                    self.collector.error(key.span, format!("nothing may follow `{word}`")).help(
                        if word == "else" {
                            "a second condition is written `elseif`"
                        } else {
                            "the mapping is the value of the key"
                        },
                    );
                    return Err(Reported);
                }
                if word == "else" { Directive::Else } else { Directive::Insert }
            }
            _ => {
                let text = &key.text[rest.clone()];
                let name = text.split_whitespace().next().unwrap_or_default().to_owned();
                let after = text.find(name.as_str()).map_or(0, |at| at + name.len());
                let tail = &text[after..];
                let keyword = tail.trim_start();
                let well_formed = keyword.starts_with("in") && keyword[2..].starts_with(char::is_whitespace);
                if name.is_empty() || !well_formed {
                    self.collector.error(key.span, "a loop is written `${{ each item in list }}`");
                    return Err(Reported);
                }
                let start = rest.start + after + (tail.len() - keyword.len()) + 2;
                Directive::Each { name, list: Arc::new(self.parse(&node, start..rest.end)?) }
            }
        }))
    }

    /// Looks through a branch that is not taken for expressions that could never be parsed.
    fn check(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(text) if text.contains("${{") => match split_template(text) {
                Ok(pieces) => {
                    for piece in pieces {
                        if let Piece::Expression { inner, .. } = piece {
                            // The mistake is reported by `parse`.
                            let _ = self.parse(node, inner);
                        }
                    }
                }
                Err(error) => {
                    expression::report(self.collector, node, text, 0, &error);
                }
            },
            Kind::Sequence(items) => items.iter().for_each(|item| self.check(item)),
            Kind::Mapping(entries) => {
                for entry in entries {
                    let local = match entry.key.text.contains("${{").then(|| self.directive(&entry.key)) {
                        Some(Ok(Some(Directive::Each { name, .. }))) => Some(name),
                        Some(Ok(None)) => {
                            self.check(&Node::scalar(entry.key.text.clone(), entry.key.span));
                            None
                        }
                        _ => None,
                    };
                    match local {
                        Some(name) => {
                            self.enter(&name, Value::Null);
                            self.check(&entry.value);
                            self.leave();
                        }
                        None => self.check(&entry.value),
                    }
                }
            }
            _ => {}
        }
    }
}

/// The mistake is with the collector already.
struct Reported;

fn is_directive(key: &Key) -> bool {
    directive_word(&key.text).is_some()
}

/// The word of a directive and the range of its expression, the word included.
fn directive_word(key: &str) -> Option<(&'static str, std::ops::Range<usize>)> {
    let trimmed = key.trim();
    if !trimmed.starts_with("${{") || !trimmed.ends_with("}}") {
        return None;
    }
    let outer_start = key.len() - key.trim_start().len();
    let text = trimmed.strip_prefix("${{")?.strip_suffix("}}")?;
    let start = outer_start + 3 + (text.len() - text.trim_start().len());
    let inner = text.trim();
    let word = ["elseif", "else", "if", "each", "insert"].into_iter().find(|word| {
        inner
            .strip_prefix(word)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '('))
    })?;
    Some((word, start..start + inner.len()))
}
