//! The calls of a virtual agent and of a lease, with the facts that stay the same over its life. Nothing is
//! decided here.

use std::sync::Arc;

use bytes::Bytes;
use dayfly_client::{Connection, Credential, Error, JobPlan, Result};
use dayfly_protocol::{
    DateTime, LogId, MessageId, PoolId, RequestId, SessionId, TaskResult,
    job::{AgentJobRequestMessage, at_configured_server},
    job_request::TaskAgentJobRequest,
    logs::FeedLines,
    message::TaskAgentMessage,
    session::TaskAgentSession,
    timeline::{Issue, IssueType, TimelineRecord},
};
use secrecy::SecretString;
use url::Url;

/// How many issues of one kind a record may carry (the official worker's bound).
const ISSUES_PER_RECORD: usize = 10;

/// The pool as one agent sees it, with the agent's own login.
#[derive(Debug, Clone)]
pub(crate) struct AgentService {
    connection: Connection,
    pool: PoolId,
}

impl AgentService {
    pub(crate) fn new(connection: Connection, pool: PoolId) -> Self {
        Self { connection, pool }
    }

    pub(crate) async fn create_session(&self, session: &TaskAgentSession) -> Result<TaskAgentSession> {
        self.connection.create_session(self.pool, session).await
    }

    pub(crate) async fn delete_session(&self, session: SessionId) -> Result<()> {
        self.connection.delete_session(self.pool, session).await
    }

    pub(crate) async fn next_message(
        &self,
        session: SessionId,
        last: Option<MessageId>,
    ) -> Result<Option<TaskAgentMessage>> {
        self.connection.next_message(self.pool, session, last).await
    }

    pub(crate) async fn delete_message(&self, session: SessionId, message: MessageId) -> Result<()> {
        self.connection.delete_message(self.pool, session, message).await
    }

    pub(crate) async fn renew(&self, request: RequestId) -> Result<TaskAgentJobRequest> {
        self.connection.renew_job_request(self.pool, request).await
    }

    pub(crate) async fn request(&self, request: RequestId) -> Result<TaskAgentJobRequest> {
        self.connection.get_job_request(self.pool, request).await
    }

    pub(crate) async fn finish(&self, request: RequestId, result: TaskResult) -> Result<()> {
        let now = DateTime::from(jiff::Timestamp::now());
        self.connection.finish_job_request(self.pool, request, result, now).await.map(drop)
    }

    /// The job's side of the service, with the job's own token; `None` when the message holds no usable
    /// system connection.
    ///
    /// On premises the agent's own address replaces scheme, host and port of the message's
    /// (`JobDispatcher.cs`, `CreateJobServerConnectionAsync`).
    pub(crate) fn job(
        &self,
        message: &Arc<AgentJobRequestMessage>,
        server_url: &Url,
        is_once: bool,
    ) -> Option<JobService> {
        let endpoint = message.resources.system_connection()?;
        let token = SecretString::from(endpoint.access_token()?);
        let mut url = endpoint.url.clone()?;
        if !message.is_hosted() {
            url = at_configured_server(&url, server_url);
        }
        let connection = self.connection.with_url(&url, Credential::Bearer(token)).ok()?;
        Some(JobService { plan: connection.plan(&message.plan), message: message.clone(), is_once })
    }
}

/// One job's plan and timeline, with the job's own token.
#[derive(Debug, Clone)]
pub(crate) struct JobService {
    plan: JobPlan,
    message: Arc<AgentJobRequestMessage>,
    /// Whether the agent goes away after this job.
    is_once: bool,
}

impl JobService {
    /// Raises `JobCompleted`, which ends the job.
    pub(crate) async fn complete(&self, result: TaskResult) -> Result<()> {
        let message = &self.message;
        self.plan.complete_job(message.job_id, message.request_id, result, self.is_once).await
    }

    /// Makes or changes a record of the job's timeline.
    pub(crate) async fn update_record(&self, record: TimelineRecord) -> Result<()> {
        self.plan.update_records(self.message.timeline.id, vec![record]).await.map(drop)
    }

    /// Makes a log.
    pub(crate) async fn create_log(&self, path: &str) -> Result<LogId> {
        Ok(self.plan.create_log(path).await?.id)
    }

    /// Appends whole lines to a log.
    pub(crate) async fn append_log(&self, log: LogId, text: Bytes) -> Result<()> {
        self.plan.append_log(log, text).await.map(drop)
    }

    /// How many lines a log has.
    pub(crate) async fn log_lines(&self, log: LogId) -> Result<i64> {
        let logs = self.plan.logs().await?;
        Ok(logs.iter().find(|known| known.id == log).map_or(0, |known| known.line_count))
    }

    /// Shows console lines to those who watch.
    pub(crate) async fn post_lines(&self, lines: &FeedLines) -> Result<()> {
        self.plan.post_lines(self.message.timeline.id, self.message.job_id.into(), lines).await
    }

    /// Appends an error to the job's record.
    pub(crate) async fn add_error(&self, text: String) -> Result<()> {
        let message = &self.message;
        let timeline = self.plan.timeline(message.timeline.id).await?;
        let record =
            timeline.records.into_iter().find(|record| record.id.0 == message.job_id.0).unwrap_or_default();
        // A list of issues replaces the one there is, so ours is appended to it.
        let mut issues = record.issues;
        if issues.iter().filter(|issue| issue.issue_type == IssueType::Error).count() >= ISSUES_PER_RECORD {
            let first = issues.iter().rposition(|issue| issue.issue_type == IssueType::Error);
            issues.remove(first.unwrap_or_default());
        }
        issues.push(Issue {
            issue_type: IssueType::Error,
            category: Some("General".to_owned()),
            message: text,
            data: Default::default(),
        });
        let patch = TimelineRecord {
            id: message.job_id.into(),
            error_count: Some(record.error_count.unwrap_or_default().saturating_add(1)),
            issues,
            ..TimelineRecord::default()
        };
        self.plan.update_records(message.timeline.id, vec![patch]).await?;
        Ok(())
    }
}

/// What a failed call means to the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It may succeed when tried again.
    Again,
    /// The session is gone; a new one may be made.
    SessionGone,
    /// Somebody else holds the session.
    SessionHeld,
    /// The agent is no longer registered.
    AgentGone,
    /// The agent's login was revoked.
    Revoked,
    /// The job is over, or no longer ours.
    JobGone,
    /// What was asked for does not exist.
    Missing,
    /// It will never succeed: no permission, no pool, a message that is wrong.
    Never,
}

/// Sorts a failed call.
pub(crate) fn meaning(error: &Error) -> Meaning {
    use dayfly_client::ErrorKind;
    match error.kind() {
        ErrorKind::SessionExpired => Meaning::SessionGone,
        ErrorKind::SessionConflict => Meaning::SessionHeld,
        ErrorKind::AgentNotFound => Meaning::AgentGone,
        ErrorKind::TokenRevoked => Meaning::Revoked,
        ErrorKind::JobNotFound | ErrorKind::PlanRejected => Meaning::JobGone,
        ErrorKind::NotFound => Meaning::Missing,
        ErrorKind::Unauthorized
        | ErrorKind::Forbidden
        | ErrorKind::PoolNotFound
        | ErrorKind::VersionNotSupported
        | ErrorKind::Setting => Meaning::Never,
        // Clocks that have differed for too long will go on to differ.
        ErrorKind::ClockSkew if !error.is_retryable() => Meaning::Never,
        _ => Meaning::Again,
    }
}
