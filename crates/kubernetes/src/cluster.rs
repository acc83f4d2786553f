//! The cluster that is meant.

use kube::{Client, config::InferConfigError};

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
