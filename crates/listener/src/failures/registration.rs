//! Why an agent could not be registered.

use std::sync::Arc;

use dayfly_client::{Error as ClientError, ErrorKind};

/// Why an agent could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The name is taken.
    #[error("the pool already has an agent named `{name}`; pick another name, or replace it")]
    Exists {
        /// The name.
        name: Arc<str>,
    },
    /// The name is taken by an agent that runs.
    #[error(
        "agent `{name}` is online: another process is using this name; stop it, pick another `--name`, or \
         pass `--replace`"
    )]
    InUse {
        /// The name.
        name: Arc<str>,
    },
    /// The name is taken by an agent that belongs to somebody else.
    #[error(
        "agent `{name}` of the pool belongs to somebody else ({owner}); pick another name, or delete that \
         agent"
    )]
    OtherOwner {
        /// The name.
        name: Arc<str>,
        /// Whose it is.
        owner: String,
    },
    /// The service refused, or could not be reached.
    #[error("could not {doing} agent `{name}`{}", scope_hint(.source))]
    Call {
        /// The name.
        name: Arc<str>,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// The service's answer lacks what an agent needs to log in.
    #[error(
        "the service registered agent `{name}` without a client id and a token address; it may be too old"
    )]
    NoAuthorization {
        /// The name.
        name: Arc<str>,
    },
}

/// What the token may lack.
fn scope_hint(error: &ClientError) -> &'static str {
    match error.kind() {
        ErrorKind::Forbidden => {
            "; its token needs the scope Agent Pools (read & manage), and its user the role of an \
             administrator of the pool"
        }
        _ => "",
    }
}
