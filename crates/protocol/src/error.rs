//! Errors of the service (`WrappedException`): the `typeKey` says what happened, the HTTP status does not.

use serde::{Deserialize, Serialize};

/// The body of an answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrappedException {
    /// For people.
    pub message: String,
    /// The .NET type, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// The .NET type, short: see [`type_key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_key: Option<String>,
    /// Mostly 0.
    pub error_code: i32,
    /// Mostly 3000.
    pub event_id: i32,
}

/// The `typeKey`s that agents act on.
pub mod type_key {
    /// The agent was deleted.
    pub const AGENT_NOT_FOUND: &str = "TaskAgentNotFoundException";
    /// The pool was deleted, or may not be seen.
    pub const POOL_NOT_FOUND: &str = "TaskAgentPoolNotFoundException";
    /// An agent of that name exists.
    pub const AGENT_EXISTS: &str = "TaskAgentExistsException";
    /// The agent has a session already.
    pub const SESSION_CONFLICT: &str = "TaskAgentSessionConflictException";
    /// The session is gone.
    pub const SESSION_EXPIRED: &str = "TaskAgentSessionExpiredException";
    /// The agent's login was revoked.
    pub const ACCESS_TOKEN_EXPIRED: &str = "TaskAgentAccessTokenExpiredException";
    /// The job request is gone.
    pub const JOB_NOT_FOUND: &str = "TaskAgentJobNotFoundException";
    /// The job request is locked by somebody else, or its lock ran out.
    pub const JOB_TOKEN_EXPIRED: &str = "TaskAgentJobTokenExpiredException";
    /// The agent cannot be deleted now.
    pub const JOB_STILL_RUNNING: &str = "TaskAgentJobStillRunningException";
    /// The plan is gone.
    pub const PLAN_NOT_FOUND: &str = "TaskOrchestrationPlanNotFoundException";
    /// The plan may not be changed by this caller.
    pub const PLAN_SECURITY: &str = "TaskOrchestrationPlanSecurityException";
    /// The job of the plan has ended already.
    pub const PLAN_TERMINATED: &str = "TaskOrchestrationPlanTerminatedException";
    /// A timeline of that id exists.
    pub const TIMELINE_EXISTS: &str = "TimelineExistsException";
    /// No such timeline.
    pub const TIMELINE_NOT_FOUND: &str = "TimelineNotFoundException";
    /// The caller may not do that.
    pub const ACCESS_DENIED: &str = "AccessDeniedException";
    /// No such thing at this address.
    pub const RESOURCE_NOT_FOUND: &str = "VssResourceNotFoundException";
    /// Too much at once.
    pub const RATE_LIMITED: &str = "RequestBlockedException";
}
