//! JSON the way .NET's client library writes and reads it.
//!
//! Azure DevOps, the agent and Microsoft's client libraries all speak through Newtonsoft's JSON with a
//! camel-case resolver (`VssJsonMediaTypeFormatter.cs`, `VssCamelCasePropertyNamesContractResolver.cs`).
//! Serde's own habits differ from it in small ways that each break real traffic, so everything that comes
//! from the network is decoded by [`from_slice`] or [`from_str`]:
//!
//! | .NET's habit | here |
//! | --- | --- |
//! | property names in any case, dictionary keys as they are | fields of structs match case-insensitively, map keys are untouched |
//! | the last of two equal properties wins | likewise |
//! | `null` for a member that cannot be null is ignored | a `null` field counts as an absent one; a `null` map value or list element becomes the empty value |
//! | numbers and booleans in quotes, and the reverse | converted |
//! | enums as strings in any case or as numbers | likewise, by the `wire_enum!` macro |
//! | a byte-order mark in front | skipped |
//!
//! What the wrapper cannot reach: structs behind `#[serde(flatten)]`, `#[serde(untagged)]` and internally
//! tagged enums are buffered by serde itself and match by exact case. Wire types do without them.
//!
//! Decoding is bounded: [`MAX_DOCUMENT_BYTES`], [`MAX_VALUES`] and serde_json's nesting limit of 128. Errors
//! carry the path of the field and never quote a value, since values may be secrets.

mod encoded;
mod list;
mod node;
mod properties;
mod reader;
mod wire_enum;

pub use encoded::{base64_bytes, optional_base64_bytes};
pub use list::ListOf;
pub use properties::{PropertiesCollection, Property};
pub use wire_enum::known_or_none;
pub(crate) use wire_enum::wire_enum;

use serde::{Deserialize, Serialize};

/// The largest document that is decoded, in bytes. A job message with all its task inputs stays below one
/// MiB; the largest real answers are timelines of runs with thousands of records.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024 * 1024;

/// The largest number of JSON values (scalars, lists and objects) in one document. Keeps a small document of
/// `[0,0,0,…` from becoming gigabytes of memory.
pub const MAX_VALUES: usize = 4_000_000;

/// The mark some .NET writers put in front of UTF-8 text (`File.WriteAllText` with `Encoding.UTF8`).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// `Result` of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a document could not be decoded or encoded. No message contains a value of the document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON, or it ends too early.
    #[error("the document is {} at line {line} column {column}", if *.truncated { "cut short" } else { "not valid JSON" })]
    Syntax {
        /// True when the text ended inside a value.
        truncated: bool,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
    },
    /// The document is JSON of another shape than expected.
    #[error("{}{reason}", if .path.is_empty() { String::new() } else { format!("{path}: ") })]
    Shape {
        /// Where, as `value[3].plan.planId`; empty for the document itself.
        path: String,
        /// What was expected and which type was found.
        reason: String,
    },
    /// The document is longer than [`MAX_DOCUMENT_BYTES`].
    #[error("the document has {bytes} bytes, more than the {MAX_DOCUMENT_BYTES} that are accepted")]
    TooLong {
        /// Length of the document in bytes.
        bytes: usize,
    },
    /// The document has more than [`MAX_VALUES`] values.
    #[error("the document has more than {MAX_VALUES} values")]
    TooManyValues,
    /// A value could not be written as JSON (a map with keys that are not strings, for example).
    #[error("the value cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    /// True when the text ended inside a value: the sender or a proxy cut the answer short, so asking again
    /// may help.
    pub fn is_truncated(&self) -> bool {
        matches!(self, Error::Syntax { truncated: true, .. })
    }
}

/// Decodes a document with .NET's habits (see the module's page).
pub fn from_slice<'de, T: Deserialize<'de>>(document: &'de [u8]) -> Result<T> {
    let text = document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document);
    let node = node::parse(text)?;
    T::deserialize(reader::Reader::new(node)).map_err(reader::Failure::into_error)
}

/// Decodes a document with .NET's habits (see the module's page).
pub fn from_str<'de, T: Deserialize<'de>>(document: &'de str) -> Result<T> {
    from_slice(document.as_bytes())
}

/// Encodes a value as compact UTF-8 JSON without a byte-order mark.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(Error::Encode)
}

/// Encodes a value as compact JSON.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(Error::Encode)
}

#[cfg(test)]
mod tests;
