//! Builds: queue, read, list, cancel, tags, timeline and logs.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, put};
use dayfly_protocol::build::BuildUpdate;
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{BuildId, ListOf, LogId, ProjectId, TimelineId};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use super::build_wire::Wire;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::log_text::{self, FirstLine};
use crate::http::query::Query;
use crate::runs::compile::QueueRequest;
use crate::settings::Scope;
use crate::state;
use crate::state::runs::{Run, RunStatus};

/// Builds in one answer, when the caller does not say, and at the most.
const PAGE: usize = 1_000;
const MAX_PAGE: usize = 5_000;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/build/builds", get(list_all))
        .route("/{project}/_apis/build/builds", get(list).post(queue).patch(update_many))
        .route("/{project}/_apis/build/builds/{build}", get(one).patch(update).delete(refuse_delete))
        .route("/{project}/_apis/build/builds/{build}/timeline", get(timeline))
        .route("/{project}/_apis/build/builds/{build}/timeline/{timeline}", get(timeline_by_id))
        .route("/{project}/_apis/build/builds/{build}/logs", get(logs))
        .route("/{project}/_apis/build/builds/{build}/logs/{log}", get(log))
        .route("/{project}/_apis/build/builds/{build}/tags", get(tags).post(add_tags))
        .route(
            "/{project}/_apis/build/builds/{build}/tags/{tag}",
            put(add_tag).post(add_tag).delete(remove_tag),
        )
        .route("/{project}/_apis/build/builds/{build}/changes", get(changes))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<ListOf<Value>>, ApiError> {
    let filter = Filter::parse(&query)?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    caller.require_builds_read(project)?;
    let wire = Wire::new(&app, &state, project);
    let mut builds: Vec<_> = state.runs.of(project).filter(|run| filter.takes(run)).collect();
    if query.text("queryOrder").is_some_and(|order| order.eq_ignore_ascii_case("finishTimeDescending")) {
        builds.sort_by_key(|run| std::cmp::Reverse(run.finish_time));
    }
    builds.truncate(filter.top);
    Ok(Json(builds.into_iter().map(|run| wire.build(run)).collect::<Vec<_>>().into()))
}

async fn list_all(
    State(app): State<App>,
    caller: Caller,
    query: Query,
) -> Result<Json<ListOf<Value>>, ApiError> {
    caller.require(Scope::BuildRead)?;
    let filter = Filter::parse(&query)?;
    let state = app.state();
    let mut builds = Vec::new();
    for project in state.projects.all() {
        let wire = Wire::new(&app, &state, project.id);
        let left = filter.top - builds.len();
        let found = state.runs.of(project.id).filter(|run| filter.takes(run)).take(left);
        builds.extend(found.map(|run| wire.build(run)));
    }
    Ok(Json(builds.into()))
}

/// Which builds a caller wants.
struct Filter {
    definitions: Option<Vec<i32>>,
    ids: Option<Vec<i32>>,
    number: Option<String>,
    statuses: Option<Vec<String>>,
    results: Option<Vec<String>>,
    tags: Vec<String>,
    branch: Option<String>,
    top: usize,
}

impl Filter {
    fn parse(query: &Query) -> Result<Self, ApiError> {
        let words = |name: &str| -> Result<Option<Vec<String>>, ApiError> {
            let all = query.list::<String>(name)?;
            Ok(all.filter(|words| !words.iter().any(|word| word.eq_ignore_ascii_case("all"))))
        };
        Ok(Self {
            definitions: query.list("definitions")?,
            ids: query.list("buildIds")?,
            number: query.text("buildNumber").map(str::to_owned),
            statuses: words("statusFilter")?,
            results: words("resultFilter")?,
            tags: query.list("tagFilters")?.unwrap_or_default(),
            branch: query.text("branchName").map(str::to_owned),
            top: query.value::<usize>("$top")?.unwrap_or(PAGE).min(MAX_PAGE),
        })
    }

