//! Messages of a session: the long poll, and deleting what was handled.

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use dayfly_protocol::message::{AgentRefreshMessage, TaskAgentMessage};
use dayfly_protocol::{AgentId, MessageId, PoolId, SessionId};
use http::StatusCode;
use secrecy::ExposeSecret;
use tokio::sync::Notify;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::sessions::Delivery;
use crate::state::tokens::Principal;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/distributedtask/pools/{pool}/messages", get(poll).post(refresh))
        .route("/_apis/distributedtask/pools/{pool}/messages/{message}", delete(remove))
}

/// An open poll; the session counts as alive while there is one.
struct OpenPoll {
    app: App,
    session: SessionId,
    wake: Arc<Notify>,
}

impl OpenPoll {
    fn begin(app: &App, caller: &Caller, pool: PoolId, session: SessionId) -> Result<Self, ApiError> {
        let mut state = app.state();
        check_session(&state, caller, pool, session)?;
        let wake = state.begin_poll(pool, session, app.now())?;
        drop(state);
        Ok(Self { app: app.clone(), session, wake })
    }
}

impl Drop for OpenPoll {
    /// Also when the agent hangs up.
    fn drop(&mut self) {
        self.app.state().end_poll(self.session, self.app.now());
    }
}

/// Lets the session's own agent pass. An agent that was deleted is told so, also when its session is gone
/// with it.
fn check_session(
    state: &crate::state::State,
    caller: &Caller,
    pool: PoolId,
    session: SessionId,
) -> Result<(), ApiError> {
    if let Principal::Agent { pool, agent, .. } = &caller.0 {
        state.agent(*pool, *agent)?;
    }
    match state.sessions.agent(pool, session) {
        Some(agent) => caller.require_agent(pool, agent),
        None => caller.require_any_agent(pool).map(|_| ()),
    }
}

async fn poll(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    query: Query,
) -> Result<Response, ApiError> {
    let session = query.required("sessionId")?;
    let last = query.value::<MessageId>("lastMessageId")?;
    let open = OpenPoll::begin(&app, &caller, pool, session)?;
    let deadline = tokio::time::Instant::now() + app.settings().poll_hold;
    loop {
        // Registered before looking, so that no message can come in between.
        let mut woken = pin!(open.wake.notified());
        woken.as_mut().enable();
        let delivery = app.state().next_message(pool, session, last)?;
        if let Some(delivery) = delivery {
            return Ok(Json(seal(delivery)?).into_response());
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(deadline) => return Ok(StatusCode::ACCEPTED.into_response()),
            () = app.stop().cancelled() => return Ok(StatusCode::ACCEPTED.into_response()),
        }
    }
}

/// The message as it travels: encrypted when the session has a key.
fn seal(delivery: Delivery) -> Result<TaskAgentMessage, ApiError> {
    let body = delivery.body.expose_secret();
    match delivery.key {
        Some(key) => key
            .seal(delivery.id, delivery.kind, body.as_bytes())
            .map_err(|error| ApiError::internal("could not encrypt a message", &error)),
        None => Ok(TaskAgentMessage {
            message_id: delivery.id,
            message_type: delivery.kind.to_owned(),
            iv: None,
            body: body.to_owned(),
        }),
    }
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((pool, message)): Path<(PoolId, MessageId)>,
    query: Query,
) -> Result<StatusCode, ApiError> {
    let session = query.required("sessionId")?;
    let mut state = app.state();
    check_session(&state, &caller, pool, session)?;
    state.delete_message(pool, session, message, app.now())?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks one agent, or all of the pool, to update itself. The body may name a version.
async fn refresh(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    query: Query,
    body: Unread,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::AgentPoolsManage)?;
    let body = body.upload(&app).await?;
    let wanted: AgentRefreshMessage = if body.is_empty() {
        AgentRefreshMessage::default()
    } else {
        dayfly_protocol::json::from_slice(&body).map_err(ApiError::invalid_body)?
    };
    let mut state = app.state();
    let agents = match query.value::<AgentId>("agentId")? {
        Some(agent) => vec![agent],
        None => state.pools.get(pool)?.agents.keys().copied().collect(),
    };
    for agent in agents {
        state.push_refresh(pool, agent, &AgentRefreshMessage { agent_id: agent, ..wanted.clone() })?;
    }
    Ok(StatusCode::NO_CONTENT)
}
