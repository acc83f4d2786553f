//! What outlives a listener: the jobs it has accepted.
//!
//! A fact is written here before the act that it allows: a job before its message is deleted, a claim before
//! the message is handed to the worker, a verdict before the service is told. So whoever opens the store
//! after a listener has died knows what was done, and goes on from there. With processes whose channel is a
//! pair of pipes nothing outlives the listener but the service's own knowledge, and [`InMemory`] will do.

mod disk;
mod guarded;
mod ledger;
mod memory;
mod registration;

use std::{fmt, sync::Arc};

use dayfly_protocol::{
    AgentId, JobId, LogId, MessageId, RequestId, TaskResult,
    channel::{KeyDigest, SecretJson},
};
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    disk::{DiskError, OnDisk},
    ledger::{ClaimError, Ledger},
    memory::InMemory,
    registration::{RegisteredSet, Registration, RegistrationStore, SavedSession},
};
pub(crate) use self::{guarded::Guarded, ledger::HandOver};

/// One accepted job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// Its request in the pool.
    pub request: RequestId,
    /// The job.
    pub job: JobId,
    /// The agent it was given to, whose lock it has.
    pub agent: AgentId,
    /// The message by which it came.
    pub message_id: MessageId,
    /// The job message as it was decrypted.
    #[serde(with = "shared")]
    pub body: Arc<SecretJson>,
    /// How far it has come.
    pub stage: Stage,
    /// That the service has cancelled it.
    pub cancelled: Option<Cancelled>,
    /// The log of the record in which the lease tells how a worker is prepared.
    pub log: Option<LogId>,
}

impl JobRecord {
    /// Changes it.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Stage(stage) => self.stage = stage,
            Change::Cancelled(cancelled) => self.cancelled = Some(cancelled),
            Change::Log(log) => self.log = Some(log),
        }
    }
}

/// How far an accepted job has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// It is ours. Its message may still be in the queue; no worker has it, so a place for it may be made
    /// again.
    Accepted,
    /// A worker has it, and nobody else may.
    Claimed(Claim),
    /// Its verdict is found, and the service may know it.
    Reporting(Verdict),
}

/// Which worker has a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// What it must show when it comes back.
    pub resume: KeyDigest,
    /// Where it runs, in the executor's own words.
    pub place: String,
}

/// A cancellation by the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancelled {
    /// When it came.
    pub at: Timestamp,
    /// How long the job may take to end from then on, in seconds.
    pub timeout_seconds: u64,
}

/// What is to be reported of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The job's result.
    pub result: TaskResult,
    /// Whether the service may know it already.
    pub reported: Reported,
    /// What the job's record must say, when the job did not end by itself.
    pub reason: Option<String>,
}

impl Verdict {
    /// The same for who goes on with a report that another listener began: it may have been heard.
    pub(crate) fn resumed(self) -> Self {
        let reported = if self.reported == Reported::No { Reported::Perhaps } else { self.reported };
        Self { reported, ..self }
    }
}

/// Whether the service has the job's result from the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reported {
    /// The service answered the worker's report.
    Yes,
    /// The worker never began to report.
    No,
    /// The worker began to report and did not say how that went.
    Perhaps,
}

/// What changes of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It has come further.
    Stage(Stage),
    /// The service has cancelled it.
    Cancelled(Cancelled),
    /// The lease writes into this log.
    Log(LogId),
}

/// What a store said to a job that is to be accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// It is recorded now, and was not before.
    New,
    /// It was accepted before; it may still run, or may be over.
    Known,
}

/// A store did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The jobs are somebody else's by now: nothing may be done with them here any more.
    #[error("the jobs of this set now belong to another listener")]
    NotOurs,
    /// It could not.
    #[error("could not {doing}")]
    Failed {
        /// What was tried: "record a job", "mark a job as claimed".
        doing: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// `Result` of a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Remembers accepted jobs. Whatever it answers holds also when the listener dies the moment after.
pub trait JobStore: fmt::Debug + Send + Sync + 'static {
    /// Records a job, before its message is deleted.
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, Result<Accepted>>;

    /// Changes the record of an accepted job.
    fn change(&self, request: RequestId, change: Change) -> BoxFuture<'_, Result<()>>;

    /// The service has the job's result, or needs none. The request stays known for a while, so that its
    /// message is not taken again.
    fn close(&self, request: RequestId) -> BoxFuture<'_, Result<()>>;

    /// The jobs that are not closed.
    fn open(&self) -> BoxFuture<'_, Result<Vec<JobRecord>>>;
}

/// Serde for what is shared.
mod shared {
    use std::sync::Arc;

    use dayfly_protocol::channel::SecretJson;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(body: &Arc<SecretJson>, serializer: S) -> Result<S::Ok, S::Error> {
        body.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<SecretJson>, D::Error> {
        SecretJson::deserialize(deserializer).map(Arc::new)
    }
}
