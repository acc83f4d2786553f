//! Files to be uploaded.

use std::io;
use std::path::Path;

use tokio::fs::{File, OpenOptions};

/// Opens a file to be uploaded and gives its length. What is no regular file is refused, without waiting for
/// a writer at the other end as opening a named pipe does.
///
/// # Errors
///
/// If it cannot be opened, or is no regular file.
pub async fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    options.custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let file = options.open(path).await?;
    let metadata = file.metadata().await?;
    if metadata.is_file() {
        Ok((file, metadata.len()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}
