//! The agents of a set that are registered, and more of them.

use std::{collections::HashSet, sync::Arc};

use dayfly_listener::{RegisteredSet, Registrar, Registration, RegistrationError};
use dayfly_protocol::crypto::AgentKey;

use super::{crew::Crew, trouble::Trouble};
use crate::registrations::Registrations;

/// What is registered, and what may register more.
pub(super) struct Roster {
    pub(super) registrations: Arc<Registrations>,
    pub(super) key: Arc<AgentKey>,
    pub(super) set: RegisteredSet,
    /// Names that agents of others have in the pool.
    pub(super) foreign: HashSet<String>,
}

impl Roster {
    pub(super) fn new(registrations: Arc<Registrations>, key: AgentKey, set: RegisteredSet) -> Self {
        Self { registrations, key: Arc::new(key), set, foreign: HashSet::new() }
    }

    /// The next `count` names that nobody is known to have.
    pub(super) fn free_names(&self, prefix: &str, count: usize) -> Vec<String> {
        let is_free = |name: &String| {
            !self.foreign.contains(name) && self.set.agents.iter().all(|agent| agent.name != *name)
        };
        (1..).map(|number: u32| format!("{prefix}-{number}")).filter(is_free).take(count).collect()
    }
}

/// Agents that were registered, and why there are no more.
pub(super) struct Hired {
    pub(super) agents: Vec<Registration>,
    /// Names that turned out to be somebody else's.
    pub(super) foreign: Vec<String>,
    pub(super) trouble: Option<Trouble>,
}

/// Registers agents of these names, one after the other, until one cannot be registered.
pub(super) async fn hire(registrar: Result<Registrar, Trouble>, names: Vec<String>) -> Hired {
    let mut hired = Hired { agents: Vec::new(), foreign: Vec::new(), trouble: None };
    let registrar = match registrar {
        Ok(registrar) => registrar,
        Err(trouble) => return Hired { trouble: Some(trouble), ..hired },
    };
    for name in names {
        match registrar.register(&name).await {
            Ok(agent) => hired.agents.push(agent),
            Err(RegistrationError::OtherOwner { .. }) => hired.foreign.push(name),
            Err(error) => {
                hired.trouble = Some(error.into());
                break;
            }
        }
    }
    hired
}

/// Those that are to be online: all that have a job, and others up to `level`.
pub(super) fn chosen(registered: &[Registration], crew: &Crew, level: usize) -> Vec<Registration> {
    let (busy, idle): (Vec<_>, Vec<_>) = registered.iter().partition(|agent| crew.is_busy(&agent.name));
    let idle_wanted = level.saturating_sub(busy.len());
    busy.into_iter().chain(idle.into_iter().take(idle_wanted)).cloned().collect()
}
