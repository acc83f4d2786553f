//! Agents of a pool.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use dayfly_protocol::agent::TaskAgent;
use dayfly_protocol::{AgentId, ListOf, PoolId};
use http::StatusCode;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::agents::{AgentFilter, Include};
use crate::state::demands::Demands;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/distributedtask/pools/{pool}/agents", get(list).post(create))
        .route(
            "/_apis/distributedtask/pools/{pool}/agents/{agent}",
            get(get_one).put(replace).patch(update).delete(remove),
        )
        .route(
            "/_apis/distributedtask/pools/{pool}/agents/{agent}/usercapabilities",
            put(set_user_capabilities),
        )
        .route("/_apis/distributedtask/pools/{pool}/agents/{agent}/updates", put(note_update))
}

fn include(query: &Query) -> Result<Include, ApiError> {
    Ok(Include {
        capabilities: query.flag("includeCapabilities")?,
        assigned_request: query.flag("includeAssignedRequest")?,
        last_completed_request: query.flag("includeLastCompletedRequest")?,
    })
}

/// The answer about one agent.
fn show(app: &App, pool: PoolId, agent: AgentId, include: Include) -> Result<Json<TaskAgent>, ApiError> {
    let state = app.state();
    Ok(Json(state.agent_to_wire(state.agent(pool, agent)?, include, &app.token_url())))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    query: Query,
) -> Result<Json<ListOf<TaskAgent>>, ApiError> {
    caller.require_pool_read(pool)?;
    let filter = AgentFilter {
        name: query.text("agentName").map(str::to_owned),
        demands: Demands::parse(&query.list::<String>("demands")?.unwrap_or_default())?,
    };
    let include = include(&query)?;
    let token_url = app.token_url();
    let state = app.state();
    let agents = state.agents(pool, &filter)?;
    let wire: Vec<_> =
        agents.into_iter().map(|agent| state.agent_to_wire(agent, include, &token_url)).collect();
    drop(state);
    Ok(Json(wire.into()))
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path((pool, agent)): Path<(PoolId, AgentId)>,
    query: Query,
) -> Result<Json<TaskAgent>, ApiError> {
    caller.require_pool_read(pool)?;
    show(&app, pool, agent, include(&query)?)
}

/// A registration shows its capabilities in the answer.
const REGISTERED: Include =
    Include { capabilities: true, assigned_request: false, last_completed_request: false };

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    body: Unread,
) -> Result<Json<TaskAgent>, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let wanted: TaskAgent = body.json(&app).await?;
    let agent = app.state().create_agent(pool, wanted, app.now())?;
    show(&app, pool, agent, REGISTERED)
}

async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path((pool, agent)): Path<(PoolId, AgentId)>,
    body: Unread,
) -> Result<Json<TaskAgent>, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let wanted: TaskAgent = body.json(&app).await?;
    app.state().replace_agent(pool, agent, wanted, app.now())?;
    show(&app, pool, agent, REGISTERED)
}

async fn update(
    State(app): State<App>,
    caller: Caller,
    Path((pool, agent)): Path<(PoolId, AgentId)>,
    body: Unread,
) -> Result<Json<TaskAgent>, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let change: TaskAgent = body.json(&app).await?;
    app.state().update_agent(pool, agent, change, app.now())?;
    show(&app, pool, agent, REGISTERED)
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((pool, agent)): Path<(PoolId, AgentId)>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    app.state().delete_agent(pool, agent, app.now())?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_user_capabilities(
    State(app): State<App>,
    caller: Caller,
    Path((pool, agent)): Path<(PoolId, AgentId)>,
    body: Unread,
) -> Result<Json<TaskAgent>, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let capabilities: BTreeMap<String, String> = body.json(&app).await?;
    app.state().set_user_capabilities(pool, agent, capabilities, app.now())?;
    show(&app, pool, agent, REGISTERED)
}

/// An agent tells how its update of itself goes. There are no updates here, so it is only answered.
async fn note_update(
    State(app): State<App>,
    caller: Caller,
    Path((pool, agent)): Path<(PoolId, AgentId)>,
    query: Query,
) -> Result<Json<TaskAgent>, ApiError> {
    caller.require_agent(pool, agent)?;
    tracing::debug!(%pool, %agent, state = query.text("currentState"), "agent updates itself");
    show(&app, pool, agent, Include::default())
}
