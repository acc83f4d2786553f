//! The HTTP surface: what is common to all requests; `routes` has one file per resource, `strike` the faults.
//!
//! A request passes: its path is normalized and the organization taken off ([`paths`]), faults strike, the
//! caller is authenticated ([`caller`]), the router finds the handler, the handler checks what the caller may
//! do.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode, Version};
use tower::ServiceExt;

use crate::app::App;
use crate::app::connections::Connection;
use crate::faults::latency;

pub(crate) mod caller;
pub(crate) mod error;
pub(crate) mod extract;
mod locations;
mod log_text;
mod paths;
mod query;
mod routes;
pub(crate) mod serve;
mod strike;
mod trace;
mod version;
mod zip;

use caller::{Caller, presented_token};
use error::ApiError;
use serve::Answer;
use trace::Trace;

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
        Self { router: routes::router().with_state(app.clone()), app }
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
        if !routes::oauth::is_token_request(request.uri().path()) {
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
}

impl Answer for Service {
    async fn answer(&self, request: Request<Body>, connection: Connection) -> Response {
        let trace = Trace::new(request.headers());
        let mut response = self.respond(request, &connection).await;
        trace.mark(response.headers_mut());
        response
    }
}

/// Whether a request says nothing of the body it may have, not even that it has none. The service's HTTP/1.1
/// front refuses it.
fn leaves_length_open(request: &Request<Body>) -> bool {
    let may_have_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let is_told = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    may_have_body && !is_told && request.version() < Version::HTTP_2
}
