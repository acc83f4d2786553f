//! Pipelines and their runs: definitions and builds by their newer names, with other shapes.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{BuildId, ListOf, LogId};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::artifacts;
use super::build_wire::Wire;
use super::definitions::NamedRepository;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::log_text::{self, FirstLine};
use crate::http::query::Query;
use crate::runs::compile::QueueRequest;
use crate::settings::Scope;
use crate::state::runs::Run;

/// Runs in one answer (`PipelinesHttpClient.ListRunsAsync`).
const MAX_RUNS: usize = 10_000;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/pipelines", get(list).post(create))
        .route("/{project}/_apis/pipelines/{pipeline}", get(one))
        .route("/{project}/_apis/pipelines/{pipeline}/preview", post(preview))
        .route("/{project}/_apis/pipelines/{pipeline}/runs", get(runs).post(run))
        .route("/{project}/_apis/pipelines/{pipeline}/runs/{run}", get(one_run))
        .route("/{project}/_apis/pipelines/{pipeline}/runs/{run}/logs", get(logs))
        .route("/{project}/_apis/pipelines/{pipeline}/runs/{run}/logs/{log}", get(log))
        .route("/{project}/_apis/pipelines/{pipeline}/runs/{run}/logs/{log}/content", get(log_content))
        .route("/{project}/_apis/pipelines/{pipeline}/runs/{run}/artifacts", get(artifact))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<ListOf<Value>>, ApiError> {
    caller.require(Scope::BuildRead)?;
    let top = query.value::<usize>("$top")?.unwrap_or(usize::MAX);
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    let wire = Wire::new(&app, &state, project);
    let found = state.definitions.of(project).take(top);
    Ok(Json(found.map(|definition| wire.pipeline(definition)).collect::<Vec<_>>().into()))
}

async fn one(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline)): Path<(String, i32)>,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildRead)?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    Ok(Json(Wire::new(&app, &state, project).pipeline(state.definitions.get(project, pipeline)?)))
}

/// What clients send to make a pipeline.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NewPipeline {
    name: String,
    configuration: Configuration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    path: String,
    repository: NamedRepository,
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildExecute)?;
    let new: NewPipeline = body.json(&app).await?;
    let Configuration { path, repository } = new.configuration;
    let mut state = app.state();
    let (project, id) =
        state.add_definition(&project, &new.name, &repository.into_name(), &path, app.now())?;
    Ok(Json(Wire::new(&app, &state, project).pipeline(state.definitions.get(project, id)?)))
}

/// What clients send to start a run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunParameters {
    template_parameters: BTreeMap<String, Value>,
    variables: BTreeMap<String, VariableValue>,
    stages_to_skip: Vec<String>,
    resources: Resources,
    /// Compile only; start nothing.
    preview_run: bool,
    /// Compile this text in place of the file.
    yaml_override: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    repositories: BTreeMap<String, RepositoryAt>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RepositoryAt {
    ref_name: Option<String>,
    version: Option<String>,
}

impl RunParameters {
    fn into_request(mut self, project: String, definition: i32) -> QueueRequest {
        let own = self.resources.repositories.remove("self").unwrap_or_default();
        QueueRequest {
            project,
            definition,
            branch: own.ref_name,
            commit: own.version,
            variables: self.variables,
            parameters: self.template_parameters,
            skip_stages: self.stages_to_skip,
            yaml: self.yaml_override,
        }
    }
}

async fn run(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline)): Path<(String, i32)>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildExecute)?;
    let parameters: RunParameters = body.json(&app).await?;
    if parameters.preview_run {
        return compile_only(&app, parameters.into_request(project, pipeline)).await;
    }
    if parameters.yaml_override.is_some() {
        return Err(ApiError::bad_request("`yamlOverride` is for previews only"));
    }
    let id = app.queue_definition(parameters.into_request(project, pipeline)).await?;
    let state = app.state();
    let run = state.runs.any(id)?;
    Ok(Json(Wire::new(&app, &state, run.project).run(run)))
}

async fn preview(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline)): Path<(String, i32)>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildExecute)?;
    let parameters: RunParameters = body.json(&app).await?;
    compile_only(&app, parameters.into_request(project, pipeline)).await
}

/// The plan is JSON, and every JSON text is YAML.
async fn compile_only(app: &App, request: QueueRequest) -> Result<Json<Value>, ApiError> {
    let plan = app.compile_definition(&request).await?;
    let text = serde_json::to_string_pretty(&plan)
        .map_err(|error| ApiError::internal("could not write the plan", &error))?;
    Ok(Json(json!({ "finalYaml": text })))
}

async fn runs(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline)): Path<(String, i32)>,
) -> Result<Json<ListOf<Value>>, ApiError> {
    caller.require(Scope::BuildRead)?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    state.definitions.get(project, pipeline)?;
    let wire = Wire::new(&app, &state, project);
    let found = state.runs.of(project).filter(|run| run.definition == pipeline).take(MAX_RUNS);
    Ok(Json(found.map(|run| wire.run(run)).collect::<Vec<_>>().into()))
}

async fn one_run(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline, run)): Path<(String, i32, BuildId)>,
) -> Result<Json<Value>, ApiError> {
    let state = app.state();
    let run = of_pipeline(state.run_for(&caller, &project, run)?, pipeline)?;
    Ok(Json(Wire::new(&app, &state, run.project).run(run)))
}

async fn logs(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline, run)): Path<(String, i32, BuildId)>,
) -> Result<Json<Value>, ApiError> {
    let state = app.state();
    let run = of_pipeline(state.run_for(&caller, &project, run)?, pipeline)?;
    let wire = Wire::new(&app, &state, run.project);
    let logs = state.plans.get(run.plan_id)?.logs.values();
    let logs: Vec<_> = logs.map(|log| wire.run_log(run, &log.to_wire())).collect();
    Ok(Json(json!({ "logs": logs })))
}

async fn log(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline, run, log)): Path<(String, i32, BuildId, LogId)>,
) -> Result<Json<Value>, ApiError> {
    let state = app.state();
    let run = of_pipeline(state.run_for(&caller, &project, run)?, pipeline)?;
    let log = state.plans.get(run.plan_id)?.log(log)?.to_wire();
    Ok(Json(Wire::new(&app, &state, run.project).run_log(run, &log)))
}

async fn log_content(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline, run, log)): Path<(String, i32, BuildId, LogId)>,
    query: Query,
) -> Result<Response, ApiError> {
    let file = {
        let state = app.state();
        let run = of_pipeline(state.run_for(&caller, &project, run)?, pipeline)?;
        state.plans.get(run.plan_id)?.log(log)?.file.clone()
    };
    log_text::respond(file, FirstLine::One, &query, &HeaderMap::new()).await
}

async fn artifact(
    State(app): State<App>,
    caller: Caller,
    Path((project, pipeline, run)): Path<(String, i32, BuildId)>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let name: String = query.required("artifactName")?;
    let state = app.state();
    let run = of_pipeline(state.run_for(&caller, &project, run)?, pipeline)?;
    let artifact = artifacts::find(run, &name)?;
    let wire = Wire::new(&app, &state, run.project).artifact(run, artifact);
    Ok(Json(json!({
        "name": artifact.name,
        "url": wire["resource"]["url"],
        "signedContent": { "url": wire["resource"]["downloadUrl"], "signatureExpires": null },
    })))
}

fn of_pipeline(run: &Run, pipeline: i32) -> Result<&Run, ApiError> {
    if run.definition == pipeline { Ok(run) } else { Err(crate::state::Error::BuildNotFound(run.id).into()) }
}
