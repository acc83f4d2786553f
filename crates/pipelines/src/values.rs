//! Between node trees and the values of expressions.

use dayfly_expressions::{Object, Value};

use crate::{
    diagnostics::Span,
    yaml::{Entry, Key, Kind, Node},
};

/// A node as a value. Scalars stay text: only a typed parameter or a literal of an expression is a number.
pub(crate) fn from_node(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar(text) => Value::from(text.as_str()),
        Kind::Sequence(items) => items.iter().map(from_node).collect::<Vec<_>>().into(),
        Kind::Mapping(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.text.as_str(), from_node(&entry.value)));
            Object::from_iter(entries).into()
        }
        Kind::Invalid => Value::Null,
    }
}

/// A value as nodes, all of them at the place of the expression that gave it.
pub(crate) fn to_node(value: &Value, span: Span) -> Node {
    let kind = match value {
        Value::Array(items) => Kind::Sequence(items.iter().map(|item| to_node(item, span)).collect()),
        Value::Object(object) => Kind::Mapping(
            object
                .iter()
                .map(|(key, value)| Entry {
                    key: Key { text: key.to_owned(), span },
                    value: to_node(value, span),
                })
                .collect(),
        ),
        scalar => Kind::Scalar(scalar.as_text().unwrap_or_default().into_owned()),
    };
    Node { kind, span }
}
