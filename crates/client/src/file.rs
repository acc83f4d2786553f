//! Files to be uploaded.

use std::io;
use std::path::Path;

use tokio::fs::File;

/// Opens a file to be uploaded and gives its length. What is no regular file is refused, without waiting for
/// a writer at the other end as opening a named pipe does.
///
/// # Errors
///
/// If it cannot be opened, or is no regular file.
pub async fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || open_file_blocking(&path)).await;
    let (file, length) = opened.map_err(io::Error::other)??;
    Ok((File::from_std(file), length))
}

/// [`open_file`] for a thread that may wait for the disk.
///
/// # Errors
///
/// As there.
pub fn open_file_blocking(path: &Path) -> io::Result<(std::fs::File, u64)> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata.len()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}
