//! Agents of a pool.

use std::collections::BTreeMap;

use dayfly_protocol::agent::{AgentStatus, TaskAgent, TaskAgentAuthorization, TaskAgentReference};
use dayfly_protocol::crypto::AgentPublicKey;
use dayfly_protocol::json::PropertiesCollection;
use dayfly_protocol::{AgentId, DateTime, PoolId, RequestId, SessionId};
use jiff::Timestamp;
use url::Url;
use uuid::Uuid;

use super::demands::{Capabilities, Demands};
use super::{Error, Result, State, check_name, check_text};

/// An agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) os_description: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) provisioning_state: String,
    pub(crate) created_on: Timestamp,
    pub(crate) status_changed_on: Timestamp,
    pub(crate) client_id: Uuid,
    /// Without one it cannot log in, so it stays offline: scalers describe so which agents they can start.
    pub(crate) public_key: Option<AgentPublicKey>,
    pub(crate) system_capabilities: BTreeMap<String, String>,
    pub(crate) user_capabilities: BTreeMap<String, String>,
    pub(crate) properties: Option<PropertiesCollection>,
    /// While there is one the agent is online.
    pub(crate) session: Option<SessionId>,
    /// The request assigned to it.
    pub(crate) active: Option<RequestId>,
    pub(crate) last_completed: Option<RequestId>,
}

impl Agent {
    /// Whether a job may be assigned to it now.
    pub(crate) fn is_idle(&self) -> bool {
        self.enabled && self.session.is_some() && self.active.is_none()
    }

    pub(crate) fn capabilities(&self) -> Capabilities<'_> {
        Capabilities {
            system: &self.system_capabilities,
            user: &self.user_capabilities,
            version: self.version.as_deref(),
        }
    }

    fn status(&self) -> AgentStatus {
        if self.session.is_some() { AgentStatus::Online } else { AgentStatus::Offline }
    }

    pub(crate) fn reference(&self) -> TaskAgentReference {
        TaskAgentReference {
            id: self.id,
            name: self.name.clone(),
            version: self.version.clone(),
            os_description: self.os_description.clone(),
            enabled: Some(self.enabled),
            status: Some(self.status()),
            provisioning_state: Some(self.provisioning_state.clone()),
        }
    }
}

/// Which parts of an agent a caller asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Include {
    pub(crate) capabilities: bool,
    pub(crate) assigned_request: bool,
    pub(crate) last_completed_request: bool,
}

/// Which agents a caller asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentFilter {
    pub(crate) name: Option<String>,
    pub(crate) demands: Demands,
}

/// A map of capabilities may have so many entries.
const CAPABILITIES_MAX: usize = 2_000;
/// Names and values of capabilities together may have so many bytes.
const CAPABILITY_BYTES_MAX: usize = 1024 * 1024;

impl State {
    pub(crate) fn agent(&self, pool: PoolId, agent: AgentId) -> Result<&Agent> {
        self.pools.get(pool)?.agents.get(&agent).ok_or(Error::AgentNotFound { pool, agent })
    }

    pub(crate) fn agent_mut(&mut self, pool: PoolId, agent: AgentId) -> Result<&mut Agent> {
        self.pools.get_mut(pool)?.agents.get_mut(&agent).ok_or(Error::AgentNotFound { pool, agent })
    }

    /// The agents of a pool that pass the filter, by number.
    pub(crate) fn agents(&self, pool: PoolId, filter: &AgentFilter) -> Result<Vec<&Agent>> {
        let pool = self.pools.get(pool)?;
        let matches = |agent: &&Agent| filter.demands.are_met_by(&agent.capabilities());
        Ok(match &filter.name {
            Some(name) => {
                let found = pool.names.get(&name.to_lowercase()).and_then(|id| pool.agents.get(id));
                found.into_iter().filter(matches).collect()
            }
            None => pool.agents.values().filter(matches).collect(),
        })
    }

