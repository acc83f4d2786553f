//! Messages of a session's queue (`TaskAgentMessage`) and the small bodies; the big one is in [`crate::job`].

use serde::{Deserialize, Serialize};

use crate::{AgentId, JobId, MessageId, TimeSpan};

/// A message: its body is JSON text, encrypted when there is an `iv` and the session has a key. Without a
/// number and a type it is no message: any JSON could pass for one.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAgentMessage {
    /// Grows within a session.
    pub message_id: MessageId,
    /// One of the constants below, in any case.
    pub message_type: String,
    /// The initialization vector, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv: Option<String>,
    /// Plain JSON, or base64 of its encryption.
    #[serde(default)]
    pub body: String,
}

impl std::fmt::Debug for TaskAgentMessage {
    /// A plain body holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskAgentMessage")
            .field("message_id", &self.message_id)
            .field("message_type", &self.message_type)
            .field("encrypted", &self.iv.is_some())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// `message_type` of a job.
pub const PIPELINE_AGENT_JOB_REQUEST: &str = "PipelineAgentJobRequest";
/// `message_type` of [`JobCancelMessage`].
pub const JOB_CANCELLATION: &str = "JobCancellation";
/// `message_type` of [`JobMetadataMessage`].
pub const JOB_METADATA_UPDATE: &str = "JobMetadataUpdate";
/// `message_type` of [`AgentRefreshMessage`].
pub const AGENT_REFRESH: &str = "AgentRefresh";

/// Cancel a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobCancelMessage {
    /// The job.
    pub job_id: JobId,
    /// How long it may take to end; the agent makes it 60 s at least.
    pub timeout: TimeSpan,
}

/// Somebody opened or closed the job's live log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobMetadataMessage {
    /// The job.
    pub job_id: JobId,
    /// How often console lines should be posted, in milliseconds.
    pub post_lines_frequency_millis: Option<i64>,
}

/// The service asks for a newer agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentRefreshMessage {
    /// The agent.
    pub agent_id: AgentId,
    /// How long the update may take.
    pub timeout: TimeSpan,
    /// The version asked for.
    pub target_version: Option<String>,
}
