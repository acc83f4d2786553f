//! Job requests of a pool (`TaskAgentJobRequest`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::agent::TaskAgentReference;
use crate::plan::TaskOrchestrationOwner;
use crate::{DateTime, JobId, PlanId, PoolId, QueueId, RequestId, TaskResult};

/// One job of a pool's queue, from queued to finished.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentJobRequest {
    /// Its number in the pool.
    pub request_id: RequestId,
    /// When it was queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_time: Option<DateTime>,
    /// When an agent was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assign_time: Option<DateTime>,
    /// When the agent fetched it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_time: Option<DateTime>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<DateTime>,
    /// How it ended; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Until when the agent must renew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime>,
    /// The service that queued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_owner: Option<Uuid>,
    /// The organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<Uuid>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<Uuid>,
    /// `Build`, `Release`, ...
    pub plan_type: String,
    /// The plan.
    pub plan_id: PlanId,
    /// The job.
    pub job_id: JobId,
    /// The job's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The plan's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_group: Option<String>,
    /// What the agent must offer: `name`, `name -equals value` or `name -gtVersion 1.2.3`.
    pub demands: Vec<String>,
    /// The agent chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_agent: Option<TaskAgentReference>,
    /// Agents that could run it, online or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_agents: Option<Vec<TaskAgentReference>>,
    /// Every agent of the pool could; then `matched_agents` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches_all_agents_in_pool: Option<bool>,
    /// The pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<TaskOrchestrationOwner>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<TaskOrchestrationOwner>,
    /// Extras such as `ParallelismTag`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// The project's queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<QueueId>,
    /// The pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// `<plan>.<stage>.<job>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestration_id: Option<String>,
    /// Why it waits, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
}
