//! Agents of a pool.

use dayfly_protocol::agent::TaskAgent;
use dayfly_protocol::{AgentId, ListOf, PoolId};
use http::Method;

use crate::connection::Connection;
use crate::error::{ErrorKind, Result};
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    fn agent_request(&self, operation: Operation, method: Method, pool: PoolId, agent: AgentId) -> Request {
        let path =
            segments!["_apis", "distributedtask", "pools", pool.to_string(), "agents", agent.to_string()];
        Request::new(operation, format!("{agent} of pool {pool}"), method, self.url(), path)
    }

    /// The agent of that name in any case, without its capabilities; `None` when there is none.
    pub async fn find_agent(&self, pool: PoolId, name: &str) -> Result<Option<TaskAgent>> {
        let path = segments!["_apis", "distributedtask", "pools", pool.to_string(), "agents"];
        let object = format!("{name:?} of pool {pool}");
        let request = Request::new(Operation::FindAgent, object, Method::GET, self.url(), path)
            .query("agentName", name)
            .query("includeCapabilities", true);
        let agents: ListOf<TaskAgent> = self.call(request).await?;
        Ok(agents.into_iter().find(|agent| agent.name.eq_ignore_ascii_case(name)))
    }

    /// An agent with its capabilities and the request it works on.
    pub async fn get_agent(&self, pool: PoolId, agent: AgentId) -> Result<TaskAgent> {
        let request = self
            .agent_request(Operation::GetAgent, Method::GET, pool, agent)
            .query("includeCapabilities", true)
            .query("includeAssignedRequest", true);
        self.call(request).await
    }

    /// Registers an agent. The answer has its number, client id and authorization URL.
    /// [`ErrorKind::AgentExists`] when the name is taken: also by an earlier attempt whose answer was lost,
    /// so this call is not repeated once the service may have received it.
    pub async fn create_agent(&self, pool: PoolId, agent: &TaskAgent) -> Result<TaskAgent> {
        let path = segments!["_apis", "distributedtask", "pools", pool.to_string(), "agents"];
        let object = format!("{:?} of pool {pool}", agent.name);
        let request =
            Request::new(Operation::CreateAgent, object, Method::POST, self.url(), path).json(agent)?;
        self.call(request).await
    }

    /// Registers an agent anew in the place of one that exists: keeps its number and the capabilities which
    /// users gave it, takes the new key.
    pub async fn replace_agent(&self, pool: PoolId, agent: &TaskAgent) -> Result<TaskAgent> {
        let request = self.agent_request(Operation::ReplaceAgent, Method::PUT, pool, agent.id).json(agent)?;
        self.call(request).await
    }

    /// Deletes an agent; one that is not there any more counts as deleted. [`ErrorKind::JobStillRunning`]
    /// while a job runs on it.
    pub async fn delete_agent(&self, pool: PoolId, agent: AgentId) -> Result<()> {
        let request = self.agent_request(Operation::DeleteAgent, Method::DELETE, pool, agent);
        match self.call_without_answer(request).await {
            Err(error) if matches!(error.kind(), ErrorKind::AgentNotFound | ErrorKind::NotFound) => Ok(()),
            outcome => outcome,
        }
    }
}
