//! Registers agents in a pool, all with one RSA key, and takes them away again (`ConfigurationManager.cs`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dayfly_client::{
    Again, AgentCredential, Connection, Credential, Error as ClientError, ErrorKind, RetryPolicy,
};
use dayfly_protocol::{
    AgentId, PoolId,
    agent::{AgentStatus, TaskAgent, TaskAgentAuthorization},
    connection::ConnectionData,
    crypto::AgentKey,
    job::at_configured_server,
};
use tokio::time::{Instant, sleep_until};
use url::Url;

use crate::{description::Description, failures::RegistrationError, store::Registration};

/// How a call is tried that fails for a passing reason.
const RETRY: RetryPolicy =
    RetryPolicy { attempts: 5, first_pause: Duration::from_secs(2), longest_pause: Duration::from_secs(15) };

/// Capability that says which set an agent belongs to, so that nobody else takes it over: two clusters may
/// serve one pool.
pub const OWNER_CAPABILITY: &str = "dayfly.owner";

/// What happens when an agent of that name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExisting {
    /// The agent is not registered, and ends with an error.
    Refuse,
    /// It is taken over if nobody runs it and it has our owner, or none like us: it keeps its number and its
    /// user capabilities, and gets our key.
    Adopt,
    /// It is taken over whoever runs it (`--replace`).
    Replace,
}

/// Registers agents with a login that may manage the pool. Many may be registered at the same time; when the
/// service asks for patience, all wait.
#[derive(Debug)]
pub struct Registrar {
    connection: Connection,
    pool: PoolId,
    key: Arc<AgentKey>,
    on_existing: OnExisting,
    description: Description,
    /// Whether the service's own address of its token endpoint is to be moved to the host we know it by (on
    /// premises).
    is_on_premises: bool,
    server_url: Url,
    /// Before this moment the service wants no more calls.
    not_before: Mutex<Option<Instant>>,
}

/// An agent that is registered, and its own login.
#[derive(Debug)]
pub(crate) struct RegisteredAgent {
    pub(crate) registration: Registration,
    pub(crate) connection: Connection,
    pub(crate) key: Arc<AgentKey>,
}

/// An agent with its own login, beside `connection` to the same service.
pub(crate) fn open(
    registration: Registration,
    connection: &Connection,
    key: Arc<AgentKey>,
) -> RegisteredAgent {
    let credential = AgentCredential {
        client_id: registration.client_id,
        authorization_url: registration.authorization_url.as_str().into(),
        token_url: Arc::new(registration.token_url.clone()),
        key: key.clone(),
    };
    let connection = connection.with_credential(Credential::Agent(credential));
    RegisteredAgent { registration, connection, key }
}

impl Registrar {
    /// A registrar for one pool, all of whose agents get `key`.
    pub fn new(
        connection: Connection,
        pool: PoolId,
        key: Arc<AgentKey>,
        on_existing: OnExisting,
        description: Description,
        service: &ConnectionData,
        server_url: Url,
    ) -> Self {
        Self {
            connection,
            pool,
            key,
            on_existing,
            description,
            is_on_premises: service.deployment_type.eq_ignore_ascii_case("onPremises"),
            server_url,
            not_before: Mutex::new(None),
        }
    }

    /// Registers an agent, or takes over the one of that name.
    ///
    /// # Errors
    ///
    /// The name is taken, or the service refused.
    pub async fn register(&self, name: &str) -> Result<Registration, RegistrationError> {
        let name: Arc<str> = Arc::from(name);
        let wanted = self.wanted(&name);
        let created = self.retry(|| self.connection.create_agent(self.pool, &wanted)).await;
        let agent = match created {
            Ok(agent) => agent,
            Err(error) if error.kind() == ErrorKind::AgentExists => self.take_over(&name, wanted).await?,
            Err(source) => return Err(RegistrationError::Call { name, doing: "register", source }),
        };
        self.registered(name, agent)
    }

    /// The same, ready to run.
    pub(crate) async fn register_agent(&self, name: &str) -> Result<RegisteredAgent, RegistrationError> {
        Ok(open(self.register(name).await?, &self.connection, self.key.clone()))
    }