    fn takes(&self, run: &Run) -> bool {
        let number = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => run.number.starts_with(start),
            None => run.number == pattern,
        };
        let is_in = |words: &[String], word: &str| words.iter().any(|other| other.eq_ignore_ascii_case(word));
        self.definitions.as_ref().is_none_or(|ids| ids.contains(&run.definition))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&run.id.0))
            && self.number.as_deref().is_none_or(number)
            && self.statuses.as_ref().is_none_or(|words| is_in(words, run.status.wire()))
            && self
                .results
                .as_ref()
                .is_none_or(|words| run.wire_result().is_some_and(|result| is_in(words, result)))
            && self.tags.iter().all(|tag| run.tags.contains(tag))
            && self.branch.as_deref().is_none_or(|wanted| run.repository.reference == wanted)
    }
}

/// What clients send to queue a build.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NewBuild {
    definition: Option<Reference>,
    source_branch: Option<String>,
    source_version: Option<String>,
    /// Variables, as JSON text.
    parameters: Option<String>,
    /// Arguments for the file's parameters.
    template_parameters: Option<BTreeMap<String, Value>>,
}

/// A thing by its number.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    id: i32,
}

async fn queue(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::BuildExecute)?;
    let new: NewBuild = body.json(&app).await?;
    let definition = match new.definition {
        Some(definition) => definition.id,
        None => query.required("definitionId")?,
    };
    let variables: BTreeMap<String, String> =
        match new.parameters.as_deref().filter(|text| !text.trim().is_empty()) {
            Some(text) => dayfly_protocol::json::from_str(text).map_err(|_| {
                ApiError::bad_request("`parameters` must be JSON text: an object whose values are strings")
            })?,
            None => BTreeMap::new(),
        };
    let request = QueueRequest {
        project,
        definition,
        branch: new.source_branch,
        commit: new.source_version,
        variables: variables.into_iter().map(|(name, value)| (name, VariableValue::public(value))).collect(),
        parameters: new.template_parameters.unwrap_or_default(),
        skip_stages: Vec::new(),
        yaml: None,
    };
    let id = app.queue_definition(request).await?;
    let state = app.state();
    let run = state.runs.any(id)?;
    Ok(Json(Wire::new(&app, &state, run.project).build(run)))
}

async fn one(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
) -> Result<Json<Value>, ApiError> {
    let state = app.state();
    let run = state.run_for(&caller, &project, build)?;
    Ok(Json(Wire::new(&app, &state, run.project).build(run)))
}

async fn update(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
    body: Unread,
) -> Result<Json<Value>, ApiError> {
    app.state().run_for(&caller, &project, build)?;
    let update = body.json(&app).await?;
    apply(&app, &caller, &project, build, update).map(Json)
}

/// Several at once (`BuildHttpClient.UpdateBuildsAsync`).
async fn update_many(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    body: Unread,
) -> Result<Json<ListOf<Value>>, ApiError> {
    if caller.plan().is_none() {
        caller.require(Scope::BuildRead)?;
    }
    let updates: Vec<BuildUpdate> = body.json(&app).await?;
    let updated: Result<Vec<_>, _> =
        updates.into_iter().map(|update| apply(&app, &caller, &project, update.id, update)).collect();
    Ok(Json(updated?.into()))
}

/// A person may cancel, a job may number its own build (`build.updatebuildnumber`).
fn apply(
    app: &App,
    caller: &Caller,
    project: &str,
    build: BuildId,
    update: BuildUpdate,
) -> Result<Value, ApiError> {
    let now = app.now();
    let mut state = app.state();
    let run = state.run_for(caller, project, build)?;
    let (project, plan) = (run.project, run.plan_id);
    if let Some(status) = &update.status {
        caller.require(Scope::BuildExecute)?;
        // Enums come by name or number (`BuildInterfaces.ts`).
        if !status.eq_ignore_ascii_case(RunStatus::Cancelling.wire()) && status != "4" {
            return Err(ApiError::bad_request(format!(
                "a build's status can be set to `cancelling` only, not to `{status}`"
            )));
        }
        state.cancel_run(build, now)?;
    }
    if let Some(number) = update.build_number {
        caller.require_plan(plan, Scope::BuildExecute)?;
        state.set_run_number(build, &number, now)?;
    }
    let run = state.runs.get(project, build)?;
    Ok(Wire::new(app, &state, project).build(run))
}

