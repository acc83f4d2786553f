//! One job that needs no agent, step by step.

use std::time::Duration;

use dayfly_expressions::{Expression, Object, Scope, Status, Value, Values};
use dayfly_mask::Masker;
use dayfly_pipelines::message::expand;
use dayfly_protocol::job::{AgentJobRequestMessage, Step, Variables};
use dayfly_protocol::logs::TaskLogReference;
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState, VariableValue};
use dayfly_protocol::{BuildId, DateTime, RecordId, TaskResult};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::ended::{Asking, Ended};
use super::inputs::Inputs;
use super::log::StepLog;
use super::task::Task;
use crate::app::App;
use crate::clock::after;
use crate::state::server_jobs::ServerJob;

/// Runs a job to its end.
pub(super) async fn run(app: App, job: ServerJob) {
    let ServerJob { build, message, timeout, cancel } = job;
    let id = message.job_id;
    app.state().server_job_started(build, id, app.now());
    let deadline = timeout.map(|timeout| after(app.now(), timeout));
    let masker = Masker::of_job(&message);
    let result = Job { app: app.clone(), build, message, masker, timeout, deadline, cancel }.run().await;
    app.state().server_job_ended(build, id, result, app.now());
}

/// A job that runs.
struct Job {
    app: App,
    build: BuildId,
    message: Box<AgentJobRequestMessage>,
    masker: Masker,
    timeout: Option<Duration>,
    deadline: Option<Timestamp>,
    cancel: CancellationToken,
}

impl Job {
    /// The steps in turn. A job that is cancelled ends at once: nothing has to be put in order behind it.
    async fn run(&self) -> TaskResult {
        let steps = || (1..).zip(&self.message.steps);
        for (order, step) in steps() {
            self.write(self.record(step, order));
        }
        let mut status = Status::Succeeded;
        for (_, step) in steps() {
            let result = match self.wants(step, status) {
                Ok(true) => self.step(step).await,
                Ok(false) => self.skip(step),
                Err(reason) => self.refuse(step, reason),
            };
            status = worse(status, result);
        }
        match status {
            Status::Succeeded => TaskResult::Succeeded,
            Status::SucceededWithIssues => TaskResult::SucceededWithIssues,
            Status::Failed => TaskResult::Failed,
            Status::Canceled => TaskResult::Canceled,
        }
    }

    /// Whether a step runs in a job that stands so.
    fn wants(&self, step: &Step, status: Status) -> Result<bool, String> {
        if status == Status::Canceled {
            return Ok(false);
        }
        let text = step.condition.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let text = text.unwrap_or("succeeded()");
        let variables: Object = self
            .message
            .variables
            .iter()
            .map(|(name, variable)| (name.as_str(), Value::from(variable.value.clone().unwrap_or_default())))
            .collect();
        let context = Values::new().with("variables", variables.into()).with_status(status);
        Expression::parse(text, &Scope::step_condition())
            .and_then(|condition| condition.condition(&context))
            .map_err(|error| format!("The condition '{text}' cannot be evaluated: {error}"))
    }

    async fn step(&self, step: &Step) -> TaskResult {
        let log = StepLog::open(&self.app, &self.message, step.id, self.masker.clone());
        let mut log = match log {
            Ok(log) => log,
            Err(error) => return self.refuse(step, format!("the step's log cannot be made: {error}")),
        };
        let name = self.name(step);
        self.write(TimelineRecord {
            state: Some(TimelineRecordState::InProgress),
            start_time: Some(DateTime(self.app.now())),
            log: Some(TaskLogReference { id: log.id(), location: None }),
            ..of(step.id)
        });
        log.line(&format!("##[section]Starting: {name}")).await;
        let ended = self.supervise(step, &mut log).await;
        let (result, errors) = match ended {
            Ended::Succeeded => (TaskResult::Succeeded, Vec::new()),
            Ended::SucceededWithIssues => (TaskResult::SucceededWithIssues, Vec::new()),
            Ended::Canceled => (TaskResult::Canceled, vec!["The operation was canceled.".to_owned()]),
            Ended::Failed(reason) if step.continue_on_error => {
                (TaskResult::SucceededWithIssues, vec![reason])
            }
            Ended::Failed(reason) => (TaskResult::Failed, vec![reason]),
        };
        for error in &errors {
            log.line(&format!("##[error]{error}")).await;
        }
        log.line(&format!("##[section]Finishing: {name}")).await;
        self.end(step, result, errors)
    }

