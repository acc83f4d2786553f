//! The token endpoint: an agent proves who it is by a signed assertion and gets an access token
//! (`VssOAuthTokenHttpClient.cs`, `VssOAuthJwtBearerAssertion.cs`).

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use dayfly_protocol::crypto::{Assertion, TimeMismatch};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde::Serialize;
use uuid::Uuid;

use crate::app::App;
use crate::http::ClockSkew;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Unread};
use crate::state::tokens::Replay;

pub(crate) fn routes() -> Router<App> {
    Router::new().route(PATH, post(issue))
}

const PATH: &str = "/_apis/oauth2/token";

/// How far an agent's clock may be off beyond the assertion's own five minutes.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// No form with an assertion is longer.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Whether a request is for a token: it needs none.
pub(crate) fn is_token_request(path: &str) -> bool {
    path == PATH
}

#[derive(Serialize)]
struct AccessToken<'t> {
    access_token: &'t str,
    token_type: &'static str,
    expires_in: u64,
}

/// An error as OAuth has it. Clients read `error_description`, also for the word about the clock.
#[derive(Serialize)]
struct Refusal {
    error: &'static str,
    error_description: String,
}

impl Refusal {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, error_description: description.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(self)).into_response()
    }
}

async fn issue(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let skew = request.extensions().get::<ClockSkew>().copied().unwrap_or_default();
    let body = Unread::from(request).read(&app, FORM_BYTES_MAX).await?;
    let now = app.now();
    // The emulator's own times stay right; only the judgement of the assertion is skewed.
    let clock = now.checked_add(SignedDuration::from_secs(skew.0)).unwrap_or(now);
    Ok(match grant(&app, &body, clock) {
        Ok(client) => {
            let lifetime = app.state().rules.agent_token_lifetime;
            match app.state().tokens.issue_agent_token(client, lifetime, now) {
                Some(token) => Json(AccessToken {
                    access_token: token.expose_secret(),
                    token_type: "access_token",
                    expires_in: lifetime.as_secs(),
                })
                .into_response(),
                None => unknown(&client.to_string()).into_response(),
            }
        }
        Err(refusal) => refusal.into_response(),
    })
}

fn unknown(client: &str) -> Refusal {
    Refusal::new(
        "invalid_client",
        format!("client {client} is not registered; its agent may have been deleted"),
    )
}

/// Checks an assertion; returns whose it is.
fn grant(app: &App, body: &[u8], now: Timestamp) -> Result<Uuid, Refusal> {
    let field = |name: &str| {
        url::form_urlencoded::parse(body)
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.into_owned())
    };
    if field("grant_type").as_deref() != Some("client_credentials") {
        return Err(Refusal::new("unsupported_grant_type", "grant_type must be client_credentials"));
    }
    const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    if field("client_assertion_type").as_deref() != Some(ASSERTION_TYPE) {
        return Err(Refusal::new(
            "invalid_request",
            format!("client_assertion_type must be {ASSERTION_TYPE}"),
        ));
    }
    let token = field("client_assertion")
        .ok_or_else(|| Refusal::new("invalid_request", "client_assertion is required"))?;
    let malformed =
        |error| Refusal::new("invalid_client", format!("the client assertion is not valid: {error}"));
    let assertion = Assertion::parse(&token).map_err(malformed)?;
    let subject = assertion.subject().to_owned();
    let client: Uuid = subject.parse().map_err(|_| unknown(&subject))?;
    let public_key = {
        let state = app.state();
        let (pool, agent) = state.tokens.client(client).ok_or_else(|| unknown(&subject))?;
        let agent = state.agent(pool, agent).map_err(|_| unknown(&subject))?;
        agent.public_key.clone().ok_or_else(|| unknown(&subject))?
    };
    let claims = assertion.verify(&public_key).map_err(malformed)?;
    if claims.issuer != claims.subject {
        return Err(Refusal::new("invalid_client", "issuer and subject of the client assertion differ"));
    }
    if claims.audience != app.token_url().as_str() {
        let audience = &claims.audience;
        return Err(Refusal::new(
            "invalid_client",
            format!("audience {audience} of the client assertion is not ours"),
        ));
    }
    claims.check_times(now, TOLERANCE).map_err(|mismatch| {
        let what = match mismatch {
            TimeMismatch::Expired => "has expired",
            TimeMismatch::NotYetValid => "is not yet valid",
        };
        // The agent looks for these words to tell its user about the clock (`MessageListener.cs`).
        Refusal::new("invalid_client", format!("the client assertion {what}. Current server time is {now}."))
    })?;
    let expires = Timestamp::from_second(claims.expires)
        .map_err(|_| Refusal::new("invalid_client", "the client assertion has no valid time"))?
        .checked_add(TOLERANCE)
        .unwrap_or(Timestamp::MAX);
    app.state().tokens.use_assertion(client, &claims.id, expires, now).map_err(|replay| match replay {
        Replay::Used => {
            Refusal::new("invalid_client", "the client assertion was used before; sign a new one")
        }
        Replay::TooMany => Refusal::new("temporarily_unavailable", "too many logins within a few minutes"),
    })?;
    Ok(client)
}
