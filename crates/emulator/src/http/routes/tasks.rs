//! The task catalogue and the packages that agents download.

use std::str::FromStr as _;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dayfly_protocol::ListOf;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};
use crate::stores::tasks::TaskVersion;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/distributedtask/tasks", get(list))
        .route("/_apis/distributedtask/tasks/{task}", get(versions))
        .route("/_apis/distributedtask/tasks/{task}/{version}", get(one))
}

async fn list(State(app): State<App>, caller: Caller) -> Result<Json<ListOf<Value>>, ApiError> {
    caller.require_tasks_read()?;
    let all: Vec<_> = app.tasks().manifests(None, None).cloned().collect();
    Ok(Json(all.into()))
}

async fn versions(
    State(app): State<App>,
    caller: Caller,
    Path(task): Path<String>,
) -> Result<Json<ListOf<Value>>, ApiError> {
    caller.require_tasks_read()?;
    let id = task_id(&task)?;
    let all: Vec<_> = app.tasks().manifests(Some(id), None).cloned().collect();
    Ok(Json(all.into()))
}

/// The manifest, or the package for those who accept a zip only (`TaskAgentHttpClient.cs`).
async fn one(
    State(app): State<App>,
    caller: Caller,
    Path((task, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.require_tasks_read()?;
    let id = task_id(&task)?;
    let parsed = TaskVersion::from_str(&version).map_err(|_| {
        ApiError::bad_request(format!("`{version}` is not a task version; expected for example 2.1.0"))
    })?;
    let missing =
        || ApiError::not_found(format!("task {id} has no version {version}: put it into the task folder"));
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accept.contains("application/zip") && accept.contains("application/json") {
        let manifest = app.tasks().manifests(Some(id), Some(parsed)).next().cloned().ok_or_else(missing)?;
        return Ok(Json(manifest).into_response());
    }
    let package = app
        .tasks()
        .package(app.disk(), id, parsed)
        .await
        .map_err(|error| ApiError::internal("could not send the task package", &error))?;
    let package = package.ok_or_else(missing)?;
    let file = tokio::fs::File::open(package.path())
        .await
        .map_err(|error| ApiError::internal("could not send the task package", &error))?;
    let length = package.length();
    let bytes = tokio_util::io::ReaderStream::with_capacity(file, 64 << 10);
    let fields =
        [(header::CONTENT_TYPE, "application/zip".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((StatusCode::OK, fields, Body::from_stream(bytes)).into_response())
}

fn task_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text)
        .map_err(|_| ApiError::bad_request(format!("`{text}` is not a task id; expected a GUID")))
}
