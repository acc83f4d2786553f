//! `PipelineJob`: one accepted job.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One accepted job. The controller makes it; that it could be made says whose the job is. Deleting it
/// cancels the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "dayfly.dev",
    version = "v1alpha1",
    kind = "PipelineJob",
    shortname = "pjob",
    namespaced,
    status = "PipelineJobStatus",
    category = "dayfly",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Pipeline","type":"string","jsonPath":".spec.pipeline"}"#,
    printcolumn = r#"{"name":"Build","type":"string","jsonPath":".spec.build"}"#,
    printcolumn = r#"{"name":"Job","type":"string","jsonPath":".spec.jobName"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Pod","type":"string","jsonPath":".status.pod","priority":1}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = ("self == oldSelf", "the spec of a PipelineJob cannot be changed; delete it to cancel the job"))]
#[serde(rename_all = "camelCase")]
pub struct PipelineJobSpec {
    /// Name of the AgentSet that accepted the job.
    pub agent_set: String,
    /// Id of the agent pool.
    pub pool_id: i64,
    /// Id of the agent whose lock the job has.
    pub agent_id: i64,
    /// Id of the job request in the pool.
    pub request_id: i64,
    /// Id of the job (UUID).
    pub job_id: String,
    /// Id of the message by which the job came.
    pub message_id: i64,
    /// Controller that accepted the job.
    pub holder: String,
    /// Names the Secrets with the job's message, and tells a lost answer from another controller's job.
    pub nonce: String,
    /// Number of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Name of the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Name of the job in its pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The build's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// How far the job has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Its pod is being prepared.
    #[default]
    Pending,
    /// A worker has it.
    Running,
    /// Its result is being reported.
    Reporting,
    /// It is over.
    Finished,
}

/// What is known of the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineJobStatus {
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// What it waits for, or why it ended as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Result as Azure DevOps has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// When a worker got it (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started_at: Option<String>,
    /// When its result was known (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: Option<String>,
    /// Controller that has it now. Default: the one that accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// What the controller must know to go on with it, sealed with a key that only the controller has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}
