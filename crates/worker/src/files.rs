//! Questions to the file system. They may take long (a network share), so they are asked beside the async
//! threads.

use std::path::Path;

/// Whether there is a file, perhaps by a link.
pub(crate) async fn is_file(path: impl AsRef<Path>) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_file())
}

/// Whether there is a folder, perhaps by a link.
pub(crate) async fn is_folder(path: impl AsRef<Path>) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

/// Whether there is anything, perhaps by a link.
pub(crate) async fn exists(path: impl AsRef<Path>) -> bool {
    tokio::fs::metadata(path).await.is_ok()
}
