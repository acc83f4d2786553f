//! Registers agents in a pool, all with one RSA key, and takes them away again (`ConfigurationManager.cs`).

use std::{sync::Arc, time::Duration};

use dayfly_client::{AgentCredential, Connection, Credential, Error as ClientError, ErrorKind};
use dayfly_protocol::{
    AgentId, PoolId,
    agent::{AgentStatus, TaskAgent, TaskAgentAuthorization},
    crypto::AgentKey,
};
use tokio::time::sleep;
use url::Url;

use crate::{agent_set::Description, backoff};

/// How often a call is tried that failed for a passing reason.
const TRIES: u32 = 5;

/// Pause after the first failed try; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What happens when an agent of that name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExisting {
    /// The agent is not registered, and ends with an error.
    Refuse,
    /// It is taken over if nobody runs it: it keeps its number and its user capabilities, and gets our key.
    Adopt,
    /// It is taken over whoever runs it (`--replace`).
    Replace,
}

/// Registers agents with a login that may manage the pool.
#[derive(Debug)]
pub(crate) struct Registrar {
    pub(crate) connection: Connection,
    pub(crate) pool: PoolId,
    pub(crate) key: Arc<AgentKey>,
    pub(crate) on_existing: OnExisting,
    pub(crate) description: Description,
    /// Whether the service's own address of its token endpoint is to be moved to the host we know it by (on premises).
    pub(crate) is_on_premises: bool,
    pub(crate) server_url: Url,
}

/// An agent that is registered, and its own login.
#[derive(Debug)]
pub(crate) struct RegisteredAgent {
    pub(crate) id: AgentId,
    pub(crate) name: Arc<str>,
    pub(crate) connection: Connection,
    pub(crate) key: Arc<AgentKey>,
}

/// Why an agent could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("the pool already has an agent named `{name}`; pick another name, or replace it")]
    Exists {
        /// The name.
        name: Arc<str>,
    },
    /// The name is taken by an agent that runs.
    #[error(
        "agent `{name}` is online: another process is using this name; stop it, pick another `--name`, or pass `--replace`"
    )]
    InUse {
        /// The name.
        name: Arc<str>,
    },
    /// The service refused, or could not be reached.
    #[error("agent `{name}` could not be {doing}{}", scope_hint(.source))]
    Call {
        /// The name.
        name: Arc<str>,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// The service's answer lacks what an agent needs to log in.
    #[error(
        "the service registered agent `{name}` without a client id and a token address; it may be too old"
    )]
    NoAuthorization {
        /// The name.
        name: Arc<str>,
    },
}

/// What the token may lack.
fn scope_hint(error: &ClientError) -> &'static str {
    match error.kind() {
        ErrorKind::Forbidden => {
            "; its token needs the scope Agent Pools (read & manage), and its user the role of an administrator of the pool"
        }
        _ => "",
    }
}

impl Registrar {
    /// Registers `name`, or takes over the agent of that name.
    pub(crate) async fn register(&self, name: Arc<str>) -> Result<RegisteredAgent, Error> {
        let wanted = self.wanted(&name);
        let created = retry(|| self.connection.create_agent(self.pool, &wanted)).await;
        let agent = match created {
            Ok(agent) => agent,
            Err(error) if error.kind() == ErrorKind::AgentExists => self.take_over(&name, wanted).await?,
            Err(source) => return Err(Error::Call { name, doing: "registered", source }),
        };
        self.registered(name, agent)
    }

    async fn take_over(&self, name: &Arc<str>, mut wanted: TaskAgent) -> Result<TaskAgent, Error> {
        if self.on_existing == OnExisting::Refuse {
            return Err(Error::Exists { name: name.clone() });
        }
        let call = |doing| move |source| Error::Call { name: name.clone(), doing, source };
        let existing = retry(|| self.connection.find_agent(self.pool, name)).await.map_err(call("found"))?;
        // Deleted since a moment ago: the caller's next try will create it.
        let Some(existing) = existing else { return Err(Error::Exists { name: name.clone() }) };
        if self.on_existing == OnExisting::Adopt && existing.status == Some(AgentStatus::Online) {
            return Err(Error::InUse { name: name.clone() });
        }
        wanted.id = existing.id;
        retry(|| self.connection.replace_agent(self.pool, &wanted)).await.map_err(call("replaced"))
    }

