//! What is done beside the jobs of a set: a record that somebody deletes cancels its job, and what is left
//! over is swept.

use std::{sync::Arc, time::Duration};

use dayfly_client::describe;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use tokio::{sync::watch, time::interval};

use crate::{
    api::{AgentSet, PipelineJob},
    names::{AGENT_SET_LABEL, JOB_LABEL},
    store::{AcceptingSet, SET_UID},
    sweep::Sweep,
};

/// How soon the deletion of a record is noticed.
const LOOK: Duration = Duration::from_secs(2);

/// How many looks there are to a sweep.
const LOOKS_PER_SWEEP: u32 = 30;

/// Tidies up after one set, for as long as it is polled. `wanted` is its object.
pub(super) async fn tidy(
    client: Client,
    set: AcceptingSet,
    sweep: Sweep,
    wanted: watch::Receiver<Arc<AgentSet>>,
) {
    let jobs = Api::<PipelineJob>::namespaced(client.clone(), &set.namespace);
    let pods = Api::<Pod>::namespaced(client, &set.namespace);
    let mut look = interval(LOOK);
    for looks in 0_u32.. {
        look.tick().await;
        if let Err(error) = cancel_deleted(&jobs, &pods, &set).await {
            tracing::info!(%error, set = set.name, "could not look for jobs that are to be cancelled");
        }
        let retention = Duration::from_secs(wanted.borrow().spec.ttl_seconds_after_finished.into());
        if looks % LOOKS_PER_SWEEP == 0
            && let Err(error) = sweep.run(retention).await
        {
            tracing::info!(set = set.name, "{}", describe(&error));
        }
    }
}

/// Deletes the pods of jobs whose records are deleted: their workers then cancel the jobs properly, and the
/// records go when the results are known.
async fn cancel_deleted(
    jobs: &Api<PipelineJob>,
    pods: &Api<Pod>,
    set: &AcceptingSet,
) -> Result<(), kube::Error> {
    let all = jobs.list(&ListParams::default().labels(&format!("{SET_UID}={}", set.uid))).await?;
    for job in all.items.iter().filter(|job| job.metadata.deletion_timestamp.is_some()) {
        let labels = format!("{AGENT_SET_LABEL}={},{JOB_LABEL}={}", set.name, job.spec.request_id);
        for pod in pods.list(&ListParams::default().labels(&labels)).await? {
            let is_new = pod.metadata.deletion_timestamp.is_none();
            if let Some(name) = pod.metadata.name.filter(|_| is_new) {
                tracing::info!(set = set.name, pod = name, "a job is cancelled, since its record is deleted");
                pods.delete(&name, &DeleteParams::default()).await?;
            }
        }
    }
    Ok(())
}
