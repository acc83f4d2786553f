//! The part of the git API which says what repositories there are and where to clone them.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::ListOf;
use serde_json::Value;

use super::build_wire::Wire;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/git/repositories", get(list_all))
        .route("/{project}/_apis/git/repositories", get(list))
        .route("/{project}/_apis/git/repositories/{repository}", get(one))
}

async fn list_all(State(app): State<App>, caller: Caller) -> Result<Json<ListOf<Value>>, ApiError> {
    let state = app.state();
    let mut all = Vec::new();
    for project in state.projects.all() {
        caller.require_code_read(project.id)?;
        let wire = Wire::new(&app, &state, project.id);
        all.extend(state.repositories.of(project.id).map(|repository| wire.repository(repository)));
    }
    Ok(Json(all.into()))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> Result<Json<ListOf<Value>>, ApiError> {
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    caller.require_code_read(project)?;
    let wire = Wire::new(&app, &state, project);
    Ok(Json(
        state
            .repositories
            .of(project)
            .map(|repository| wire.repository(repository))
            .collect::<Vec<_>>()
            .into(),
    ))
}

async fn one(
    State(app): State<App>,
    caller: Caller,
    Path((project, repository)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    caller.require_code_read(project)?;
    Ok(Json(Wire::new(&app, &state, project).repository(state.repositories.find(project, &repository)?)))
}
