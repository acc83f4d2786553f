//! Plans, as jobs and people look at them.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::timeline::TimelineReference;
use dayfly_protocol::{PlanId, ProjectId};
use serde::Serialize;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};
use crate::settings::Scope;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}", get(get_one))
}

/// A plan as the wire shows it (`TaskOrchestrationPlan`), as far as clients look.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrchestrationPlan {
    scope_identifier: ProjectId,
    plan_type: String,
    plan_id: PlanId,
    version: i32,
    timeline: TimelineReference,
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): Path<(String, String, PlanId)>,
) -> Result<Json<OrchestrationPlan>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let state = app.state();
    let plan = state.plan_at(&project, &hub, plan)?;
    Ok(Json(OrchestrationPlan {
        scope_identifier: plan.project,
        plan_type: plan.plan_type.clone(),
        plan_id: plan.id,
        version: dayfly_protocol::plan::WORKER_REPORTS_FROM_VERSION,
        timeline: TimelineReference {
            id: plan.timeline,
            change_id: plan.timeline(plan.timeline)?.to_wire(plan.timeline, None).change_id,
            location: None,
        },
    }))
}
