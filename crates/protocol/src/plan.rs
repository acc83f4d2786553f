//! Plans and the events of their jobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{JobId, PlanId, ProjectId, RecordId, RequestId, TaskResult};

/// Which plan a job belongs to (`TaskOrchestrationPlanReference`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskOrchestrationPlanReference {
    /// The project.
    pub scope_identifier: ProjectId,
    /// `Build` for pipelines; also the name of the hub in addresses.
    pub plan_type: String,
    /// From 8 on, the worker itself reports the job's result by an event.
    pub version: i32,
    /// The plan.
    pub plan_id: PlanId,
    /// Groups plans for throttling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_group: Option<String>,
    /// `vstfs:///Build/Build/<id>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_uri: Option<String>,
    /// The pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<TaskOrchestrationOwner>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<TaskOrchestrationOwner>,
}

/// From this plan version on the worker reports the result itself (`JobRunner.cs`).
pub const WORKER_REPORTS_FROM_VERSION: i32 = 8;

/// A pipeline or a run, as others refer to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskOrchestrationOwner {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// `web` and `self` addresses.
    #[serde(rename = "_links", skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, serde_json::Value>,
}

/// An event of a job, posted to its plan. The one agents send is `JobCompleted`; whoever does the work of a
/// task without an agent sends those of tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobEvent {
    /// The discriminator, see [`JOB_COMPLETED`].
    pub name: String,
    /// The job.
    pub job_id: JobId,
    /// The step, for events of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<RecordId>,
    /// Its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Whether the agent goes away after this job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_shutting_down: Option<bool>,
}

/// `name` of the event that ends a job.
pub const JOB_COMPLETED: &str = "JobCompleted";
/// `name` of the event that says a job was given to an agent.
pub const JOB_ASSIGNED: &str = "JobAssigned";
/// `name` of the event that says a job runs.
pub const JOB_STARTED: &str = "JobStarted";
/// `name` of the event that ends a task without an agent.
pub const TASK_COMPLETED: &str = "TaskCompleted";
/// `name` of the event that says somebody has taken a task without an agent.
pub const TASK_ASSIGNED: &str = "TaskAssigned";
/// `name` of the event that says a task without an agent is being worked on.
pub const TASK_STARTED: &str = "TaskStarted";
