//! Values from and to JSON, and the text of `convertToJson`.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::number::Number;
use crate::object::Object;
use crate::value::Value;

impl Value {
    /// The value of a JSON document. A number beyond the range of a decimal becomes its text.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Boolean(*value),
            serde_json::Value::Number(number) => {
                let text = number.to_string();
                Number::parse_json(&text).map_or_else(|| Value::from(text), Value::Number)
            }
            serde_json::Value::String(text) => Value::from(text.as_str()),
            serde_json::Value::Array(items) => {
                Value::from(items.iter().map(Value::from_json).collect::<Vec<_>>())
            }
            serde_json::Value::Object(entries) => Value::from(
                entries
                    .iter()
                    .map(|(key, value)| (key.as_str(), Value::from_json(value)))
                    .collect::<Object>(),
            ),
        }
    }

    /// The JSON of this value. Versions become text; a fraction with more digits than a double can hold loses
    /// the rest.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Boolean(value) => serde_json::Value::Bool(*value),
            Value::Number(number) => json_number(*number),
            Value::String(text) => serde_json::Value::String(text.to_string()),
            Value::Version(version) => serde_json::Value::String(version.to_string()),
            Value::Array(items) => serde_json::Value::Array(items.iter().map(Value::to_json).collect()),
            Value::Object(object) => serde_json::Value::Object(
                object.iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect(),
            ),
        }
    }
}

/// An integer where it fits, else the nearest double; every decimal is in the range of doubles.
fn json_number(number: Number) -> serde_json::Value {
    let text = number.to_json_text();
    let integer = text
        .parse::<i64>()
        .map(serde_json::Value::from)
        .or_else(|_| text.parse::<u64>().map(serde_json::Value::from));
    integer.or_else(|_| text.parse::<f64>().map(serde_json::Value::from)).unwrap_or_default()
}

/// As [`Value::to_json`], with the keys in their order.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Number(_) => self.to_json().serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Version(version) => serializer.collect_str(version),
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Value::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                object.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

/// As [`Value::from_json`], with the keys in their order.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Boolean(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::from(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(Number::from(value)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::from_json(&serde_json::Value::from(value)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::from(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Value::from(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, Value>()? {
                    entries.push(entry);
                }
                Ok(Value::from(Object::from_iter(entries)))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

/// The text of `convertToJson(value)`: two blanks per level, all digits of numbers, as Newtonsoft.Json
/// indents. `None` when the text would be longer than `limit` bytes.
pub(crate) fn indented(value: &Value, limit: usize) -> Option<String> {
    let mut writer = Writer { out: String::new(), limit };
    writer.value(value, 0)?;
    Some(writer.out)
}

struct Writer {
    out: String,
    limit: usize,
}

impl Writer {
    fn value(&mut self, value: &Value, level: usize) -> Option<()> {
        match value {
            Value::Null => self.push("null"),
            Value::Boolean(value) => self.push(if *value { "true" } else { "false" }),
            Value::Number(number) => self.push(&number.to_json_text()),
            Value::String(text) => self.text(text),
            Value::Version(version) => self.text(&version.to_string()),
            Value::Array(items) if items.is_empty() => self.push("[]"),
            Value::Array(items) => {
                self.push("[")?;
                for (position, item) in items.iter().enumerate() {
                    self.line(position, level + 1)?;
                    self.value(item, level + 1)?;
                }
                self.line(0, level)?;
                self.push("]")
            }
            Value::Object(object) if object.is_empty() => self.push("{}"),
            Value::Object(object) => {
                self.push("{")?;
                for (position, (key, value)) in object.iter().enumerate() {
                    self.line(position, level + 1)?;
                    self.text(key)?;
                    self.push(": ")?;
                    self.value(value, level + 1)?;
                }
                self.line(0, level)?;
                self.push("}")
            }
        }
    }

    fn line(&mut self, position: usize, level: usize) -> Option<()> {
        self.push(if position > 0 { ",\n" } else { "\n" })?;
        (0..level).try_for_each(|_| self.push("  "))
    }

    fn text(&mut self, text: &str) -> Option<()> {
        self.push("\"")?;
        for c in text.chars() {
            match c {
                '"' => self.push("\\\"")?,
                '\\' => self.push("\\\\")?,
                '\n' => self.push("\\n")?,
                '\r' => self.push("\\r")?,
                '\t' => self.push("\\t")?,
                '\u{8}' => self.push("\\b")?,
                '\u{c}' => self.push("\\f")?,
                // Newtonsoft.Json escapes these line breaks of Unicode too.
                c if c < ' ' || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}') => {
                    self.push(&format!("\\u{:04x}", u32::from(c)))?;
                }
                c => self.push(c.encode_utf8(&mut [0; 4]))?,
            }
        }
        self.push("\"")
    }

    fn push(&mut self, text: &str) -> Option<()> {
        if self.out.len() + text.len() > self.limit {
            return None;
        }
        self.out.push_str(text);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips() {
        let json = serde_json::json!({"a": [null, true, 1, -2.5, "x", 18446744073709551615u64], "b": {}, "c": {"d": []}});
        assert_eq!(Value::from_json(&json).to_json(), json);
        assert_eq!(Value::from_json(&serde_json::json!(1e300)), Value::from("1e+300"));
        // Found by fuzzing: serde_json reads the text of this number as the double beside the nearest one.
        let long = Value::from("5555555555555555555555".parse::<Number>().unwrap()).to_json();
        assert_eq!(Value::from_json(&long).to_json(), long);
        assert_eq!(Value::from_json(&serde_json::json!(0.1)), Value::from("0.1".parse::<Number>().unwrap()));
    }

    #[test]
    fn serde_keeps_the_order_of_keys() {
        let text = r#"{"z":[null,true,-3,18446744073709551615,0.1,"x"],"a":{"c":1,"b":{}}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(value.to_json(), serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn indented_text_is_json_and_bounded() {
        let json = serde_json::json!({"a": [1, {"b": "\u{1}\"\\\n\u{2028}ü"}], "c": {}, "d": []});
        let text = indented(&Value::from_json(&json), 1000).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
        assert!(
            text.starts_with(
                "{\n  \"a\": [\n    1,\n    {\n      \"b\": \
            \"\\u0001\\\"\\\\\\n\\u2028ü\"\n    }\n  ],\n  \"c\": {},"
            ),
            "{text}"
        );
        assert_eq!(indented(&Value::from_json(&json), text.len()), Some(text.clone()));
        assert_eq!(indented(&Value::from_json(&json), text.len() - 1), None);
    }
}
