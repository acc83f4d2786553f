//! What outlives the controller, kept in the API server: accepted jobs.
//!
//! A job is a [`PipelineJob`] in the set's namespace, and its message lies in Secrets in the controller's
//! own, where nobody who may only see jobs can read it. The message is written first, so that a record
//! never lacks it. That the record could be created says whose the job is: it is the one step that only one
//! of several can do. Every later write replaces the very state that we saw last, so whoever took the set
//! over in between is noticed by the API server, not by us.

mod message;
mod record;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex as Lock, MutexGuard, PoisonError},
    time::Duration,
};

use dayfly_listener::{Accepted, Change, JobRecord, JobStore, StoreError, StoreResult};
use dayfly_protocol::{PoolId, RequestId};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use self::{
    message::{Messages, SealingKey},
    record::{State, Written},
};
use crate::{
    api::{PipelineJob, PipelineJobStatus},
    calls::{CallError, Calls},
    ownership::Fence,
};

/// Keeps a deleted job until the controller has cancelled it.
const FINALIZER: &str = "dayfly.dev/job";
/// UID of the agent set an object belongs to.
pub(crate) const SET_UID: &str = "dayfly.dev/agent-set-uid";
/// On a job's Secrets: the nonce in its record.
pub(crate) const NONCE: &str = "dayfly.dev/nonce";
/// On jobs that are over.
pub(crate) const CLOSED: &str = "dayfly.dev/closed";
/// How long a job may take to be accepted. Shorter than a message without a record is left alone.
const ACCEPT_WITHIN: Duration = Duration::from_secs(45);
/// How many jobs are read at once when a set is taken over.
const READS_AT_ONCE: usize = 16;
/// How often a write is tried anew when others (labels, deletion) change the object at the same time.
const CONFLICTS: usize = 8;

/// The agent set whose jobs a store keeps.
#[derive(Debug, Clone)]
pub struct AcceptingSet {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The pool its agents are in.
    pub pool: PoolId,
}

/// The jobs of one agent set.
pub struct KubernetesStore {
    set: AcceptingSet,
    holder: String,
    /// Who is asked for nonces: the same job gets the same one as long as this store lives.
    instance: Uuid,
    api: Api<PipelineJob>,
    messages: Messages,
    calls: Arc<Calls>,
    fence: Fence,
    jobs: Lock<HashMap<RequestId, Slot>>,
}

/// One job, changed by one at a time. Empty while it is being accepted.
type Slot = Arc<Mutex<Option<Open>>>;

/// A job that is not closed.
struct Open {
    job: JobRecord,
    key: SealingKey,
    nonce: Uuid,
    message_parts: usize,
    written: Written,
}

impl fmt::Debug for KubernetesStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KubernetesStore").field("set", &self.set).finish_non_exhaustive()
    }
}

/// Why something could not be done.
enum Failure {
    NotOurs,
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost => Self::NotOurs,
            error => Self::Other(error.into()),
        }
    }
}

impl From<record::Unreadable> for Failure {
    fn from(error: record::Unreadable) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    fn while_doing(self, doing: &'static str) -> StoreError {
        match self {
            Self::NotOurs => StoreError::NotOurs,
            Self::Other(source) => StoreError::Failed { doing, source },
        }
    }
}

impl KubernetesStore {
    /// The jobs of `set`, whose messages lie in `controller_namespace`. `client` must be one that tries
    /// nothing again by itself (`Config::default_retry = false`). `holder` names this controller;
    /// everything stops with [`StoreError::NotOurs`] once `fence` falls.
    pub fn new(
        client: Client,
        set: AcceptingSet,
        controller_namespace: &str,
        holder: String,
        fence: Fence,
        calls: Arc<Calls>,
    ) -> Self {
        let api = Api::namespaced(client.clone(), &set.namespace);
        let secrets = Api::namespaced(client, controller_namespace);
        let messages = Messages::new(secrets, set.uid.clone(), calls.clone(), fence.clone());
        let (instance, jobs) = (Uuid::new_v4(), Lock::default());
        Self { set, holder, instance, api, messages, calls, fence, jobs }
    }