    /// An agent as the wire shows it.
    pub(crate) fn agent_to_wire(
        &self,
        agent: &Agent,
        include: Include,
        authorization_url: &Url,
    ) -> TaskAgent {
        let request = |wanted: bool, id: Option<RequestId>| {
            let id = id.filter(|_| wanted)?;
            self.requests.get(id).map(|request| Box::new(self.request_to_wire(request, false)))
        };
        TaskAgent {
            id: agent.id,
            name: agent.name.clone(),
            version: agent.version.clone(),
            os_description: agent.os_description.clone(),
            enabled: Some(agent.enabled),
            status: Some(agent.status()),
            provisioning_state: Some(agent.provisioning_state.clone()),
            max_parallelism: Some(1),
            created_on: Some(DateTime(agent.created_on)),
            status_changed_on: Some(DateTime(agent.status_changed_on)),
            authorization: Some(TaskAgentAuthorization {
                client_id: Some(agent.client_id),
                authorization_url: Some(authorization_url.to_string()),
                public_key: agent.public_key.as_ref().map(AgentPublicKey::to_wire),
            }),
            system_capabilities: include.capabilities.then(|| agent.system_capabilities.clone()),
            user_capabilities: include.capabilities.then(|| agent.user_capabilities.clone()),
            assigned_request: request(include.assigned_request, agent.active),
            last_completed_request: request(include.last_completed_request, agent.last_completed),
            properties: agent.properties.clone(),
        }
    }

    /// Registers an agent.
    pub(crate) fn create_agent(
        &mut self,
        pool: PoolId,
        wanted: TaskAgent,
        now: Timestamp,
    ) -> Result<AgentId> {
        check_name("agent name", &wanted.name)?;
        let public_key = registered_key(&wanted)?;
        check_agent(&wanted)?;
        let limit = self.rules.limits.agents_per_pool;
        let name = wanted.name.to_lowercase();
        let home = self.pools.get(pool)?;
        if home.names.contains_key(&name) {
            return Err(Error::AgentExists { pool, name: wanted.name });
        }
        if home.agents.len() >= limit {
            return Err(Error::LimitReached { what: "agents in this pool", limit: limit as u64 });
        }
        let client_id = Uuid::new_v4();
        let id = self.tokens.register(client_id, pool);
        let agent = Agent {
            id,
            name: wanted.name,
            version: wanted.version,
            os_description: wanted.os_description,
            enabled: wanted.enabled.unwrap_or(true),
            provisioning_state: wanted.provisioning_state.unwrap_or_else(|| "Provisioned".to_owned()),
            created_on: now,
            status_changed_on: now,
            client_id,
            public_key,
            system_capabilities: wanted.system_capabilities.unwrap_or_default(),
            user_capabilities: wanted.user_capabilities.unwrap_or_default(),
            properties: wanted.properties,
            session: None,
            active: None,
            last_completed: None,
        };
        let home = self.pools.get_mut(pool)?;
        home.names.insert(name, id);
        home.agents.insert(id, agent);
        Ok(id)
    }

    /// Replaces an agent, as `config.sh --replace` does: its number and user capabilities stay, its key is
    /// changed if there is a new one, its session and tokens end.
    pub(crate) fn replace_agent(
        &mut self,
        pool: PoolId,
        id: AgentId,
        wanted: TaskAgent,
        now: Timestamp,
    ) -> Result<()> {
        let public_key = registered_key(&wanted)?;
        self.update_agent(pool, id, wanted, now)?;
        if let Some(session) = self.agent(pool, id)?.session {
            self.end_session(session, now);
        }
        let client_id = Uuid::new_v4();
        let agent = self.agent_mut(pool, id)?;
        agent.public_key = public_key.or(agent.public_key.take());
        let former = std::mem::replace(&mut agent.client_id, client_id);
        self.tokens.replace(former, client_id);
        Ok(())
    }

