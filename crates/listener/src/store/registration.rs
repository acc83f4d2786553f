//! What outlives a listener of its agents: who they are, and their sessions.

use std::fmt;

use dayfly_protocol::{AgentId, PoolId, SessionId, session::TaskAgentSessionKey};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::Result;

/// An agent that is registered: all that is needed to run it, but for its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Its number in the pool.
    pub id: AgentId,
    /// Its name as a client of the token endpoint.
    pub client_id: Uuid,
    /// The service's own address of the token endpoint, letter by letter: the audience of its logins.
    pub authorization_url: String,
    /// The address at which the token endpoint is reached.
    pub token_url: Url,
    /// The session it has, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SavedSession>,
}

/// A session of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedSession {
    /// Which.
    pub id: SessionId,
    /// The key of its messages, wrapped for the agent's own key.
    pub key: Option<TaskAgentSessionKey>,
}

/// The agents of a set, and where they belong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredSet {
    /// The collection's or organization's address.
    pub server_url: Url,
    /// The pool's number.
    pub pool: PoolId,
    /// The pool's name, for people.
    pub pool_name: String,
    /// The agents.
    pub agents: Vec<Registration>,
}

/// Remembers agents. Whatever it answers holds also when the listener dies the moment after.
pub trait RegistrationStore: fmt::Debug + Send + Sync + 'static {
    /// Whether the agents are still ours. Asked before a session is made: two listeners that both did so
    /// would take it from each other.
    fn check(&self) -> BoxFuture<'_, Result<()>>;

    /// Writes down what an agent is now.
    fn save(&self, registration: Registration) -> BoxFuture<'_, Result<()>>;
}
