//! Logs of a plan: made, appended to block by block, read by lines.

use std::io::Write;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use dayfly_protocol::logs::TaskLog;
use dayfly_protocol::{ListOf, LogId, PlanId};
use http::HeaderMap;

use crate::app::App;
use crate::events::Place;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::log_text::{self, FirstLine};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::logs::Appended;

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
    let writer = app.state().plan_at(&project, &hub, plan)?.log(log)?.writer();
    let block = body.upload(&app).await?;
    let place = app.hub().place().await;
    let writer = writer.lock_owned().await;
    let disk = app.disk().clone();
    let appended = disk.run(move || {
        let appended = append_block(&app, plan, log, &block, place);
        drop(writer);
        appended
    });
    Ok(Json(appended.await.map_err(broken)??))
}

fn append_block(
    app: &App,
    plan: PlanId,
    log: LogId,
    block: &[u8],
    place: Place,
) -> Result<TaskLog, ApiError> {
    let (file, on_disk) = app.state().begin_append(plan, log, block.len() as u64)?;
    write_block(&file, block).map_err(broken)?;
    let block = Appended {
        line_ends: memchr::memchr_iter(b'\n', block).count(),
        has_open_line: block.last().map(|last| *last != b'\n'),
        on_disk,
    };
    Ok(app.state().end_append(plan, log, block, app.now(), place)?)
}

fn broken(error: std::io::Error) -> ApiError {
    ApiError::internal("could not write a log", &error)
}

fn write_block(file: &std::path::Path, block: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(block)
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
