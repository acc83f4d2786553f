//! Attachments of timeline records.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use dayfly_protocol::logs::TaskAttachment;
use dayfly_protocol::{ListOf, PlanId, RecordId, TimelineId};
use http::header::CONTENT_TYPE;
use tokio_util::io::ReaderStream;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path, Unread};
use crate::settings::Scope;
use crate::state::Error;
use crate::state::attachments::{Attachment, AttachmentKey};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/timelines/{timeline}/records/{record}/attachments/{kind}/{name}",
            put(upload).get(download),
        )
        .route(
            "/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/timelines/{timeline}/records/{record}/attachments/{kind}",
            get(list_of_record),
        )
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/attachments/{kind}", get(list))
}

type AttachmentPath = Path<(String, String, PlanId, TimelineId, RecordId, String, String)>;

/// Keeps an attachment. Once it is begun, it is written and counted even when the connection is cut.
async fn upload(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline, record, kind, name)): AttachmentPath,
    body: Unread,
) -> Result<Json<TaskAttachment>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    app.state().plan_at(&project, &hub, plan)?;
    let content = body.upload(&app).await?;
    let key = AttachmentKey { timeline, record, kind, name };
    let disk = app.disk().clone();
    let kept = disk.run(move || keep(&app, plan, key, &content));
    Ok(Json(kept.await.map_err(broken)??))
}

fn keep(app: &App, plan: PlanId, key: AttachmentKey, content: &[u8]) -> Result<TaskAttachment, ApiError> {
    let (file, on_disk) = app.state().begin_attachment(plan, &key, content.len() as u64)?;
    if let Err(error) = write_file(&file, content) {
        delete(&file);
        return Err(broken(error));
    }
    let attachment = Attachment { created_on: app.now(), file, _on_disk: on_disk };
    let wire = key.to_wire(&attachment);
    let former = app.state().end_attachment(plan, key, attachment)?;
    if let Some(former) = former {
        delete(&former.file);
    }
    Ok(wire)
}

fn broken(error: std::io::Error) -> ApiError {
    ApiError::internal("could not write an attachment", &error)
}

fn write_file(file: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, content)
}

/// Deletes a file that no attachment has any more.
fn delete(file: &std::path::Path) {
    if let Err(error) = std::fs::remove_file(file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "could not delete a file of an attachment");
    }
}

async fn download(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline, record, kind, name)): AttachmentPath,
) -> Result<Response, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let file = {
        let state = app.state();
        let found = state.plan_at(&project, &hub, plan)?;
        let key = AttachmentKey { timeline, record, kind, name };
        let attachment = found.attachments.get(&key);
        attachment.ok_or_else(|| Error::AttachmentNotFound(key.name.clone()))?.file.clone()
    };
    let file = tokio::fs::File::open(&file)
        .await
        .map_err(|error| ApiError::internal("could not read an attachment", &error))?;
    let body = Body::from_stream(ReaderStream::new(file));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, kind)): Path<(String, String, PlanId, String)>,
) -> Result<Json<ListOf<TaskAttachment>>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let state = app.state();
    let found = state.plan_at(&project, &hub, plan)?;
    let matching = found.attachments.iter().filter(|(key, _)| key.kind.eq_ignore_ascii_case(&kind));
    Ok(Json(matching.map(|(key, attachment)| key.to_wire(attachment)).collect::<Vec<_>>().into()))
}

async fn list_of_record(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, timeline, record, kind)): Path<(
        String,
        String,
        PlanId,
        TimelineId,
        RecordId,
        String,
    )>,
) -> Result<Json<ListOf<TaskAttachment>>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let state = app.state();
    let found = state.plan_at(&project, &hub, plan)?;
    let matching = found.attachments.iter().filter(|(key, _)| {
        key.timeline == timeline && key.record == record && key.kind.eq_ignore_ascii_case(&kind)
    });
    Ok(Json(matching.map(|(key, attachment)| key.to_wire(attachment)).collect::<Vec<_>>().into()))
}
