//! JSON that is passed on as it came.

use std::fmt;

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// JSON text that is passed on with everything in it, wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretJson(Zeroizing<String>);

impl SecretJson {
    /// Takes `text`, which must be JSON; a byte-order mark in front of it is left out. `None` when it is no
    /// JSON.
    ///
    /// Line breaks, which in JSON can only stand between its parts, become spaces: it shall fit into a frame.
    pub fn new(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
        serde_json::from_str::<&RawValue>(text).ok()?;
        Some(Self::known_to_be_json(text))
    }

    fn known_to_be_json(text: &str) -> Self {
        let mut own = Zeroizing::new(String::with_capacity(text.len()));
        own.extend(
            text.chars().map(|character| if matches!(character, '\n' | '\r') { ' ' } else { character }),
        );
        Self(own)
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretJson([redacted])")
    }
}

impl Serialize for SecretJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SecretJson {
    /// Only from text that is at hand as a whole: it is copied straight out of there, and no copy stays
    /// behind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self::known_to_be_json(raw.get()))
    }
}
