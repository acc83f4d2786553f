//! Logging in by Microsoft Entra ID: service principals, workload identities and managed identities.
//!
//! Azure DevOps takes their tokens where it takes personal access tokens, and they expire within the hour
//! (Microsoft: "Use service principals and managed identities in Azure DevOps").

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{JWT_BEARER, Token};
use crate::answer::Answer;
use crate::error::{Call, Error, Result};
use crate::operation::Operation;
use crate::retry::Again;
use crate::transport::Transport;

/// The application id of Azure DevOps, for which tokens are asked.
const AZURE_DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798";

/// Entra ID's public cloud.
pub const ENTRA_AUTHORITY: &str = "https://login.microsoftonline.com";

/// Where a machine of Azure gets tokens for its managed identities (Azure Instance Metadata Service).
pub const INSTANCE_METADATA: &str = "http://169.254.169.254";

/// An application of a tenant.
#[derive(Clone, Debug)]
pub struct EntraApplication {
    /// The address of Entra ID; [`ENTRA_AUTHORITY`] but in national clouds.
    pub authority: Url,
    /// The tenant's id or name.
    pub tenant: String,
    /// The application's (client's) id.
    pub client_id: String,
}

/// How Entra ID is told who we are.
#[derive(Clone)]
pub enum EntraCredential {
    /// A service principal, by a secret.
    ClientSecret {
        /// The principal's application.
        application: EntraApplication,
        /// One of its client secrets.
        secret: SecretString,
    },
    /// A service principal or managed identity that trusts another issuer (workload identity federation).
    Federated {
        /// The principal's application.
        application: EntraApplication,
        /// A file with the issuer's token, which is read anew for every token of Entra ID.
        token_file: PathBuf,
    },
    /// An identity of the Azure machine that we run on.
    ManagedIdentity {
        /// The metadata service; [`INSTANCE_METADATA`] on machines of Azure.
        endpoint: Url,
        /// Which identity, where the machine has several assigned by users.
        client_id: Option<String>,
    },
}

impl fmt::Debug for EntraCredential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = formatter.debug_struct("EntraCredential");
        match self {
            EntraCredential::ClientSecret { application, .. } => {
                text.field("application", application).field("secret", &"[redacted]")
            }
            EntraCredential::Federated { application, token_file } => {
                text.field("application", application).field("token_file", token_file)
            }
            EntraCredential::ManagedIdentity { endpoint, client_id } => {
                text.field("endpoint", &endpoint.as_str()).field("client_id", client_id)
            }
        };
        text.finish()
    }
}

impl EntraCredential {
    /// Gets a token, with repetitions.
    pub(super) async fn fetch(&self, transport: &Transport) -> Result<Token> {
        let call = Call { operation: Operation::GetToken, object: self.to_string() };
        let once = || self.fetch_once(transport, &call);
        transport.settings().retry.retry(once, |error, _| Again::of(error)).await
    }

    async fn fetch_once(&self, transport: &Transport, call: &Call) -> Result<Token> {
        let answer = match self {
            EntraCredential::ClientSecret { application, secret } => {
                let proof = [("client_secret", secret.expose_secret())];
                application.exchange(transport, call, &proof).await?
            }
            EntraCredential::Federated { application, token_file } => {
                let read = tokio::fs::read_to_string(token_file).await;
                let token = SecretString::from(read.map_err(|source| Error::Setting {
                    name: "federated token",
                    reason: format!("the file {} cannot be read", token_file.display()),
                    source: Some(Box::new(source)),
                })?);
                let proof = [
                    ("client_assertion_type", JWT_BEARER),
                    ("client_assertion", token.expose_secret().trim()),
                ];
                application.exchange(transport, call, &proof).await?
            }
            EntraCredential::ManagedIdentity { endpoint, client_id } => {
                let mut url = at(endpoint, &["metadata", "identity", "oauth2", "token"]);
                url.query_pairs_mut()
                    .append_pair("api-version", "2018-02-01")
                    .append_pair("resource", AZURE_DEVOPS)
                    .extend_pairs(client_id.iter().map(|id| ("client_id", id)));
                transport.get_metadata(call, &url).await?
            }
        };
        Token::parse(call, &answer.check(call)?)
    }
}

/// What an error says of it.
impl fmt::Display for EntraCredential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
        match self {
            EntraCredential::ClientSecret {
                application: EntraApplication { authority, client_id, .. },
                ..
            } => {
                write!(formatter, "for the service principal {client_id} from {}", host(authority))
            }
            EntraCredential::Federated {
                application: EntraApplication { authority, client_id, .. }, ..
            } => {
                write!(formatter, "for the workload identity {client_id} from {}", host(authority))
            }
            EntraCredential::ManagedIdentity { endpoint, client_id: Some(id) } => {
                write!(formatter, "for the managed identity {id} from {}", host(endpoint))
            }
            EntraCredential::ManagedIdentity { endpoint, client_id: None } => {
                write!(formatter, "for the machine's managed identity from {}", host(endpoint))
            }
        }
    }
}

impl EntraApplication {
    /// Exchanges a proof of who we are for a token (RFC 6749, 4.4).
    async fn exchange(&self, transport: &Transport, call: &Call, proof: &[(&str, &str)]) -> Result<Answer> {
        let scope = format!("{AZURE_DEVOPS}/.default");
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("scope", scope.as_str()),
        ];
        form.extend_from_slice(proof);
        let url = at(&self.authority, &[&self.tenant, "oauth2", "v2.0", "token"]);
        transport.post_form(call, &url, &form).await
    }
}

/// An address below another one. One that can have no path stays as it is, and no call to it succeeds.
fn at(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}
