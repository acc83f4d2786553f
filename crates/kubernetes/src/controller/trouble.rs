//! Why something of the controller's cannot work now.

use dayfly_client::ErrorKind;
use dayfly_listener::RegistrationError;

use crate::login::LoginError;

/// A set that cannot work now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Service(#[from] dayfly_client::Error),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error(transparent)]
    Store(#[from] dayfly_listener::StoreError),
    #[error(transparent)]
    Listener(#[from] dayfly_listener::Error),
    #[error(transparent)]
    Sweep(#[from] crate::sweep::SweepError),
    #[error(transparent)]
    Authority(#[from] crate::identity::AuthorityError),
    #[error("could not update the AgentSet")]
    Cluster(#[from] kube::Error),
    #[error("could not make a key for the agents")]
    Key(#[from] dayfly_protocol::crypto::Error),
    #[error("another controller may have the set by now")]
    Lost,
    #[error("the agents ended: {0}")]
    Ended(String),
}

impl Trouble {
    /// One word for programs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Login(error) => login_reason(error),
            Self::Service(error) => service_reason(error),
            Self::Registration(RegistrationError::Call { source, .. }) => service_reason(source),
            Self::Registration(_) => "RegistrationFailed",
            Self::Ended(_) | Self::Listener(_) => "AgentsEnded",
            Self::Lost => "LeaseLost",
            Self::Store(_) | Self::Sweep(_) | Self::Authority(_) | Self::Cluster(_) | Self::Key(_) => {
                "Internal"
            }
        }
    }
}

/// One word for programs on a call of the service that failed.
pub(super) fn service_reason(error: &dayfly_client::Error) -> &'static str {
    match error.kind() {
        ErrorKind::Unauthorized | ErrorKind::Forbidden => "CredentialRejected",
        ErrorKind::PoolNotFound => "PoolNotFound",
        ErrorKind::Setting => "ConnectionInvalid",
        _ => "ServiceUnreachable",
    }
}

/// One word for programs on a connection that says something wrong.
pub(super) fn login_reason(error: &LoginError) -> &'static str {
    match error {
        LoginError::Missing { .. } => "NotFound",
        LoginError::Client(error) => service_reason(error),
        _ => "ConnectionInvalid",
    }
}
