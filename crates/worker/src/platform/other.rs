//! Systems without `/proc` and `prctl`: process groups are all we have.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Pid, Uid};

pub(super) fn protect() -> io::Result<()> {
    Ok(())
}

pub(super) fn tracer() -> Option<i32> {
    None
}

pub(super) fn adjust_out_of_memory_score(_process_id: Pid, _score: i32) {}

/// Containers run Linux, so no step host runs here.
pub(super) fn become_user(_user: Uid, _group: Gid, _groups: &[Gid]) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}

pub(super) fn forbids_programs(_folder: &Path) -> bool {
    false
}
