//! Sessions: while an agent has one, it is online.

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, post};
use dayfly_protocol::crypto::SessionKey;
use dayfly_protocol::session::TaskAgentSession;
use dayfly_protocol::{PoolId, SessionId};
use http::StatusCode;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/distributedtask/pools/{pool}/sessions", post(create))
        .route("/_apis/distributedtask/pools/{pool}/sessions/{session}", delete(remove))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    body: Unread,
) -> Result<Json<TaskAgentSession>, ApiError> {
    caller.require_any_agent(pool)?;
    let wanted: TaskAgentSession = body.json(&app).await?;
    let agent = wanted.agent.id;
    caller.require_agent(pool, agent)?;
    let public_key = {
        let state = app.state();
        let agent = state.agent(pool, agent)?;
        agent.public_key.clone().ok_or_else(|| crate::state::Error::NoPublicKey(agent.name.clone()))?
    };
    let failed =
        |error: dayfly_protocol::crypto::Error| ApiError::internal("could not make a session key", &error);
    let key =
        if app.settings().encrypt_messages { Some(SessionKey::generate().map_err(failed)?) } else { None };
    // Wrapping costs some tens of microseconds, so it is done before the state is locked.
    let encryption_key = key.as_ref().map(|key| key.to_wire(&public_key)).transpose().map_err(failed)?;
    let owner_name = wanted.owner_name.clone();
    let mut state = app.state();
    let session_id = state.create_session(pool, wanted, key, app.now())?;
    let agent = state.agent(pool, agent)?.reference();
    Ok(Json(TaskAgentSession { session_id, owner_name, agent, system_capabilities: None, encryption_key }))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((pool, session)): Path<(PoolId, SessionId)>,
) -> Result<StatusCode, ApiError> {
    let mut state = app.state();
    if let Some(agent) = state.sessions.agent(pool, session) {
        caller.require_agent(pool, agent)?;
    } else {
        caller.require_any_agent(pool)?;
    }
    state.delete_session(pool, session, app.now())?;
    Ok(StatusCode::NO_CONTENT)
}