    async fn take_over(
        &self,
        name: &Arc<str>,
        mut wanted: TaskAgent,
    ) -> Result<TaskAgent, RegistrationError> {
        if self.on_existing == OnExisting::Refuse {
            return Err(RegistrationError::Exists { name: name.clone() });
        }
        let call = |doing| move |source| RegistrationError::Call { name: name.clone(), doing, source };
        let existing =
            self.retry(|| self.connection.find_agent(self.pool, name)).await.map_err(call("find"))?;
        // Deleted since a moment ago: the caller's next try will create it.
        let Some(existing) = existing else { return Err(RegistrationError::Exists { name: name.clone() }) };
        if self.on_existing == OnExisting::Adopt {
            may_adopt(name, &existing, &wanted)?;
        }
        wanted.id = existing.id;
        self.retry(|| self.connection.replace_agent(self.pool, &wanted)).await.map_err(call("replace"))
    }

    /// Looks after an agent whose login is refused: registers it again if it was deleted, `None` if it still
    /// exists.
    pub(crate) async fn recover(
        &self,
        id: AgentId,
        name: Arc<str>,
    ) -> Result<Option<RegisteredAgent>, RegistrationError> {
        match self.retry(|| self.connection.get_agent(self.pool, id)).await {
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::AgentNotFound | ErrorKind::NotFound) => {
                self.register_agent(&name).await.map(Some)
            }
            Err(source) => Err(RegistrationError::Call { name, doing: "look up", source }),
        }
    }

    /// Takes an agent out of the pool. That it is not there is fine.
    ///
    /// # Errors
    ///
    /// The service refused.
    pub async fn remove(&self, id: AgentId, name: &Arc<str>) -> Result<(), RegistrationError> {
        match self.retry(|| self.connection.delete_agent(self.pool, id)).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::AgentNotFound | ErrorKind::NotFound) => Ok(()),
            Err(source) => Err(RegistrationError::Call { name: name.clone(), doing: "remove", source }),
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

    fn registered(&self, name: Arc<str>, agent: TaskAgent) -> Result<Registration, RegistrationError> {
        let authorization = agent.authorization.unwrap_or_default();
        let (Some(client_id), Some(authorization_url)) =
            (authorization.client_id, authorization.authorization_url)
        else {
            return Err(RegistrationError::NoAuthorization { name });
        };
        // Parsed to be called; as the audience it stays letter by letter what the service sent.
        let Ok(address) = authorization_url.parse::<Url>() else {
            return Err(RegistrationError::NoAuthorization { name });
        };
        let token_url =
            if self.is_on_premises { at_configured_server(&address, &self.server_url) } else { address };
        Ok(Registration {
            name: name.to_string(),
            id: agent.id,
            client_id,
            authorization_url,
            token_url,
            session: None,
        })
    }

    /// Tries a call again while its failure may pass, and no sooner than the service wants calls at all.
    async fn retry<T, F>(&self, call: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let patient = || async {
            let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = not_before {
                sleep_until(at).await;
            }
            call().await
        };
        let again = |error: &ClientError, _| {
            if !error.is_retryable() {
                return Again::No;
            }
            tracing::debug!(%error, "a call of the registration failed, trying again");
            if let Some(wait) = error.retry_after() {
                *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
            }
            Again::Yes
        };
        RETRY.retry(patient, again).await
    }
}

/// Whether nobody else has an agent.
fn may_adopt(name: &Arc<str>, existing: &TaskAgent, wanted: &TaskAgent) -> Result<(), RegistrationError> {
    let owner = |agent: &TaskAgent| agent.system_capabilities.as_ref()?.get(OWNER_CAPABILITY).cloned();
    let theirs = owner(existing);
    if theirs != owner(wanted) {
        let owner = theirs.map_or_else(
            || format!("it has no capability `{OWNER_CAPABILITY}`"),
            |owner| format!("{OWNER_CAPABILITY} {owner}"),
        );
        return Err(RegistrationError::OtherOwner { name: name.clone(), owner });
    }
    match existing.status {
        Some(AgentStatus::Online) => Err(RegistrationError::InUse { name: name.clone() }),
        _ => Ok(()),
    }
}
