//! The HTTP surface: one file per resource, and what is common to all requests.
//!
//! A request passes: its path is normalized and the organization taken off ([`paths`]), faults strike, the caller is
//! authenticated ([`caller`]), the router finds the handler, the handler checks what the caller may do.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use dayfly_protocol::error::type_key;
use dayfly_protocol::{PoolId, SessionId};
use futures::{FutureExt, Stream, StreamExt};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode, Uri, Version};
use tower::ServiceExt;

use crate::app::App;
use crate::faults::{Fault, latency};

mod admin;
mod agents;
mod artifacts;
mod attachments;
mod build_wire;
mod builds;
pub(crate) mod caller;
mod connection_data;
mod containers;
mod definitions;
pub(crate) mod error;
mod events;
pub(crate) mod extract;
mod feature_flags;
mod feed;
mod git;
mod job_requests;
mod locations;
mod log_text;
mod logs;
mod messages;
mod oauth;
mod pages;
mod paths;
mod pipelines;
mod plans;
mod pools;
mod projects;
mod query;
mod queues;
mod repositories;
pub(crate) mod serve;
mod sessions;
mod tasks;
mod telemetry;
mod timelines;
mod trace;
mod version;
mod zip;

use caller::{Caller, presented_token};
use error::ApiError;
use query::Query;
use serve::{Answer, Connection};
use trace::Trace;

/// All routes, below the organization and in lower case.
fn router() -> Router<App> {
    Router::new()
        .merge(admin::routes())
        .merge(agents::routes())
        .merge(artifacts::routes())
        .merge(attachments::routes())
        .merge(builds::routes())
        .merge(connection_data::routes())
        .merge(containers::routes())
        .merge(definitions::routes())
        .merge(events::routes())
        .merge(feature_flags::routes())
        .merge(feed::routes())
        .merge(git::routes())
        .merge(job_requests::routes())
        .merge(locations::routes())
        .merge(logs::routes())
        .merge(messages::routes())
        .merge(oauth::routes())
        .merge(pages::routes())
        .merge(pipelines::routes())
        .merge(plans::routes())
        .merge(pools::routes())
        .merge(projects::routes())
        .merge(queues::routes())
        .merge(repositories::routes())
        .merge(sessions::routes())
        .merge(tasks::routes())
        .merge(telemetry::routes())
        .merge(timelines::routes())
        .fallback(async |uri: Uri| ApiError::no_route(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let message =
                format!("the requested resource {} does not support http method '{method}'", uri.path());
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "VssRequestMethodNotSupportedException", message)
        })
}

/// How far off the clock is by which an assertion is judged; put into a request by a fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockSkew(pub(crate) i64);

/// Answers all requests.
#[derive(Clone)]
pub(crate) struct Service {
    app: App,
    router: Router,
}

impl Service {
    pub(crate) fn new(app: App) -> Self {
        Self { router: router().with_state(app.clone()), app }
    }

    /// Takes the organization off the path, and lets faults strike.
    async fn respond(&self, mut request: Request<Body>, connection: &Connection) -> Response {
        let uri = paths::normalize(request.uri());
        let Some(uri) = paths::below(&uri, &self.app.settings().organization) else {
            return ApiError::no_route(request.uri().path()).into_response();
        };
        *request.uri_mut() = uri;
        request.extensions_mut().insert(connection.clone());
        let faults =
            self.app.faults().strike(request.method().as_str(), request.uri().path().trim_start_matches('/'));
        let limit =
            self.app.settings().poll_hold + self.app.settings().limits.request_timeout + latency(&faults);
        if let Some(response) = self.before(&mut request, &faults, connection).await {
            return response;
        }
        let handled =
            AssertUnwindSafe(tokio::time::timeout(limit, self.handle(request))).catch_unwind().await;
        let response = match handled {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => ApiError::unavailable("the request took too long").into_response(),
            Err(_) => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "VssServiceException",
                "the emulator failed on this request; its log has the panic",
            )
            .into_response(),
        };
        self.after(response, &faults, connection).await
    }

    /// Authenticates and routes.
    async fn handle(&self, mut request: Request<Body>) -> Response {
        if leaves_length_open(&request) {
            return ApiError::length_required().into_response();
        }
        if request.method() == Method::OPTIONS {
            return locations::options(request.uri().path()).into_response();
        }
        if !oauth::is_token_request(request.uri().path()) {
            let Some(token) = presented_token(request.headers()) else {
                return self.unauthorized("a token is required").into_response();
            };
            let principal = self.app.state().tokens.authenticate(&token, self.app.now());
            let Some(principal) = principal else {
                return self
                    .unauthorized("the token is unknown, or has expired or was revoked")
                    .into_response();
            };
            request.extensions_mut().insert(Caller(principal));
            if let Err(refused) = version::check(request.method(), request.uri(), request.headers()) {
                return refused.into_response();
            }
        }
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn unauthorized(&self, message: &str) -> ApiError {
        ApiError::unauthorized(format!("TF400813: {message}"), self.app.token_url().as_str())
    }

    /// Does what faults do before a request is handled. An answer means that it is not handled.
    async fn before(
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
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    let type_key = type_key.clone().unwrap_or_else(|| "VssServiceException".to_owned());
                    let message =
                        message.clone().unwrap_or_else(|| "a fault rule caused this error".to_owned());
                    let mut error = ApiError::new(status, type_key, message);
                    for (name, value) in headers {
                        if let (Ok(name), Ok(value)) =
                            (name.parse::<HeaderName>(), HeaderValue::from_str(value))
                        {
                            error = error.header(name, value);
                        }
                    }
                    return Some(error.into_response());
                }
                Fault::Body { status, content_type, body } => {
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    let headers = [(http::header::CONTENT_TYPE, content_type.clone())];
                    return Some((status, headers, body.clone()).into_response());
                }
                Fault::Throttle { retry_after } => {
                    let message = "TF400733: the request has been canceled: request was blocked due to exceeding \
                                   usage of resource 'Concurrency' in namespace 'User'";
                    let mut response =
                        ApiError::new(StatusCode::TOO_MANY_REQUESTS, type_key::RATE_LIMITED, message)
                            .into_response();
                    rate_limit(&mut response, *retry_after as f64, *retry_after, self.app.now().as_second());
                    return Some(response);
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
                Fault::ClockSkew { seconds } => {
                    request.extensions_mut().insert(ClockSkew(*seconds));
                }
                Fault::Latency { .. } | Fault::DropAfter | Fault::Truncate { .. } | Fault::Slow { .. } => {}
            }
        }
        None
    }

    /// Does what faults do to an answer.
    async fn after(&self, mut response: Response, faults: &[Fault], connection: &Connection) -> Response {
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

impl Answer for Service {
    async fn answer(&self, request: Request<Body>, connection: Connection) -> Response {
        let trace = Trace::new(request.headers());
        let mut response = self.respond(request, &connection).await;
        trace.mark(response.headers_mut());
        response
    }
}

/// Whether a request says nothing of the body it may have, not even that it has none. The service's HTTP/1.1 front refuses it.
fn leaves_length_open(request: &Request<Body>) -> bool {
    let may_have_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let is_told = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    may_have_body && !is_told && request.version() < Version::HTTP_2
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
