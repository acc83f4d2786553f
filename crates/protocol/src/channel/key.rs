//! Secrets by which a worker is known on the channel.

use std::fmt;

use aws_lc_rs::{digest, rand};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crypto;

/// The longest key that is taken: longer than any token of a service account.
const LONGEST_KEY: usize = 16 * 1024;

/// A secret word. Wiped when dropped and never printed; compared by its [`Key::digest`].
#[derive(Clone)]
pub struct Key(SecretString);

impl Key {
    /// A key of 128 bits that nobody can guess.
    ///
    /// # Errors
    ///
    /// The random generator failed.
    pub fn draw() -> crypto::Result<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| crypto::Error::Generate)?;
        Ok(Self::new(hexadecimal(&bytes)))
    }

    /// A key that was made elsewhere.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The word itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What may be kept of it: whoever knows only this cannot show the key.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(hexadecimal(digest::digest(&digest::SHA256, self.expose().as_bytes()).as_ref()))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key([redacted])")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > LONGEST_KEY {
            return Err(serde::de::Error::custom("a key is too long"));
        }
        Ok(Self::new(text))
    }
}

/// The SHA-256 of a [`Key`], in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyDigest(String);