    /// Looks after an agent whose login is refused: registers it again if it was deleted, `None` if it still exists.
    pub(crate) async fn recover(
        &self,
        id: AgentId,
        name: Arc<str>,
    ) -> Result<Option<RegisteredAgent>, Error> {
        match retry(|| self.connection.get_agent(self.pool, id)).await {
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::AgentNotFound | ErrorKind::NotFound) => {
                self.register(name).await.map(Some)
            }
            Err(source) => Err(Error::Call { name, doing: "looked up", source }),
        }
    }

    /// Takes an agent out of the pool. That it is not there is fine.
    pub(crate) async fn remove(&self, id: AgentId, name: &Arc<str>) -> Result<(), Error> {
        match retry(|| self.connection.delete_agent(self.pool, id)).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::AgentNotFound | ErrorKind::NotFound) => Ok(()),
            Err(source) => Err(Error::Call { name: name.clone(), doing: "removed from the pool", source }),
        }
    }

    /// The body of a registration (`ConfigurationManager.cs`, `CreateNewAgent`).
    fn wanted(&self, name: &Arc<str>) -> TaskAgent {
        let mut capabilities = (*self.description.capabilities).clone();
        capabilities.insert("Agent.Name".to_owned(), name.to_string());
        TaskAgent {
            name: name.to_string(),
            version: Some(self.description.version.clone()),
            os_description: Some(self.description.operating_system.clone()),
            enabled: Some(true),
            provisioning_state: Some("Provisioned".to_owned()),
            max_parallelism: Some(1),
            system_capabilities: Some(capabilities),
            authorization: Some(TaskAgentAuthorization {
                public_key: Some(self.key.public_key().to_wire()),
                ..Default::default()
            }),
            ..TaskAgent::default()
        }
    }

    fn registered(&self, name: Arc<str>, agent: TaskAgent) -> Result<RegisteredAgent, Error> {
        let authorization = agent.authorization.unwrap_or_default();
        let (Some(client_id), Some(authorization_url)) =
            (authorization.client_id, authorization.authorization_url)
        else {
            return Err(Error::NoAuthorization { name });
        };
        // Parsed to be called; as the audience it stays letter by letter what the service sent.
        let Ok(address) = authorization_url.parse::<Url>() else {
            return Err(Error::NoAuthorization { name });
        };
        let token_url = if self.is_on_premises { rehost(&address, &self.server_url) } else { address };
        let credential = AgentCredential {
            client_id,
            authorization_url: authorization_url.as_str().into(),
            token_url: Arc::new(token_url),
            key: self.key.clone(),
        };
        let connection = self.connection.with_credential(Credential::Agent(credential));
        Ok(RegisteredAgent { id: agent.id, name, connection, key: self.key.clone() })
    }
}

/// `url` on the scheme, host and port of `server`: on premises the service does not know by which name it is reached.
fn rehost(url: &Url, server: &Url) -> Url {
    let mut local = server.clone();
    local.set_path(url.path());
    local.set_query(url.query());
    local
}

/// Tries a call again while its failure may pass.
async fn retry<T, F>(call: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "a call of the registration failed, trying again");
                sleep(backoff::around(pause).max(error.retry_after().unwrap_or_default())).await;
                pause *= 2;
            }
            other => return other,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_endpoint_moves_to_the_host_we_know() {
        let url = Url::parse("http://internal:8080/tfs/c/_apis/oauth2/token?x=1").expect("an address");
        let server = Url::parse("https://public.example/tfs/c").expect("an address");
        assert_eq!(rehost(&url, &server).as_str(), "https://public.example/tfs/c/_apis/oauth2/token?x=1");
    }
}
