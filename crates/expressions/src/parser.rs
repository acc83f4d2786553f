//! Tokens into a tree, by recursive descent. The nesting is bounded, so the recursion is.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use crate::ast::{Node, NodeKind, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::Function;
use crate::lexer::{Lexer, Token, TokenKind};
use crate::scope::Scope;
use crate::value::Value;

/// So many function calls and indexes may not be open at once (`ExpressionConstants.MaxDepth`).
pub const MAX_DEPTH: usize = 50;
/// The longest expression, in UTF-16 units (`ExpressionConstants.MaxLength`).
pub const MAX_LENGTH: usize = 21_000;

pub(crate) fn parse(text: &str, scope: &Scope) -> Result<Node> {
    // Counting stops early on a text of megabytes.
    if text.encode_utf16().take(MAX_LENGTH + 1).count() > MAX_LENGTH {
        let message = format!("the expression is longer than {MAX_LENGTH} characters");
        return Err(Error::new(ErrorKind::TooLong, text, 0..text.len(), message));
    }
    let mut parser = Parser { text, scope, tokens: Lexer::new(text).peekable(), depth: 0 };
    let root = parser.expression(None)?;
    match parser.tokens.next() {
        None => Ok(root),
        Some(token) => Err(parser.misplaced(&token)),
    }
}

struct Parser<'a> {
    text: &'a str,
    scope: &'a Scope,
    tokens: Peekable<Lexer<'a>>,
    /// Calls and indexes open at this point.
    depth: usize,
}

/// What an expression stands in, to tell what is missing when the text ends.
struct Container {
    kind: ErrorKind,
    span: Range<usize>,
}

impl<'a> Parser<'a> {
    /// One expression: a literal, or a name or call with its accesses.
    fn expression(&mut self, container: Option<&Container>) -> Result<Node> {
        let Some(token) = self.tokens.next() else {
            return Err(self.ended(container));
        };
        match token.kind {
            TokenKind::Literal(value) => Ok(Node { kind: NodeKind::Literal(value), span: token.span }),
            TokenKind::Word => self.named(token.span),
            _ => Err(self.misplaced(&token)),
        }
    }

    fn named(&mut self, span: Range<usize>) -> Result<Node> {
        let word = &self.text[span.clone()];
        let called = self.tokens.peek().is_some_and(|token| token.kind == TokenKind::OpenCall);
        if called {
            let call = self.call(span)?;
            return self.accesses(call);
        }
        if let Some(value) = keyword(word) {
            return Ok(Node { kind: NodeKind::Literal(value), span });
        }
        if let Some(root) = self.scope.root(word) {
            let root = Node { kind: NodeKind::Root(Arc::from(root)), span };
            return self.accesses(root);
        }
        if Function::named(word).is_some() || self.scope.function(word).is_some() {
            let message = format!("`{word}` is a function: `(` must follow");
            return Err(self.error(ErrorKind::ExpectedParenthesis, span, message));
        }
        let known: Vec<&str> = self.scope.roots().collect();
        let known =
            if known.is_empty() { String::new() } else { format!(" (known here: {})", known.join(", ")) };
        Err(self.error(ErrorKind::UnrecognizedValue, span, format!("unrecognized value `{word}`{known}")))
    }

    fn call(&mut self, name: Range<usize>) -> Result<Node> {
        let word = &self.text[name.clone()];
        let function = Function::named(word);
        let host = self.scope.function(word);
        let (min, max) = match (function, host) {
            (Some(function), _) => function.arity(),
            (None, Some(host)) => (host.min, host.max),
            (None, None) => {
                let message = format!("unrecognized function `{word}`");
                return Err(self.error(ErrorKind::UnrecognizedFunction, name, message));
            }
        };
        let (arguments, end) = self.arguments(&name)?;
        if arguments.len() < min {
            let message = format!("`{word}` takes at least {}, not {}", count(min), arguments.len());
            return Err(self.error(ErrorKind::TooFewArguments, name.start..end, message));
        }
        if let Some(excess) = arguments.get(max) {
            let message = format!("`{word}` takes at most {}, not {}", count(max), arguments.len());
            return Err(self.error(ErrorKind::TooManyArguments, excess.span.clone(), message));
        }
        let kind = match (function, host) {
            (Some(function), _) => NodeKind::Call { function, arguments },
            (None, host) => {
                let name = host.map_or(word, |host| host.name.as_ref());
                NodeKind::HostCall { name: Arc::from(name), arguments }
            }
        };
        Ok(Node { kind, span: name.start..end })
    }

    /// The arguments between the parentheses, and where the call ends.
    fn arguments(&mut self, name: &Range<usize>) -> Result<(Vec<Node>, usize)> {
        let container = Container { kind: ErrorKind::UnclosedFunction, span: name.clone() };
        self.enter(name)?;
        self.tokens.next();
        let mut arguments = Vec::new();
        if let Some(end) = self.take(&TokenKind::CloseCall) {
            self.depth -= 1;
            return Ok((arguments, end));
        }
        loop {
            arguments.push(self.expression(Some(&container))?);
            match self.tokens.next() {
                Some(Token { kind: TokenKind::Comma, .. }) => {}
                Some(Token { kind: TokenKind::CloseCall, span }) => {
                    self.depth -= 1;
                    return Ok((arguments, span.end));
                }
                Some(token) => return Err(self.misplaced(&token)),
                None => return Err(self.ended(Some(&container))),
            }
        }
    }

