//! Values, and how one kind becomes another.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::number::Number;
use crate::object::Object;
use crate::text;
use crate::version::Version;

/// What an expression yields. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing: a missing property, an unset variable.
    #[default]
    Null,
    /// A truth value.
    Boolean(bool),
    /// An exact decimal number.
    Number(Number),
    /// Text.
    String(Arc<str>),
    /// A dotted version of two to four parts.
    Version(Version),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// A mapping.
    Object(Arc<Object>),
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Value::Null`]
    Null,
    /// [`Value::Boolean`]
    Boolean,
    /// [`Value::Number`]
    Number,
    /// [`Value::String`]
    String,
    /// [`Value::Version`]
    Version,
    /// [`Value::Array`]
    Array,
    /// [`Value::Object`]
    Object,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "Null",
            Kind::Boolean => "Boolean",
            Kind::Number => "Number",
            Kind::String => "String",
            Kind::Version => "Version",
            Kind::Array => "Array",
            Kind::Object => "Object",
        })
    }
}

/// A comparison needed a cast which does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoCast {
    pub(crate) side: Side,
    pub(crate) from: Kind,
    pub(crate) to: Kind,
}

/// Which operand of a comparison could not be cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

// Casts: `EvaluationResult.TryConvertTo*` of Microsoft's engine.
impl Value {
    /// The kind of this value.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Boolean(_) => Kind::Boolean,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Version(_) => Kind::Version,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        }
    }

    /// Cast to Boolean, which always exists: null, zero and empty text are false. The text `false` is true.
    pub fn to_boolean(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Boolean(value) => *value,
            Value::Number(number) => !number.is_zero(),
            Value::String(text) => !text.is_empty(),
            Value::Version(_) | Value::Array(_) | Value::Object(_) => true,
        }
    }

    /// Cast to Number: null and empty text are zero; none for versions, lists, mappings and other text.
    pub fn to_number(&self) -> Option<Number> {
        match self {
            Value::Null => Some(Number::ZERO),
            Value::Boolean(value) => Some(Number::from(*value)),
            Value::Number(number) => Some(*number),
            Value::String(text) if text.is_empty() => Some(Number::ZERO),
            Value::String(text) => Number::parse_text(text),
            Value::Version(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Cast to String: null is empty, truth values are `True` and `False`; none for lists and mappings.
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Null => Some(Cow::Borrowed("")),
            Value::Boolean(value) => Some(Cow::Borrowed(if *value { "True" } else { "False" })),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Version(version) => Some(Cow::Owned(version.to_string())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Cast to Version: from text and from numbers whose text has two parts.
    pub fn to_version(&self) -> Option<Version> {
        match self {
            Value::Version(version) => Some(*version),
            Value::Number(number) => Version::parse(&number.to_string()),
            Value::String(text) => Version::parse(text),
            Value::Null | Value::Boolean(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Whether it casts to Null.
    pub fn is_null_like(&self) -> bool {
        match self {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            _ => false,
        }
    }

    /// `eq(self, right)`: the right side is cast to the kind of the left; no such cast means different.
    /// Lists and mappings are equal only to themselves.
    pub fn equals(&self, right: &Value) -> bool {
        match self {
            Value::Null => right.is_null_like(),
            Value::Boolean(left) => *left == right.to_boolean(),
            Value::Number(left) => right.to_number().is_some_and(|right| *left == right),
            Value::String(left) => right.as_text().is_some_and(|right| text::equal(left, &right)),
            Value::Version(left) => right.to_version().is_some_and(|right| *left == right),
            Value::Array(left) => matches!(right, Value::Array(right) if Arc::ptr_eq(left, right)),
            Value::Object(left) => matches!(right, Value::Object(right) if Arc::ptr_eq(left, right)),
        }
    }

    /// The order for `gt`, `ge`, `lt`, `le`: null on the left counts as zero; a missing cast is an error.
    pub(crate) fn compare(&self, right: &Value) -> Result<Ordering, NoCast> {
        let no_cast = |to| NoCast { side: Side::Right, from: right.kind(), to };
        match self {
            Value::Boolean(left) => Ok(left.cmp(&right.to_boolean())),
            Value::String(left) => {
                right.as_text().map(|right| text::compare(left, &right)).ok_or_else(|| no_cast(Kind::String))
            }
            Value::Version(left) => {
                right.to_version().map(|right| left.cmp(&right)).ok_or_else(|| no_cast(Kind::Version))
            }
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                let left = self.to_number().ok_or(NoCast {
                    side: Side::Left,
                    from: self.kind(),
                    to: Kind::Number,
                })?;
                right.to_number().map(|right| left.cmp(&right)).ok_or_else(|| no_cast(Kind::Number))
            }
        }
    }

    /// The property of a mapping, or null.
    pub fn property(&self, name: &str) -> Value {
        match self {
            Value::Object(object) => object.get(name).cloned().unwrap_or_default(),
            _ => Value::Null,
        }
    }
}

/// The value as Microsoft's trace of an evaluation shows it (`ExpressionUtil.FormatValue`): text in quotes,
/// versions with a `v`, lists and mappings by their kind only.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null | Value::Array(_) | Value::Object(_) => write!(f, "{}", self.kind()),
            Value::String(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Value::Version(version) => write!(f, "v{version}"),
            Value::Boolean(_) | Value::Number(_) => f.write_str(&self.as_text().unwrap_or_default()),
        }
    }
}

/// Same kind and same content, lists and mappings by their items, text with case. For `eq` of the language
/// see [`Value::equals`].
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Boolean(left), Value::Boolean(right)) => left == right,
            (Value::Number(left), Value::Number(right)) => left == right,
            (Value::String(left), Value::String(right)) => left == right,
            (Value::Version(left), Value::Version(right)) => left == right,
            (Value::Array(left), Value::Array(right)) => left == right,
            (Value::Object(left), Value::Object(right)) => left.iter().eq(right.iter()),
            _ => false,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Boolean(value)
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Value {
        Value::Number(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(Number::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::String(Arc::from(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::String(Arc::from(value))
    }
}

impl From<Version> for Value {
    fn from(value: Version) -> Value {
        Value::Version(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Value {
        Value::Array(Arc::new(value))
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Value {
        Value::Object(Arc::new(value))
    }
}

impl From<Arc<Object>> for Value {
    fn from(value: Arc<Object>) -> Value {
        Value::Object(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [Value; 7] {
        [
            Value::Null,
            Value::from(true),
            Value::from(7),
            Value::from("1.2"),
            Version::parse("1.2.3").unwrap().into(),
            Value::from(vec![]),
            Value::from(Object::new()),
        ]
    }

    #[test]
    fn every_kind_casts_as_the_table_says() {
        let booleans = sample().map(|value| value.to_boolean());
        assert_eq!(booleans, [false, true, true, true, true, true, true]);
        let numbers = sample().map(|value| value.to_number().map(|number| number.to_string()));
        assert_eq!(
            numbers.each_ref().map(Option::as_deref),
            [Some("0"), Some("1"), Some("7"), Some("1.2"), None, None, None]
        );
        let texts = sample().map(|value| value.as_text().map(Cow::into_owned));
        let expected = [Some(""), Some("True"), Some("7"), Some("1.2"), Some("1.2.3"), None, None];
        assert_eq!(texts.each_ref().map(Option::as_deref), expected);
        let versions = sample().map(|value| value.to_version().map(|version| version.to_string()));
        assert_eq!(
            versions.each_ref().map(Option::as_deref),
            [None, None, None, Some("1.2"), Some("1.2.3"), None, None]
        );
        assert_eq!(
            sample().map(|value| value.is_null_like()),
            [true, false, false, false, false, false, false]
        );
        assert!(Value::from("").is_null_like());
    }

    #[test]
    fn trace_form() {
        let shown = sample().map(|value| value.to_string());
        assert_eq!(shown, ["Null", "True", "7", "'1.2'", "v1.2.3", "Array", "Object"]);
        assert_eq!(Value::from("it's").to_string(), "'it''s'");
    }
}
