//! The plan of a job: timelines, logs, console lines, attachments, events. Called with the job's own token
//! (`JobServer.cs`).

use std::borrow::Cow;

use bytes::Bytes;
use dayfly_protocol::logs::{FeedLines, TaskAttachment, TaskLog};
use dayfly_protocol::plan::{JOB_COMPLETED, JobEvent, TaskOrchestrationPlanReference};
use dayfly_protocol::timeline::{Timeline, TimelineRecord};
use dayfly_protocol::{JobId, ListOf, LogId, PlanId, ProjectId, RecordId, RequestId, TaskResult, TimelineId};
use http::Method;
use serde::Serialize;

use crate::connection::Connection;
use crate::error::{ErrorKind, Result};
use crate::operation::Operation;
use crate::request::{Content, Request, segments};

/// A plan's part of the service, for one job.
#[derive(Clone, Debug)]
pub struct JobPlan {
    connection: Connection,
    project: ProjectId,
    /// The name of the hub, which is the plan's type (`Build`).
    hub: String,
    plan: PlanId,
}

/// A timeline to be made.
#[derive(Serialize)]
struct NewTimeline {
    id: TimelineId,
}

/// A log to be made.
#[derive(Serialize)]
struct NewLog<'a> {
    path: &'a str,
}

impl Connection {
    /// The plan of a job, from its message.
    pub fn plan(&self, plan: &TaskOrchestrationPlanReference) -> JobPlan {
        JobPlan {
            connection: self.clone(),
            project: plan.scope_identifier,
            hub: plan.plan_type.clone(),
            plan: plan.plan_id,
        }
    }
}

impl JobPlan {
    /// The connection it uses.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The same plan with another deadline for each call.
    pub fn with_deadline(&self, deadline: std::time::Duration) -> Self {
        JobPlan { connection: self.connection.with_deadline(deadline), ..self.clone() }
    }

    fn request<'a>(
        &self,
        operation: Operation,
        object: String,
        method: Method,
        rest: impl IntoIterator<Item = Cow<'a, str>>,
    ) -> Request {
        let root = segments![
            self.project.to_string(),
            "_apis",
            "distributedtask",
            "hubs",
            self.hub.clone(),
            "plans",
            self.plan.to_string(),
        ];
        let object = match object.is_empty() {
            true => format!("of plan {}", self.plan),
            false => format!("{object} of plan {}", self.plan),
        };
        Request::new(operation, object, method, self.connection.url(), root.into_iter().chain(rest))
    }

    /// A timeline with its records.
    pub async fn timeline(&self, timeline: TimelineId) -> Result<Timeline> {
        let path = segments!["timelines", timeline.to_string()];
        let request = self
            .request(Operation::GetTimeline, timeline.to_string(), Method::GET, path)
            .query("includeRecords", true);
        self.connection.call(request).await
    }

    /// Makes a timeline for details of a record; one that exists already is as good.
    pub async fn create_timeline(&self, timeline: TimelineId) -> Result<()> {
        let request = self
            .request(Operation::CreateTimeline, timeline.to_string(), Method::POST, segments!["timelines"])
            .json(&NewTimeline { id: timeline })?;
        match self.connection.call_without_answer(request).await {
            Err(error) if error.kind() == ErrorKind::TimelineExists => Ok(()),
            outcome => outcome,
        }
    }

    /// Changes records by their id, or makes them. Members that are `None` stay as they are.
    pub async fn update_records(
        &self,
        timeline: TimelineId,
        records: Vec<TimelineRecord>,
    ) -> Result<Vec<TimelineRecord>> {
        let path = segments!["timelines", timeline.to_string(), "records"];
        let request = self
            .request(Operation::UpdateRecords, timeline.to_string(), Method::PATCH, path)
            .json(&ListOf::from(records))?;
        let records: ListOf<TimelineRecord> = self.connection.call(request).await?;
        Ok(records.value)
    }

    /// The logs of the plan with their numbers of lines.
    pub async fn logs(&self) -> Result<Vec<TaskLog>> {
        let request = self.request(Operation::ListLogs, String::new(), Method::GET, segments!["logs"]);
        let logs: ListOf<TaskLog> = self.connection.call(request).await?;
        Ok(logs.value)
    }

    /// Makes an empty log. Its path is `logs\<record>`.
    pub async fn create_log(&self, path: &str) -> Result<TaskLog> {
        let request = self
            .request(Operation::CreateLog, format!("{path:?}"), Method::POST, segments!["logs"])
            .json(&NewLog { path })?;
        self.connection.call(request).await
    }

    /// Appends to a log: whole lines in UTF-8. Not repeated when the lines may have arrived;
    /// [`JobPlan::logs`] tells how many there are.
    pub async fn append_log(&self, log: LogId, content: Bytes) -> Result<TaskLog> {
        let path = segments!["logs", log.to_string()];
        let request = self.request(Operation::AppendLog, log.to_string(), Method::POST, path).octets(content);
        self.connection.call(request).await
    }

    /// Posts console lines for those who watch. `job` is the job's record; the lines name their step.
    pub async fn post_lines(&self, timeline: TimelineId, job: RecordId, lines: &FeedLines) -> Result<()> {
        let path = segments!["timelines", timeline.to_string(), "records", job.to_string(), "feed"];
        let request =
            self.request(Operation::PostLines, format!("to record {job}"), Method::POST, path).json(lines)?;
        self.connection.call_without_answer(request).await
    }

    /// Attaches bytes or a file to a record. Type and name must be valid as file names. The call's deadline
    /// holds for the upload.
    pub async fn attach(
        &self,
        timeline: TimelineId,
        record: RecordId,
        attachment_type: &str,
        name: &str,
        content: Content,
    ) -> Result<TaskAttachment> {
        let path = segments![
            "timelines",
            timeline.to_string(),
            "records",
            record.to_string(),
            "attachments",
            attachment_type,
            name,
        ];
        let request = self
            .request(Operation::Attach, format!("{name:?} to record {record}"), Method::PUT, path)
            .octets(content);
        self.connection.call(request).await
    }

    /// Posts an event of a job.
    pub async fn post_event(&self, event: &JobEvent) -> Result<()> {
        let object = format!("{} for job {}", event.name, event.job_id);
        let request =
            self.request(Operation::PostEvent, object, Method::POST, segments!["events"]).json(event)?;
        self.connection.call_without_answer(request).await
    }

    /// Reports the result of a job (plans from version 8 on). `agent_shutting_down` tells that the agent
    /// takes no other job (`JobRunner.cs`).
    pub async fn complete_job(
        &self,
        job: JobId,
        request: RequestId,
        result: TaskResult,
        agent_shutting_down: bool,
    ) -> Result<()> {
        self.post_event(&JobEvent {
            name: JOB_COMPLETED.to_owned(),
            job_id: job,
            request_id: Some(request),
            result: Some(result),
            agent_shutting_down: Some(agent_shutting_down),
            ..JobEvent::default()
        })
        .await
    }
}
