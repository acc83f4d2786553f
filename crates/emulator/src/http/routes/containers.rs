//! File containers: `PUT` stores a chunk of a file, `GET` lists or reads (`FileContainerHttpClient.cs`).

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dayfly_protocol::artifact::FileContainerItem;
use dayfly_protocol::{ContainerId, ListOf};
use http::{HeaderMap, StatusCode, header};
use tokio_util::io::ReaderStream;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};
use crate::http::query::Query;
use crate::http::zip;
use crate::stores::containers::{Chunk, Content, Item, Stored};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/resources/containers/{container}", get(read).put(put))
        .route("/_apis/resources/containers/{container}/{*path}", get(read_path).put(put_path))
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(container): Path<i64>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = query.text("itemPath").unwrap_or_default().to_owned();
    read_item(&app, &caller, container, &path, &query, &headers).await
}

async fn read_path(
    State(app): State<App>,
    caller: Caller,
    Path((container, path)): Path<(i64, String)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    read_item(&app, &caller, container, &path, &query, &headers).await
}

async fn read_item(
    app: &App,
    caller: &Caller,
    container: i64,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    app.state().require_container_read(caller, ContainerId(container))?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = query.text("$format").unwrap_or_default();
    if accept.contains("application/zip") || format.eq_ignore_ascii_case("zip") {
        return zip::download(app.containers(), container, path).await;
    }
    // The client says by `Accept` whether it wants the bytes of a file or the list of what is below a path.
    if accept.contains("application/octet-stream") || format.eq_ignore_ascii_case("octetstream") {
        return stream_file(app, container, path).await;
    }
    let items = app.containers().list(container, path)?;
    let items: Vec<_> = items.into_iter().map(|item| wire_item(container, item)).collect();
    Ok(Json(ListOf::from(items)).into_response())
}

/// Sends one file.
pub(crate) async fn stream_file(app: &App, container: i64, path: &str) -> Result<Response, ApiError> {
    let (content, length) = app.containers().read(container, path).await?;
    let body = match content {
        Content::Bytes(bytes) => Body::from(bytes),
        Content::File(file) => Body::from_stream(ReaderStream::with_capacity(file, 64 << 10)),
    };
    let fields = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((StatusCode::OK, fields, body).into_response())
}

async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(container): Path<i64>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    // As it is: a file's name may begin or end with a space.
    let path = query.text("itemPath").ok_or_else(|| ApiError::missing_parameter("itemPath"))?;
    put_item(&app, &caller, container, path, &headers, body).await
}

async fn put_path(
    State(app): State<App>,
    caller: Caller,
    Path((container, path)): Path<(i64, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    put_item(&app, &caller, container, &path, &headers, body).await
}

/// 201 when a file is complete, 202 while chunks are missing.
async fn put_item(
    app: &App,
    caller: &Caller,
    container: i64,
    path: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    app.state().require_container_write(caller, ContainerId(container))?;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_gzip = match text(header::CONTENT_ENCODING) {
        None | Some("identity") => false,
        Some("gzip") => true,
        Some(other) => {
            return Err(ApiError::bad_request(format!("the content encoding `{other}` is not supported")));
        }
    };
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let chunk = match (text(header::CONTENT_RANGE), length) {
        (Some(range), length) => {
            let chunk = Chunk::parse(range, is_gzip)
                .filter(|chunk| length.is_none_or(|length| length == chunk.length));
            Some(chunk.ok_or_else(|| {
                ApiError::bad_request(format!("`{range}` is not a valid Content-Range for this request"))
            })?)
        }
        (None, Some(0)) => None,
        (None, Some(length)) => Some(Chunk { start: 0, length, total: length, is_gzip }),
        // Without a length there is none to come, as in HTTP/2, or the pieces of the body say where it ends.
        (None, None) if body.is_end_stream() => None,
        (None, None) => {
            return Err(ApiError::bad_request("a chunk needs a `Content-Range` or a `Content-Length`"));
        }
    };
    let stored = app.containers().put(container, path, chunk, app.now(), body.into_data_stream()).await?;
    let item = FileContainerItem {
        container_id: ContainerId(container),
        path: path.to_owned(),
        item_type: "file".to_owned(),
        status: if stored == Stored::Whole { "created" } else { "pendingUpload" }.to_owned(),
        ..FileContainerItem::default()
    };
    let status = if stored == Stored::Whole { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    Ok((status, Json(item)).into_response())
}

fn wire_item(container: i64, item: Item) -> FileContainerItem {
    let is_complete = item.file.as_ref().is_none_or(|file| file.is_complete);
    FileContainerItem {
        container_id: ContainerId(container),
        path: item.path,
        item_type: if item.file.is_some() { "file" } else { "folder" }.to_owned(),
        status: if is_complete { "created" } else { "pendingUpload" }.to_owned(),
        file_length: item.file.map_or(0, |file| i64::try_from(file.length).unwrap_or(i64::MAX)),
    }
}
