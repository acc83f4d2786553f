//! Credentials, and the tokens that are got with them.

mod agent;
mod entra;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::json;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

pub use self::agent::AgentCredential;
use self::agent::AgentLogin;
pub use self::entra::{ENTRA_AUTHORITY, EntraApplication, EntraCredential, INSTANCE_METADATA};
use crate::answer::Answer;
use crate::error::{Call, Error, Result};
use crate::transport::Transport;

/// A token is renewed this long before it expires, or after four fifths of its life if it is short.
const REFRESH_MARGIN: Duration = Duration::from_secs(120);

/// A token whose life the service does not tell is renewed after this.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// That a client proves itself by a signed statement (RFC 7523).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How a connection proves who it is.
#[derive(Clone)]
pub enum Credential {
    /// A personal access token, sent as the password of an arbitrary user.
    PersonalAccessToken(SecretString),
    /// A token that is used as it is until it expires: a job's own, or one of Entra ID.
    Bearer(SecretString),
    /// An agent's own key, which gets tokens.
    Agent(AgentCredential),
    /// An identity of Microsoft Entra ID, which gets tokens.
    Entra(EntraCredential),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::PersonalAccessToken(_) => formatter.write_str("PersonalAccessToken([redacted])"),
            Credential::Bearer(_) => formatter.write_str("Bearer([redacted])"),
            Credential::Agent(agent) => agent.fmt(formatter),
            Credential::Entra(entra) => fmt::Debug::fmt(entra, formatter),
        }
    }
}

/// The value of `Authorization`, and which token it was made of.
pub(crate) struct Authorization {
    pub(crate) value: HeaderValue,
    /// Counts the tokens where there may be several.
    pub(crate) generation: u64,
}

/// A credential with what it needs to be used.
pub(crate) struct Login(Kind);

enum Kind {
    /// The whole header, which never changes.
    Fixed(SecretString),
    Renewed(Box<Renewed>),
}

/// A login whose tokens expire.
struct Renewed {
    source: Source,
    /// Held while a token is fetched, so that there is one refresh at a time and the others get its outcome.
    token: tokio::sync::Mutex<TokenCell>,
}

/// Where tokens come from.
enum Source {
    Agent(AgentLogin),
    Entra(EntraCredential),
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

/// The answer of a token endpoint.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

/// A number, which the metadata service of Azure writes as a string.
fn seconds<'de, D: Deserializer<'de>>(source: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
    }
    Ok(match Option::<Seconds>::deserialize(source)? {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.parse().ok(),
        None => None,
    })
}

impl Token {
    /// The token of an answer that is a success.
    fn parse(call: &Call, answer: &Answer) -> Result<Token> {
        if answer.body.is_empty() {
            return Err(Error::Empty { call: Box::new(call.clone()) });
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
            Credential::Agent(credential) => Login::renewed(Source::Agent(AgentLogin::new(credential))),
            Credential::Entra(credential) => Login::renewed(Source::Entra(credential)),
        }
    }

    fn renewed(source: Source) -> Self {
        Login(Kind::Renewed(Box::new(Renewed { source, token: tokio::sync::Mutex::default() })))
    }

    /// The value of `Authorization`. A token is fetched when there is none, and before it expires.
    pub(crate) async fn authorization(&self, transport: &Transport) -> Result<Authorization> {
        match &self.0 {
            Kind::Fixed(header) => Ok(Authorization { value: header_value(header)?, generation: 0 }),
            Kind::Renewed(renewed) => renewed.authorization(transport).await,
        }
    }

    /// Notes that the service did not take this token. Says whether another one may do better.
    pub(crate) async fn refused(&self, generation: u64) -> bool {
        let Kind::Renewed(renewed) = &self.0 else { return false };
        let mut cell = renewed.token.lock().await;
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

impl Renewed {
    async fn authorization(&self, transport: &Transport) -> Result<Authorization> {
        let mut cell = self.token.lock().await;
        if cell.token.as_ref().is_none_or(|token| token.refresh_at <= Instant::now()) {
            let token = match &self.source {
                Source::Agent(agent) => agent.fetch(transport).await?,
                Source::Entra(entra) => entra.fetch(transport).await?,
            };
            cell.generation += 1;
            cell.token = Some(token);
        }
        let token = cell.token.as_ref().expect("a missing token was just fetched");
        Ok(Authorization { value: header_value(&token.header)?, generation: cell.generation })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dayfly_protocol::crypto::AgentKey;
    use uuid::Uuid;

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
        let entra = Credential::Entra(EntraCredential::ClientSecret {
            application: EntraApplication {
                authority: ENTRA_AUTHORITY.parse().unwrap(),
                tenant: "contoso".to_owned(),
                client_id: "1234".to_owned(),
            },
            secret: "hunter2".into(),
        });
        assert!(!format!("{entra:?}").contains("hunter2"));
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_without_being_shown() {
        let error = header_value(&"Bearer hunter2\n".into()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
