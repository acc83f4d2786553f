//! The cluster that is meant.

use std::time::Duration;

use kube::{Client, config::InferConfigError};
use tokio::time::timeout;

/// Bound of one call.
const CALL: Duration = Duration::from_secs(15);

/// There is no cluster to speak to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says which one.
    #[error(transparent)]
    Unknown(#[from] InferConfigError),
    /// What says it is of no use.
    #[error(transparent)]
    Unusable(#[from] kube::Error),
}

/// A client of the cluster of `KUBECONFIG`, or else of the one that we run in.
///
/// # Errors
///
/// No cluster is known, or what is known of it cannot be used.
pub async fn connect() -> Result<Client, ConnectError> {
    let mut configuration = kube::Config::infer().await?;
    // It would send creates again and hide that it did, so that our own object would look like another's.
    configuration.default_retry = false;
    Ok(Client::try_from(configuration)?)
}

/// Bounds a call: an API server that does not answer is as good as one that fails.
pub(crate) async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(CALL, call).await.unwrap_or_else(|_| {
        let reason = format!("the API server did not answer within {} s", CALL.as_secs());
        Err(kube::Error::Service(reason.into()))
    })
}
