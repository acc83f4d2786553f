//! Folders of a container as a zip file.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http::{StatusCode, header};
use tokio_util::io::ReaderStream;

use super::error::ApiError;
use crate::stores::containers::{FileContainers, Zip};

/// Sends a folder of a container. The file is gone when it has been sent.
pub(crate) async fn download(
    containers: &FileContainers,
    container: i64,
    path: &str,
) -> Result<Response, ApiError> {
    let Zip { file, length, on_disk } = containers.zip(container, path).await?;
    let name = path.trim_matches('/').rsplit('/').next().unwrap_or_default();
    let name: String = name
        .chars()
        .map(|letter| if letter.is_ascii_graphic() && letter != '"' { letter } else { '_' })
        .collect();
    let fields = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.zip\"")),
    ];
    let bytes = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
    // Its place on disk is free when the body has been sent.
    let bytes = bytes.inspect(move |_| {
        let _held = &on_disk;
    });
    Ok((StatusCode::OK, fields, Body::from_stream(bytes)).into_response())
}
