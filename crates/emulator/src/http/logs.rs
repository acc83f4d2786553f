//! Logs of a plan: made, appended to block by block, read by lines.

use std::io::Write;
use std::path::PathBuf;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use dayfly_protocol::logs::TaskLog;
use dayfly_protocol::{ListOf, LogId, PlanId};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use tokio_util::io::ReaderStream;

use super::caller::Caller;
use super::error::ApiError;
use super::extract::{Json, Path, Upload};
use super::query::Query;
use crate::app::App;
use crate::settings::Scope;
use crate::state::Error;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/logs", post(create).get(list))
        .route("/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}/logs/{log}", post(append).get(read))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): Path<(String, String, PlanId)>,
    Json(wanted): Json<TaskLog>,
) -> Result<Json<TaskLog>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    let mut state = app.state();
    state.plan_at(&project, &hub, plan)?;
    Ok(Json(state.create_log(plan, wanted.path, app.now())?))
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan)): Path<(String, String, PlanId)>,
) -> Result<Json<ListOf<TaskLog>>, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let state = app.state();
    let logs: Vec<_> = state.plan_at(&project, &hub, plan)?.logs.values().map(|log| log.to_wire()).collect();
    Ok(Json(logs.into()))
}

/// Appends one block. It is in the file as a whole or not at all as far as the line count goes: a block whose
/// request breaks off is not written.
async fn append(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, log)): Path<(String, String, PlanId, LogId)>,
    Upload(block): Upload,
) -> Result<Json<TaskLog>, ApiError> {
    caller.require_plan(plan, Scope::Full)?;
    let bytes = block.len() as u64;
    let append = {
        let mut state = app.state();
        state.plan_at(&project, &hub, plan)?;
        state.begin_append(plan, log, bytes)?
    };
    let place = app.hub().place().await;
    let writer = append.writer.lock().await;
    let line_ends = memchr::memchr_iter(b'\n', &block).count();
    let has_open_line = block.last().map(|last| *last != b'\n');
    if let Err(error) = write_block(append.file.clone(), block).await {
        app.state().plans.release(plan, bytes);
        return Err(ApiError::internal("could not write a log", &error));
    }
    let wire = app.state().end_append(plan, log, line_ends, has_open_line, app.now(), place)?;
    drop(writer);
    Ok(Json(wire))
}

async fn write_block(file: PathBuf, block: Bytes) -> std::io::Result<()> {
    tokio::task::spawn_blocking(move || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(&block)
    })
    .await
    .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path((project, hub, plan, log)): Path<(String, String, PlanId, LogId)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.require_plan(plan, Scope::BuildRead)?;
    let file = {
        let state = app.state();
        let found = state.plan_at(&project, &hub, plan)?;
        found.logs.get(&log).ok_or(Error::LogNotFound(log))?.file.clone()
    };
    let lines = Lines { first: query.value("startLine")?, last: query.value("endLine")? };
    respond(file, lines, &headers).await
}

/// Which lines of a log are wanted, counted from 0, both included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lines {
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
}

impl Lines {
    fn is_all(self) -> bool {
        self.first.is_none_or(|first| first == 0) && self.last.is_none()
    }
}

/// At most so many lines are sent as JSON, which is made in memory.
const JSON_LINES_MAX: usize = 100_000;

/// Answers with a log's lines: as a list when the client asks for JSON, else as text. A whole text is streamed.
pub(crate) async fn respond(file: PathBuf, lines: Lines, headers: &HeaderMap) -> Result<Response, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants_json = accept.to_ascii_lowercase().contains("json");
    if !wants_json && lines.is_all() {
        let body = match tokio::fs::File::open(&file).await {
            Ok(file) => Body::from_stream(ReaderStream::new(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Body::empty(),
            Err(error) => return Err(ApiError::internal("could not read a log", &error)),
        };
        return Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response());
    }
    let read = tokio::task::spawn_blocking(move || read_lines(&file, lines)).await;
    let text = read
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| ApiError::internal("could not read a log", &error))?;
    if wants_json {
        return Ok(Json(ListOf::from(text)).into_response());
    }
    let mut joined = text.join("\n");
    if !joined.is_empty() {
        joined.push('\n');
    }
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], joined).into_response())
}

/// The wanted lines of a file, without their ends and without a byte order mark.
fn read_lines(file: &std::path::Path, lines: Lines) -> std::io::Result<Vec<String>> {
    use std::io::BufRead;

    let file = match std::fs::File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let first = usize::try_from(lines.first.unwrap_or_default()).unwrap_or(usize::MAX);
    let wanted = lines.last.map_or(JSON_LINES_MAX, |last| {
        usize::try_from(last.saturating_add(1))
            .unwrap_or(usize::MAX)
            .saturating_sub(first)
            .min(JSON_LINES_MAX)
    });
    std::io::BufReader::new(file)
        .split(b'\n')
        .skip(first)
        .take(wanted)
        .map(|line| {
            let line = line?;
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            Ok(String::from_utf8_lossy(line).into_owned())
        })
        .collect()
}