    /// Runs the task while it watches the times and the job's cancellation.
    async fn supervise(&self, step: &Step, log: &mut StepLog) -> Ended {
        let variables = self.variables(step);
        let task = match Task::read(step, &Inputs::new(step, &variables), &self.message.resources) {
            Ok(task) => task,
            Err(reason) => return Ended::Failed(reason),
        };
        let deadline = task.longest(step.timeout_in_minutes).map(|longest| after(self.app.now(), longest));
        let asking = Asking { app: &self.app, build: self.build, job: self.message.job_id, step: step.id };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Ended::Canceled,
            () = self.wait_until(self.deadline) => {
                self.tell_of_timeout();
                Ended::Canceled
            }
            ended = task.run(asking, log) => ended,
            () = self.wait_until(deadline) => task.timed_out(),
        }
    }

    async fn wait_until(&self, deadline: Option<Timestamp>) {
        match deadline {
            Some(deadline) => self.app.clock().sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// The job has run for as long as it may. It ends `canceled`, as one of an agent does.
    fn tell_of_timeout(&self) {
        let minutes = self.timeout.unwrap_or_default().as_secs() / 60;
        self.write(TimelineRecord {
            issues: vec![error(format!(
                "The job ran longer than the maximum time of {minutes} minutes. For more information, see \
                 https://go.microsoft.com/fwlink/?linkid=2077134"
            ))],
            error_count: Some(1),
            ..of(self.message.job_id.into())
        });
    }

    fn skip(&self, step: &Step) -> TaskResult {
        self.end(step, TaskResult::Skipped, Vec::new())
    }

    /// The step cannot even begin.
    fn refuse(&self, step: &Step, reason: String) -> TaskResult {
        self.end(step, TaskResult::Failed, vec![reason])
    }

    fn end(&self, step: &Step, result: TaskResult, errors: Vec<String>) -> TaskResult {
        self.write(TimelineRecord {
            state: Some(TimelineRecordState::Completed),
            result: Some(result),
            finish_time: Some(DateTime(self.app.now())),
            error_count: i32::try_from(errors.len()).ok().filter(|count| *count > 0),
            issues: errors.iter().map(|text| error(self.masker.mask(text).into_owned())).collect(),
            ..of(step.id)
        });
        result
    }

    /// A step that has not begun.
    fn record(&self, step: &Step, order: i32) -> TimelineRecord {
        TimelineRecord {
            parent_id: Some(self.message.job_id.into()),
            record_type: Some("Task".to_owned()),
            name: Some(self.name(step)),
            ref_name: step.name.clone(),
            order: Some(order),
            state: Some(TimelineRecordState::Pending),
            attempt: Some(1),
            task: step.reference.clone(),
            ..of(step.id)
        }
    }

    /// What people read.
    fn name(&self, step: &Step) -> String {
        let name = step.display_name.as_deref().unwrap_or_default();
        self.masker.mask(&expand(name, &self.message.variables)).into_owned()
    }

    /// The job's variables and those of a step.
    fn variables(&self, step: &Step) -> Variables {
        let mut variables = self.message.variables.clone();
        let name = step.name.clone().unwrap_or_default();
        for (variable, value) in
            [("system.taskInstanceId", step.id.to_string()), ("system.taskInstanceName", name)]
        {
            variables.insert(variable.to_owned(), VariableValue::read_only(value));
        }
        variables
    }

    fn write(&self, record: TimelineRecord) {
        self.app.state().write_record(self.build, record, self.app.now());
    }
}

/// A change of a record, so far without any.
fn of(id: RecordId) -> TimelineRecord {
    TimelineRecord { id, ..TimelineRecord::default() }
}

fn error(message: String) -> Issue {
    let (issue_type, category) = (IssueType::Error, Some("General".to_owned()));
    Issue { issue_type, category, message, data: Default::default() }
}

/// How a job stands after a step.
fn worse(status: Status, result: TaskResult) -> Status {
    match result {
        TaskResult::Canceled => Status::Canceled,
        TaskResult::Failed | TaskResult::Abandoned => Status::Failed,
        TaskResult::SucceededWithIssues if status == Status::Succeeded => Status::SucceededWithIssues,
        TaskResult::Succeeded | TaskResult::SucceededWithIssues | TaskResult::Skipped => status,
    }
}
