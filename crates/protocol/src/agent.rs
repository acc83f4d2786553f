//! Agents (`TaskAgent`, `TaskAgentReference`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job_request::TaskAgentJobRequest;
use crate::json::{PropertiesCollection, known_or_none, wire_enum};
use crate::{AgentId, DateTime};

wire_enum! {
    /// Whether an agent holds a session.
    pub enum AgentStatus {
        /// No session.
        Offline = 1,
        /// A session.
        Online = 2,
    }
}

/// An agent, in full. When sent in a PATCH, members that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgent {
    /// Its number, 0 before it is registered.
    pub id: AgentId,
    /// Its name, unique in the pool without regard to case.
    pub name: String,
    /// The version of its software, which minimum-version demands are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Free text on its operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_description: Option<String>,
    /// Whether jobs may be assigned to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it holds a session.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub status: Option<AgentStatus>,
    /// `Provisioned` for agents like ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
    /// How many jobs at once; always 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallelism: Option<i32>,
    /// When it was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_on: Option<DateTime>,
    /// When it last came or went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_changed_on: Option<DateTime>,
    /// Its key, client id and token address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<TaskAgentAuthorization>,
    /// What it says of itself; replaced when a session is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_capabilities: Option<BTreeMap<String, String>>,
    /// What people said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_capabilities: Option<BTreeMap<String, String>>,
    /// The request it works on (only when asked for).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_request: Option<Box<TaskAgentJobRequest>>,
    /// The request it finished last (only when asked for).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_completed_request: Option<Box<TaskAgentJobRequest>>,
    /// Typed extras, such as `ServerUrl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<PropertiesCollection>,
}

/// How an agent proves who it is (`TaskAgentAuthorization`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentAuthorization {
    /// Given by the service: the subject of the agent's assertions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Uuid>,
    /// Given by the service: the audience of the agent's assertions, letter by letter. A URL, kept as text,
    /// since parsing would change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    /// The public half of the agent's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<TaskAgentPublicKey>,
}

/// An RSA public key: both numbers big-endian, as base64 text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentPublicKey {
    /// The exponent.
    pub exponent: String,
    /// The modulus.
    pub modulus: String,
}

/// What other objects say of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentReference {
    /// Its number.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// The version of its software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Free text on its operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_description: Option<String>,
    /// Whether jobs may be assigned to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it holds a session.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub status: Option<AgentStatus>,
    /// `Provisioned` for agents like ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning_state: Option<String>,
}
