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

/// The bytes of a file that has at most so many; else says why it is not read. It waits for the disk.
pub(crate) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > most {
        return Err(format!("it has {length} bytes, and at most {most} are taken"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

/// The same for a text in UTF-8.
pub(crate) fn read_bounded_text(path: &Path, most: u64) -> Result<String, String> {
    String::from_utf8(read_bounded(path, most)?).map_err(|error| error.to_string())
}
