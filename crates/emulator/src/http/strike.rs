//! What faults do to requests and answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use dayfly_protocol::error::type_key;
use dayfly_protocol::{PoolId, SessionId};
use futures::{Stream, StreamExt};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode, Uri};

use super::caller::presented_token;
use super::error::ApiError;
use super::query::Query;
use super::{ClockSkew, Service};
use crate::app::connections::Connection;
use crate::faults::{Fault, latency};
use crate::state::Error;

impl Service {
    /// Does what faults do before a request is handled. An answer means that it is not handled.
    pub(super) async fn before(
        &self,
        request: &mut Request<Body>,
        faults: &[Fault],
        connection: &Connection,
    ) -> Option<Response> {
        let delay = latency(faults);
        if !delay.is_zero() {
            self.app.stop().run_until_cancelled(tokio::time::sleep(delay)).await;
        }
        for fault in faults {
            match fault {
                Fault::DropBefore => match connection.cut().await {},
                Fault::Status { status, type_key, message, headers } => {
                    return Some(refused(*status, type_key.as_deref(), message.as_deref(), headers));
                }
                Fault::Body { status, content_type, body } => {
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    let headers = [(http::header::CONTENT_TYPE, content_type.clone())];
                    return Some((status, headers, body.clone()).into_response());
                }
                Fault::Throttle { retry_after } => {
                    return Some(throttled(*retry_after, self.app.now().as_second()));
                }
                Fault::ExpireToken => {
                    if let Some(token) = presented_token(request.headers()) {
                        self.app.state().tokens.revoke(&token);
                    }
                    return Some(self.unauthorized("the token has expired").into_response());
                }
                Fault::ExpireSession => {
                    if let Some((pool, session)) = named_session(request.uri()) {
                        // A session which is gone already is what the fault wants.
                        let _ = self.app.state().delete_session(pool, session, self.app.now());
                    }
                }
                Fault::KeepSession => {
                    if let Some((_, session)) = named_session(request.uri()) {
                        return Some(ApiError::from(Error::SessionExpired(session)).into_response());
                    }
                }
                Fault::RefuseSession => {
                    let message = "the agent already has an active session for another owner";
                    let refused = ApiError::new(StatusCode::CONFLICT, type_key::SESSION_CONFLICT, message);
                    return Some(refused.into_response());
                }
                Fault::ClockSkew { seconds } => {
                    request.extensions_mut().insert(ClockSkew(*seconds));
                }
                Fault::Latency { .. } | Fault::DropAfter | Fault::Truncate { .. } | Fault::Slow { .. } => {}
            }
        }
        None
    }

    /// Does what faults do to an answer.
    pub(super) async fn after(
        &self,
        mut response: Response,
        faults: &[Fault],
        connection: &Connection,
    ) -> Response {
        for fault in faults {
            match fault {
                Fault::DropAfter => match connection.cut().await {},
                Fault::Truncate { bytes } => {
                    let left = usize::try_from(*bytes).unwrap_or(usize::MAX);
                    response = response.map(|body| {
                        let inner = body.into_data_stream().boxed();
                        Body::from_stream(Truncated { inner, left, connection: connection.clone() })
                    });
                }
                Fault::Slow { delay } => {
                    rate_limit(&mut response, *delay, delay.ceil() as u64, self.app.now().as_second());
                }
                _ => {}
            }
        }
        response
    }
}

/// The answer that a rule asks for.
fn refused(
    status: u16,
    type_key: Option<&str>,
    message: Option<&str>,
    headers: &BTreeMap<String, String>,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let type_key = type_key.unwrap_or("VssServiceException").to_owned();
    let message = message.unwrap_or("a fault rule caused this error").to_owned();
    let mut error = ApiError::new(status, type_key, message);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            error = error.header(name, value);
        }
    }
    error.into_response()
}

/// The answer to who asks too often.
fn throttled(retry_after: u64, now: i64) -> Response {
    let message = "TF400733: the request has been canceled: request was blocked due to exceeding usage of \
                   resource 'Concurrency' in namespace 'User'";
    let mut response =
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, type_key::RATE_LIMITED, message).into_response();
    rate_limit(&mut response, retry_after as f64, retry_after, now);
    response
}

/// The session which a request about messages or sessions names.
fn named_session(uri: &Uri) -> Option<(PoolId, SessionId)> {
    let mut segments = uri.path().split('/').skip_while(|segment| *segment != "pools").skip(1);
    let pool = segments.next()?.parse().ok()?;
    let session = match (segments.next()?, segments.next()) {
        ("sessions", Some(session)) => session.parse().ok()?,
        _ => Query::parse(uri.query().unwrap_or_default()).text("sessionId")?.parse().ok()?,
    };
    Some((pool, session))
}

/// Adds the rate-limit headers, as the service does when it delays or blocks.
fn rate_limit(response: &mut Response, delay: f64, retry_after: u64, now: i64) {
    /// When the counters of the service start anew: five minutes after.
    const WINDOW: Duration = Duration::from_secs(5 * 60);
    let headers = response.headers_mut();
    let reset = now + WINDOW.as_secs() as i64;
    for (name, value) in [
        ("x-ratelimit-resource", "Concurrency/Pipelines".to_owned()),
        ("x-ratelimit-delay", delay.to_string()),
        ("x-ratelimit-limit", "200".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", reset.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
}

/// A body that ends too soon, with its connection.
struct Truncated {
    inner: futures::stream::BoxStream<'static, Result<Bytes, axum::Error>>,
    left: usize,
    connection: Connection,
}

impl Stream for Truncated {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            // Pending for ever: the cut connection takes this body with it.
            self.connection.cut_soon();
            return Poll::Pending;
        }
        match self.inner.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(mut bytes))) => {
                bytes.truncate(self.left);
                self.left -= bytes.len();
                Poll::Ready(Some(Ok(bytes)))
            }
            other => other,
        }
    }
}
