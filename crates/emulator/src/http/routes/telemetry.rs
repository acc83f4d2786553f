//! Customer intelligence: what agents tell about themselves. Taken and forgotten. And packages: there is
//! none, so no agent is ever told to update itself.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use dayfly_protocol::ListOf;
use http::StatusCode;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Unread};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/customerintelligence/events", post(take))
        .route("/_apis/distributedtask/packages", get(no_packages))
        .route("/_apis/distributedtask/packages/{kind}", get(no_packages))
        .route("/_apis/distributedtask/packages/{kind}/{platform}", get(no_packages))
        .route("/_apis/distributedtask/packages/{kind}/{platform}/{version}", get(no_package))
}

async fn take(State(app): State<App>, _: Caller, body: Unread) -> Result<StatusCode, ApiError> {
    body.discard(&app).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn no_packages(_: Caller) -> Json<ListOf<()>> {
    Json(Vec::new().into())
}

async fn no_package(_: Caller) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "PackageNotFoundException", "this emulator has no agent packages")
}
