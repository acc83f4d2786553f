//! The expressions themselves: those in scalars, and those in keys that say what to do with the value.

use std::{ops::Range, sync::Arc};

use dayfly_expressions::{ErrorKind, Expression, Piece, Value, split_template};

use super::{Expander, MAX_TEXT_BYTES, Reported};
use crate::{
    expression,
    schema::{closest, listed},
    values,
    yaml::{Key, Kind, Node},
};

/// What a key says to do with its value.
pub(super) enum Directive {
    If(Arc<Code>),
    ElseIf(Arc<Code>),
    Else,
    Each { name: String, list: Arc<Code> },
    Insert,
}

/// An expression with the way back to its place.
pub(super) struct Code {
    expression: Expression,
    /// The scalar or key that holds it.
    node: Node,
    /// Where it begins in the text of the node.
    offset: usize,
}

impl Expander<'_> {
    /// Evaluates the expressions of a scalar.
    pub(super) fn scalar(&mut self, node: &Node) -> Node {
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
                // Nobody shall be told that something is missing which was left out.
                Ok(Value::Null) if self.broken => Node::invalid(node.span),
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
                                    .error(span, format!("{noun} cannot be part of a text"))
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

    fn parse(&mut self, node: &Node, inner: Range<usize>) -> Result<Code, Reported> {
        let text = node.text().unwrap_or_default();
        self.warn_of_undeclared(node, text, &inner);
        match Expression::parse(&text[inner.clone()], &self.scope) {
            Ok(expression) => Ok(Code { expression, node: node.clone(), offset: inner.start }),
            Err(error) => {
                let word = text[inner.clone()].split_whitespace().next().unwrap_or_default();
                let diagnostic = expression::report(self.collector, node, text, inner.start, &error);
                if DIRECTIVES.contains(&word) {
                    diagnostic
                        .help(format!("write `{word}` as a key, with a colon: `- ${{{{ {word} ... }}}}:`"));
                }
                Err(Reported)
            }
        }
    }

    /// Warns of parameters that a file of the old kind does not declare: they are empty, which is seldom
    /// meant. In other files they are errors, once they are evaluated.
    fn warn_of_undeclared(&mut self, node: &Node, text: &str, inner: &Range<usize>) {
        let Value::Object(declared) = &self.parameters else { return };
        if self.strict || self.collector.is_full() {
            return;
        }
        let names = parameter_names(&text[inner.clone()]);
        for name in
            names.into_iter().filter(|name| declared.get(&text[inner.clone()][name.clone()]).is_none())
        {
            let range = inner.start + name.start..inner.start + name.end;
            let word = &text[range.clone()];
            let best = closest(word, declared.iter().map(|(name, _)| name)).map(str::to_owned);
            let span = expression::place(self.collector, node.span, text, range.clone());
            let diagnostic =
                self.collector.warning(span, format!("there is no parameter `{word}`, so this is empty"));
            if let Some(best) = best {
                diagnostic.help(format!("did you mean `{best}`?"));
            }
        }
    }

    pub(super) fn evaluate(&mut self, code: &Code) -> Result<Value, Reported> {
        code.expression.evaluate(&*self).map_err(|error| {
            let text = code.node.text().unwrap_or_default();
            let help = self.missed.take().and_then(|name| self.known_parameter(&name));
            let diagnostic = expression::report(self.collector, &code.node, text, code.offset, &error);
            if let Some(help) = help {
                diagnostic.help(help);
            }
            Reported
        })
    }

    /// What to write in place of a parameter that is not there.
    fn known_parameter(&self, missed: &str) -> Option<String> {
        let Value::Object(declared) = &self.parameters else { return None };
        let names: Vec<&str> = declared.iter().map(|(name, _)| name).collect();
        if self.collector.is_full() {
            return None;
        }
        match closest(missed, names.iter().copied()) {
            Some(best) => Some(format!("did you mean `{best}`?")),
            None if names.is_empty() => Some("declare it under `parameters:`".to_owned()),
            None => Some(format!("the parameters here are {}", listed(&names))),
        }
    }

    pub(super) fn condition(&mut self, code: &Code) -> bool {
        self.evaluate(code).is_ok_and(|value| value.to_boolean())
    }

    /// Reads a key as a directive. `None`: it is an ordinary expression.
    pub(super) fn directive(&mut self, key: &Key) -> Result<Option<Directive>, Reported> {
        let Some((word, inner)) = directive_word(&key.text) else { return Ok(None) };
        let node = Node::scalar(key.text.clone(), key.span);
        let rest = inner.start + word.len()..inner.end;
        Ok(Some(match word {
            "if" => Directive::If(Arc::new(self.parse(&node, rest)?)),
            "elseif" => Directive::ElseIf(Arc::new(self.parse(&node, rest)?)),
            "else" | "insert" => {
                if !key.text[rest].trim().is_empty() {
                    self.collector.error(key.span, format!("`{word}` takes nothing after it")).help(
                        if word == "else" {
                            "for another condition, write `elseif`"
                        } else {
                            "put the mapping in the value of this key"
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
                    self.collector.error(key.span, "write a loop as `${{ each item in list }}`");
                    return Err(Reported);
                }
                let start = rest.start + after + (tail.len() - keyword.len()) + 2;
                Directive::Each { name, list: Arc::new(self.parse(&node, start..rest.end)?) }
            }
        }))
    }

    /// Reports what could never be parsed. Names that this place does not know are let pass in what is not
    /// evaluated.
    fn check_syntax(&mut self, node: &Node, inner: Range<usize>) {
        let text = node.text().unwrap_or_default();
        let Err(error) = Expression::parse(&text[inner.clone()], &self.scope) else { return };
        let word = text[inner.clone()].get(error.position.clone()).unwrap_or_default();
        let unknown = matches!(error.kind, ErrorKind::UnrecognizedValue | ErrorKind::UnrecognizedFunction);
        let name = word.starts_with(|first: char| first.is_alphabetic() || first == '_');
        if !(unknown && name) || DIRECTIVES.contains(&word) {
            expression::report(self.collector, node, text, inner.start, &error);
        }
    }

    /// Looks through a branch that is not taken for expressions that could never be parsed.
    pub(super) fn check(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(text) if text.contains("${{") => match split_template(text) {
                Ok(pieces) => {
                    for piece in pieces {
                        if let Piece::Expression { inner, .. } = piece {
                            self.check_syntax(node, inner);
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

pub(super) fn is_directive(key: &Key) -> bool {
    directive_word(&key.text).is_some()
}

/// The word of a directive and the range of its expression, the word included.
fn directive_word(key: &str) -> Option<(&'static str, Range<usize>)> {
    let trimmed = key.trim();
    if !trimmed.starts_with("${{") || !trimmed.ends_with("}}") {
        return None;
    }
    let outer_start = key.len() - key.trim_start().len();
    let text = trimmed.strip_prefix("${{")?.strip_suffix("}}")?;
    let start = outer_start + 3 + (text.len() - text.trim_start().len());
    let inner = text.trim();
    let word = DIRECTIVES.into_iter().find(|word| {
        inner
            .strip_prefix(word)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '('))
    })?;
    Some((word, start..start + inner.len()))
}

/// The words of directives, longer ones before their beginnings.
const DIRECTIVES: [&str; 5] = ["elseif", "else", "if", "each", "insert"];

/// Where `parameters.name` and `parameters['name']` name a parameter, outside of texts.
fn parameter_names(code: &str) -> Vec<Range<usize>> {
    const ROOT: &str = "parameters";
    let mut names = Vec::new();
    let mut quoted = false;
    let mut at = 0;
    while let Some(rest) = code.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        let word_before = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        if first == '\'' {
            quoted = !quoted;
        } else if !quoted
            && !word_before
            && rest.get(..ROOT.len()).is_some_and(|word| word.eq_ignore_ascii_case(ROOT))
        {
            let start = at + ROOT.len();
            let after = &code[start..];
            if let Some(property) = after.strip_prefix('.') {
                let length =
                    property.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(property.len());
                if length > 0 {
                    names.push(start + 1..start + 1 + length);
                }
            } else if let Some(index) = after.strip_prefix("['")
                && let Some(length) = index.find('\'')
                && index[length..].starts_with("']")
            {
                names.push(start + 2..start + 2 + length);
            }
        }
        at += first.len_utf8();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_code() {
        for (code, expected) in [
            ("parameters.a", vec!["a"]),
            ("eq(Parameters['b-c'], parameters.d.e)", vec!["b-c", "d"]),
            ("format('parameters.x', x.parameters.y, parameters)", vec![]),
            ("parameters.*", vec![]),
            ("parameters[format('a')]", vec![]),
            ("my_parameters.a", vec![]),
            ("ü.parameters", vec![]),
        ] {
            let found: Vec<&str> = parameter_names(code).into_iter().map(|range| &code[range]).collect();
            assert_eq!(found, expected, "{code}");
        }
    }
}
