//! Folders of a container as a zip file.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use super::containers::to_api;
use super::error::ApiError;
use crate::containers::FileContainers;

/// Sends a folder of a container. The file is gone when it has been sent.
pub(crate) async fn download(
    containers: &FileContainers,
    container: i64,
    path: &str,
) -> Result<Response, ApiError> {
    let (file, length) = containers.zip(container, path).await.map_err(to_api)?;
    let opened = tokio::fs::File::open(&file)
        .await
        .map_err(|error| ApiError::internal("the zip file could not be read", &error))?;
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
    let bytes = tokio_util::io::ReaderStream::with_capacity(opened, 64 << 10);
    Ok((StatusCode::OK, fields, Body::from_stream(bytes)).into_response())
}
