//! What agents say of themselves.

use std::{collections::BTreeMap, sync::Arc};

/// What the agents of a set say of themselves.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The agent version, which minimum-version demands of jobs are compared with.
    pub version: String,
    /// Free text on the operating system.
    pub operating_system: String,
    /// Who holds the sessions: the machine's name.
    pub owner_name: String,
    /// The system capabilities; `Agent.Name` is added for each agent.
    pub capabilities: Arc<BTreeMap<String, String>>,
}
