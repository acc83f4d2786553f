//! Events of a plan's jobs. Workers send `JobCompleted`, once: a second one is refused.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use dayfly_protocol::plan::{JOB_ASSIGNED, JOB_COMPLETED, JOB_STARTED, JobEvent};
use dayfly_protocol::{PlanId, TaskResult};
use http::StatusCode;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Unread};
use crate::settings::Scope;

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
    } else if [JOB_ASSIGNED, JOB_STARTED].iter().any(|name| event.name.eq_ignore_ascii_case(name)) {
        // The emulator knows this from its own queue; the job must exist all the same.
        state.plans.get(plan)?.job(event.job_id)?;
    } else {
        return Err(ApiError::invalid_body(format_args!("event `{}` is not known", event.name)));
    }
    Ok(StatusCode::NO_CONTENT)
}
