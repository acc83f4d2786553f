//! The routes: one file per resource. Each checks what its caller may do.

mod admin;
mod agents;
mod artifacts;
mod attachments;
mod build_wire;
mod builds;
mod connection_data;
mod containers;
mod definitions;
mod events;
mod feature_flags;
mod feed;
mod git;
mod job_requests;
mod logs;
mod messages;
pub(crate) mod oauth;
mod pages;
mod pipelines;
mod plans;
mod pools;
mod projects;
mod queues;
mod repositories;
mod secure_files;
mod sessions;
mod tasks;
mod telemetry;
mod test_runs;
mod timelines;

use axum::Router;
use http::{Method, StatusCode, Uri};

use super::error::ApiError;
use crate::app::App;

/// All routes, below the organization and in lower case.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .merge(admin::routes())
        .merge(agents::routes())
        .merge(artifacts::routes())
        .merge(attachments::routes())
        .merge(builds::routes())
        .merge(connection_data::routes())
        .merge(containers::routes())
        .merge(definitions::routes())
        .merge(events::routes())
        .merge(feature_flags::routes())
        .merge(feed::routes())
        .merge(git::routes())
        .merge(job_requests::routes())
        .merge(super::locations::routes())
        .merge(logs::routes())
        .merge(messages::routes())
        .merge(oauth::routes())
        .merge(pages::routes())
        .merge(pipelines::routes())
        .merge(plans::routes())
        .merge(pools::routes())
        .merge(projects::routes())
        .merge(queues::routes())
        .merge(repositories::routes())
        .merge(secure_files::routes())
        .merge(sessions::routes())
        .merge(tasks::routes())
        .merge(telemetry::routes())
        .merge(test_runs::routes())
        .merge(timelines::routes())
        .fallback(async |uri: Uri| ApiError::no_route(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let message =
                format!("the requested resource {} does not support http method '{method}'", uri.path());
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "VssRequestMethodNotSupportedException", message)
        })
}
