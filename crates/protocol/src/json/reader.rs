//! Serde deserializer over [`Node`] with .NET's conversions.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::Error;
use super::node::Node;

/// Longest path reported; a deeper one keeps its inner end.
const MAX_PATH_SEGMENTS: usize = 32;

/// One step of the way from the document to a value.
#[derive(Debug)]
enum Segment {
    Name(String),
    Index(usize),
}

/// A failed conversion on its way out to the caller, who gets it as [`Error::Shape`]. Collects the path while
/// it passes each level, so that successful decoding pays nothing for it.
#[derive(Debug)]
pub(super) struct Failure {
    /// From the inside out.
    path: Vec<Segment>,
    reason: String,
}

impl Failure {
    fn inside(mut self, segment: impl FnOnce() -> Segment) -> Failure {
        if self.path.len() < MAX_PATH_SEGMENTS {
            self.path.push(segment());
        }
        self
    }

    pub(super) fn into_error(self) -> Error {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Name(name) if path.is_empty() => path.push_str(name),
                Segment::Name(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        Error::Shape { path, reason: self.reason }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

/// The type of what was found, without its value (serde's own text would quote it).
fn unexpected_type(unexpected: &Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "an object",
        _ => "another type",
    }
}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure { path: Vec::new(), reason: message.to_string() }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {}", unexpected_type(&unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "expected {expected}, found {} of another kind",
            unexpected_type(&unexpected)
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("expected one of {}", expected.join(", ")))
    }
}

/// Deserializes one node.
pub(super) struct Reader<'de> {
    node: Node<'de>,
}

impl<'de> Reader<'de> {
    pub(super) fn new(node: Node<'de>) -> Self {
        Reader { node }
    }

    /// A number in quotes is a number to .NET; anything else stays as it is, so that the visitor reports it.
    fn numeric(self) -> Self {
        let node = match self.node {
            Node::Null => Node::Unsigned(0),
            Node::Text(text) => {
                let trimmed = text.trim();
                if let Ok(value) = trimmed.parse() {
                    Node::Unsigned(value)
                } else if let Ok(value) = trimmed.parse() {
                    Node::Signed(value)
                } else {
                    match trimmed.parse::<f64>() {
                        Ok(value) if value.is_finite() => Node::Float(value),
                        _ => Node::Text(text),
                    }
                }
            }
            node => node,
        };
        Reader { node }
    }

    /// As [`Self::numeric`]; `5.0` counts as the integer 5.
    fn integral(self) -> Self {
        /// 2^53: up to here every integral `f64` is exact.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let node = match self.numeric().node {
            Node::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT => Node::Signed(value as i64),
            node => node,
        };
        Reader { node }
    }

    /// Scalars as text, as Newtonsoft's `ReadAsString` gives them.
    fn textual(self) -> Self {
        let text = match self.node {
            Node::Null => Cow::Borrowed(""),
            Node::Boolean(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Node::Unsigned(value) => Cow::Owned(value.to_string()),
            Node::Signed(value) => Cow::Owned(value.to_string()),
            Node::Float(value) => Cow::Owned(value.to_string()),
            node => return Reader { node },
        };
        Reader { node: Node::Text(text) }
    }

    fn boolean(self) -> Self {
        let node = match self.node {
            Node::Null => Node::Boolean(false),
            Node::Unsigned(value) => Node::Boolean(value != 0),
            Node::Signed(value) => Node::Boolean(value != 0),
            Node::Text(text) if text.trim().eq_ignore_ascii_case("true") => Node::Boolean(true),
            Node::Text(text) if text.trim().eq_ignore_ascii_case("false") => Node::Boolean(false),
            node => node,
        };
        Reader { node }
    }
}

