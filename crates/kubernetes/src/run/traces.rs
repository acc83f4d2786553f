//! What a run has in the cluster, and its removal.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::RunError;
use crate::{cluster::bounded, names::RUN_LABEL};

/// How long everything may take to be gone.
const REMOVAL: Duration = Duration::from_secs(60);

/// How long pods have for that before their objects are deleted at once. Where a service does not heed
/// SIGTERM and its pod's other containers have ended before the deletion came, the kubelet waits for the time
/// that the pod names.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon it is looked again whether it is.
const LOOK: Duration = Duration::from_millis(300);

/// How long a pod has to end: its job is over, or given up.
const GRACE_SECONDS: u32 = 1;

/// The objects of a run: a ConfigMap and pods with one label.
#[derive(Clone)]
pub struct Traces {
    client: Client,
    namespace: String,
    context: Option<String>,
    name: String,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Traces").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Traces {
    pub(super) fn new(client: Client, namespace: String, context: Option<String>) -> Self {
        let number = uuid::Uuid::new_v4().simple().to_string();
        Self { client, namespace, context, name: format!("dayfly-run-{}", &number[..8]) }
    }

    /// The run's name in the cluster: of its ConfigMap, what the names of its pods begin with, and the value
    /// of its label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where they are.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The command by which people delete them.
    pub fn command(&self) -> String {
        let context = self.context.as_ref().map(|name| format!(" --context {name}")).unwrap_or_default();
        let (namespace, name) = (&self.namespace, &self.name);
        format!("kubectl{context} --namespace {namespace} delete pods,configmaps -l {RUN_LABEL}={name}")
    }

    /// Deletes them, and waits until nothing is left, for a minute at most.
    ///
    /// # Errors
    ///
    /// Something is left.
    pub async fn remove(&self) -> Result<(), RunError> {
        let (began, mut source) = (Instant::now(), None);
        loop {
            let is_late = began.elapsed() >= PATIENCE;
            match timeout_at(began + REMOVAL, self.delete(is_late)).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => source = None,
                Ok(Err(error)) => source = Some(Box::new(error)),
                Err(_) => {
                    let (namespace, command) = (self.namespace.clone(), self.command());
                    return Err(RunError::Left { namespace, command, source });
                }
            }
            // A deadline that has come ends the next turn.
            sleep(LOOK).await;
        }
    }

    /// Deletes what there is; whether there was nothing. The owner goes first, so that pods that are made
    /// even now have none and are collected. `is_late`: without waiting for the ends of pods.
    async fn delete(&self, is_late: bool) -> Result<bool, kube::Error> {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        ignore_absence(bounded(maps.delete(&self.name, &DeleteParams::default())).await.map(drop))?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let list = ListParams::default().labels(&format!("{RUN_LABEL}={}", self.name));
        let found = bounded(pods.list(&list)).await?;
        let grace = if is_late { 0 } else { GRACE_SECONDS };
        let parameters = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
        for pod in found.iter().filter(|pod| is_late || pod.metadata.deletion_timestamp.is_none()) {
            ignore_absence(bounded(pods.delete(&pod.name_any(), &parameters)).await.map(drop))?;
        }
        Ok(found.items.is_empty())
    }
}

fn ignore_absence(deleted: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        deleted => deleted,
    }
}
