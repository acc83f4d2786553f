//! A request before it is sent.

use std::borrow::Cow;
use std::path::PathBuf;

use bytes::Bytes;
use dayfly_protocol::json;
use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;
use url::Url;

use crate::error::{Call, Error, Result};
use crate::operation::Operation;

/// Bytes to be uploaded, from memory or from a file that is read while it is sent.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Bytes),
    /// The bytes of this file.
    File(PathBuf),
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Content::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Bytes(bytes.into())
    }
}

impl From<PathBuf> for Content {
    fn from(file: PathBuf) -> Self {
        Content::File(file)
    }
}

/// What is sent along.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    None,
    Json(Bytes),
    Octets(Content),
}

/// One request, kept whole so that it can be sent again.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) call: Box<Call>,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Media type asked for.
    pub(crate) accept: &'static str,
    pub(crate) payload: Payload,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Request {
    /// A request at the segments of a path below the base. Segments are encoded.
    pub(crate) fn new<'a>(
        operation: Operation,
        object: impl Into<String>,
        method: Method,
        base: &Url,
        path: impl IntoIterator<Item = Cow<'a, str>>,
    ) -> Self {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let call = Box::new(Call { operation, object: object.into() });
        Request { call, method, url, accept: "application/json", payload: Payload::None, headers: Vec::new() }
    }

    pub(crate) fn query(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.url.query_pairs_mut().append_pair(name, &value.to_string());
        self
    }

    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Result<Self> {
        match json::to_vec(body) {
            Ok(body) => {
                self.payload = Payload::Json(body.into());
                Ok(self)
            }
            Err(source) => Err(Error::Encode { call: self.call, source }),
        }
    }

    pub(crate) fn octets(mut self, body: impl Into<Content>) -> Self {
        self.payload = Payload::Octets(body.into());
        self
    }
}

/// The segments of a path, from literals and from values.
macro_rules! segments {
    ($($segment:expr),* $(,)?) => {
        [$(::std::borrow::Cow::<str>::from($segment)),*]
    };
}
pub(crate) use segments;
