//! Logging in with an agent's own key.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dayfly_protocol::agent_files::AgentCredentials;
use dayfly_protocol::crypto::{AgentKey, Claims};
use http::StatusCode;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use super::{JWT_BEARER, Token};
use crate::answer::Answer;
use crate::clock::is_skew;
use crate::error::{Call, Error, Result};
use crate::operation::Operation;
use crate::retry;
use crate::transport::Transport;

/// How long differing clocks are worth another attempt (`MessageListener.cs`).
const SKEW_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What an agent logs in with: a statement signed by its key (RFC 7523), exchanged for a token.
#[derive(Clone, Debug)]
pub struct AgentCredential {
    /// The subject of the statement, given by the service at registration.
    pub client_id: Uuid,
    /// The audience of the statement: the authorization URL from the registration, letter by letter, even if
    /// tokens come from elsewhere.
    pub authorization_url: Arc<str>,
    /// Where tokens come from.
    pub token_url: Arc<Url>,
    /// The agent's key; shared by the agents of a set.
    pub key: Arc<AgentKey>,
}

impl AgentCredential {
    /// The credential of a registered agent's files.
    pub fn from_files(credentials: &AgentCredentials, key: Arc<AgentKey>) -> Self {
        AgentCredential {
            client_id: credentials.client_id,
            authorization_url: credentials.authorization_url.as_str().into(),
            token_url: Arc::new(credentials.oauth_endpoint_url.clone()),
            key,
        }
    }
}

/// An agent's login.
pub(super) struct AgentLogin {
    credential: AgentCredential,
    /// Since when logins fail by the clocks.
    skewed_since: Mutex<Option<Instant>>,
}

impl AgentLogin {
    pub(super) fn new(credential: AgentCredential) -> Self {
        AgentLogin { credential, skewed_since: Mutex::new(None) }
    }

    /// Gets a token, with repetitions. When the service says that our clock is wrong, the clock is corrected
    /// and the login repeated at once.
    pub(super) async fn fetch(&self, transport: &Transport) -> Result<Token> {
        let credential = &self.credential;
        let call = Call {
            operation: Operation::GetToken,
            object: format!(
                "for the agent's client {} from {}",
                credential.client_id,
                credential.token_url.host_str().unwrap_or_default()
            ),
        };
        let policy = transport.settings().retry;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.fetch_once(transport, &call).await {
                Ok(token) => return Ok(token),
                Err(Refusal { error, clock_corrected: true }) if attempt < policy.attempts => {
                    tracing::warn!(%error, "logging in by the service's clock");
                    continue;
                }
                Err(Refusal { error, .. }) => error,
            };
            // Differing clocks do not come right within the pauses of a call; the caller's loop has longer
            // ones.
            if matches!(error, Error::ClockSkew { .. }) {
                return Err(error);
            }
            let Some(pause) = retry::pause(&policy, Operation::GetToken, attempt, &error) else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "could not fetch a token, trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn fetch_once(&self, transport: &Transport, call: &Call) -> Result<Token, Refusal> {
        let credential = &self.credential;
        let claims =
            Claims::new(credential.client_id, &*credential.authorization_url, transport.clock().now());
        let assertion = claims
            .sign(&credential.key)
            .map_err(|source| Error::Key { call: Box::new(call.clone()), source })?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion.expose_secret()),
        ];
        let answer = transport.post_form(call, &credential.token_url, &form).await?;
        // 400 is an answer like 200 here (`VssOAuthTokenHttpClient.cs`).
        if answer.status == StatusCode::BAD_REQUEST || answer.status == StatusCode::UNAUTHORIZED {
            return Err(self.refusal(transport, call, answer));
        }
        let answer = answer.check(call)?;
        *self.skewed_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(Token::parse(call, &answer)?)
    }

    fn refusal(&self, transport: &Transport, call: &Call, answer: Answer) -> Refusal {
        let headers = answer.headers.clone();
        let answer = Box::new(answer.into_service_answer());
        let call = Box::new(call.clone());
        if !is_skew(&answer.message) {
            return Error::Service { call, answer }.into();
        }
        let clock_corrected = transport.clock().correct(&answer.message, &headers);
        let mut since = self.skewed_since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *since.get_or_insert_with(Instant::now);
        let given_up = since.elapsed() >= SKEW_LIMIT;
        Refusal { error: Error::ClockSkew { call, answer, given_up }, clock_corrected }
    }
}

/// Why there is no token yet.
struct Refusal {
    error: Error,
    /// The clocks differed, and ours is set right now: the next attempt may do better.
    clock_corrected: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal { error, clock_corrected: false }
    }
}
