//! What handlers take from requests, and how they answer.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use dayfly_protocol::json;
use futures::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::app::App;
use crate::app::body_room::Share;

/// Values from the path.
#[derive(Clone, Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(values)) => Ok(Self(values)),
            Err(rejection) => {
                let reason = rejection.body_text();
                tracing::debug!(%reason, "path does not parse");
                Err(ApiError::invalid_parameter("in the path", parts.uri.path()))
            }
        }
    }
}

/// A JSON answer, written as .NET does.
#[derive(Clone, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match json::to_vec(&self.0) {
            Ok(text) => {
                let mut response = Response::new(Body::from(text));
                let json = HeaderValue::from_static("application/json; charset=utf-8; api-version=7.1");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err(error) => ApiError::internal("could not write the answer", &error).into_response(),
        }
    }
}

/// A body that has not been read yet: a handler reads it once it knows that the caller may send it. So a
/// token that may not do a thing cannot make the emulator hold what it sends for it.
#[derive(Debug)]
pub(crate) struct Unread(Request);

impl From<Request> for Unread {
    fn from(request: Request) -> Self {
        Self(request)
    }
}

impl FromRequest<App> for Unread {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &App) -> Result<Self, ApiError> {
        Ok(Self(request))
    }
}

impl Unread {
    /// Reads JSON, as .NET does.
    pub(crate) async fn json<T: DeserializeOwned>(self, app: &App) -> Result<T, ApiError> {
        let body = self.read(app, app.settings().limits.json_bytes).await?;
        json::from_slice(&body).map_err(ApiError::invalid_body)
    }

    /// Reads bytes: a block of a log, or a file.
    pub(crate) async fn upload(self, app: &App) -> Result<Held, ApiError> {
        self.read(app, app.settings().limits.upload_bytes).await
    }

    /// Reads the whole body, when it is not larger than `limit` and there is room for it beside the other
    /// bodies.
    pub(crate) async fn read(self, app: &App, limit: usize) -> Result<Held, ApiError> {
        self.check_length(limit)?;
        let mut held = Held { bytes: BytesMut::new(), room: app.body_room().share() };
        let mut pieces = self.0.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(unreadable)?;
            if held.bytes.len() + piece.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            if !held.room.grow(piece.len()) {
                return Err(ApiError::unavailable("the requests under way use all the memory for bodies"));
            }
            held.bytes.extend_from_slice(&piece);
        }
        Ok(held)
    }

    /// Reads the body to its end and keeps nothing of it.
    pub(crate) async fn discard(self, app: &App) -> Result<(), ApiError> {
        let limit = app.settings().limits.json_bytes;
        self.check_length(limit)?;
        let mut left = limit;
        let mut pieces = self.0.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            left = left
                .checked_sub(piece.map_err(unreadable)?.len())
                .ok_or_else(|| ApiError::too_large(limit))?;
        }
        Ok(())
    }

    /// Refuses a body that says that it is too long.
    fn check_length(&self, limit: usize) -> Result<(), ApiError> {
        let told =
            self.0.headers().get(CONTENT_LENGTH).and_then(|told| told.to_str().ok()?.parse::<usize>().ok());
        if told.is_some_and(|told| told > limit) { Err(ApiError::too_large(limit)) } else { Ok(()) }
    }
}

fn unreadable(error: axum::Error) -> ApiError {
    ApiError::invalid_body(format_args!("reading it failed: {error}"))
}

/// A body in memory.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: BytesMut,
    room: Share,
}

impl std::ops::Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
