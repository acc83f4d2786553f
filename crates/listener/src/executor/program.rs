//! The program of a worker, as a file that nobody may read.
//!
//! A process can hide its memory, environment and open files from others of its user only once it runs;
//! whoever opens `/proc/PID/mem` between its start and that moment keeps it open, and reads the job's token
//! there later. The kernel hides a process from the start on when its program cannot be read (`would_dump` in
//! the kernel's `fs/exec.c`). So workers are started from a copy in memory with the mode 0111, which no path
//! leads to but `/proc/self/fd` of this very process. It also stays what it is when the file is replaced by
//! another version.

use std::{
    fs::{File, Permissions},
    io::{self, Read as _, Seek as _},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A program and its copy.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// None where there can be no copy.
    hidden: Option<Arc<File>>,
}

impl Program {
    /// Copies the program at `path`. Where that fails, it is started from there, and hides itself a moment
    /// later.
    pub(crate) fn new(path: PathBuf) -> Self {
        let hidden = copy(&path)
            .inspect_err(|error| {
                tracing::debug!(%error, program = %path.display(), "cannot hide the program of a worker");
            })
            .ok();
        Self { path, hidden: hidden.map(Arc::new) }
    }

    /// Where it is for users.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the copy, for a child that is about to be started.
    pub(crate) fn hidden_path(&self) -> Option<PathBuf> {
        let file = self.hidden.as_ref()?;
        Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into())
    }
}

#[cfg(target_os = "linux")]
fn copy(path: &Path) -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};

    let mut program = File::open(path)?;
    let mut magic = [0; 4];
    program.read_exact(&mut magic)?;
    if magic != *b"\x7fELF" {
        // The interpreter of a script would have to read it.
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is not an ELF program"));
    }
    program.rewind()?;
    let mut copy = File::from(memfd_create("dayfly", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut program, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(0o111))?;
    Ok(copy)
}

#[cfg(not(target_os = "linux"))]
fn copy(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
