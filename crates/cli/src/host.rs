//! This machine's name, where things are kept on it, and this process's protection on it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dayfly_processes::orphans::{self, Adopt};
use tokio::signal::unix::{SignalKind, signal};

/// Pause between two looks for orphans that have ended.
const REAP_PAUSE: Duration = Duration::from_millis(250);

/// The host name, as `uname -n` says it.
pub(crate) fn name() -> anyhow::Result<String> {
    let uname = nix::sys::utsname::uname().context("could not find out this machine's name")?;
    Ok(uname.nodename().to_string_lossy().into_owned())
}

/// Where Dayfly keeps what commands find again; none where there is neither `XDG_STATE_HOME` nor a home.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("dayfly"))
}

/// Where Dayfly keeps what can be had again, by kind; none where there is neither `XDG_CACHE_HOME` nor a
/// home.
pub(crate) fn cache_folder(kind: &str) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("dayfly").join(kind))
}

/// Whether this process was started to ignore SIGHUP. Where that cannot be found out, it is left as it is.
pub(crate) fn ignores_hangup() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask & (1 << (nix::sys::signal::Signal::SIGHUP as i32 - 1)) != 0)
}

/// Makes this process the parent of what loses its own below it, so that nothing which a job starts outlives
/// it unseen. Where that cannot be, jobs' processes are still found by the marks they carry.
pub(crate) fn adopt_orphans(which: Adopt) {
    if let Err(error) = dayfly_processes::orphans::adopt(which) {
        tracing::warn!(%error, "processes that leave their parents will not be found");
    }
}

/// Gives this process a session of its own, without a terminal: what a job starts can neither ask the user
/// there (it would be stopped as a background process, and the job would wait for ever) nor is ended by the
/// keys the user presses. The service's agents have no terminal either.
pub(crate) fn leave_terminal() {
    // A process that leads its group, such as one started by hand, cannot; it keeps what it has.
    if let Err(error) = nix::unistd::setsid() {
        tracing::debug!(%error, "the worker stays in its session");
    }
}

/// Calls this process `dayfly` in `ps` and the like. The listener starts a worker from a file that has only a
/// number for a name.
pub(crate) fn name_process() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_name(c"dayfly") {
        tracing::debug!(%error, "the process keeps its name");
    }
}

/// Keeps steps, which run as the same user, from reading tokens and secrets out of this process. It is
/// defence in depth, so that failing is no error.
pub(crate) fn protect() {
    if let Err(error) = dayfly_worker::platform::protect() {
        tracing::warn!(%error, "could not keep other processes from inspecting this one");
    }
}

/// Takes away orphans that have ended, which nobody else waits for: a job may make more of
/// them than the system has numbers for.
pub(crate) async fn reap_orphans() -> anyhow::Error {
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => return error.into(),
    };
    while ended.recv().await.is_some() {
        orphans::reap();
        // Jobs end thousands of processes in a second; who has ended can wait.
        tokio::time::sleep(REAP_PAUSE).await;
    }
    std::future::pending().await
}
