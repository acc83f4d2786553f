//! Timelines of a plan and their records.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::timeline::{Timeline, TimelineRecord, TimelineReference};
use dayfly_protocol::{ListOf, PlanId, TimelineId};

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::settings::Scope;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/timelines", get(list).post(create))
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/timelines/{timeline}", get(get_one))
        .route(
            "/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/timelines/{timeline}/records",
            get(list_records).patch(update_records),
        )
}

type PlanPath = Path<(String, String, PlanId)>;
type TimelinePath = Path<(String, String, PlanId, TimelineId)>;

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): PlanPath,
) -> Result<Json<ListOf<Timeline>>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let state = app.state();
    let plan = state.plan_at(&project, &hub, plan)?;
    let timelines: Vec<_> = plan.timelines.iter().map(|(id, timeline)| timeline.to_wire(*id, None)).collect();
    Ok(Json(timelines.into()))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): PlanPath,
    body: Unread,
) -> Result<Json<Timeline>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    let wanted: TimelineReference = body.json(&app).await?;
    let mut state = app.state();
    state.plan_at(&project, &hub, plan)?;
    Ok(Json(state.create_timeline(plan, wanted.id)?))
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline)): TimelinePath,
    query: Query,
) -> Result<Json<Timeline>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let since = match query.flag("includeRecords")? {
        true => Some(query.value("changeId")?.unwrap_or_default()),
        false => None,
    };
    let state = app.state();
    let data = state.plan_at(&project, &hub, plan)?.timeline(timeline)?;
    Ok(Json(data.to_wire(timeline, since)))
}

async fn list_records(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline)): TimelinePath,
    query: Query,
) -> Result<Json<ListOf<TimelineRecord>>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let since = query.value("changeId")?.unwrap_or_default();
    let state = app.state();
    let data = state.plan_at(&project, &hub, plan)?.timeline(timeline)?;
    Ok(Json(data.to_wire(timeline, Some(since)).records.into()))
}

async fn update_records(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline)): TimelinePath,
    body: Unread,
) -> Result<Json<ListOf<TimelineRecord>>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    let changes: ListOf<TimelineRecord> = body.json(&app).await?;
    let place = app.hub().place().await;
    let mut state = app.state();
    state.plan_at(&project, &hub, plan)?;
    let merged = state.update_records(plan, timeline, changes.value, app.now(), place)?;
    Ok(Json(merged.into()))
}
