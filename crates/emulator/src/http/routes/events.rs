//! Events of a plan's jobs. Workers send `JobCompleted`, once: a second one is refused. Steps without an
//! agent that wait for others are completed by `TaskCompleted`.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use dayfly_protocol::plan::{
    JOB_ASSIGNED, JOB_COMPLETED, JOB_STARTED, JobEvent, TASK_ASSIGNED, TASK_COMPLETED, TASK_STARTED,
};
use dayfly_protocol::{PlanId, TaskResult};
use http::StatusCode;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Unread};
use crate::settings::Scope;
use crate::state::Error;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/events", post(raise))
}

async fn raise(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): Path<(String, String, PlanId)>,
    body: Unread,
) -> Result<StatusCode, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    let event: JobEvent = body.json(&app).await?;
    caller.require_job(plan, event.job_id)?;
    let mut state = app.state();
    state.plan_at(&project, &hub, plan)?;
    if event.name.eq_ignore_ascii_case(JOB_COMPLETED) {
        let job = state.plans.get(plan)?.job(event.job_id)?;
        if event.request_id.is_some_and(|request| request != job.request) {
            return Err(ApiError::invalid_body("requestId is not the one of this job"));
        }
        // .NET leaves out members with their default value, and succeeded is 0.
        state.complete_job(plan, event.job_id, event.result.unwrap_or(TaskResult::Succeeded), app.now())?;
    } else if let Some(change) = TaskChange::of(&event.name) {
        let task = event.task_id.ok_or_else(|| ApiError::invalid_body("taskId is missing"))?;
        match change {
            TaskChange::Completed => {
                let result = event.result.unwrap_or(TaskResult::Succeeded);
                state.complete_task(event.job_id, task, result)?;
            }
            TaskChange::Begun if state.waits_for_callback(event.job_id, task) => {}
            TaskChange::Begun => return Err(Error::TaskNotWaiting(task).into()),
        }
    } else if [JOB_ASSIGNED, JOB_STARTED].iter().any(|name| event.name.eq_ignore_ascii_case(name)) {
        // The emulator knows this from its own queue; the job must exist all the same.
        state.plans.get(plan)?.job(event.job_id)?;
    } else {
        return Err(ApiError::invalid_body(format_args!("event `{}` is not known", event.name)));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What an event says of a task.
#[derive(Clone, Copy)]
enum TaskChange {
    /// Somebody works on it, which changes nothing.
    Begun,
    Completed,
}

impl TaskChange {
    fn of(event: &str) -> Option<Self> {
        let is = |name: &&str| event.eq_ignore_ascii_case(name);
        match () {
            () if is(&TASK_COMPLETED) => Some(Self::Completed),
            () if [TASK_ASSIGNED, TASK_STARTED].iter().any(is) => Some(Self::Begun),
            () => None,
        }
    }
}