    /// Tells people where a job is prepared and what it waits for. Written at once if `reason` is new, else
    /// along with the next step of the job, so that naming the pod costs no write. False if there is no
    /// record of the job, or not yet.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub async fn note(
        &self,
        request: RequestId,
        pod: Option<String>,
        reason: Option<String>,
    ) -> StoreResult<bool> {
        let Some(slot) = self.known(request) else { return Ok(false) };
        let mut slot = slot.lock().await;
        let Some(open) = slot.as_mut() else { return Ok(false) };
        if pod.is_some() {
            open.written.pod = pod;
        }
        if reason.is_none() || reason == open.written.status().reason {
            return Ok(true);
        }
        let status = PipelineJobStatus { reason, ..open.written.status() };
        let done = self.put_status(open, status).await;
        done.map(|()| true).map_err(|failure| failure.while_doing("tell what a job waits for"))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<RequestId, Slot>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, request: RequestId) -> Option<Slot> {
        self.slots().get(&request).cloned()
    }

    fn name(&self, request: RequestId) -> String {
        format!("{}-{request}", self.set.name)
    }

    async fn accept_job(&self, job: JobRecord) -> Result<Accepted, Failure> {
        let request = job.request;
        let slot = self.slots().entry(request).or_default().clone();
        let mut slot = slot.lock().await;
        if slot.is_some() {
            return Ok(Accepted::Known);
        }
        let made = self.create(job).await;
        match made {
            Ok(Some(open)) => {
                *slot = Some(open);
                Ok(Accepted::New)
            }
            Ok(None) => {
                self.slots().remove(&request);
                Ok(Accepted::Known)
            }
            Err(failure) => {
                self.slots().remove(&request);
                Err(failure)
            }
        }
    }

    /// Makes the record of a job. `None` if there is one already.
    async fn create(&self, job: JobRecord) -> Result<Option<Open>, Failure> {
        let nonce = Uuid::new_v5(&self.instance, job.request.to_string().as_bytes());
        let (key, message_parts) = self.messages.put(nonce, job.request, &job.body).await?;
        let name = self.name(job.request);
        let record = record::describe(&self.set, &self.holder, &name, nonce, &job);
        let (api, parameters) = (&self.api, PostParams::default());
        let object = match self.calls.write(&self.fence, || api.create(&parameters, &record)).await {
            Ok(object) => object,
            Err(error) if error.is_already_exists() => {
                let there = self.calls.read(&self.fence, || api.get(&name)).await?;
                if there.spec.nonce != record.spec.nonce || is_closed(&there) {
                    self.messages.delete(nonce, message_parts).await;
                    return Ok(None);
                }
                there
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Open { job, key, nonce, message_parts, written: Written::new(object) }))
    }

    async fn change_job(&self, request: RequestId, change: Change) -> Result<(), Failure> {
        // One that is closed needs nothing more.
        let Some(slot) = self.known(request) else { return Ok(()) };
        let mut slot = slot.lock().await;
        let Some(open) = slot.as_mut() else { return Ok(()) };
        let mut job = open.job.clone();
        // Losing the number of a log costs a second log, and a write for each job would cost more: it goes
        // along with the next step.
        let is_log = matches!(change, Change::Log(_));
        job.apply(change);
        // Worker and lease say the same one after the other; once the service has it, nothing hangs on it.
        let is_known = job.stage == open.job.stage && record::is_reported(&job.stage);
        if !is_log && !is_known {
            let status = record::progress(&open.written.status(), &self.holder, &job, &open.key)?;
            self.put_status(open, status).await?;
        }
        open.job = job;
        Ok(())
    }

    async fn close_job(&self, request: RequestId) -> Result<(), Failure> {
        let Some(slot) = self.known(request) else { return Ok(()) };
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_mut() {
            match self.finish(open).await {
                Err(Failure::Other(error)) if is_gone(error.as_ref()) => {}
                done => done?,
            }
            // Whatever stays of it is swept later.
            self.messages.delete(open.nonce, open.message_parts).await;
        }
        *slot = None;
        self.slots().remove(&request);
        Ok(())
    }

    async fn finish(&self, open: &mut Open) -> Result<(), Failure> {
        let status = open.written.status();
        let finished = record::finished(&status);
        if finished != status {
            self.put_status(open, finished).await?;
        }
        let api = self.api.clone();
        let (name, parameters) = (open.written.object.name_any(), PostParams::default());
        for _ in 0..CONFLICTS {
            let closed = record::closed(&open.written.object);
            match self.calls.write(&self.fence, || api.replace(&name, &parameters, &closed)).await {
                Ok(object) => {
                    open.written.object = object;
                    return Ok(());
                }
                Err(error) if error.is_conflict() => self.look_again(open).await?,
                Err(error) => return Err(error.into()),
            }
            if is_closed(&open.written.object) {
                return Ok(());
            }
        }
        Err(Failure::Other("others keep changing its record".into()))
    }

    /// Replaces the status that we saw last.
    async fn put_status(&self, open: &mut Open, mut status: PipelineJobStatus) -> Result<(), Failure> {
        let api = self.api.clone();
        let (name, parameters) = (open.written.object.name_any(), PostParams::default());
        status.pod = open.written.pod.clone();
        open.written.attempted.extend(status.record.clone());
        for _ in 0..CONFLICTS {
            let next = PipelineJob { status: Some(status.clone()), ..open.written.object.clone() };
            match self.calls.write(&self.fence, || api.replace_status(&name, &parameters, &next)).await {
                Ok(object) => {
                    open.written.now(object);
                    return Ok(());
                }
                Err(error) if error.is_conflict() => self.look_again(open).await?,
                Err(error) => return Err(error.into()),
            }
            // It was our own write, whose answer was lost.
            if open.written.status() == status {
                return Ok(());
            }
        }
        Err(Failure::Other("others keep changing its record".into()))
    }

    /// After a conflict: whether the record is still as we left it, but for what others may change.
    async fn look_again(&self, open: &mut Open) -> Result<(), Failure> {
        let api = &self.api;
        let name = open.written.object.name_any();
        let seen = self.calls.read(&self.fence, || api.get(&name)).await?;
        if !open.written.may_be_followed_by(&seen, &self.holder) {
            return Err(Failure::NotOurs);
        }
        open.written.object = seen;
        Ok(())
    }

    async fn open_jobs(&self) -> Result<Vec<JobRecord>, Failure> {
        let list = ListParams::default().labels(&format!("{SET_UID}={},{CLOSED}!=true", self.set.uid));
        let api = &self.api;
        let found = self.calls.read(&self.fence, || api.list(&list)).await?;
        let jobs =
            futures::stream::iter(found).map(|object| self.adopt(object)).buffer_unordered(READS_AT_ONCE);
        let mut jobs: Vec<JobRecord> = jobs.try_filter_map(async |job| Ok(job)).try_collect().await?;
        jobs.sort_by_key(|job| job.request);
        Ok(jobs)
    }

    /// Makes a job ours that the holder before us left. From then on no write of theirs succeeds.
    async fn adopt(&self, object: PipelineJob) -> Result<Option<JobRecord>, Failure> {
        let request = RequestId(object.spec.request_id);
        let slot = self.slots().entry(request).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref() {
            return Ok(Some(open.job.clone()));
        }
        let adopted = self.take_over(object).await;
        if !matches!(adopted, Ok(Some(_))) {
            self.slots().remove(&request);
        }
        Ok(adopted?.map(|open| slot.insert(open).job.clone()))
    }

    async fn take_over(&self, mut object: PipelineJob) -> Result<Option<Open>, Failure> {
        let name = object.name_any();
        let Some((message, nonce)) = self.messages.get(&object.spec.nonce).await? else {
            tracing::error!(
                job = name,
                "a job's message is gone, so nobody can go on with it; delete the job"
            );
            return Ok(None);
        };
        let (api, parameters) = (&self.api, PostParams::default());
        for _ in 0..CONFLICTS {
            if is_closed(&object) {
                return Ok(None);
            }
            let before = object.status.clone().unwrap_or_default();
            let restored = State::unseal(before.record.as_deref(), &message.key, object.spec.request_id)
                .and_then(|state| record::restore(&object, message.body.clone(), state));
            let job = match restored {
                Ok(job) => job,
                // Whoever may write it could keep all other jobs of the set from being taken up.
                Err(error) => {
                    tracing::error!(job = name, %error, "a job is left alone");
                    return Ok(None);
                }
            };
            let status = record::progress(&before, &self.holder, &job, &message.key)?;
            object.status = Some(status.clone());
            match self.calls.write(&self.fence, || api.replace_status(&name, &parameters, &object)).await {
                Ok(object) => {
                    let written = Written::new(object);
                    let (key, message_parts) = (message.key, message.parts);
                    return Ok(Some(Open { job, key, nonce, message_parts, written }));
                }
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            object = match self.calls.read(&self.fence, || api.get(&name)).await {
                Ok(object) => object,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Err(Failure::Other(format!("others keep changing the record {name}").into()))
    }
}

pub(crate) fn is_closed(object: &PipelineJob) -> bool {
    object.labels().get(CLOSED).is_some_and(|value| value == "true")
}

fn is_gone(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<CallError>().is_some_and(CallError::is_not_found)
}

impl JobStore for KubernetesStore {
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, StoreResult<Accepted>> {
        async {
            let done = timeout(ACCEPT_WITHIN, self.accept_job(job)).await;
            let done = done.unwrap_or_else(|error| Err(Failure::Other(error.into())));
            done.map_err(|failure| failure.while_doing("record a job"))
        }
        .boxed()
    }

    fn change(&self, request: RequestId, change: Change) -> BoxFuture<'_, StoreResult<()>> {
        async move {
            let done = self.change_job(request, change).await;
            done.map_err(|failure| failure.while_doing("change the record of a job"))
        }
        .boxed()
    }

    fn close(&self, request: RequestId) -> BoxFuture<'_, StoreResult<()>> {
        async move {
            let done = self.close_job(request).await;
            done.map_err(|failure| failure.while_doing("close the record of a job"))
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'_, StoreResult<Vec<JobRecord>>> {
        async { self.open_jobs().await.map_err(|failure| failure.while_doing("read the accepted jobs")) }
            .boxed()
    }
}
