//! `${{ }}`: expressions in values and keys, the directives `if`, `elseif`, `else`, `each` and `insert`, and
//! templates.
//!
//! One walk over the node tree of the root file gives a tree without any of them. Variables written in the
//! file become visible as the walk passes them: those of the root everywhere, those of a stage or job below
//! it, and within one block of variables to the entries further down.

mod binding;
mod calls;
mod expressions;
mod include;
mod level;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use dayfly_expressions::{Context, Object, Scope, Value};

use crate::{
    diagnostics::{Collector, SourceId, Span},
    files::{Files, Place, Repository},
    plan::Parameter,
    schema::parameters::Arguments,
    tasks::TaskCatalog,
    yaml::{Entry, Key, Kind, Node},
};
use expressions::{Code, Directive, is_directive};
use level::Level;

/// How many nodes the expansion may make, rounds of loops included. The service stops at 20 MB of memory.
const MAX_NODES: usize = 250_000;
/// How much text the expansion may make.
const MAX_TEXT_BYTES: usize = 20 * 1024 * 1024;
/// How deep values may be nested, through all templates: each level is one on the stack.
const MAX_DEPTH: usize = 250;

/// Keys of the root that hold no expressions.
const LITERAL_ROOT_KEYS: &[&str] = &["trigger", "pr", "schedules", "parameters"];

/// What the expansion of a root file needs.
pub(crate) struct Surroundings<'a> {
    /// What the run gives to the parameters of the root.
    pub(crate) arguments: &'a BTreeMap<String, serde_json::Value>,
    /// Variables known before the file is read.
    pub(crate) variables: Object,
    /// The place of the root file in its repository.
    pub(crate) path: String,
    /// The files of that repository.
    pub(crate) files: &'a dyn Files,
    /// Which tasks exist.
    pub(crate) tasks: &'a dyn TaskCatalog,
}

/// Expands the root file: its tree, and its parameters with their values. Nothing when the expansion had to
/// be given up.
pub(crate) fn expand(
    root: &Node,
    surroundings: Surroundings<'_>,
    collector: &mut Collector,
) -> Option<(Node, Vec<Parameter>)> {
    let place = Place::own(surroundings.path);
    let mut expander = Expander {
        collector,
        files: surroundings.files,
        repositories: repositories(root),
        tasks: surroundings.tasks,
        places: HashMap::from([(root.span.source(), place.clone())]),
        place,
        next_place: Place::default(),
        loaded: HashMap::new(),
        strict: false,
        missed: RefCell::new(None),
        broken: false,
        parameters: Value::Null,
        variables: Arc::new(surroundings.variables),
        locals: Vec::new(),
        scope: Scope::template(),
        templates: 0,
        depth: 0,
        nodes: 0,
        bytes: 0,
        exhausted: false,
    };
    let bound = expander.bind(root, Arguments::Run { given: surroundings.arguments, read: Vec::new() });
    expander.strict = bound.strict;
    expander.parameters = bound.values.into();
    let body = expander.body(root, Level::Root).into_node(root.span);
    let body = expander.extend(body);
    let exhausted = expander.exhausted;
    (!exhausted).then_some((body, bound.parameters))
}

/// The repositories that a file declares at its root. Those whose names are made by expressions are left out:
/// the service, too, must know them before it reads templates.
fn repositories(root: &Node) -> Vec<Repository> {
    let declared = root.get("resources").and_then(|resources| resources.get("repositories"));
    let Some(Kind::Sequence(items)) = declared.map(|node| &node.kind) else { return Vec::new() };
    let text = |item: &Node, key: &str| match item.get(key).map(|node| &node.kind) {
        Some(Kind::Scalar(text)) if !text.contains("${{") && !text.trim().is_empty() => {
            Some(text.trim().to_owned())
        }
        _ => None,
    };
    let repository = |item: &Node| {
        Some(Repository {
            alias: text(item, "repository")?,
            kind: text(item, "type").unwrap_or_else(|| "git".to_owned()),
            name: text(item, "name")?,
            reference: text(item, "ref"),
        })
    };
    items.iter().filter_map(repository).collect()
}

