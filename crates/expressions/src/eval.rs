//! Walking the tree.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::ast::{Node, NodeKind, Step};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::explain::{Explanation, Trace};
use crate::format::{Moment, Segment};
use crate::functions::{self, Function, Separators};
use crate::scope::Scope;
use crate::value::{Kind, NoCast, Side, Value};
use crate::{ast, explain, format, json, parser, text};

/// The most that the texts and lists made by one evaluation may take together: `format` within `format` grows
/// without bounds otherwise. As much as the service allows for the expansion of a whole pipeline.
pub const MAX_MEMORY_BYTES: usize = 20 * 1024 * 1024;

/// A parsed expression.
#[derive(Debug, Clone)]
pub struct Expression {
    text: Arc<str>,
    root: Node,
}

impl Expression {
    /// Parses the text, which must use only what the scope has.
    ///
    /// # Errors
    /// The first mistake, with its position in `text`.
    pub fn parse(text: &str, scope: &Scope) -> Result<Expression> {
        let root = parser::parse(text, scope)?;
        Ok(Expression { text: Arc::from(text), root })
    }

    /// The text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it reads this entry of a root name by a fixed key: `variables.name` or `variables['name']`, in
    /// any case.
    pub fn reads(&self, root: &str, key: &str) -> bool {
        ast::reads(&self.root, root, key)
    }

    /// The value.
    ///
    /// # Errors
    /// A cast that does not exist, an argument that a function cannot take, a refusal by the context, too
    /// much memory.
    pub fn evaluate(&self, context: &dyn Context) -> Result<Value> {
        Evaluator::new(&self.text, context, None).node(&self.root)
    }

    /// The value as the result of a condition.
    ///
    /// # Errors
    /// As [`evaluate`](Expression::evaluate).
    pub fn condition(&self, context: &dyn Context) -> Result<bool> {
        Ok(self.evaluate(context)?.to_boolean())
    }

    /// The value and how it came about, for the log of a condition that was false.
    ///
    /// # Errors
    /// As [`evaluate`](Expression::evaluate).
    pub fn explain(&self, context: &dyn Context) -> Result<Explanation> {
        let trace = RefCell::new(Trace::new());
        let value = Evaluator::new(&self.text, context, Some(&trace)).node(&self.root)?;
        Ok(Explanation { value, expanded: explain::expanded(&self.root, &trace.into_inner()) })
    }
}

struct Evaluator<'a> {
    text: &'a str,
    context: &'a dyn Context,
    memory_bytes: Cell<usize>,
    trace: Option<&'a RefCell<Trace>>,
}

