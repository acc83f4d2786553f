//! Sessions (`TaskAgentSession`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SessionId;
use crate::agent::TaskAgentReference;

/// A session: while it lives the agent is online.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentSession {
    /// The zero guid in the request, a new one in the answer.
    pub session_id: SessionId,
    /// The machine's name.
    pub owner_name: String,
    /// The agent.
    pub agent: TaskAgentReference,
    /// What the agent can do; replaces what was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_capabilities: Option<BTreeMap<String, String>>,
    /// The key of message bodies; absent when they are plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<TaskAgentSessionKey>,
}

/// The symmetric key of a session, as base64 text.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentSessionKey {
    /// Whether `value` is wrapped with the agent's public key (RSA-OAEP with SHA-1).
    pub encrypted: bool,
    /// The key, wrapped or raw.
    pub value: String,
}

impl std::fmt::Debug for TaskAgentSessionKey {
    /// The value is a secret when it is not wrapped.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskAgentSessionKey").field("encrypted", &self.encrypted).finish_non_exhaustive()
    }
}
