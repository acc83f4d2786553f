//! The cluster that is meant.

use std::time::Duration;

use kube::{Client, config::InferConfigError};
use tokio::time::timeout;

use crate::api::Delivery;

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
    client(kube::Config::infer().await?)
}

pub(crate) fn client(mut configuration: kube::Config) -> Result<Client, ConnectError> {
    // It would send creates again and hide that it did, so that our own object would look like another's.
    configuration.default_retry = false;
    Ok(Client::try_from(configuration)?)
}

/// How the program gets into pods where nobody says it. Copying works everywhere.
pub(crate) async fn delivery(client: &Client) -> Delivery {
    match bounded(client.apiserver_version()).await {
        Ok(version) if has_image_volumes(&version.major, &version.minor) => Delivery::ImageVolume,
        Ok(_) => Delivery::Copy,
        Err(error) => {
            tracing::warn!(%error, "the version of the cluster is not known, so the program is copied");
            Delivery::Copy
        }
    }
}

/// Whether a cluster of this version mounts images as volumes without being asked to (1.35 and later). Some
/// say `35+`.
fn has_image_volumes(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
    (number(major), number(minor)) >= (1, 35)
}

/// Bounds a call: an API server that does not answer is as good as one that fails.
pub(crate) async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(CALL, call).await.unwrap_or_else(|_| {
        let reason = format!("the API server did not answer within {} s", CALL.as_secs());
        Err(kube::Error::Service(reason.into()))
    })
}
