//! Pods that nobody minds: a controller that is killed right after it made a pod has not written down that it
//! did, and the next one makes another. Such a pod would hold its room on the node for ever.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Preconditions},
};
use tokio::time::Instant;

use crate::{
    api::PipelineJob,
    calls::{CallError, Calls},
    executor::PodExecutor,
    names::{AGENT_SET_LABEL, JOB_LABEL},
    ownership::Fence,
    store::AcceptingSet,
};

/// How long a pod may be nobody's: it was made just now, or its job ends just now.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long its containers may take to end: there is no job that they would have to end properly.
const GRACE_SECONDS: u32 = 5;

/// The pods of one set that are nobody's.
pub(super) struct Strays {
    pods: Api<Pod>,
    set: String,
    executor: PodExecutor,
    fence: Fence,
    calls: Arc<Calls>,
    /// UIDs, and since when we know.
    known: HashMap<String, Instant>,
}

impl Strays {
    pub(super) fn new(
        client: &Client,
        set: &AcceptingSet,
        executor: PodExecutor,
        fence: Fence,
        calls: Arc<Calls>,
    ) -> Self {
        let pods = Api::namespaced(client.clone(), &set.namespace);
        Self { pods, set: set.name.clone(), executor, fence, calls, known: HashMap::new() }
    }

    /// Deletes pods that were nobody's for a while: their job is over, or another pod has it. `open` are the
    /// records of jobs that are not over.
    pub(super) async fn delete(&mut self, open: impl Iterator<Item = &PipelineJob>) -> Result<(), CallError> {
        let open: HashSet<String> = open.map(|job| job.spec.request_id.to_string()).collect();
        let list = ListParams::default().labels(&format!("{AGENT_SET_LABEL}={}", self.set));
        let found = self.calls.read(&self.fence, || self.pods.list(&list)).await?;
        let strays: Vec<(String, String)> = found
            .iter()
            .filter(|pod| is_stray(pod, &open, &self.executor))
            .filter_map(|pod| Some((pod.uid()?, pod.name_any())))
            .collect();
        self.known.retain(|uid, _| strays.iter().any(|(stray, _)| stray == uid));
        for (uid, name) in strays {
            let since = *self.known.entry(uid.clone()).or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                continue;
            }
            tracing::info!(set = self.set, pod = name, "deleting a pod that no job has");
            let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
            let grace_period_seconds = Some(GRACE_SECONDS);
            let parameters = DeleteParams { preconditions, grace_period_seconds, ..DeleteParams::default() };
            match self.calls.write(&self.fence, || self.pods.delete(&name, &parameters)).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a pod has no job: that is over, or another pod has it.
fn is_stray(pod: &Pod, open: &HashSet<String>, executor: &PodExecutor) -> bool {
    let Some(request) = pod.labels().get(JOB_LABEL) else { return false };
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match executor.minded(request) {
        Some(uid) => pod.uid() != Some(uid),
        None => !open.contains(request),
    }
}
