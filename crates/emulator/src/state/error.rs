//! What state functions refuse.

use dayfly_protocol::{
    AgentId, BuildId, JobId, LogId, PlanId, PoolId, QueueId, RecordId, RequestId, SessionId, TimelineId,
};

/// Why something was refused. The HTTP layer turns it into the service's typed error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such pool.
    #[error("agent pool {0} does not exist")]
    PoolNotFound(PoolId),
    /// A pool of that name exists.
    #[error("agent pool `{0}` already exists")]
    PoolExists(String),
    /// A pool with agents or jobs cannot be deleted.
    #[error("agent pool {0} has agents or unfinished jobs; remove them first")]
    PoolInUse(PoolId),
    /// No such agent.
    #[error("agent {agent} does not exist in agent pool {pool}")]
    AgentNotFound {
        /// The pool.
        pool: PoolId,
        /// The agent.
        agent: AgentId,
    },
    /// An agent of that name exists.
    #[error("agent pool {pool} already contains an agent with name {name}")]
    AgentExists {
        /// The pool.
        pool: PoolId,
        /// The name.
        name: String,
    },
    /// The agent runs a job and cannot be deleted.
    #[error("agent {agent} is running the job of request {request} and cannot be deleted now")]
    JobStillRunning {
        /// The agent.
        agent: AgentId,
        /// The request.
        request: RequestId,
    },
    /// The agent has a session.
    #[error("the agent {agent} already has an active session for owner {owner}")]
    SessionConflict {
        /// The agent's name.
        agent: String,
        /// Who holds the session.
        owner: String,
    },
    /// The agent was registered without a public key.
    #[error(
        "agent `{0}` was registered without a public key, so it cannot open a session; register it again \
         with one"
    )]
    NoPublicKey(String),
    /// The session is gone, or never was.
    #[error("session {0} does not exist or has expired; create a new one")]
    SessionExpired(SessionId),
    /// No such request, or it has ended, or it is another agent's.
    #[error("job request {0} was not found or is finished")]
    JobNotFound(RequestId),
    /// The lock on the request was lost.
    #[error("the lock on job request {0} has expired")]
    JobLockLost(RequestId),
    /// No agent of the pool could ever run the job.
    #[error("{}", none_matches(.pool, .demands))]
    NoAgentMatches {
        /// The pool's name.
        pool: String,
        /// The demands, separated by commas.
        demands: String,
    },
    /// No such plan.
    #[error("plan {0} was not found")]
    PlanNotFound(PlanId),
    /// A plan of that id exists.
    #[error("plan {0} already exists")]
    PlanExists(PlanId),
    /// The plan exists in another project or hub.
    #[error("plan {0} does not belong to the project or hub of this address")]
    PlanSecurity(PlanId),
    /// The plan has no such job.
    #[error("job {job} was not found in plan {plan}")]
    PlanJobNotFound {
        /// The plan.
        plan: PlanId,
        /// The job.
        job: JobId,
    },
    /// The job has its result already.
    #[error("job {job} of plan {plan} has already completed; its result stays as it is")]
    JobCompleted {
        /// The plan.
        plan: PlanId,
        /// The job.
        job: JobId,
    },
    /// A job of that id was queued already in the plan.
    #[error("job {job} is already queued in plan {plan}")]
    JobExists {
        /// The plan.
        plan: PlanId,
        /// The job.
        job: JobId,
    },
    /// A timeline of that id exists.
    #[error("timeline {0} already exists")]
    TimelineExists(TimelineId),
    /// No such timeline.
    #[error("timeline {0} was not found")]
    TimelineNotFound(TimelineId),
    /// No such record.
    #[error("timeline record {0} was not found")]
    RecordNotFound(RecordId),
    /// No such log.
    #[error("log {0} was not found")]
    LogNotFound(LogId),
    /// No such attachment.
    #[error("attachment `{0}` was not found")]
    AttachmentNotFound(String),
    /// No such project.
    #[error("project `{0}` does not exist")]
    ProjectNotFound(String),
    /// No such repository.
    #[error("repository `{0}` does not exist in this project")]
    RepositoryNotFound(String),
    /// No such pipeline.
    #[error("pipeline {0} does not exist in this project")]
    DefinitionNotFound(i32),
    /// A pipeline of that name exists.
    #[error("a pipeline named `{0}` already exists")]
    DefinitionExists(String),
    /// No such build.
    #[error("build {0} does not exist in this project, or is no longer kept")]
    BuildNotFound(BuildId),
    /// An artifact of that name exists, with other files.
    #[error("artifact `{name}` already exists for build {build}")]
    ArtifactExists {
        /// The build.
        build: BuildId,
        /// The artifact.
        name: String,
    },
    /// No such artifact.
    #[error("artifact `{name}` was not found for build {build}")]
    ArtifactNotFound {
        /// The build.
        build: BuildId,
        /// The artifact.
        name: String,
    },
    /// No such queue.
    #[error("queue {0} does not exist in this project")]
    QueueNotFound(QueueId),
    /// No such secure file, or not for this job, or by this ticket.
    #[error("secure file {0} does not exist, or its ticket is not valid for this job")]
    SecureFileNotFound(uuid::Uuid),
    /// No such validation, or it was answered, or nobody waits for it any longer.
    #[error("no validation {0} waits for an answer")]
    ValidationNotFound(uuid::Uuid),
    /// No step of this id waits to be completed: it never did, or it was, or its time is over.
    #[error("task {0} does not wait for a completion")]
    TaskNotWaiting(RecordId),
    /// There is no test run of this number.
    #[error("there is no test run {0}")]
    TestRunNotFound(i32),
    /// A bound would be passed.
    #[error("this emulator keeps at most {limit} {what}, and there are that many already")]
    LimitReached {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// There is no room for more bytes on disk.
    #[error(transparent)]
    DiskFull(#[from] crate::stores::disk::Full),
    /// A value that cannot be.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// The value's name.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why no agent could ever run a job.
fn none_matches(pool: &str, demands: &str) -> String {
    if demands.is_empty() {
        format!("agent pool `{pool}` has no agents; register one before queueing a job")
    } else {
        format!("no agent found in agent pool `{pool}` which satisfies the demands: {demands}")
    }
}