/// Reports the expressions in a part of the file that may hold none.
pub(crate) fn refuse(node: &Node, place: &str, collector: &mut Collector) {
    let mut tell = |span: Span| {
        collector.error(span, format!("template expressions are not allowed in {place}"));
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

/// The outcome of a mapping or a directive's value: lists are spliced into lists, mappings merged into
/// mappings.
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

impl From<Node> for Body {
    fn from(node: Node) -> Self {
        match node.kind {
            Kind::Sequence(items) => Self::Items(items),
            Kind::Mapping(entries) => Self::Entries(entries),
            Kind::Scalar(_) | Kind::Invalid => Self::Scalar(node),
        }
    }
}

/// The state of a chain of `if`, `elseif` and `else`: whether a branch was taken. `None`: no chain is open.
type Chain = Option<bool>;

struct Expander<'a> {
    collector: &'a mut Collector,
    files: &'a dyn Files,
    /// Those that the pipeline's file declares, and the templates that it extends.
    repositories: Vec<Repository>,
    tasks: &'a dyn TaskCatalog,
    /// The file that is being walked, and the one that will be next.
    place: Place,
    next_place: Place,
    /// Files that were read; nothing where that failed and was reported.
    loaded: HashMap<Place, Option<Arc<Node>>>,
    /// Which file a text is.
    places: HashMap<SourceId, Place>,
    parameters: Value,
    /// Whether a parameter that is not there is a mistake.
    strict: bool,
    /// The parameter that an expression asked for in vain.
    missed: RefCell<Option<String>>,
    /// A value of a parameter was wrong and left out: what is missing now is no mistake of its own.
    broken: bool,
    variables: Arc<Object>,
    /// The variables of the loops around, innermost last.
    locals: Vec<(String, Value)>,
    scope: Scope,
    /// How many templates are open.
    templates: usize,
    depth: usize,
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

    fn missing(&self, root: &str, name: &str) -> Option<String> {
        (self.strict && root == "parameters").then(|| {
            *self.missed.borrow_mut() = Some(name.to_owned());
            format!("there is no parameter `{name}`")
        })
    }
}

/// The mistake is with the collector already.
struct Reported;

/// Whether an item stands for the items of a template.
fn is_call(node: &Node) -> bool {
    let Kind::Mapping(entries) = &node.kind else { return false };
    entries.first().is_some_and(|entry| entry.key.text == "template")
}

impl Expander<'_> {
    /// Counts what is made. `false`: enough of it.
    fn spend(&mut self, bytes: usize, span: Span) -> bool {
        self.nodes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if !self.exhausted && (self.nodes > MAX_NODES || self.bytes > MAX_TEXT_BYTES) {
            self.exhausted = true;
            self.collector
                .error(span, "the template expressions make this pipeline too large")
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
        if self.depth >= MAX_DEPTH {
            self.exhausted = true;
            self.collector.error(node.span, format!("values are nested deeper than {MAX_DEPTH} levels"));
            return Body::Scalar(Node::invalid(node.span));
        }
        self.depth += 1;
        let body = self.body_within(node, level);
        self.depth -= 1;
        body
    }

    fn body_within(&mut self, node: &Node, level: Level) -> Body {
        match &node.kind {
            Kind::Invalid => Body::Scalar(node.clone()),
            Kind::Scalar(_) => {
                let made = self.scalar(node);
                match level.is_placing() && made.text().is_none() {
                    true => self.place_calls(made, level),
                    false => made,
                }
                .into()
            }
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
            if let Some(list) = level.list()
                && result[before..].iter().any(is_call)
            {
                for node in result.split_off(before) {
                    match is_call(&node) {
                        true => result.extend(self.include(&node, list, level)),
                        false => result.push(node),
                    }
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
                    format!("the key `{}` appears twice after the expressions are expanded", entry.key.text);
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
                self.collector.error(entry.key.span, "`elseif` and `else` must come right after an `if`");
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
                self.collector.error(entry.key.span, "`each` needs a list or a mapping, and this is neither");
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
            .error(entry.key.span, format!("this gives {what}, which does not fit with what is beside it"));
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
            self.collector.error(entry.key.span, "this key is beside something that is not a mapping");
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
                    .error(entry.key.span, "a key must be text, and this expression gives something else");
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
}
