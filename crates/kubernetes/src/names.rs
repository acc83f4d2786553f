//! Names by which Dayfly's objects in a cluster are known.

/// Label that says who manages an object, and its value for ours.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "dayfly";

/// Label with the name of the AgentSet whose job a pod runs.
pub(crate) const AGENT_SET_LABEL: &str = "dayfly.dev/agent-set";

/// Label that says what a pod does, and its value while it has a job.
pub(crate) const STATE_LABEL: &str = "dayfly.dev/state";
pub(crate) const BUSY: &str = "busy";

/// Label with the request that a pod's job has in its agent pool.
pub(crate) const JOB_LABEL: &str = "dayfly.dev/job";

/// Label with the name of the run that made an object, of `dayfly run`.
pub(crate) const RUN_LABEL: &str = "dayfly.dev/run";
