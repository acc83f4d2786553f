//! What is left over of jobs: messages whose record was never made, and records past their time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Preconditions},
};

use tokio::time::Instant;

use crate::{
    api::PipelineJob,
    calls::{CallError, Calls},
    ownership::Fence,
    store::{AcceptingSet, NONCE, SET_UID, is_closed},
};

/// How long a message may lie there without its record, which is being made. Counted from the sweep that saw
/// it first: our clock may be wrong, and a store gives up sooner than this.
const ORPHAN_AGE: Duration = Duration::from_mins(1);

/// Something could not be swept; the next time will do.
#[derive(Debug, thiserror::Error)]
#[error("could not sweep the jobs of the agent set {set}")]
pub struct SweepError {
    set: String,
    #[source]
    source: CallError,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Secrets of messages without a record.
    pub messages: usize,
    /// Records of jobs that are over.
    pub jobs: usize,
}

/// Sweeps what one agent set left over.
#[derive(Debug)]
pub struct Sweep {
    set: AcceptingSet,
    jobs: Api<PipelineJob>,
    secrets: Api<Secret>,
    about_secrets: Api<PartialObjectMeta<Secret>>,
    fence: Fence,
    calls: Arc<Calls>,
    /// UIDs of the messages without a record, and since when we know.
    orphans: Mutex<HashMap<String, Instant>>,
}

impl Sweep {
    /// For the same arguments as [`crate::KubernetesStore::new`].
    #[must_use]
    pub fn new(
        client: Client,
        set: AcceptingSet,
        controller_namespace: &str,
        fence: Fence,
        calls: Arc<Calls>,
    ) -> Self {
        let jobs = Api::namespaced(client.clone(), &set.namespace);
        let about_secrets = Api::namespaced(client.clone(), controller_namespace);
        let secrets = Api::namespaced(client, controller_namespace);
        Self { set, jobs, secrets, about_secrets, fence, calls, orphans: Mutex::default() }
    }

    /// Deletes messages without a record, and records of jobs that were over for longer than `retention`.
    ///
    /// # Errors
    ///
    /// The API server refused, or the set is another controller's by now.
    pub async fn run(&self, retention: Duration) -> Result<Swept, SweepError> {
        let swept = self.sweep(Timestamp::now(), retention).await;
        swept.map_err(|source| SweepError { set: self.set.name.clone(), source })
    }

    async fn sweep(&self, now: Timestamp, retention: Duration) -> Result<Swept, CallError> {
        let list = ListParams::default().labels(&format!("{SET_UID}={}", self.set.uid));
        // The messages first: a record that is made meanwhile is then seen with its message.
        let secrets = self.calls.read(&self.fence, || self.about_secrets.list(&list)).await?;
        let jobs = self.calls.read(&self.fence, || self.jobs.list(&list)).await?;
        let needed: HashSet<&str> =
            jobs.iter().filter(|job| !is_closed(job)).map(|job| job.spec.nonce.as_str()).collect();
        // Other Secrets of the set have no nonce.
        let has_no_record = |secret: &&PartialObjectMeta<Secret>| {
            secret.labels().get(NONCE).is_some_and(|nonce| !needed.contains(nonce.as_str()))
        };
        let orphans: Vec<_> = secrets.iter().filter(has_no_record).collect();
        let mut swept = Swept::default();
        for secret in self.known_for_long(&orphans) {
            delete(&self.calls, &self.fence, &self.secrets, &secret.metadata).await?;
            swept.messages += 1;
        }
        for job in jobs.iter().filter(|job| is_closed(job)) {
            let ended = job.status.as_ref().and_then(|status| status.finished_at.as_deref());
            let ended = ended.and_then(|ended| ended.parse().ok()).map(Time);
            if age(ended.or_else(|| job.creation_timestamp()), now) > retention {
                delete(&self.calls, &self.fence, &self.jobs, &job.metadata).await?;
                swept.jobs += 1;
            }
        }
        Ok(swept)
    }

    /// Those of the orphans that were orphans a while ago already.
    fn known_for_long<'secrets>(
        &self,
        orphans: &[&'secrets PartialObjectMeta<Secret>],
    ) -> Vec<&'secrets PartialObjectMeta<Secret>> {
        let mut known = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = |secret: &PartialObjectMeta<Secret>| {
            let uid = secret.uid()?;
            Some((uid.clone(), known.get(&uid).copied().unwrap_or(now)))
        };
        *known = orphans.iter().filter_map(|secret| since(secret)).collect();
        let is_old = |secret: &PartialObjectMeta<Secret>| {
            let since = secret.uid().and_then(|uid| known.get(&uid).copied());
            since.is_some_and(|since| now.duration_since(since) >= ORPHAN_AGE)
        };
        orphans.iter().copied().filter(|secret| is_old(secret)).collect()
    }
}

fn age(since: Option<Time>, now: Timestamp) -> Duration {
    since.and_then(|since| now.duration_since(since.0).try_into().ok()).unwrap_or_default()
}

/// Deletes this very object, not another one that got its name.
async fn delete<K>(calls: &Calls, fence: &Fence, api: &Api<K>, metadata: &ObjectMeta) -> Result<(), CallError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let name = metadata.name.as_deref().unwrap_or_default();
    let preconditions = Preconditions { uid: metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match calls.write(fence, || api.delete(name, &parameters)).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
