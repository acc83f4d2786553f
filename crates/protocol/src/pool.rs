//! Agent pools and queues (`TaskAgentPool`, `TaskAgentQueue`).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DateTime, PoolId, ProjectId, QueueId};

/// An agent pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentPool {
    /// Its number.
    pub id: PoolId,
    /// Its name, unique in the organization.
    pub name: String,
    /// The scope it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Uuid>,
    /// Whether Microsoft runs its machines.
    pub is_hosted: bool,
    /// An old-style pool.
    pub is_legacy: bool,
    /// `automation` or `deployment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_type: Option<String>,
    /// How many agents are registered.
    pub size: i32,
    /// Whether the service may tell agents to update themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_update: Option<bool>,
    /// Whether new projects get a queue for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_provision: Option<bool>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_on: Option<DateTime>,
}

/// A project's view of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentQueue {
    /// Its number.
    pub id: QueueId,
    /// The project.
    pub project_id: ProjectId,
    /// Its name, usually the pool's.
    pub name: String,
    /// The pool behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<TaskAgentPool>,
}
