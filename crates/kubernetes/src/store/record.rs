//! A job's record as a `PipelineJob`: what people see, and what the controller must know.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dayfly_listener::{Cancelled, JobRecord, Reported, Stage};
use dayfly_protocol::{
    AgentId, JobId, LogId, MessageId, RequestId, channel::SecretJson, job::AgentJobRequestMessage,
};
use jiff::Timestamp;
use kube::{ResourceExt as _, api::ObjectMeta};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AcceptingSet, CLOSED, FINALIZER, SET_UID, message::SealingKey};
use crate::api::{Phase, PipelineJob, PipelineJobSpec, PipelineJobStatus};

/// A record could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the record of the job {job} is damaged: delete it to cancel the job")]
pub(super) struct Unreadable {
    job: String,
}

/// What of a job changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    stage: Stage,
    cancelled: Option<Cancelled>,
    log: Option<LogId>,
}

impl State {
    /// Of a record that was never changed there is none yet.
    pub(super) fn unseal(sealed: Option<&str>, key: &SealingKey, request: i64) -> Result<Self, Unreadable> {
        let Some(sealed) = sealed else {
            return Ok(Self { stage: Stage::Accepted, cancelled: None, log: None });
        };
        let open = || {
            let mut bytes = STANDARD.decode(sealed).ok()?;
            let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.expose()).ok()?;
            let text = cipher.open_in_place(nonce, Aad::from(request.to_be_bytes()), text).ok()?;
            serde_json::from_slice(text).ok()
        };
        open().ok_or_else(|| Unreadable { job: request.to_string() })
    }

    /// Bound to the job's request, so that one job's state is of no use for another.
    fn seal(&self, key: &SealingKey, request: i64) -> Result<String, Unreadable> {
        let seal = || {
            let mut text = serde_json::to_vec(self).ok()?;
            let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.expose()).ok()?;
            let nonce = cipher.seal_in_place_append_tag(Aad::from(request.to_be_bytes()), &mut text).ok()?;
            let mut sealed = nonce.as_ref().to_vec();
            sealed.append(&mut text);
            Some(STANDARD.encode(sealed))
        };
        seal().ok_or_else(|| Unreadable { job: request.to_string() })
    }
}

/// A record as we wrote or saw it last.
pub(super) struct Written {
    pub(super) object: PipelineJob,
    /// The pod, which people learn with the next write.
    pub(super) pod: Option<String>,
    /// Sealed states that may have been written without our knowing.
    pub(super) attempted: Vec<String>,
}

impl Written {
    pub(super) fn new(object: PipelineJob) -> Self {
        let pod = object.status.as_ref().and_then(|status| status.pod.clone());
        Self { object, pod, attempted: Vec::new() }
    }

    pub(super) fn status(&self) -> PipelineJobStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// Was written, and is known to be.
    pub(super) fn now(&mut self, object: PipelineJob) {
        self.object = object;
        self.attempted.clear();
    }

    /// Whether `seen` can be what became of it while nobody but `holder` had the job.
    pub(super) fn may_be_followed_by(&self, seen: &PipelineJob, holder: &str) -> bool {
        let status = seen.status.as_ref();
        let seen_holder = status.and_then(|status| status.holder.as_deref()).unwrap_or(&seen.spec.holder);
        let record = status.and_then(|status| status.record.as_ref());
        let is_ours = record == self.status().record.as_ref()
            || record.is_some_and(|record| self.attempted.contains(record));
        seen.uid() == self.object.uid() && seen_holder == holder && is_ours
    }
}

