//! Repositories over git's smart HTTP: `{organization}/{project}/_git/{repository}`.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Router, http::HeaderMap};
use http::{StatusCode, header};

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::query::Query;
use crate::stores::git::{Encoding, Service};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_git/{repository}/info/refs", get(advertise))
        .route("/{project}/_git/{repository}/git-upload-pack", post(upload_pack))
        .route("/{project}/_git/{repository}/git-receive-pack", post(refuse_push))
}

async fn advertise(
    State(app): State<App>,
    caller: Caller,
    Path((project, repository)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match query.text("service") {
        Some("git-upload-pack") => {}
        Some("git-receive-pack") => return Err(read_only()),
        // The dumb protocol, which no git of the last ten years needs.
        _ => {
            return Err(ApiError::bad_request(
                "only the smart protocol is served: ask with `service=git-upload-pack`",
            ));
        }
    }
    serve(&app, &caller, &project, &repository, Service::Advertise, &headers, Body::empty()).await
}

async fn upload_pack(
    State(app): State<App>,
    caller: Caller,
    Path((project, repository)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    serve(&app, &caller, &project, &repository, Service::UploadPack, &headers, body).await
}

async fn refuse_push() -> ApiError {
    read_only()
}

fn read_only() -> ApiError {
    ApiError::denied("the emulator's repositories are read-only; push to where this one was cloned from")
}

async fn serve(
    app: &App,
    caller: &Caller,
    project: &str,
    repository: &str,
    service: Service,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let directory = app.state().repository_for(caller, project, repository)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let encoding = match text("content-encoding") {
        None | Some("identity") => Encoding::Identity,
        Some("gzip" | "x-gzip") => Encoding::Gzip,
        Some(other) => {
            return Err(ApiError::bad_request(format!("the content encoding `{other}` is not supported")));
        }
    };
    let output = app
        .git()
        .serve(&directory, service, text("git-protocol"), encoding, body.into_data_stream())
        .await
        .map_err(|error| ApiError::internal("could not serve the repository", &error))?;
    let fields = [(header::CONTENT_TYPE, service.content_type()), (header::CACHE_CONTROL, "no-cache")];
    Ok((StatusCode::OK, fields, Body::from_stream(output)).into_response())
}