    /// Changes the members that are given; the key is not among them.
    pub(crate) fn update_agent(
        &mut self,
        pool: PoolId,
        id: AgentId,
        change: TaskAgent,
        now: Timestamp,
    ) -> Result<()> {
        check_agent(&change)?;
        let former = self.agent(pool, id)?.name.to_lowercase();
        let name = change.name.to_lowercase();
        if !name.is_empty() && name != former {
            check_name("agent name", &change.name)?;
            let home = self.pools.get_mut(pool)?;
            if home.names.contains_key(&name) {
                return Err(Error::AgentExists { pool, name: change.name });
            }
            home.names.remove(&former);
            home.names.insert(name, id);
        }
        let agent = self.agent_mut(pool, id)?;
        if !change.name.is_empty() {
            agent.name = change.name;
        }
        agent.version = change.version.or(agent.version.take());
        agent.os_description = change.os_description.or(agent.os_description.take());
        agent.enabled = change.enabled.unwrap_or(agent.enabled);
        if let Some(state) = change.provisioning_state {
            agent.provisioning_state = state;
        }
        if let Some(capabilities) = change.system_capabilities {
            agent.system_capabilities = capabilities;
        }
        if let Some(capabilities) = change.user_capabilities {
            agent.user_capabilities = capabilities;
        }
        agent.properties = change.properties.or(agent.properties.take());
        self.reconsider_agent(pool, id, now);
        Ok(())
    }

    /// Sets what people say of an agent.
    pub(crate) fn set_user_capabilities(
        &mut self,
        pool: PoolId,
        id: AgentId,
        capabilities: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<()> {
        check_capabilities(Some(&capabilities))?;
        self.agent_mut(pool, id)?.user_capabilities = capabilities;
        self.reconsider_agent(pool, id, now);
        Ok(())
    }

    /// Removes an agent, its session and its tokens. Refused while it runs a job.
    pub(crate) fn delete_agent(&mut self, pool: PoolId, id: AgentId, now: Timestamp) -> Result<()> {
        let agent = self.agent(pool, id)?;
        if let Some(request) = agent.active.filter(|request| self.requests.is_received(*request)) {
            return Err(Error::JobStillRunning { agent: id, request });
        }
        if let Some(session) = agent.session {
            self.end_session(session, now);
        }
        let home = self.pools.get_mut(pool)?;
        home.queue.remove_agent(id);
        if let Some(agent) = home.agents.remove(&id) {
            home.names.remove(&agent.name.to_lowercase());
            self.tokens.depart(agent.client_id);
        }
        Ok(())
    }
}

/// The key in a registration, if there is one.
fn registered_key(wanted: &TaskAgent) -> Result<Option<AgentPublicKey>> {
    let key = wanted.authorization.as_ref().and_then(|authorization| authorization.public_key.as_ref());
    let key = key.map(AgentPublicKey::from_wire).transpose();
    key.map_err(|error| Error::Invalid { what: "authorization.publicKey", reason: error.to_string() })
}

/// Refuses an agent that says too much of itself.
fn check_agent(agent: &TaskAgent) -> Result<()> {
    check_capabilities(agent.system_capabilities.as_ref())?;
    check_capabilities(agent.user_capabilities.as_ref())?;
    check_description(agent.version.as_deref(), agent.os_description.as_deref())?;
    check_text("provisioningState", agent.provisioning_state.as_deref().unwrap_or_default())?;
    let properties = agent.properties.as_ref().map(serde_json::to_vec).transpose();
    if properties.is_ok_and(|text| text.is_none_or(|text| text.len() <= CAPABILITY_BYTES_MAX)) {
        return Ok(());
    }
    let reason = format!("they are longer than {CAPABILITY_BYTES_MAX} bytes");
    Err(Error::Invalid { what: "the agent's properties", reason })
}

/// The same for what a session says of its agent.
pub(super) fn check_description(version: Option<&str>, os_description: Option<&str>) -> Result<()> {
    check_text("the agent's version", version.unwrap_or_default())?;
    check_text("osDescription", os_description.unwrap_or_default())
}

pub(super) fn check_capabilities(capabilities: Option<&BTreeMap<String, String>>) -> Result<()> {
    let Some(capabilities) = capabilities else { return Ok(()) };
    let bytes: usize = capabilities.iter().map(|(name, value)| name.len() + value.len()).sum();
    if capabilities.len() > CAPABILITIES_MAX || bytes > CAPABILITY_BYTES_MAX {
        let reason = format!("more than {CAPABILITIES_MAX} entries or {CAPABILITY_BYTES_MAX} bytes");
        return Err(Error::Invalid { what: "capabilities", reason });
    }
    Ok(())
}