async fn refuse_delete() -> ApiError {
    ApiError::denied("the emulator removes old builds by itself; see its limits")
}

async fn timeline(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    read_timeline(&app, &caller, &project, build, None, &query)
}

async fn timeline_by_id(
    State(app): State<App>,
    caller: Caller,
    Path((project, build, timeline)): Path<(String, BuildId, TimelineId)>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    read_timeline(&app, &caller, &project, build, Some(timeline), &query)
}

fn read_timeline(
    app: &App,
    caller: &Caller,
    project: &str,
    build: BuildId,
    timeline: Option<TimelineId>,
    query: &Query,
) -> Result<Json<Value>, ApiError> {
    let since = query.value::<i32>("changeId")?.unwrap_or(0);
    let state = app.state();
    let run = state.run_for(caller, project, build)?;
    let id = timeline.unwrap_or(run.timeline);
    let timeline = state.plans.get(run.plan_id)?.timeline(id)?.to_wire(id, Some(since));
    Ok(Json(Wire::new(app, &state, run.project).timeline(run, timeline)))
}

async fn logs(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
) -> Result<Json<ListOf<Value>>, ApiError> {
    let state = app.state();
    let run = state.run_for(&caller, &project, build)?;
    let wire = Wire::new(&app, &state, run.project);
    let logs = state.plans.get(run.plan_id)?.logs.values();
    Ok(Json(logs.map(|log| wire.log(run, &log.to_wire())).collect::<Vec<_>>().into()))
}

/// Text, or a list of lines for those who accept JSON.
async fn log(
    State(app): State<App>,
    caller: Caller,
    Path((project, build, log)): Path<(String, BuildId, LogId)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = {
        let state = app.state();
        let run = state.run_for(&caller, &project, build)?;
        state.plans.get(run.plan_id)?.log(log)?.file.clone()
    };
    log_text::respond(file, FirstLine::One, &query, &headers).await
}

async fn tags(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
) -> Result<Json<ListOf<String>>, ApiError> {
    let state = app.state();
    let run = state.run_for(&caller, &project, build)?;
    Ok(Json(run.tags.iter().cloned().collect::<Vec<_>>().into()))
}

async fn add_tags(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
    body: Unread,
) -> Result<Json<ListOf<String>>, ApiError> {
    app.state().run_for(&caller, &project, build)?;
    let tags: Vec<String> = body.json(&app).await?;
    change_tags(&app, &caller, &project, build, |state, project| state.add_tags(project, build, &tags))
}

async fn add_tag(
    State(app): State<App>,
    caller: Caller,
    Path((project, build, tag)): Path<(String, BuildId, String)>,
) -> Result<Json<ListOf<String>>, ApiError> {
    change_tags(&app, &caller, &project, build, |state, project| state.add_tags(project, build, &[tag]))
}

async fn remove_tag(
    State(app): State<App>,
    caller: Caller,
    Path((project, build, tag)): Path<(String, BuildId, String)>,
) -> Result<Json<ListOf<String>>, ApiError> {
    change_tags(&app, &caller, &project, build, |state, project| state.remove_tag(project, build, &tag))
}

/// A person with the right, or a job of the build (`build.addbuildtag`).
fn change_tags(
    app: &App,
    caller: &Caller,
    project: &str,
    build: BuildId,
    change: impl FnOnce(&mut state::State, ProjectId) -> state::Result<Vec<String>>,
) -> Result<Json<ListOf<String>>, ApiError> {
    let mut state = app.state();
    let run = state.run_for(caller, project, build)?;
    let (project, plan) = (run.project, run.plan_id);
    caller.require_plan(plan, Scope::BuildExecute)?;
    Ok(Json(change(&mut state, project)?.into()))
}

/// The commits since the last build. The emulator does not compare builds.
async fn changes(
    State(app): State<App>,
    caller: Caller,
    Path((project, build)): Path<(String, BuildId)>,
) -> Result<Json<ListOf<Value>>, ApiError> {
    app.state().run_for(&caller, &project, build)?;
    Ok(Json(Vec::new().into()))
}
