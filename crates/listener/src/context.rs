//! What a virtual agent, its lease and its set share. Ten thousand of these may exist, so whatever is the
//! same for all lives in [`SetContext`] once.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dayfly_protocol::{
    AgentId, PoolId, SessionId, agent::TaskAgentReference, channel::WorkerSettings, session::TaskAgentSession,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    description::Description,
    events::{Event, Events},
    executor::Executor,
    service::AgentService,
    store::{JobStore, RegistrationStore},
    timings::Timings,
};

/// What all agents of a set share.
#[derive(Debug)]
pub(crate) struct SetContext {
    pub(crate) pool: PoolId,
    pub(crate) pool_name: String,
    pub(crate) server_url: Url,
    pub(crate) timings: Timings,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) events: Events,
    pub(crate) store: Arc<dyn JobStore>,
    pub(crate) registrations: Arc<dyn RegistrationStore>,
    /// Cancelled when a store has told us that the agents and their jobs are somebody else's by now.
    pub(crate) lost: CancellationToken,
    /// Bounds how many agents register or make a session at the same time.
    pub(crate) connecting: Semaphore,
    pub(crate) description: Description,
    pub(crate) worker: WorkerSettings,
    /// Each agent works in a folder of its own below the work folder.
    pub(crate) has_many_agents: bool,
    /// Nobody else runs agents of these names: what holds a session of theirs was left by one that died.
    pub(crate) owns_names: bool,
    pub(crate) is_once: bool,
}

/// One virtual agent as its lease sees it.
#[derive(Debug)]
pub(crate) struct AgentContext {
    pub(crate) id: AgentId,
    pub(crate) name: Arc<str>,
    pub(crate) service: AgentService,
    pub(crate) set: Arc<SetContext>,
    session: Mutex<Option<SessionId>>,
    is_connecting: AtomicBool,
}

impl AgentContext {
    pub(crate) fn new(id: AgentId, name: Arc<str>, service: AgentService, set: Arc<SetContext>) -> Self {
        Self { id, name, service, set, session: Mutex::new(None), is_connecting: AtomicBool::new(false) }
    }

    /// The session there is now.
    pub(crate) fn session(&self) -> Option<SessionId> {
        *lock(&self.session)
    }

    pub(crate) fn set_session(&self, session: Option<SessionId>) {
        *lock(&self.session) = session;
    }

    /// Makes a session.
    pub(crate) async fn connect(&self) -> dayfly_client::Result<TaskAgentSession> {
        self.service.create_session(&self.session_request()).await
    }

    /// Says whether a session is being made and written down.
    pub(crate) fn set_connecting(&self, is_connecting: bool) {
        self.is_connecting.store(is_connecting, Ordering::Relaxed);
    }

    /// Whether the service may have made a session of which we, or whoever comes after us, do not know yet.
    pub(crate) fn is_connecting(&self) -> bool {
        self.is_connecting.load(Ordering::Relaxed)
    }

    /// The body of a request for a session.
    fn session_request(&self) -> TaskAgentSession {
        let description = &self.set.description;
        let mut capabilities = (*description.capabilities).clone();
        capabilities.insert("Agent.Name".to_owned(), self.name.to_string());
        TaskAgentSession {
            owner_name: description.owner_name.clone(),
            agent: TaskAgentReference {
                id: self.id,
                name: self.name.to_string(),
                version: Some(description.version.clone()),
                os_description: Some(description.operating_system.clone()),
                ..TaskAgentReference::default()
            },
            system_capabilities: Some(capabilities),
            ..TaskAgentSession::default()
        }
    }

    /// What a worker of this agent must know.
    pub(crate) fn worker_settings(&self) -> WorkerSettings {
        let mut settings = self.set.worker.clone();
        if self.set.has_many_agents && !settings.folder_per_job {
            settings.work_directory.push(folder_name(&self.name));
        }
        settings.agent_id = self.id;
        settings.agent_name = self.name.to_string();
        settings.pool_id = self.set.pool;
        settings.pool_name.clone_from(&self.set.pool_name);
        settings.server_url = Some(self.set.server_url.clone());
        settings.machine_name.clone_from(&self.set.description.owner_name);
        settings.run_once = self.set.is_once;
        settings
    }

    /// Tells people that something went wrong. The log has it at a lower level, so that who shows events and
    /// logs warnings says nothing twice.
    pub(crate) fn warn(&self, message: String) {
        tracing::info!(agent = %self.name, "{message}");
        self.set.events.send(Event::Warning { agent: self.name.clone(), message });
    }
}

/// An agent's name as the name of a folder: whatever could leave the folder above it, or trouble a shell, is
/// written as its number. Different names are different folders.
fn folder_name(agent: &str) -> PathBuf {
    let mut folder = String::with_capacity(agent.len());
    for character in agent.chars() {
        // A dot at the beginning would be `.`, `..` or a hidden folder.
        let is_plain = character.is_alphanumeric()
            || matches!(character, '-' | '_')
            || (character == '.' && !folder.is_empty());
        if is_plain {
            folder.push(character);
        } else {
            folder.push_str(&format!("~{:x}~", u32::from(character)));
        }
    }
    folder.into()
}

/// Locks; what a panicking holder left is still whole, since every change here is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_agents_have_different_folders() {
        let names = ["a.b", "a_b", "a b", "a/b", ".a", "..a", "~2e~a", "a~2f~b"];
        let folders: std::collections::HashSet<_> = names.into_iter().map(folder_name).collect();
        assert_eq!(folders.len(), names.len(), "{folders:?}");
    }

    #[test]
    fn no_agent_name_leaves_the_work_folder() {
        assert_eq!(folder_name("runner-1"), PathBuf::from("runner-1"));
        assert_eq!(folder_name("../../etc"), PathBuf::from("~2e~.~2f~..~2f~etc"));
    }
}
