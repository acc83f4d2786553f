//! Test runs with their results, and code coverage.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use dayfly_protocol::test_results::{
    CodeCoverageData, NewTestRun, TestAttachment, TestCaseResult, TestRunUpdate,
};
use dayfly_protocol::{BuildId, ListOf, ProjectId};
use http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::test_runs::TestRun;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/test/runs", get(list).post(create))
        .route("/{project}/_apis/test/runs/{run}", get(read).patch(update))
        .route("/{project}/_apis/test/runs/{run}/results", get(results).post(add))
        .route("/{project}/_apis/test/runs/{run}/attachments", post(attach))
        .route("/{project}/_apis/test/codecoverage", get(coverage).post(add_coverage))
}

/// A test run as callers see it.
fn wire(app: &App, project: &str, run: &TestRun) -> Value {
    let count = |outcome: &str| run.results.iter().filter(|result| result.outcome == outcome).count();
    let mut page = app.url(&format!("{project}/_TestManagement/Runs"));
    page.set_query(Some(&format!("runId={}", run.id)));
    json!({
        "id": run.id,
        "name": run.new.name,
        "state": if run.is_completed { "Completed" } else { "InProgress" },
        "isAutomated": run.new.automated,
        "build": run.new.build,
        "totalTests": run.results.len(),
        "passedTests": count("Passed"),
        "notApplicableTests": 0,
        "unanalyzedTests": count("Failed"),
        "pipelineReference": run.new.pipeline_reference,
        "webAccessUrl": page,
    })
}

/// The build that a caller names by a query, in whose run it may work.
fn build_of(query: &Query) -> Result<BuildId, ApiError> {
    let text = query.text("buildId").or(query.text("buildIds")).unwrap_or_default();
    let number = text.parse().map_err(|_| ApiError::bad_request("the query `buildId` must be a number"))?;
    Ok(BuildId(number))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<ListOf<Value>>, ApiError> {
    let build = build_of(&query)?;
    let state = app.state();
    let run = state.run_for(&caller, &project, build)?;
    let runs: Vec<_> = run.tests.runs().iter().map(|run| wire(&app, &project, run)).collect();
    Ok(Json(runs.into()))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    let new: NewTestRun = body.json(&app).await?;
    let build = new.build.id.parse().map_err(|_| ApiError::bad_request("`build.id` must be a number"))?;
    let mut state = app.state();
    let (id, plan) = {
        let run = state.run_for(&caller, &project, BuildId(build))?;
        (run.project, run.plan_id)
    };
    caller.require_plan(plan, Scope::BuildExecute)?;
    let run = state.runs.get_mut(id, BuildId(build))?;
    let made = run.tests.create(run.id, new)?;
    Ok(Json(wire(&app, &project, made)))
}

/// The project and build of a test run, in which the caller may write.
fn writable(app: &App, caller: &Caller, project: &str, run: i32) -> Result<(ProjectId, BuildId), ApiError> {
    let state = app.state();
    let project = state.projects.find(project)?.id;
    let of = state.run_of_test_run(project, run)?;
    caller.require_plan(of.plan_id, Scope::BuildExecute)?;
    Ok((project, of.id))
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path((project, run)): Path<(String, i32)>,
) -> Result<Json<Value>, ApiError> {
    let state = app.state();
    let of = state.run_of_test_run(state.projects.find(&project)?.id, run)?;
    caller.require_plan(of.plan_id, Scope::BuildRead)?;
    Ok(Json(wire(&app, &project, of.tests.run(run)?)))
}

async fn update(
    State(app): State<App>,
    caller: Caller,
    Path((project, run)): Path<(String, i32)>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    let (id, build) = writable(&app, &caller, &project, run)?;
    let update: TestRunUpdate = body.json(&app).await?;
    let mut state = app.state();
    let updated = state.runs.get_mut(id, build)?.tests.update(run, &update.state)?;
    Ok(Json(wire(&app, &project, updated)))
}

async fn results(
    State(app): State<App>,
    caller: Caller,
    Path((project, run)): Path<(String, i32)>,
) -> Result<Json<ListOf<TestCaseResult>>, ApiError> {
    let state = app.state();
    let of = state.run_of_test_run(state.projects.find(&project)?.id, run)?;
    caller.require_plan(of.plan_id, Scope::BuildRead)?;
    Ok(Json(of.tests.run(run)?.results.clone().into()))
}

async fn add(
    State(app): State<App>,
    caller: Caller,
    Path((project, run)): Path<(String, i32)>,
    body: Unread,
) -> Result<Json<ListOf<Value>>, ApiError> {
    let (id, build) = writable(&app, &caller, &project, run)?;
    let new: Vec<TestCaseResult> = body.json(&app).await?;
    let count = new.len();
    let all = app.state().runs.get_mut(id, build)?.tests.add(run, new)?;
    let added: Vec<_> = (all - count..all).map(|index| json!({ "id": 100_000 + index })).collect();
    Ok(Json(added.into()))
}

async fn attach(
    State(app): State<App>,
    caller: Caller,
    Path((project, run)): Path<(String, i32)>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    let (id, build) = writable(&app, &caller, &project, run)?;
    let new: TestAttachment = body.json(&app).await?;
    // Four letters of Base64 are three bytes.
    let bytes = new.stream.len() / 4 * 3;
    let number = app.state().runs.get_mut(id, build)?.tests.attach(run, new.file_name, bytes)?;
    Ok(Json(json!({ "id": number })))
}

async fn coverage(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let build = build_of(&query)?;
    let state = app.state();
    let run = state.run_for(&caller, &project, build)?;
    Ok(Json(json!({ "build": { "id": build.to_string() }, "coverageData": run.tests.coverage })))
}

async fn add_coverage(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
    body: Unread,
) -> Result<StatusCode, ApiError> {
    let build = build_of(&query)?;
    let (id, plan) = {
        let state = app.state();
        let run = state.run_for(&caller, &project, build)?;
        (run.project, run.plan_id)
    };
    caller.require_plan(plan, Scope::BuildExecute)?;
    let data: CodeCoverageData = body.json(&app).await?;
    app.state().runs.get_mut(id, build)?.tests.add_coverage(data)?;
    Ok(StatusCode::NO_CONTENT)
}