/// Methods that first bend the node to the asked type.
macro_rules! deserialize_scalar {
    ($($method:ident by $conversion:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.$conversion().deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Boolean(value) => visitor.visit_bool(value),
            Node::Unsigned(value) => visitor.visit_u64(value),
            Node::Signed(value) => visitor.visit_i64(value),
            Node::Float(value) => visitor.visit_f64(value),
            Node::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Node::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Node::List(list) => visitor.visit_seq(List { items: list.into_iter(), index: 0 }),
            Node::Object(entries) => visitor.visit_map(Entries::new(entries)),
        }
    }

    deserialize_scalar! {
        deserialize_bool by boolean,
        deserialize_i8 by integral, deserialize_i16 by integral,
        deserialize_i32 by integral, deserialize_i64 by integral,
        deserialize_u8 by integral, deserialize_u16 by integral,
        deserialize_u32 by integral, deserialize_u64 by integral,
        deserialize_f32 by numeric, deserialize_f64 by numeric,
        deserialize_char by textual, deserialize_str by textual, deserialize_string by textual,
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let node = match self.node {
            Node::Null => Node::List(Vec::new()),
            node => node,
        };
        Reader { node }.deserialize_any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let node = match self.node {
            Node::Null => Node::Object(Vec::new()),
            node => node,
        };
        Reader { node }.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.node {
            Node::Null => visitor.visit_map(Fields::new(Vec::new(), fields)),
            Node::Object(entries) => visitor.visit_map(Fields::new(entries, fields)),
            // Serde would take a list as the fields in their order, which no peer means.
            node => Err(de::Error::custom(format_args!("expected an object, found {}", node.type_name()))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let (name, content) = match self.node {
            Node::Text(name) => (name, None),
            Node::Object(mut entries) if entries.len() == 1 => {
                let (name, content) = entries.remove(0);
                (name, Some(content))
            }
            node => {
                return Err(de::Error::custom(format_args!(
                    "expected one of {}, found {}",
                    variants.join(", "),
                    node.type_name()
                )));
            }
        };
        visitor.visit_enum(Choice { name: Name::canonical(name, variants), content })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
}

/// Finds `name` among the names the type knows: exactly first, then in any case.
fn position(name: &str, known: &[&str]) -> Option<usize> {
    known
        .iter()
        .position(|candidate| *candidate == name)
        .or_else(|| known.iter().position(|candidate| candidate.eq_ignore_ascii_case(name)))
}

/// A property or variant name given to the visitor.
enum Name<'de> {
    Known(&'static str),
    Other(Cow<'de, str>),
}

impl<'de> Name<'de> {
    fn canonical(name: Cow<'de, str>, known: &'static [&'static str]) -> Self {
        match position(&name, known) {
            Some(index) => Name::Known(known[index]),
            None => Name::Other(name),
        }
    }
}

impl<'de> IntoDeserializer<'de, Failure> for Name<'de> {
    type Deserializer = Reader<'de>;

    fn into_deserializer(self) -> Reader<'de> {
        let text = match self {
            Name::Known(name) => Cow::Borrowed(name),
            Name::Other(name) => name,
        };
        Reader { node: Node::Text(text) }
    }
}

/// Elements of a list.
struct List<'de> {
    items: std::vec::IntoIter<Node<'de>>,
    index: usize,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Failure;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Reader { node })
            .map(Some)
            .map_err(|failure| failure.inside(|| Segment::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// Entries of a map: keys untouched.
struct Entries<'de> {
    entries: std::vec::IntoIter<(Cow<'de, str>, Node<'de>)>,
    /// Name and value of the entry whose key was given out.
    current: Option<(String, Node<'de>)>,
}

impl<'de> Entries<'de> {
    fn new(entries: Vec<(Cow<'de, str>, Node<'de>)>) -> Self {
        Entries { entries: entries.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Failure;

    fn next_key_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        self.current = Some((key.clone().into_owned(), node));
        seed.deserialize(Reader { node: Node::Text(key) }).map(Some)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (name, node) =
            self.current.take().ok_or_else(|| de::Error::custom("value asked before its key"))?;
        seed.deserialize(Reader { node }).map_err(|failure| failure.inside(|| Segment::Name(name)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// Fields of a struct: known names only, each once, none of them null.
struct Fields<'de> {
    fields: std::vec::IntoIter<(&'static str, Node<'de>)>,
    current: Option<(&'static str, Node<'de>)>,
}

impl<'de> Fields<'de> {
    fn new(entries: Vec<(Cow<'de, str>, Node<'de>)>, known: &'static [&'static str]) -> Self {
        let mut slots: Vec<Option<Node<'de>>> = Vec::with_capacity(known.len());
        slots.resize_with(known.len(), || None);
        for (name, node) in entries {
            // The last of two equal names wins; a null is ignored, not an override
            // (NullValueHandling.Ignore).
            if let Some(index) = position(&name, known)
                && !matches!(node, Node::Null)
            {
                slots[index] = Some(node);
            }
        }
        let fields: Vec<_> =
            slots.into_iter().zip(known).filter_map(|(slot, name)| slot.map(|node| (*name, node))).collect();
        Fields { fields: fields.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Failure;

    fn next_key_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((name, node)) = self.fields.next() else { return Ok(None) };
        self.current = Some((name, node));
        seed.deserialize(Name::Known(name).into_deserializer()).map(Some)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (name, node) =
            self.current.take().ok_or_else(|| de::Error::custom("value asked before its field"))?;
        seed.deserialize(Reader { node }).map_err(|failure| failure.inside(|| Segment::Name(name.to_owned())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// A variant of an enum, alone or with its content.
struct Choice<'de> {
    name: Name<'de>,
    content: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Failure;
    type Variant = Content<'de>;

    fn variant_seed<S: de::DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'de>), Failure> {
        let label = match &self.name {
            Name::Known(name) => (*name).to_owned(),
            Name::Other(name) => name.to_string(),
        };
        let value = seed.deserialize(self.name.into_deserializer())?;
        Ok((value, Content { label, node: self.content }))
    }
}

/// What stands behind a variant's name.
struct Content<'de> {
    label: String,
    node: Option<Node<'de>>,
}

impl<'de> Content<'de> {
    fn reader(self) -> (Reader<'de>, String) {
        (Reader { node: self.node.unwrap_or(Node::Null) }, self.label)
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }

    fn newtype_variant_seed<S: de::DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failure> {
        let (reader, label) = self.reader();
        seed.deserialize(reader).map_err(|failure| failure.inside(|| Segment::Name(label)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        let (reader, label) = self.reader();
        reader.deserialize_any(visitor).map_err(|failure| failure.inside(|| Segment::Name(label)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let (reader, label) = self.reader();
        reader
            .deserialize_struct("", fields, visitor)
            .map_err(|failure| failure.inside(|| Segment::Name(label)))
    }
}
