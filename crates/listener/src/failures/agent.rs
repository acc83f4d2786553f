//! Why a virtual agent could not go on.

use std::sync::Arc;

use dayfly_client::Error as ClientError;
use dayfly_protocol::{MessageId, crypto};
use tokio::task::JoinError;

use super::RegistrationError;

/// Why a virtual agent could not go on, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AgentFailure {
    /// It was never registered.
    #[error(transparent)]
    NotRegistered(Arc<RegistrationError>),
    /// It was deleted, and could not be registered again.
    #[error("could not register the agent again")]
    NotRegisteredAgain(#[source] Arc<RegistrationError>),
    /// Somebody else holds its session.
    #[error("another process holds the session of agent `{name}`; stop it, or give this agent another name")]
    SessionHeld {
        /// Its name.
        name: Arc<str>,
        /// What the service says.
        #[source]
        source: Arc<ClientError>,
    },
    /// The service does not know its login.
    #[error("agent `{name}` stops, because its login is refused; register it again")]
    LoginRefused {
        /// Its name.
        name: Arc<str>,
        /// What the service says.
        #[source]
        source: Arc<ClientError>,
    },
    /// It is there, and its login is refused all the same.
    #[error(
        "agent `{name}` is registered, but the service refuses its login; another process has probably \
         registered it again: stop one of the two, or give them different names"
    )]
    LoginReplaced {
        /// Its name.
        name: Arc<str>,
        /// What the service says.
        #[source]
        source: Arc<ClientError>,
    },
    /// The service refuses what it does, and no other try would help.
    #[error("agent `{name}` stops, because it cannot go on")]
    Refused {
        /// Its name.
        name: Arc<str>,
        /// What the service says.
        #[source]
        source: Arc<ClientError>,
    },
    /// Its messages are for another key.
    #[error(
        "could not decrypt message {message}; the agent's key is not the one it was registered with, so \
         replace the agent"
    )]
    Unreadable {
        /// The last of them.
        message: MessageId,
        /// Why not.
        #[source]
        source: Arc<crypto::Error>,
    },
    /// The set's time was up.
    #[error("it did not end in time")]
    Late,
    /// Its task failed.
    #[error("its task failed")]
    Task(#[source] Arc<JoinError>),
}
