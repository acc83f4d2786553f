//! What differs between operating systems: the worker's own protection, and what becomes of the processes of
//! its job.
//!
//! Everything that reads `/proc` or needs `prctl` is in `linux` and does nothing elsewhere.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
use other as system;

use std::time::Duration;

use dayfly_processes::{Ended, kill, orphans};
use nix::unistd::{Gid, Pid, Uid};

/// How long what a job left running may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Keeps other processes of the same user, among them the job's steps, from reading this process's memory and
/// environment, and keeps its memory out of core dumps. To be called once, before a job message is read.
///
/// # Errors
///
/// The operating system's refusal. On systems other than Linux nothing is done.
pub fn protect() -> std::io::Result<()> {
    system::protect()
}

/// The process that traces this one, if there is one.
pub(crate) fn tracer() -> Option<i32> {
    system::tracer()
}

/// Kills what a job has left running, and returns whom: processes in whose environment
/// `VSTS_PROCESS_LOOKUP_ID` is `lookup_id`, wherever they moved to (`JobExtension.cs`: orphans are cleaned up
/// when the job ends), and all orphans that the worker's process has adopted.
pub fn kill_orphans(lookup_id: &str) -> Vec<Ended> {
    let mut ended = kill::with_variable("VSTS_PROCESS_LOOKUP_ID", lookup_id, None);
    ended.extend(orphans::end_all(KILL_PATIENCE));
    ended.sort_unstable_by_key(|ended| ended.process_id);
    ended.dedup_by_key(|ended| ended.process_id);
    ended
}

/// Makes the kernel prefer the process for its out-of-memory killer (higher is sooner, -1000 to 1000).
pub(crate) fn adjust_out_of_memory_score(process_id: Pid, score: i32) {
    system::adjust_out_of_memory_score(process_id, score);
}

/// Gives this process another user for good, with exactly these groups.
pub(crate) fn become_user(user: Uid, group: Gid, groups: &[Gid]) -> nix::Result<()> {
    system::become_user(user, group, groups)
}

/// Whether no program can be run from a folder's file system.
pub(crate) fn forbids_programs(folder: &std::path::Path) -> bool {
    system::forbids_programs(folder)
}
