//! What handlers take from requests, and how they answer.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use dayfly_protocol::json;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::app::App;

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

/// A JSON body, read and written as .NET does.
#[derive(Clone, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = read_body(request, app.settings().limits.json_bytes).await?;
        json::from_slice(&bytes).map(Self).map_err(ApiError::invalid_body)
    }
}

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

/// A body of bytes: a block of a log, or a file.
#[derive(Clone, Debug)]
pub(crate) struct Upload(pub(crate) Bytes);

impl FromRequest<App> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        read_body(request, app.settings().limits.upload_bytes).await.map(Self)
    }
}

/// The whole body, when it is not larger than `limit`.
pub(crate) async fn read_body(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let told =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|told| told > limit) {
        return Err(ApiError::too_large(limit));
    }
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|error| {
        // A body without a length that is too long, or a connection that broke.
        ApiError::invalid_body(format_args!("it could not be read, or is larger than {limit} bytes: {error}"))
    })
}
