//! Secure files of the library: jobs download those that they name.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{StatusCode, header};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::Error;

/// How much is sent at a time.
const BLOCK_BYTES: usize = 64 << 10;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/{project}/_apis/distributedtask/securefiles/{file}", get(download))
}

/// The content, for the job that was given the ticket. There is nobody else for whom files are kept.
async fn download(
    State(app): State<App>,
    caller: Caller,
    Path((project, file)): Path<(String, Uuid)>,
    query: Query,
) -> Result<Response, ApiError> {
    let Some(plan) = caller.plan() else {
        caller.require(Scope::Full)?;
        return Err(Error::SecureFileNotFound(file).into());
    };
    let ticket = query.value::<String>("ticket")?.unwrap_or_default();
    let path = {
        let state = app.state();
        let project = state.projects.find(&project)?.id;
        state.secure_file(project, plan, file, &ticket)?.path.clone()
    };
    let unreadable = |error| ApiError::internal("could not read the secure file", &error);
    let content = tokio::fs::File::open(&path).await.map_err(unreadable)?;
    let body = Body::from_stream(ReaderStream::with_capacity(content, BLOCK_BYTES));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
