//! Logs of a plan: made, appended to block by block, read by lines.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use dayfly_protocol::logs::TaskLog;
use dayfly_protocol::{ListOf, LogId, PlanId};
use http::HeaderMap;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::log_text::{self, FirstLine};
use crate::http::query::Query;
use crate::settings::Scope;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/logs", post(create).get(list))
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/logs/{log}", post(append).get(read))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): Path<(String, String, PlanId)>,
    body: Unread,
) -> Result<Json<TaskLog>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    let wanted: TaskLog = body.json(&app).await?;
    let mut state = app.state();
    state.plan_at(&project, &hub, plan)?;
    Ok(Json(state.create_log(plan, wanted.path, app.now())?))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): Path<(String, String, PlanId)>,
) -> Result<Json<ListOf<TaskLog>>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let state = app.state();
    let logs: Vec<_> = state.plan_at(&project, &hub, plan)?.logs.values().map(|log| log.to_wire()).collect();
    Ok(Json(logs.into()))
}

/// Appends one block. Once it is begun, it is written and counted even when the connection is cut.
async fn append(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, log)): Path<(String, String, PlanId, LogId)>,
    body: Unread,
) -> Result<Json<TaskLog>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    app.state().plan_at(&project, &hub, plan)?.log(log)?;
    let block = body.upload(&app).await?;
    let appended = app.append_to_log(plan, log, block).await;
    Ok(Json(appended.map_err(|error| ApiError::internal("could not write a log", &error))??))
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, log)): Path<(String, String, PlanId, LogId)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let file = app.state().plan_at(&project, &hub, plan)?.log(log)?.file.clone();
    log_text::respond(file, FirstLine::Zero, &query, &headers).await
}
