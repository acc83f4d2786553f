//! Projects.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::{ListOf, ProjectId};
use serde::Serialize;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::projects::Project;
use crate::state::tokens::Principal;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/_apis/projects", get(list)).route("/_apis/projects/{project}", get(get_one))
}

/// A project as the wire shows it (`TeamProjectReference`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TeamProject {
    id: ProjectId,
    name: String,
    url: String,
    state: &'static str,
    revision: i64,
    visibility: &'static str,
}

impl TeamProject {
    pub(crate) fn new(app: &App, project: &Project) -> Self {
        Self {
            id: project.id,
            name: project.name.clone(),
            url: app.url(&format!("_apis/projects/{}", project.id)).to_string(),
            state: "wellFormed",
            revision: 1,
            visibility: "private",
        }
    }
}

/// Jobs see their own project; people need the right.
fn may_see(caller: &Caller, project: ProjectId) -> bool {
    matches!(&caller.0, Principal::Job { project: own, .. } if *own == project)
        || caller.has(Scope::ProjectRead)
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Query,
) -> Result<Json<ListOf<TeamProject>>, ApiError> {
    if !matches!(caller.0, Principal::Job { .. }) {
        caller.require(Scope::ProjectRead)?;
    }
    let (top, skip) = (query.value::<usize>("$top")?, query.value::<usize>("$skip")?);
    let projects = app
        .state()
        .projects
        .all()
        .iter()
        .filter(|project| may_see(&caller, project.id))
        .skip(skip.unwrap_or_default())
        .take(top.unwrap_or(usize::MAX))
        .map(|project| TeamProject::new(&app, project))
        .collect::<Vec<_>>();
    Ok(Json(projects.into()))
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> Result<Json<TeamProject>, ApiError> {
    let project = app.state().projects.find(&project)?.clone();
    if !may_see(&caller, project.id) {
        caller.require(Scope::ProjectRead)?;
    }
    Ok(Json(TeamProject::new(&app, &project)))
}