    /// The `.name`, `[index]` and `.*` behind a name or call.
    fn accesses(&mut self, base: Node) -> Result<Node> {
        let mut steps = Vec::new();
        let mut end = base.span.end;
        loop {
            if let Some(dot) = self.take(&TokenKind::Dot) {
                steps.push(self.property(dot - 1, &mut end)?);
            } else if let Some(open) = self.take(&TokenKind::OpenIndex) {
                steps.push(self.index(open - 1..open, &mut end)?);
            } else if steps.is_empty() {
                return Ok(base);
            } else {
                let span = base.span.start..end;
                return Ok(Node { kind: NodeKind::Access { base: Box::new(base), steps }, span });
            }
        }
    }

    fn property(&mut self, dot: usize, end: &mut usize) -> Result<Step> {
        let Some(token) = self.tokens.next() else {
            return Err(self.error(
                ErrorKind::ExpectedPropertyName,
                dot..dot + 1,
                "a property name or `*` must follow `.`",
            ));
        };
        *end = token.span.end;
        let raw = &self.text[token.span.clone()];
        match token.kind {
            TokenKind::Word => Ok(Step::Property(Arc::from(raw))),
            TokenKind::Star => Ok(Step::Wildcard),
            TokenKind::Malformed => {
                let message =
                    format!("`{}` is not a property name; write ['{}']", shorten(raw), shorten(raw));
                Err(self.error(ErrorKind::UnexpectedSymbol, token.span, message))
            }
            _ => Err(self.misplaced(&token)),
        }
    }

    fn index(&mut self, open: Range<usize>, end: &mut usize) -> Result<Step> {
        let container = Container { kind: ErrorKind::UnclosedIndex, span: open.clone() };
        self.enter(&open)?;
        let step = match self.take(&TokenKind::Star) {
            Some(_) => Step::Wildcard,
            None => Step::Index(self.expression(Some(&container))?),
        };
        match self.tokens.next() {
            Some(Token { kind: TokenKind::CloseIndex, span }) => *end = span.end,
            Some(token) => return Err(self.misplaced(&token)),
            None => return Err(self.ended(Some(&container))),
        }
        self.depth -= 1;
        Ok(step)
    }

    fn enter(&mut self, span: &Range<usize>) -> Result<()> {
        self.depth += 1;
        if self.depth >= MAX_DEPTH {
            let message = format!("functions and indexes are nested {MAX_DEPTH} deep or deeper");
            return Err(self.error(ErrorKind::TooDeep, span.clone(), message));
        }
        Ok(())
    }

    /// The end of the next token, if it is of this kind.
    fn take(&mut self, kind: &TokenKind) -> Option<usize> {
        self.tokens.next_if(|token| token.kind == *kind).map(|token| token.span.end)
    }

    fn ended(&self, container: Option<&Container>) -> Error {
        let end = self.text.len();
        match container {
            Some(Container { kind: ErrorKind::UnclosedFunction, span }) => {
                let message = format!("`{}` is not closed: `)` is missing", &self.text[span.clone()]);
                self.error(ErrorKind::UnclosedFunction, span.clone(), message)
            }
            Some(Container { kind, span }) => {
                self.error(*kind, span.clone(), "the index is not closed: `]` is missing")
            }
            None => self.error(ErrorKind::Empty, end..end, "the expression is empty"),
        }
    }

    fn misplaced(&self, token: &Token) -> Error {
        let raw = &self.text[token.span.clone()];
        let (kind, message) = match token.kind {
            TokenKind::Malformed => {
                (ErrorKind::UnrecognizedValue, format!("unrecognized value `{}`", shorten(raw)))
            }
            TokenKind::UnclosedString => {
                (ErrorKind::UnclosedString, "the text is not closed: a quote is missing".to_owned())
            }
            _ => (ErrorKind::UnexpectedSymbol, format!("unexpected symbol `{}`", shorten(raw))),
        };
        let help = match token.kind {
            TokenKind::Malformed => help(raw, &self.text[token.span.end..]),
            _ => None,
        };
        self.error(kind, token.span.clone(), message).with_help(help)
    }

    fn error(&self, kind: ErrorKind, span: Range<usize>, message: impl Into<String>) -> Error {
        Error::new(kind, self.text, span, message)
    }
}

fn keyword(word: &str) -> Option<Value> {
    // Microsoft's published engine has no null literal; the service and its documentation do.
    [("true", Value::Boolean(true)), ("false", Value::Boolean(false)), ("null", Value::Null)]
        .into_iter()
        .find_map(|(keyword, value)| keyword.eq_ignore_ascii_case(word).then_some(value))
}

/// What was probably meant by characters that make up no token.
fn help(raw: &str, rest: &str) -> Option<&'static str> {
    if raw.starts_with('"') {
        Some("text stands in single quotes")
    } else if raw.starts_with("${{") || raw == "$" && rest.starts_with('[') {
        Some("give only what stands between the markers")
    } else if raw == "$" {
        Some("a macro has no place in an expression; write variables['name']")
    } else if raw.starts_with(['=', '!', '<', '>', '&', '|', '+', '/']) {
        Some("there are no operators, only functions such as eq, ne, not, and, or")
    } else {
        None
    }
}

/// A piece of the expression short enough for a message.
fn shorten(raw: &str) -> String {
    const WIDTH: usize = 40;
    if raw.chars().count() <= WIDTH {
        raw.to_owned()
    } else {
        raw.chars().take(WIDTH).chain(['…']).collect()
    }
}

fn count(arguments: usize) -> String {
    if arguments == 1 { "1 argument".to_owned() } else { format!("{arguments} arguments") }
}
