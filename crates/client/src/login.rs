//! Credentials, and the tokens agents get with theirs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::agent_files::AgentCredentials;
use dayfly_protocol::crypto::{AgentKey, Claims};
use dayfly_protocol::json;
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::answer::Answer;
use crate::clock::is_skew;
use crate::error::{Call, Error, Result};
use crate::operation::Operation;
use crate::retry;
use crate::transport::Transport;

/// A token is renewed this long before it expires, or after four fifths of its life if it is short.
const REFRESH_MARGIN: Duration = Duration::from_secs(120);

/// A token whose life the service does not tell is renewed after this.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// How long differing clocks are worth another attempt (`MessageListener.cs`).
const SKEW_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How a connection proves who it is.
#[derive(Clone)]
pub enum Credential {
    /// A personal access token, sent as the password of an arbitrary user.
    PersonalAccessToken(SecretString),
    /// A token that is used as it is until it expires: a job's own, or one of Entra ID.
    Bearer(SecretString),
    /// An agent's own key, which gets tokens.
    Agent(AgentCredential),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::PersonalAccessToken(_) => formatter.write_str("PersonalAccessToken([redacted])"),
            Credential::Bearer(_) => formatter.write_str("Bearer([redacted])"),
            Credential::Agent(agent) => agent.fmt(formatter),
        }
    }
}

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

/// The value of `Authorization`, and which token it was made of.
pub(crate) struct Authorization {
    pub(crate) value: HeaderValue,
    /// Counts the tokens of an agent; the others have only one.
    pub(crate) generation: u64,
}

/// A credential with what it needs to be used.
pub(crate) struct Login(Kind);

enum Kind {
    /// The whole header, which never changes.
    Fixed(SecretString),
    Agent(Box<AgentLogin>),
}

struct AgentLogin {
    credential: AgentCredential,
    /// Held while a token is fetched, so that there is one refresh at a time and the others get its outcome.
    token: tokio::sync::Mutex<TokenCell>,
    /// Since when logins fail by the clocks.
    skewed_since: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct TokenCell {
    token: Option<Token>,
    generation: u64,
}

struct Token {
    header: SecretString,
    refresh_at: Instant,
}

/// The answer of the token endpoint.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Login {
    pub(crate) fn new(credential: Credential) -> Self {
        match credential {
            Credential::PersonalAccessToken(token) => {
                // The name is of no matter to the service; this one is what Microsoft's agent sends
                // (`CredentialProvider.cs`).
                let pair = SecretString::from(format!("VstsAgent:{}", token.expose_secret()));
                let header = format!("Basic {}", STANDARD.encode(pair.expose_secret()));
                Login(Kind::Fixed(header.into()))
            }
            Credential::Bearer(token) => {
                Login(Kind::Fixed(format!("Bearer {}", token.expose_secret()).into()))
            }
            Credential::Agent(credential) => Login(Kind::Agent(Box::new(AgentLogin {
                credential,
                token: tokio::sync::Mutex::default(),
                skewed_since: Mutex::new(None),
            }))),
        }
    }

    /// The value of `Authorization`. An agent's token is fetched when there is none, and before it expires.
    pub(crate) async fn authorization(&self, transport: &Transport) -> Result<Authorization> {
        match &self.0 {
            Kind::Fixed(header) => Ok(Authorization { value: header_value(header)?, generation: 0 }),
            Kind::Agent(agent) => agent.authorization(transport).await,
        }
    }

    /// Notes that the service did not take this token. Says whether another one may do better.
    pub(crate) async fn refused(&self, generation: u64) -> bool {
        let Kind::Agent(agent) = &self.0 else { return false };
        let mut cell = agent.token.lock().await;
        // Another call may have noticed before us; then there is a newer token already.
        if cell.generation == generation {
            cell.token = None;
        }
        true
    }
}

fn header_value(header: &SecretString) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(header.expose_secret()).map_err(|error| Error::Setting {
        name: "credential",
        reason: "it has characters that a token cannot have, such as a line break".to_owned(),
        source: Some(Box::new(error)),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl AgentLogin {
    async fn authorization(&self, transport: &Transport) -> Result<Authorization> {
        let mut cell = self.token.lock().await;
        if cell.token.as_ref().is_none_or(|token| token.refresh_at <= Instant::now()) {
            let token = self.fetch(transport).await?;
            cell.generation += 1;
            cell.token = Some(token);
        }
        let token = cell.token.as_ref().expect("a missing token was just fetched");
        Ok(Authorization { value: header_value(&token.header)?, generation: cell.generation })
    }

    /// Gets a token, with repetitions. When the service says that our clock is wrong, the clock is corrected
    /// and the login repeated at once.
    async fn fetch(&self, transport: &Transport) -> Result<Token> {
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
        let answer = transport.post_assertion(call, &credential.token_url, &assertion).await?;
        // 400 is an answer like 200 here (`VssOAuthTokenHttpClient.cs`).
        if answer.status == StatusCode::BAD_REQUEST || answer.status == StatusCode::UNAUTHORIZED {
            return Err(self.refusal(transport, call, answer));
        }
        let answer = answer.check(call)?;
        *self.skewed_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if answer.body.is_empty() {
            return Err(Error::Empty { call: Box::new(call.clone()) }.into());
        }
        let token: TokenAnswer = json::from_slice(&answer.body)
            .map_err(|source| Error::Body { call: Box::new(call.clone()), source })?;
        let lifetime =
            token.expires_in.filter(|seconds| *seconds > 0).map_or(DEFAULT_LIFETIME, Duration::from_secs);
        let margin = REFRESH_MARGIN.min(lifetime / 5);
        Ok(Token {
            header: format!("Bearer {}", token.access_token.expose_secret()).into(),
            // Counted by our own monotonic clock: the service's may be set differently.
            refresh_at: Instant::now() + (lifetime - margin).min(Duration::from_secs(24 * 3600)),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_printed() {
        let pat = Credential::PersonalAccessToken("hunter2".into());
        assert_eq!(format!("{pat:?}"), "PersonalAccessToken([redacted])");
        let agent = Credential::Agent(AgentCredential {
            client_id: Uuid::nil(),
            authorization_url: "https://a.example".into(),
            token_url: Arc::new("https://b.example".parse().unwrap()),
            key: Arc::new(AgentKey::generate().unwrap()),
        });
        assert!(format!("{agent:?}").contains("AgentKey([redacted])"));
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_without_being_shown() {
        let error = header_value(&"Bearer hunter2\n".into()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
