//! How the agents of a set ended, all together.

use std::sync::Arc;

use dayfly_client::describe;

use crate::events::AgentEnd;

/// How many failures a [`Summary`] names.
const NAMED_FAILURES: usize = 20;

/// How a set ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Agents that ended as they should.
    pub ended: usize,
    /// Agents whose login was revoked.
    pub revoked: usize,
    /// Agents that were let go, for somebody else to go on with.
    pub released: usize,
    /// Agents that were deleted, or could not go on.
    pub failed: usize,
    /// The first of those, with the reasons.
    pub failures: Vec<(Arc<str>, String)>,
}

impl Summary {
    pub(crate) fn count(&mut self, name: Arc<str>, end: AgentEnd) {
        let reason = match end {
            AgentEnd::Stopped | AgentEnd::Once => {
                self.ended += 1;
                return;
            }
            AgentEnd::Revoked => {
                self.revoked += 1;
                return;
            }
            AgentEnd::Released => {
                self.released += 1;
                return;
            }
            AgentEnd::Deleted => "it was deleted from its pool".to_owned(),
            AgentEnd::Failed(failure) => describe(&failure),
        };
        self.failed += 1;
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push((name, reason));
        }
    }
}
