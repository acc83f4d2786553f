//! Queues: pools as a project sees them.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::pool::TaskAgentQueue;
use dayfly_protocol::{ListOf, PoolId, QueueId};

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::Error;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/distributedtask/queues", get(list))
        .route("/{project}/_apis/distributedtask/queues/{queue}", get(get_one))
}

/// Who may see pools or queue builds may see queues.
fn check(caller: &Caller) -> Result<(), ApiError> {
    if caller.has(Scope::BuildRead) { Ok(()) } else { caller.require(Scope::AgentPoolsRead) }
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Json<ListOf<TaskAgentQueue>>, ApiError> {
    check(&caller)?;
    let name = query.text("queueName");
    let ids = query.list::<QueueId>("queueIds")?;
    let pools = query.list::<PoolId>("poolIds")?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    let mut queues = state.queues(project);
    queues.retain(|queue| {
        name.is_none_or(|name| queue.name.eq_ignore_ascii_case(name))
            && ids.as_ref().is_none_or(|ids| ids.contains(&queue.id))
            && pools
                .as_ref()
                .is_none_or(|pools| queue.pool.as_ref().is_some_and(|pool| pools.contains(&pool.id)))
    });
    Ok(Json(queues.into()))
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path((project, queue)): Path<(String, QueueId)>,
) -> Result<Json<TaskAgentQueue>, ApiError> {
    check(&caller)?;
    let state = app.state();
    let project = state.projects.find(&project)?.id;
    let found = state.queues(project).into_iter().find(|other| other.id == queue);
    Ok(Json(found.ok_or(Error::QueueNotFound(queue))?))
}
