//! Linux: `/proc` and `prctl`.

use std::path::Path;
use std::{fs, io};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Pid, Uid};

pub(super) fn protect() -> io::Result<()> {
    // Only the soft limit: a step that wants core dumps of its own programs may raise it again.
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    // Also hands /proc/self to root, so that a step of the same user can read neither environ nor mem.
    prctl::set_dumpable(false)?;
    Ok(())
}

pub(super) fn tracer() -> Option<i32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    tracer.trim().parse().ok().filter(|tracer| *tracer != 0)
}

pub(super) fn adjust_out_of_memory_score(process_id: Pid, score: i32) {
    // The process may be gone already, and lowering the score needs privileges: both are fine.
    if let Err(error) = fs::write(format!("/proc/{process_id}/oom_score_adj"), score.to_string()) {
        tracing::debug!(%process_id, %error, "the out-of-memory score stays as it is");
    }
}

pub(super) fn become_user(user: Uid, group: Gid, groups: &[Gid]) -> nix::Result<()> {
    nix::unistd::setgroups(groups)?;
    nix::unistd::setgid(group)?;
    nix::unistd::setuid(user)
}

pub(super) fn forbids_programs(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|system| system.flags().contains(FsFlags::ST_NOEXEC))
}
