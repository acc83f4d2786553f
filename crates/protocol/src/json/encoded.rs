//! Byte arrays as base64 strings, for `#[serde(with = "…")]`.

use std::fmt;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Visitor};

/// .NET writes padding; some other writers leave it away.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a base64 string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        // The decoder's own message would quote a byte of what may be a key.
        ENGINE
            .decode(text.trim_ascii())
            .map_err(|_| E::custom("expected a base64 string, found another text"))
    }
}

/// `Vec<u8>` as a base64 string (`#[serde(with = "dayfly_protocol::json::base64_bytes")]`).
pub mod base64_bytes {
    use super::{BytesVisitor, ENGINE, Engine};

    /// Writes base64 with padding.
    pub fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&ENGINE.encode(bytes))
    }

    /// Reads base64 with or without padding; a null is an empty array.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_str(BytesVisitor)
    }
}

/// `Option<Vec<u8>>` as a base64 string or null (`#[serde(with = "…", default)]`).
pub mod optional_base64_bytes {
    use std::fmt;

    use serde::Deserializer;
    use serde::de::{self, Visitor};

    use super::{BytesVisitor, ENGINE, Engine};

    /// Writes base64 with padding, or null.
    pub fn serialize<S: serde::Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&ENGINE.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    struct OptionVisitor;

    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<Vec<u8>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a base64 string or null")
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_str(BytesVisitor).map(Some)
        }
    }

    /// Reads base64 with or without padding, or null.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        deserializer.deserialize_option(OptionVisitor)
    }
}
