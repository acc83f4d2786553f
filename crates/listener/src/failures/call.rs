//! Why a duty to the service was not done.

use dayfly_client::Error as ClientError;

use crate::store::StoreError;

/// A call to the service, or what it needs, came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFailure {
    /// The service refused, or could not be reached.
    #[error(transparent)]
    Service(#[from] ClientError),
    /// There was no answer within the time of a call.
    #[error("the service did not answer in time")]
    Late,
    /// There is no session to make it with.
    #[error("the session is gone")]
    NoSession,
    /// There is no login to make it with.
    #[error("the job's message has no system connection with a token")]
    NoToken,
    /// What must be written down before it could not be.
    #[error(transparent)]
    Store(#[from] StoreError),
}
