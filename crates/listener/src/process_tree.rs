//! Finds and kills everything a worker has started. The only module of this crate that knows `/proc`.
//!
//! Steps run in process groups of their own and may detach themselves, so a group is not enough once the worker is gone. As the official
//! agent does (`VSTS_PROCESS_LOOKUP_ID`), each worker gets an environment variable with a random value, which its descendants inherit however
//! they daemonise. Found are: the worker's group, all descendants of those found, and everything with the marker.

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// The environment variable by which a job's processes are known. Its value is random for each worker and no secret.
pub(crate) const MARKER_VARIABLE: &str = "DAYFLY_JOB_MARKER";

/// Kills the worker's process group, and whatever else carries its marker. Returns how many processes outside the group were killed.
///
/// Processes of other users cannot be read and are left alone.
pub(crate) async fn kill_all(worker: u32, marker: String) -> usize {
    // Reading /proc blocks, if only for milliseconds.
    let scan = tokio::task::spawn_blocking(move || kill_all_now(worker, &marker));
    scan.await.unwrap_or_else(|error| {
        tracing::warn!(%error, worker, "the processes left behind by a job could not be looked for");
        0
    })
}

/// Does the work of [`kill_all`], and blocks.
pub(crate) fn kill_all_now(worker: u32, marker: &str) -> usize {
    kill_group(worker);
    kill_marked(worker, marker)
}

/// Kills the process group that `worker` leads. Does nothing when it is gone.
pub(crate) fn kill_group(worker: u32) {
    if let Some(group) = pid(worker) {
        // ESRCH (all gone) is what we want, EPERM cannot be helped.
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// A process id as `nix` wants it; 0 and 1 would mean ourselves and everybody, so they are no ids of a worker.
fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().filter(|id| *id > 1).map(Pid::from_raw)
}

#[cfg(target_os = "linux")]
use linux::kill_marked;

/// Elsewhere only the group is killed; the worker itself cleans up after its steps as long as it lives.
#[cfg(not(target_os = "linux"))]
fn kill_marked(_worker: u32, _marker: &str) -> usize {
    0
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs, thread,
        time::Duration,
    };

    use nix::sys::signal::{Signal, kill};

    use super::{MARKER_VARIABLE, pid};

    /// How often the processes are looked for: one that forks while it is being killed is found in the next round.
    const ROUNDS: u32 = 20;

    /// Pause between two rounds, for the kernel to take the killed ones away.
    const ROUND_PAUSE: Duration = Duration::from_millis(5);

    /// Kills whatever carries the marker, round by round, and returns how many processes that were.
    pub(super) fn kill_marked(worker: u32, marker: &str) -> usize {
        let mut killed = BTreeSet::new();
        for _ in 0..ROUNDS {
            let found = find(worker, marker);
            if found.is_empty() {
                break;
            }
            for id in found {
                if let Some(target) = pid(id) {
                    let _ = kill(target, Signal::SIGKILL);
                    killed.insert(id);
                }
            }
            thread::sleep(ROUND_PAUSE);
        }
        killed.len()
    }

    /// The living processes of a worker: those with its marker, and all their descendants.
    fn find(worker: u32, marker: &str) -> BTreeSet<u32> {
        let entry = format!("{MARKER_VARIABLE}={marker}");
        let own = std::process::id();
        let mut parents = BTreeMap::new();
        let mut found = BTreeSet::new();
        for id in process_ids() {
            let Some(status) = Status::read(id) else { continue };
            // A zombie is dead already and waits for its parent only.
            if status.is_dead || id == own {
                continue;
            }
            if status.group == worker || has_variable(id, entry.as_bytes()) {
                found.insert(id);
            }
            parents.insert(id, status.parent);
        }
        // Descendants of what was found, for those who cleaned their environment.
        loop {
            let before = found.len();
            for (id, parent) in &parents {
                if found.contains(parent) {
                    found.insert(*id);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn process_ids() -> impl Iterator<Item = u32> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// True when the process was started with exactly this `NAME=value`.
    fn has_variable(id: u32, entry: &[u8]) -> bool {
        fs::read(format!("/proc/{id}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == entry))
    }

    struct Status {
        is_dead: bool,
        parent: u32,
        group: u32,
    }

    impl Status {
        /// Reads `/proc/<id>/stat`: `id (name) state parent group ...`, where the name may hold blanks and brackets.
        fn read(id: u32) -> Option<Self> {
            let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
            let state = fields.next()?;
            Some(Self {
                is_dead: matches!(state, "Z" | "X"),
                parent: fields.next()?.parse().ok()?,
                group: fields.next()?.parse().ok()?,
            })
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::CommandExt,
        process::{Command, Stdio},
        time::Duration,
    };

    use super::*;

    fn is_alive(id: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
    }

    #[tokio::test]
    async fn detached_grandchildren_are_killed_too() {
        let marker = uuid::Uuid::new_v4().to_string();
        // One grandchild leaves the session but keeps the marker, one cleans its environment but stays a descendant.
        let script = "setsid sleep 600 & echo $!; (env -i sleep 600 & echo $!; wait) & wait";
        let mut worker = Command::new("sh")
            .args(["-c", script])
            .env(MARKER_VARIABLE, &marker)
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let lines = BufReader::new(worker.stdout.take().expect("piped")).lines();
        let children: Vec<u32> =
            lines.take(2).map(|line| line.expect("a line").parse().expect("a process id")).collect();
        kill_all(worker.id(), marker).await;
        worker.wait().expect("the worker is reaped");
        for child in children {
            for _ in 0..200 {
                if !is_alive(child) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!is_alive(child), "process {child} is left");
        }
    }

    #[tokio::test]
    async fn a_worker_that_is_long_gone_is_no_trouble() {
        let mut worker = Command::new("true").process_group(0).spawn().expect("true starts");
        worker.wait().expect("it ends");
        assert_eq!(kill_all(worker.id(), uuid::Uuid::new_v4().to_string()).await, 0);
    }
}
