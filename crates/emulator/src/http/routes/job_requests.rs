//! Job requests of a pool. Renewing and finishing share a PATCH: a body with a result finishes
//! (`TaskAgentHttpClient.cs`). Scalers read the list (`azure_pipelines_scaler.go`).

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dayfly_protocol::job_request::TaskAgentJobRequest;
use dayfly_protocol::{AgentId, ListOf, PoolId, RequestId, TaskResult};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::http::query::Query;
use crate::state::requests::RequestFilter;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/_apis/distributedtask/pools/{pool}/jobrequests", get(list)).route(
        "/_apis/distributedtask/pools/{pool}/jobrequests/{request}",
        get(get_one).patch(renew_or_finish).delete(abandon),
    )
}

/// Where the next part of a list begins.
const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuationtoken");

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(pool): Path<PoolId>,
    query: Query,
) -> Result<Response, ApiError> {
    caller.require_pool_read(pool)?;
    let agents = match query.value::<AgentId>("agentId")? {
        Some(agent) => Some(vec![agent]),
        None => query.list("agentIds")?,
    };
    let filter = RequestFilter {
        completed: query.value("completedRequestCount")?,
        agents,
        plan: query.value("planId")?,
        job: query.value("jobId")?,
        top: query.value("$top")?,
        skip: query.value("continuationToken")?.unwrap_or_default(),
    };
    let page = app.state().list_requests(pool, &filter)?;
    let mut response = Json(ListOf::from(page.items)).into_response();
    if let Some(next) = page.next {
        response.headers_mut().insert(CONTINUATION, HeaderValue::from(next));
    }
    Ok(response)
}

async fn get_one(
    State(app): State<App>,
    caller: Caller,
    Path((pool, request)): Path<(PoolId, RequestId)>,
) -> Result<Json<TaskAgentJobRequest>, ApiError> {
    caller.require_pool_read(pool)?;
    let state = app.state();
    Ok(Json(state.request_to_wire(state.request(pool, request)?, true)))
}

/// What of a request matters in a PATCH.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestChange {
    request_id: Option<RequestId>,
    result: Option<TaskResult>,
}

async fn renew_or_finish(
    State(app): State<App>,
    caller: Caller,
    Path((pool, request)): Path<(PoolId, RequestId)>,
    body: Unread,
) -> Result<Json<TaskAgentJobRequest>, ApiError> {
    let agent = caller.require_any_agent(pool)?;
    let change: RequestChange = body.json(&app).await?;
    if change.request_id.is_some_and(|named| named != request) {
        return Err(ApiError::invalid_body("its request is not the one in the URL"));
    }
    let mut state = app.state();
    match change.result {
        Some(result) => state.finish_request(pool, request, agent, result, app.now())?,
        None => state.renew(pool, request, agent, app.now())?,
    }
    Ok(Json(state.request_to_wire(state.request(pool, request)?, false)))
}

async fn abandon(
    State(app): State<App>,
    caller: Caller,
    Path((pool, request)): Path<(PoolId, RequestId)>,
    query: Query,
) -> Result<StatusCode, ApiError> {
    let agent = caller.require_any_agent(pool)?;
    let result = match query.text("result") {
        None => TaskResult::Abandoned,
        Some(text) => TaskResult::from_name(text)
            .or_else(|| text.parse().ok().and_then(TaskResult::from_number))
            .ok_or_else(|| ApiError::invalid_parameter("result", text))?,
    };
    app.state().finish_request(pool, request, agent, result, app.now())?;
    Ok(StatusCode::NO_CONTENT)
}
