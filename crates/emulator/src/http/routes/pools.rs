//! Agent pools.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dayfly_protocol::pool::TaskAgentPool;
use dayfly_protocol::{ListOf, PoolId};
use http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::tokens::Principal;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/distributedtask/pools", get(list).post(create))
        .route("/_apis/distributedtask/pools/{pool}", get(get_one).patch(update).delete(remove))
        .route("/_apis/distributedtask/pools/{pool}/permissions/{mask}", get(has_permission))
}

/// The members of a pool that can be set.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolChange {
    name: Option<String>,
    auto_update: Option<bool>,
}

/// The pools a caller may see: agents see their own.
async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Query,
) -> Result<Json<ListOf<TaskAgentPool>>, ApiError> {
    let own = match caller.0 {
        Principal::Agent { pool, .. } => Some(pool),
        _ => {
            caller.require(Scope::AgentPoolsRead)?;
            None
        }
    };
    let name = query.text("poolName");
    let ids = query.list::<PoolId>("poolIds")?;
    let is_other_kind = query.text("poolType").is_some_and(|kind| !kind.eq_ignore_ascii_case("automation"));
    let state = app.state();
    let pools: Vec<_> = state
        .pools
        .iter()
        .filter(|pool| {
            !is_other_kind
                && own.is_none_or(|own| own == pool.id)
                && name.is_none_or(|name| pool.name.eq_ignore_ascii_case(name))
                && ids.as_ref().is_none_or(|ids| ids.contains(&pool.id))
        })
        .map(|pool| pool.to_wire())
        .collect();
    Ok(Json(pools.into()))
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
) -> Result<Json<TaskAgentPool>, ApiError> {
    caller.require_pool_read(pool)?;
    let wire = app.state().pools.get(pool)?.to_wire();
    Ok(Json(wire))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    body: Unread,
) -> Result<Json<TaskAgentPool>, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let wanted: PoolChange = body.json(&app).await?;
    let mut state = app.state();
    let id = state.create_pool(&wanted.name.unwrap_or_default(), app.now())?;
    state.update_pool(id, None, wanted.auto_update)?;
    Ok(Json(state.pools.get(id)?.to_wire()))
}

async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    body: Unread,
) -> Result<Json<TaskAgentPool>, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let change: PoolChange = body.json(&app).await?;
    let mut state = app.state();
    state.update_pool(pool, change.name.as_deref(), change.auto_update)?;
    Ok(Json(state.pools.get(pool)?.to_wire()))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    app.state().delete_pool(pool)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller may manage the pool: the masks of reading are even simpler, so one answer does.
async fn has_permission(
    State(app): State<App>,
    caller: Caller,
    Path((pool, mask)): Path<(PoolId, i32)>,
) -> Result<Response, ApiError> {
    /// `View` of the pool's permissions.
    const VIEW: i32 = 1;
    app.state().pools.get(pool)?;
    let may =
        if mask == VIEW { caller.has(Scope::AgentPoolsRead) } else { caller.has(Scope::AgentPoolsManage) };
    Ok(Json(may).into_response())
}