/// The object that says that a job is accepted.
pub(super) fn describe(
    set: &AcceptingSet,
    holder: &str,
    name: &str,
    nonce: Uuid,
    job: &JobRecord,
) -> PipelineJob {
    let about = serde_json::from_str::<AgentJobRequestMessage>(job.body.expose()).unwrap_or_default();
    let variable = |name| about.variable(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let spec = PipelineJobSpec {
        agent_set: set.name.clone(),
        pool_id: set.pool.0.into(),
        agent_id: job.agent.0.into(),
        request_id: job.request.0,
        job_id: job.job.to_string(),
        message_id: job.message_id.0,
        holder: holder.to_owned(),
        nonce: nonce.to_string(),
        build: variable("build.buildNumber"),
        pipeline: variable("system.definitionName"),
        job_name: Some(about.job_display_name.clone()).filter(|name| !name.is_empty()),
        url: page(&about),
    };
    let labels = BTreeMap::from([(SET_UID.to_owned(), set.uid.clone())]);
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(set.namespace.clone()),
        labels: Some(labels),
        finalizers: Some(vec![FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    PipelineJob { metadata, spec, status: None }
}

/// The build's page.
fn page(job: &AgentJobRequestMessage) -> Option<String> {
    let mut page = url::Url::parse(job.variable("system.teamFoundationCollectionUri")?).ok()?;
    let (project, build) = (job.variable("system.teamProject")?, job.variable("build.buildId")?);
    page.path_segments_mut().ok()?.pop_if_empty().extend([project, "_build", "results"]);
    page.query_pairs_mut().append_pair("buildId", build);
    Some(page.into())
}

/// The job of an object, for whoever goes on with it.
pub(super) fn restore(
    object: &PipelineJob,
    body: Arc<SecretJson>,
    state: State,
) -> Result<JobRecord, Unreadable> {
    let unreadable = || Unreadable { job: object.name_any() };
    Ok(JobRecord {
        request: RequestId(object.spec.request_id),
        job: JobId(object.spec.job_id.parse().map_err(|_| unreadable())?),
        agent: AgentId(object.spec.agent_id.try_into().map_err(|_| unreadable())?),
        message_id: MessageId(object.spec.message_id),
        body,
        stage: state.stage,
        cancelled: state.cancelled,
        log: state.log,
    })
}

/// The status of a job that `holder` has and that has come so far.
pub(super) fn progress(
    before: &PipelineJobStatus,
    holder: &str,
    job: &JobRecord,
    key: &SealingKey,
) -> Result<PipelineJobStatus, Unreadable> {
    let state = State { stage: job.stage.clone(), cancelled: job.cancelled, log: job.log };
    let mut status = PipelineJobStatus {
        holder: Some(holder.to_owned()),
        record: Some(state.seal(key, job.request.0)?),
        ..before.clone()
    };
    match &job.stage {
        Stage::Accepted => status.phase = Phase::Pending,
        Stage::Claimed(_) => {
            status.phase = Phase::Running;
            status.reason = None;
            status.started_at.get_or_insert_with(now);
        }
        Stage::Reporting(verdict) => {
            status.phase = if is_reported(&job.stage) { Phase::Finished } else { Phase::Reporting };
            status.result = Some(verdict.result.name().to_owned());
            status.reason.clone_from(&verdict.reason);
            status.finished_at.get_or_insert_with(now);
        }
    }
    Ok(status)
}

/// Whether the service has the job's result: all that is left is our own tidying up.
pub(super) fn is_reported(stage: &Stage) -> bool {
    matches!(stage, Stage::Reporting(verdict) if verdict.reported == Reported::Yes)
}

/// The status of a job that is over.
pub(super) fn finished(before: &PipelineJobStatus) -> PipelineJobStatus {
    let finished_at = before.finished_at.clone().or_else(|| Some(now()));
    PipelineJobStatus { phase: Phase::Finished, finished_at, ..before.clone() }
}

/// The object of a job that needs nothing more.
pub(super) fn closed(object: &PipelineJob) -> PipelineJob {
    let mut closed = object.clone();
    closed.finalizers_mut().retain(|finalizer| finalizer != FINALIZER);
    closed.labels_mut().insert(CLOSED.to_owned(), "true".to_owned());
    closed
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
