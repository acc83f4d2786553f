//! What is done beside the jobs of a set: a record that somebody deletes cancels its job, and what is left
//! over is swept.

use std::{sync::Arc, time::Duration};

use dayfly_client::describe;
use dayfly_protocol::RequestId;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use tokio::{sync::watch, time::interval};

use super::strays::Strays;
use crate::{
    api::{AgentSet, PipelineJob},
    cluster::bounded,
    executor::PodExecutor,
    names::{AGENT_SET_LABEL, JOB_LABEL},
    store::{AcceptingSet, SET_UID, is_closed},
    sweep::Sweep,
};

/// How soon the deletion of a record is noticed.
const LOOK: Duration = Duration::from_secs(2);

/// How many looks there are to a sweep, and to a look for pods that nobody minds.
const LOOKS_PER_SWEEP: u32 = 30;
const LOOKS_PER_STRAYS: u32 = 5;

/// Tidies up after one set, for as long as it is polled. `wanted` is its object.
pub(super) async fn tidy(
    client: Client,
    set: AcceptingSet,
    (sweep, mut strays, executor): (Sweep, Strays, PodExecutor),
    wanted: watch::Receiver<Arc<AgentSet>>,
) {
    let jobs = Api::<PipelineJob>::namespaced(client.clone(), &set.namespace);
    let pods = Api::<Pod>::namespaced(client, &set.namespace);
    let mut look = interval(LOOK);
    for looks in 0_u32.. {
        look.tick().await;
        let labels = ListParams::default().labels(&format!("{SET_UID}={}", set.uid));
        match bounded(jobs.list(&labels)).await {
            Ok(all) => {
                if let Err(error) = cancel_deleted(&all.items, &pods, &set, &executor).await {
                    tracing::info!(%error, set = set.name, "could not cancel jobs whose records are deleted");
                }
                if looks % LOOKS_PER_STRAYS == 0
                    && let Err(error) = strays.delete(all.iter().filter(|job| !is_closed(job))).await
                {
                    tracing::info!(set = set.name, "could not look for stray pods: {}", describe(&error));
                }
            }
            Err(error) => tracing::info!(%error, set = set.name, "could not look after the records of jobs"),
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
/// records go when the results are known. A job that no worker has yet is given up; it may wait for a quota,
/// and have no pod.
async fn cancel_deleted(
    jobs: &[PipelineJob],
    pods: &Api<Pod>,
    set: &AcceptingSet,
    executor: &PodExecutor,
) -> Result<(), kube::Error> {
    for job in jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_some()) {
        if !is_closed(job) {
            executor.give_up(RequestId(job.spec.request_id));
        }
        let labels = format!("{AGENT_SET_LABEL}={},{JOB_LABEL}={}", set.name, job.spec.request_id);
        for pod in bounded(pods.list(&ListParams::default().labels(&labels))).await? {
            let is_new = pod.metadata.deletion_timestamp.is_none();
            if let Some(name) = pod.metadata.name.filter(|_| is_new) {
                tracing::info!(set = set.name, pod = name, "a job is cancelled, since its record is deleted");
                bounded(pods.delete(&name, &DeleteParams::default())).await?;
            }
        }
    }
    Ok(())
}
