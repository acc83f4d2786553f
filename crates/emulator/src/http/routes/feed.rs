//! Console lines. They are passed on to the subscribers of events and not kept: logs are what is kept.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use dayfly_protocol::logs::FeedLines;
use dayfly_protocol::{JobId, PlanId, RecordId, TimelineId};
use http::StatusCode;

use crate::app::App;
use crate::events::Event;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Unread};

pub(crate) fn routes() -> Router<App> {
    Router::new().route(
        "/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/timelines/{timeline}/records/{record}/feed",
        post(append),
    )
}

/// The address names the job's record, the body the step's.
async fn append(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline, record)): Path<(String, String, PlanId, TimelineId, RecordId)>,
    body: Unread,
) -> Result<StatusCode, ApiError> {
    let job = JobId(record.0);
    caller.require_job(plan, job)?;
    let feed: FeedLines = body.json(&app).await?;
    let place = app.hub().place().await;
    let mut state = app.state();
    let found = state.plan_at(&project, &hub, plan)?;
    found.timeline(timeline)?;
    found.job(job)?;
    let count = feed.value.len();
    let known = state.plans.get_mut(plan)?.known_console_lines(feed.step_id, feed.start_line, count);
    if known < count || count == 0 {
        let start_line =
            feed.start_line.and_then(|start| Some(start.saturating_add(i64::try_from(known).ok()?)));
        let lines = feed.value.into_iter().skip(known).collect();
        let event = Event::Lines { plan, job, record: feed.step_id, start_line, lines };
        state.hub.send(event, place);
    }
    Ok(StatusCode::NO_CONTENT)
}
