//! Artifacts of builds: named folders, whose files are in the build's container.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dayfly_protocol::artifact::BuildArtifact;
use dayfly_protocol::{BuildId, ListOf};
use http::{HeaderMap, header};
use serde_json::Value;

use super::build_wire::Wire;
use super::containers::stream_file;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::http::zip;
use crate::settings::Scope;
use crate::state::runs::{Run, container_of};

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/{project}/_apis/build/builds/{build}/artifacts", get(read).post(associate))
}

/// All artifacts; one by name; one as a zip; one file of one.
async fn read(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = query.text("$format").unwrap_or_default();
    let place = {
        let state = app.state();
        let run = state.run_for(&caller, &project, build)?;
        let wire = Wire::new(&app, &state, run.project);
        let Some(name) = query.text("artifactName") else {
            let all: Vec<_> = run.artifacts.iter().map(|artifact| wire.artifact(run, artifact)).collect();
            return Ok(Json(ListOf::from(all)).into_response());
        };
        let artifact = find(run, name)?;
        let wants_content = accept.contains("application/zip")
            || accept.contains("application/octet-stream")
            || ["zip", "file"].iter().any(|word| format.eq_ignore_ascii_case(word));
        if !wants_content {
            return Ok(Json(wire.artifact(run, artifact)).into_response());
        }
        container_of(artifact)
    };
    let (container, path) = place.ok_or_else(|| {
        ApiError::bad_request("the files of this artifact are not in a container of the emulator")
    })?;
    match query.text("subPath").or(query.text("fileId")) {
        Some(file) if !accept.contains("application/zip") => {
            stream_file(&app, container, &format!("{path}/{}", file.trim_matches('/'))).await
        }
        Some(folder) => {
            zip::download(app.containers(), container, &format!("{path}/{}", folder.trim_matches('/'))).await
        }
        None => zip::download(app.containers(), container, &path).await,
    }
}

/// An artifact of a run by name, in any case.
pub(crate) fn find<'a>(run: &'a Run, name: &str) -> Result<&'a BuildArtifact, ApiError> {
    run.artifacts
        .iter()
        .find(|artifact| artifact.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| crate::state::Error::ArtifactNotFound { build: run.id, name: name.to_owned() }.into())
}

/// A job makes an artifact of files it has put into the container.
async fn associate(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    let (project, own) = {
        let state = app.state();
        let run = state.run_for(&caller, &project, build)?;
        caller.require_plan(run.plan_id, Scope::BuildExecute)?;
        (run.project, run.container.0)
    };
    let artifact: BuildArtifact = body.json(&app).await?;
    let place = container_of(&artifact);
    // An artifact may only name files of its own run.
    if place.as_ref().is_some_and(|(container, _)| *container != own) {
        return Err(ApiError::denied(format!(
            "`{}` is not the container of build {build}",
            artifact.resource.data
        )));
    }
    if let Some((container, path)) = &place
        && app.containers().list(*container, path)?.is_empty()
    {
        return Err(ApiError::bad_request(format!(
            "nothing was uploaded to `{path}` of container {container}"
        )));
    }
    let mut state = app.state();
    let artifact = state.add_artifact(project, build, artifact)?;
    let run = state.runs.get(project, build)?;
    Ok(Json(Wire::new(&app, &state, project).artifact(run, &artifact)))
}
