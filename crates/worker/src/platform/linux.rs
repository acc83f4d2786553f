//! Linux: `/proc` and `prctl`.

use std::collections::{HashMap, HashSet};
use std::{fs, io};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::Orphan;

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

pub(super) fn processes_with_variable(name: &str, value: &str) -> Vec<Orphan> {
    let wanted = format!("{name}={value}");
    process_ids()
        .filter(|&process_id| process_id != std::process::id().cast_signed())
        .filter(|process_id| {
            fs::read(format!("/proc/{process_id}/environ")).is_ok_and(|environment| {
                environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
            })
        })
        .map(|process_id| Orphan {
            process_id,
            name: fs::read_to_string(format!("/proc/{process_id}/comm"))
                .unwrap_or_default()
                .trim_end()
                .to_owned(),
        })
        .collect()
}

/// Descendants of the members of `leader`'s group which are not members themselves.
pub(super) fn tree_outside_of_group(leader: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut members = HashSet::new();
    for process_id in process_ids() {
        let Some((parent, group)) = parent_and_group(process_id) else { continue };
        children.entry(parent).or_default().push(process_id);
        if group == leader.as_raw() {
            members.insert(process_id);
        }
    }
    let mut tree = members.clone();
    let mut unseen: Vec<i32> = members.iter().copied().chain([leader.as_raw()]).collect();
    while let Some(process_id) = unseen.pop() {
        for &child in children.get(&process_id).into_iter().flatten() {
            if tree.insert(child) {
                unseen.push(child);
            }
        }
    }
    tree.difference(&members).map(|&process_id| Pid::from_raw(process_id)).collect()
}

fn process_ids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Fields 4 and 5 of `/proc/PID/stat`. Field 2 is the name in parentheses and may hold anything.
fn parent_and_group(process_id: i32) -> Option<(i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
