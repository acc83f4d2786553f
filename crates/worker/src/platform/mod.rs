//! What differs between operating systems: signals to process groups, process trees, and the worker's own protection.
//!
//! Signals are POSIX; everything that reads `/proc` or needs `prctl` is in `linux` and does nothing elsewhere.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
use other as system;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A process which a job left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its process id.
    pub process_id: i32,
    /// Its short name.
    pub name: String,
}

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

/// Kills the processes in whose environment `VSTS_PROCESS_LOOKUP_ID` is `lookup_id`, wherever they moved to
/// (`JobExtension.cs`: orphans are cleaned up when the job ends), and returns them.
pub fn kill_orphans(lookup_id: &str) -> Vec<Orphan> {
    let orphans = system::processes_with_variable("VSTS_PROCESS_LOOKUP_ID", lookup_id);
    orphans
        .into_iter()
        .filter(|orphan| kill(Pid::from_raw(orphan.process_id), Signal::SIGKILL).is_ok())
        .collect()
}

/// Sends `signal` to one process.
pub(crate) fn signal(process_id: Pid, signal: Signal) -> Result<(), Errno> {
    kill(process_id, signal)
}

/// Kills the process group of `leader` and all descendants of its members, also those that left the group.
pub(crate) fn kill_tree(leader: Pid) {
    // A process may fork between the look at the tree and the kill: look again until nothing is left.
    for _ in 0..3 {
        let escaped = system::tree_outside_of_group(leader);
        let group_is_gone = killpg(leader, Signal::SIGKILL).is_err();
        for process_id in &escaped {
            // Gone already is what we want.
            let _ = kill(*process_id, Signal::SIGKILL);
        }
        if group_is_gone && escaped.is_empty() {
            break;
        }
    }
}

/// Makes the kernel prefer the process for its out-of-memory killer (higher is sooner, -1000 to 1000).
pub(crate) fn adjust_out_of_memory_score(process_id: Pid, score: i32) {
    system::adjust_out_of_memory_score(process_id, score);
}
