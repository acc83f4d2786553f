//! The functions of the language: their names, their numbers of arguments, and the pure part of what they do.

use std::sync::Arc;

use crate::text;
use crate::value::Value;

/// A function of the language (`ExpressionConstants.WellKnownFunctions`, and what the documentation adds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    And,
    Coalesce,
    Contains,
    ContainsValue,
    ConvertToJson,
    EndsWith,
    Eq,
    Format,
    Ge,
    Gt,
    Iif,
    In,
    Join,
    Le,
    Length,
    Lower,
    Lt,
    Ne,
    Not,
    NotIn,
    Or,
    Replace,
    Split,
    StartsWith,
    Substring,
    Trim,
    Upper,
    Xor,
}

const MANY: usize = usize::MAX;

/// Name, least and most arguments. `in` and `notIn` take a lone first argument, as the documentation says.
const TABLE: [(Function, &str, usize, usize); 28] = [
    (Function::And, "and", 2, MANY),
    (Function::Coalesce, "coalesce", 2, MANY),
    (Function::Contains, "contains", 2, 2),
    (Function::ContainsValue, "containsValue", 2, 2),
    (Function::ConvertToJson, "convertToJson", 1, 1),
    (Function::EndsWith, "endsWith", 2, 2),
    (Function::Eq, "eq", 2, 2),
    (Function::Format, "format", 1, MANY),
    (Function::Ge, "ge", 2, 2),
    (Function::Gt, "gt", 2, 2),
    (Function::Iif, "iif", 3, 3),
    (Function::In, "in", 1, MANY),
    (Function::Join, "join", 2, 2),
    (Function::Le, "le", 2, 2),
    (Function::Length, "length", 1, 1),
    (Function::Lower, "lower", 1, 1),
    (Function::Lt, "lt", 2, 2),
    (Function::Ne, "ne", 2, 2),
    (Function::Not, "not", 1, 1),
    (Function::NotIn, "notIn", 1, MANY),
    (Function::Or, "or", 2, MANY),
    (Function::Replace, "replace", 3, 3),
    (Function::Split, "split", 2, 2),
    (Function::StartsWith, "startsWith", 2, 2),
    (Function::Substring, "substring", 3, 3),
    (Function::Trim, "trim", 1, 1),
    (Function::Upper, "upper", 1, 1),
    (Function::Xor, "xor", 2, 2),
];

impl Function {
    /// The function of a name, in any case.
    pub(crate) fn named(name: &str) -> Option<Function> {
        TABLE.iter().find(|(_, own, ..)| own.eq_ignore_ascii_case(name)).map(|(function, ..)| *function)
    }

    fn row(self) -> &'static (Function, &'static str, usize, usize) {
        TABLE.iter().find(|(function, ..)| *function == self).expect("each function has a row in the table")
    }

    /// The name in its usual spelling.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// The least and the most arguments.
    pub(crate) fn arity(self) -> (usize, usize) {
        let (_, _, min, max) = self.row();
        (*min, *max)
    }

    /// Whether the trace of an evaluation shows the result in place of the call.
    pub(crate) fn traced_as_result(self) -> bool {
        matches!(
            self,
            Function::ConvertToJson
                | Function::Format
                | Function::Join
                | Function::Length
                | Function::Lower
                | Function::Replace
                | Function::Split
                | Function::Substring
                | Function::Trim
                | Function::Upper
        )
    }
}

/// The characters at which `split` cuts: each one of its second argument. Sorted, since a variable may hold
/// megabytes of them.
pub(crate) struct Separators(Vec<char>);

impl Separators {
    pub(crate) fn new(text: &str) -> Separators {
        let mut separators: Vec<char> = text.chars().collect();
        separators.sort_unstable();
        separators.dedup();
        Separators(separators)
    }

    fn has(&self, c: char) -> bool {
        self.0.binary_search(&c).is_ok()
    }

    /// The number of pieces.
    pub(crate) fn count(&self, text: &str) -> usize {
        text.chars().filter(|c| self.has(*c)).count() + 1
    }

    /// The pieces. Without separators, one piece.
    pub(crate) fn split(&self, text: &str) -> Vec<Value> {
        text.split(|c| self.has(c)).map(Value::from).collect()
    }
}

/// `length` UTF-16 units from `start`, or none if they are not all there. Half of a surrogate pair becomes
/// U+FFFD.
pub(crate) fn substring(text: &str, start: i64, length: i64) -> Option<String> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    units.get(start..end).map(String::from_utf16_lossy)
}

/// The number of items, keys or UTF-16 units; none for values which have no text either (there are none such
/// today).
pub(crate) fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        Value::Object(object) => Some(object.len()),
        scalar => scalar.as_text().map(|text| text.encode_utf16().count()),
    }
}

/// Whether any item or value of a collection equals the value; false for anything but a collection.
pub(crate) fn contains_value(collection: &Value, wanted: &Value) -> bool {
    match collection {
        Value::Array(items) => items.iter().any(|item| wanted.equals(item)),
        Value::Object(object) => object.values().any(|item| wanted.equals(item)),
        _ => false,
    }
}

pub(crate) fn lower(text: &str) -> String {
    text.chars().map(text::lower).collect()
}

pub(crate) fn upper(text: &str) -> String {
    text.chars().map(text::upper).collect()
}

/// What `value[key]` or `value.key` is: null where there is nothing.
pub(crate) fn item(value: &Value, key: &Value) -> Option<Value> {
    match value {
        Value::Object(object) => object.get(&key.as_text()?).cloned(),
        Value::Array(items) => items.get(key.to_number()?.as_index()?).cloned(),
        _ => None,
    }
}

/// The items of a list or values of a mapping, onto `out`.
pub(crate) fn spread(value: &Value, out: &mut Vec<Value>) {
    match value {
        Value::Array(items) => out.extend(items.iter().cloned()),
        Value::Object(object) => out.extend(object.values().cloned()),
        _ => {}
    }
}

/// The list that a filtered array is, for a step behind it.
pub(crate) fn items(value: &Value) -> Arc<Vec<Value>> {
    match value {
        Value::Array(items) => Arc::clone(items),
        _ => Arc::default(),
    }
}
