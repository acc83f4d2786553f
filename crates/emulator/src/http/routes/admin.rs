//! `/_dayfly`: what the real service has not. For people with all rights.

use axum::extract::State;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use dayfly_protocol::{BuildId, ListOf};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use crate::app::App;
use crate::app::connections::Connection;
use crate::faults::{ActiveFault, Error, FaultRule};
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::settings::Scope;
use crate::state::Statistics;
use crate::state::server_jobs::Verdict;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_dayfly/faults", get(list_faults).post(add_faults).delete(clear_faults))
        .route("/_dayfly/faults/{id}", delete(remove_fault))
        .route("/_dayfly/connections", delete(cut_connections))
        .route("/_dayfly/sessions", delete(lose_sessions))
        .route("/_dayfly/statistics", get(statistics))
        .route("/_dayfly/validations", get(list_validations))
        .route("/_dayfly/validations/{id}", post(answer_validation))
}

/// One rule, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    Several(Vec<FaultRule>),
    One(Box<FaultRule>),
}

/// A validation that a job waits for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Validation {
    id: Uuid,
    build_id: BuildId,
    job: String,
    instructions: String,
}

#[derive(Serialize)]
struct Lost {
    sessions: usize,
}

#[derive(Serialize)]
struct Cut {
    connections: usize,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgumentValueException", error.to_string())
    }
}

async fn list_faults(State(app): State<App>, caller: Caller) -> Result<Json<ListOf<ActiveFault>>, ApiError> {
    caller.require(Scope::Full)?;
    Ok(Json(app.faults().list().into()))
}

async fn add_faults(
    State(app): State<App>,
    caller: Caller,
    body: Unread,
) -> Result<Json<ListOf<ActiveFault>>, ApiError> {
    caller.require(Scope::Full)?;
    let rules: Rules = body.json(&app).await?;
    let rules = match rules {
        Rules::Several(rules) => rules,
        Rules::One(rule) => vec![*rule],
    };
    for rule in rules {
        app.faults().add(rule)?;
    }
    Ok(Json(app.faults().list().into()))
}

async fn clear_faults(State(app): State<App>, caller: Caller) -> Result<StatusCode, ApiError> {
    caller.require(Scope::Full)?;
    app.faults().clear();
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_fault(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::Full)?;
    if app.faults().remove(id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "DataNotFoundException",
            format!("fault rule {id} does not exist"),
        ))
    }
}

/// Closes all connections but the caller's own, which has to bring the answer.
async fn cut_connections(
    State(app): State<App>,
    caller: Caller,
    Extension(own): Extension<Connection>,
) -> Result<Json<Cut>, ApiError> {
    caller.require(Scope::Full)?;
    Ok(Json(Cut { connections: app.connections().cut(Some(&own)) }))
}

async fn lose_sessions(State(app): State<App>, caller: Caller) -> Result<Json<Lost>, ApiError> {
    caller.require(Scope::Full)?;
    let sessions = app.state().end_all_sessions(app.now());
    Ok(Json(Lost { sessions }))
}

async fn list_validations(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<ListOf<Validation>>, ApiError> {
    caller.require(Scope::Full)?;
    let pending = app.state().server_jobs.validations();
    let validations = pending.into_iter().map(|pending| Validation {
        id: pending.id,
        build_id: pending.build,
        job: pending.job.identifier,
        instructions: pending.instructions,
    });
    Ok(Json(validations.collect::<Vec<_>>().into()))
}

async fn answer_validation(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    body: Unread,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::Full)?;
    let verdict: Verdict = body.json(&app).await?;
    app.state().answer_validation(id, verdict)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn statistics(State(app): State<App>, caller: Caller) -> Result<Json<Statistics>, ApiError> {
    caller.require(Scope::Full)?;
    Ok(Json(app.state().statistics()))
}
