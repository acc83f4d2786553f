//! .NET's JSON habits in one place.
//!
//! Writing: camelCase names, enums as camelCase strings, lists wrapped as [`ListOf`]. Reading: names without regard to
//! case, enums as strings or numbers, a byte order mark tolerated.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why bytes from the network could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("not the JSON expected here: {0}")]
pub struct Error(#[from] serde_json::Error);

/// Decodes what the service or an agent sent.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    Ok(serde_json::from_slice(bytes)?)
}

/// Decodes text, see [`from_slice`].
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    from_slice(text.as_bytes())
}

/// Encodes for the wire.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    Ok(serde_json::to_vec(value)?)
}

/// The wrapper of every list: `{"count":N,"value":[...]}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListOf<T> {
    /// How many; readers ignore it.
    #[serde(default)]
    pub count: usize,
    /// The list.
    pub value: Vec<T>,
}

impl<T> From<Vec<T>> for ListOf<T> {
    fn from(value: Vec<T>) -> Self {
        Self { count: value.len(), value }
    }
}

/// Declares an enum of the wire: written as a camelCase string, read from a string in any case or from a number.
macro_rules! wire_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)+ }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in Pascal case, as variables and expressions show it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// The value behind a number of the wire.
            pub fn from_number(number: i64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The value behind a name, in any case.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name().eq_ignore_ascii_case(name))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let name = self.name();
                let mut text = String::with_capacity(name.len());
                text.push_str(&name[..1].to_ascii_lowercase());
                text.push_str(&name[1..]);
                serializer.serialize_str(&text)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, concat!("a ", stringify!($name), " as a name or a number"))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_name(text)
                            .or_else(|| text.parse().ok().and_then($name::from_number))
                            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$name, E> {
                        $name::from_number(number)
                            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        i64::try_from(number).ok().and_then($name::from_number)
                            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}
pub(crate) use wire_enum;
