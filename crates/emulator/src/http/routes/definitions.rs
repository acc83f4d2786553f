//! Build definitions, which are pipelines by their older name.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::ListOf;
use serde::Deserialize;
use serde_json::Value;

use super::build_wire::Wire;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::definitions::Definition;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/build/definitions", get(list).post(create))
        .route("/{project}/_apis/build/definitions/{definition}", get(one))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<ListOf<Value>>, ApiError> {
    let name = query.text("name");
    let ids = query.list::<i32>("definitionIds")?;
    let top = query.value::<usize>("$top")?.unwrap_or(usize::MAX);
    let whole = query.flag("includeAllProperties")?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    caller.require_builds_read(project)?;
    let wire = Wire::new(&app, &state, project);
    let wanted = |definition: &&Definition| {
        name.is_none_or(|name| is_named(&definition.name, name))
            && ids.as_ref().is_none_or(|ids| ids.contains(&definition.id))
    };
    let found = state.definitions.of(project).filter(wanted).take(top);
    let shown =
        |definition| if whole { wire.definition(definition) } else { wire.definition_reference(definition) };
    Ok(Json(found.map(shown).collect::<Vec<_>>().into()))
}

/// Names are matched in any case; a star at the end stands for anything.
fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.to_lowercase().starts_with(&start.to_lowercase()),
        None => name.eq_ignore_ascii_case(pattern),
    }
}

/// What clients send to make a definition.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NewDefinition {
    name: String,
    process: Process,
    repository: NamedRepository,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Process {
    yaml_filename: String,
}

/// The repository of a new definition.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NamedRepository {
    id: Option<String>,
    name: Option<String>,
}

impl NamedRepository {
    /// What it is called: clients send its name, its id, or both.
    pub(crate) fn into_name(self) -> String {
        self.name.or(self.id).unwrap_or_default()
    }
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildExecute)?;
    let new: NewDefinition = body.json(&app).await?;
    let mut state = app.state();
    let repository = new.repository.into_name();
    let (project, id) =
        state.add_definition(&project, &new.name, &repository, &new.process.yaml_filename, app.now())?;
    Ok(Json(Wire::new(&app, &state, project).definition(state.definitions.get(project, id)?)))
}

async fn one(
    State(app): State<App>,
    caller: Caller,
    Path((project, definition)): Path<(String, i32)>,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildRead)?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    Ok(Json(Wire::new(&app, &state, project).definition(state.definitions.get(project, definition)?)))
}