impl<'a> Evaluator<'a> {
    fn new(text: &'a str, context: &'a dyn Context, trace: Option<&'a RefCell<Trace>>) -> Evaluator<'a> {
        Evaluator { text, context, memory_bytes: Cell::new(0), trace }
    }

    fn node(&self, node: &Node) -> Result<Value> {
        let value = match &node.kind {
            NodeKind::Literal(value) => value.clone(),
            NodeKind::Root(name) => self.context.root(name).unwrap_or_default(),
            NodeKind::Access { base, steps } => self.access(base, steps, &node.span)?,
            NodeKind::Call { function, arguments } => self.call(*function, arguments, &node.span)?,
            NodeKind::HostCall { name, arguments } => self.host_call(name, arguments, &node.span)?,
        };
        if let Some(trace) = self.trace {
            trace.borrow_mut().insert(node.span.clone(), value.clone());
        }
        Ok(value)
    }

    fn host_call(&self, name: &str, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let arguments = arguments.iter().map(|argument| self.node(argument)).collect::<Result<Vec<_>>>()?;
        match self.context.call(name, &arguments) {
            Some(Ok(value)) => Ok(value),
            Some(Err(message)) => Err(self.error(ErrorKind::Host, span, message)),
            None => Err(self.error(ErrorKind::Host, span, format!("`{name}` is not available here"))),
        }
    }

    /// Property, index and wildcard steps. Behind a wildcard each step is taken for every item, and items
    /// without it drop out.
    fn access(&self, base: &Node, steps: &[Step], span: &Range<usize>) -> Result<Value> {
        let mut value = self.node(base)?;
        let mut filtered = false;
        for (at, step) in steps.iter().enumerate() {
            // The index of something without items is not even evaluated.
            if !filtered
                && !matches!(value, Value::Array(_) | Value::Object(_))
                && !matches!(step, Step::Wildcard)
            {
                value = Value::Null;
                continue;
            }
            let key = match step {
                Step::Property(name) => Some(Value::String(Arc::clone(name))),
                Step::Index(index) => Some(self.node(index)?),
                Step::Wildcard => None,
            };
            value = match (key, filtered) {
                (Some(key), false) => match functions::item(&value, &key) {
                    Some(item) => item,
                    None if at == 0 => self.missing(base, &key, span)?,
                    None => Value::Null,
                },
                (key, _) => {
                    let filter = Filter { key: key.as_ref(), filtered };
                    filtered = true;
                    self.filter(&value, &filter, span)?
                }
            };
        }
        Ok(value)
    }

    /// What a name is that the base does not hold.
    fn missing(&self, base: &Node, key: &Value, span: &Range<usize>) -> Result<Value> {
        if let (NodeKind::Root(root), Some(name)) = (&base.kind, key.as_text())
            && let Some(message) = self.context.missing(root, &name)
        {
            return Err(self.error(ErrorKind::Host, span, message));
        }
        Ok(Value::Null)
    }

    fn filter(&self, value: &Value, filter: &Filter<'_>, span: &Range<usize>) -> Result<Value> {
        let mut out = Vec::new();
        match (filter.key, filter.filtered) {
            (Some(key), _) => {
                out.extend(functions::items(value).iter().filter_map(|item| functions::item(item, key)))
            }
            (None, true) => functions::items(value).iter().for_each(|item| functions::spread(item, &mut out)),
            (None, false) => functions::spread(value, &mut out),
        }
        self.charge(out.len() * size_of::<Value>(), span)?;
        Ok(Value::from(out))
    }

    fn call(&self, function: Function, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let node = |at: usize| self.node(&arguments[at]);
        let text = |at: usize| self.text_of(&arguments[at]);
        Ok(match function {
            Function::And => Value::Boolean(self.all(arguments, true)?),
            Function::Or => Value::Boolean(!self.all(arguments, false)?),
            Function::Not => Value::Boolean(!node(0)?.to_boolean()),
            Function::Xor => Value::Boolean(node(0)?.to_boolean() ^ node(1)?.to_boolean()),
            Function::Eq => Value::Boolean(node(0)?.equals(&node(1)?)),
            Function::Ne => Value::Boolean(!node(0)?.equals(&node(1)?)),
            Function::Gt => Value::Boolean(self.compare(arguments)?.is_gt()),
            Function::Ge => Value::Boolean(self.compare(arguments)?.is_ge()),
            Function::Lt => Value::Boolean(self.compare(arguments)?.is_lt()),
            Function::Le => Value::Boolean(self.compare(arguments)?.is_le()),
            Function::In => Value::Boolean(self.is_in(arguments)?),
            Function::NotIn => Value::Boolean(!self.is_in(arguments)?),
            Function::Contains => Value::Boolean(text::contains(&text(0)?, &text(1)?)),
            Function::StartsWith => Value::Boolean(text::starts_with(&text(0)?, &text(1)?)),
            Function::EndsWith => Value::Boolean(text::ends_with(&text(0)?, &text(1)?)),
            Function::ContainsValue => Value::Boolean(self.contains_value(arguments)?),
            Function::Coalesce => self.coalesce(arguments)?,
            Function::Iif => {
                let (condition, then, otherwise) = (node(0)?.to_boolean(), node(1)?, node(2)?);
                if condition { then } else { otherwise }
            }
            Function::Length => self.length(&arguments[0])?,
            Function::Lower => self.made(functions::lower(&text(0)?), span)?,
            Function::Upper => self.made(functions::upper(&text(0)?), span)?,
            Function::Trim => self.made(text(0)?.trim().to_owned(), span)?,
            Function::Replace => self.replace(arguments, span)?,
            Function::Split => self.split(arguments, span)?,
            Function::Substring => self.substring(arguments, span)?,
            Function::Join => self.join(arguments, span)?,
            Function::Format => self.format(arguments, span)?,
            Function::ConvertToJson => {
                let left = MAX_MEMORY_BYTES - self.memory_bytes.get();
                let made = json::indented(&node(0)?, left).ok_or_else(|| self.out_of_memory(span))?;
                self.made(made, span)?
            }
        })
    }

    /// Whether all arguments are true (or all false), stopping at the first that is not.
    fn all(&self, arguments: &[Node], expected: bool) -> Result<bool> {
        for argument in arguments {
            if self.node(argument)?.to_boolean() != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn compare(&self, arguments: &[Node]) -> Result<Ordering> {
        let (left, right) = (self.node(&arguments[0])?, self.node(&arguments[1])?);
        left.compare(&right).map_err(|NoCast { side, from, to }| {
            let argument = if side == Side::Left { &arguments[0] } else { &arguments[1] };
            self.no_cast(&argument.span, from, to)
        })
    }

    fn is_in(&self, arguments: &[Node]) -> Result<bool> {
        let wanted = self.node(&arguments[0])?;
        for argument in &arguments[1..] {
            if wanted.equals(&self.node(argument)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn contains_value(&self, arguments: &[Node]) -> Result<bool> {
        let collection = self.node(&arguments[0])?;
        if !matches!(collection, Value::Array(_) | Value::Object(_)) {
            return Ok(false);
        }
        Ok(functions::contains_value(&collection, &self.node(&arguments[1])?))
    }

    /// The first argument that is neither null nor empty text, else the last.
    fn coalesce(&self, arguments: &[Node]) -> Result<Value> {
        let mut value = Value::Null;
        for argument in arguments {
            value = self.node(argument)?;
            if !value.is_null_like() {
                break;
            }
        }
        Ok(value)
    }

    fn length(&self, argument: &Node) -> Result<Value> {
        let value = self.node(argument)?;
        let length = functions::length(&value)
            .ok_or_else(|| self.no_cast(&argument.span, value.kind(), Kind::String))?;
        Ok(Value::Number(length.into()))
    }

    fn replace(&self, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let (text, from, to) =
            (self.text_of(&arguments[0])?, self.text_of(&arguments[1])?, self.text_of(&arguments[2])?);
        if from.is_empty() {
            return Err(self.error(ErrorKind::Argument, &arguments[1].span, "the text to replace is empty"));
        }
        let count = text.matches(from.as_ref()).count();
        self.charge(text.len().saturating_add(count.saturating_mul(to.len())), span)?;
        Ok(Value::from(text.replace(from.as_ref(), &to)))
    }

    fn split(&self, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let text = self.text_of(&arguments[0])?;
        let separators = Separators::new(&self.text_of(&arguments[1])?);
        // Each piece costs its value and its own allocation beside its text.
        let pieces = separators.count(&text).saturating_mul(2 * size_of::<Value>());
        self.charge(text.len().saturating_add(pieces), span)?;
        Ok(Value::from(separators.split(&text)))
    }

    fn substring(&self, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let text = self.text_of(&arguments[0])?;
        let number = |argument: &Node| {
            let value = self.node(argument)?;
            value
                .to_number()
                .ok_or_else(|| self.no_cast(&argument.span, value.kind(), Kind::Number))?
                .as_integer()
                .ok_or_else(|| self.error(ErrorKind::Argument, &argument.span, "the number is too large"))
        };
        let (start, length) = (number(&arguments[1])?, number(&arguments[2])?);
        self.charge(text.len(), span)?;
        functions::substring(&text, start, length)
            .map(Value::from)
            .ok_or_else(|| self.error(ErrorKind::Argument, span, "start and length reach beyond the text"))
    }

    /// The items of a list with the separator between them; lists and mappings among them count as empty
    /// text.
    fn join(&self, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let items = self.node(&arguments[1])?;
        let Value::Array(items) = &items else {
            return Ok(items.as_text().map_or_else(|| Value::from(""), |text| Value::from(text.as_ref())));
        };
        let separator = if items.len() > 1 { self.text_of(&arguments[0])? } else { OwnedText::default() };
        let mut out = String::new();
        for (position, item) in items.iter().enumerate() {
            let separator = if position > 0 { separator.as_ref() } else { "" };
            let item = item.as_text().unwrap_or_default();
            self.charge(separator.len() + item.len(), span)?;
            out.push_str(separator);
            out.push_str(&item);
        }
        Ok(Value::from(out))
    }

    /// Arguments are evaluated when the format string names them, once each.
    fn format(&self, arguments: &[Node], span: &Range<usize>) -> Result<Value> {
        let format = self.text_of(&arguments[0])?;
        let malformed =
            || self.error(ErrorKind::Argument, &arguments[0].span, "the format string is malformed");
        let segments = format::parse(&format).ok_or_else(malformed)?;
        let arguments = &arguments[1..];
        let mut texts: Vec<Option<OwnedText>> = vec![None; arguments.len()];
        let mut out = String::new();
        for segment in segments {
            match segment {
                Segment::Text(text) => {
                    self.charge(text.len(), span)?;
                    out.push_str(&text);
                }
                Segment::Argument { index, specifiers } => {
                    let (Some(argument), Some(slot)) = (arguments.get(index), texts.get_mut(index)) else {
                        let message =
                            format!("the format string names argument {{{index}}}, of {}", arguments.len());
                        return Err(self.error(ErrorKind::Argument, span, message));
                    };
                    let text = match slot {
                        Some(text) => text,
                        None => slot.insert(self.text_of(argument)?),
                    };
                    let text = self.specified(text.as_ref(), &specifiers, argument)?;
                    self.charge(text.len(), span)?;
                    out.push_str(&text);
                }
            }
        }
        Ok(Value::from(out))
    }

    fn specified<'t>(&self, text: &'t str, specifiers: &str, argument: &Node) -> Result<Cow<'t, str>> {
        if specifiers.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        let Some(moment) = Moment::parse(text) else {
            let message = "format specifiers work only on dates, and this is not a date";
            return Err(self.error(ErrorKind::Argument, &argument.span, message));
        };
        moment.format(specifiers).map(Cow::Owned).ok_or_else(|| {
            self.error(ErrorKind::Argument, &argument.span, "these format specifiers are not those of a date")
        })
    }

    fn text_of(&self, argument: &Node) -> Result<OwnedText> {
        let value = self.node(argument)?;
        OwnedText::of(&value).ok_or_else(|| self.no_cast(&argument.span, value.kind(), Kind::String))
    }

    fn made(&self, text: String, span: &Range<usize>) -> Result<Value> {
        self.charge(text.len(), span)?;
        Ok(Value::from(text))
    }

    fn charge(&self, bytes: usize, span: &Range<usize>) -> Result<()> {
        let total = self.memory_bytes.get().saturating_add(bytes);
        if total > MAX_MEMORY_BYTES {
            return Err(self.out_of_memory(span));
        }
        self.memory_bytes.set(total);
        Ok(())
    }

    fn out_of_memory(&self, span: &Range<usize>) -> Error {
        let message = format!("the evaluation takes more than {} MiB", MAX_MEMORY_BYTES / 1024 / 1024);
        self.error(ErrorKind::Memory, span, message)
    }

    fn no_cast(&self, span: &Range<usize>, from: Kind, to: Kind) -> Error {
        self.error(ErrorKind::Cast, span, format!("cannot convert this {from} to {to}"))
    }

    fn error(&self, kind: ErrorKind, span: &Range<usize>, message: impl Into<String>) -> Error {
        Error::new(kind, self.text, span.clone(), message)
    }
}

struct Filter<'a> {
    /// None for the wildcard.
    key: Option<&'a Value>,
    /// Whether a wildcard came before.
    filtered: bool,
}

/// The text of a value, shared with it where it is text already.
#[derive(Debug, Clone)]
enum OwnedText {
    Shared(Arc<str>),
    Made(String),
}

impl Default for OwnedText {
    fn default() -> OwnedText {
        OwnedText::Made(String::new())
    }
}

impl OwnedText {
    fn of(value: &Value) -> Option<OwnedText> {
        match value {
            Value::String(text) => Some(OwnedText::Shared(Arc::clone(text))),
            other => other.as_text().map(|text| OwnedText::Made(text.into_owned())),
        }
    }
}

impl std::ops::Deref for OwnedText {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            OwnedText::Shared(text) => text,
            OwnedText::Made(text) => text,
        }
    }
}

impl AsRef<str> for OwnedText {
    fn as_ref(&self) -> &str {
        self
    }
}
