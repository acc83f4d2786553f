//! Ends processes that are found by their group, their descent, or a variable in their environment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::Ended;
use crate::table::{self, Process};

/// How often processes are looked for: one that forks while it is being killed is found in the next round.
const ROUNDS: u32 = 20;

/// Pause between two rounds, for the kernel to take the killed ones away.
const ROUND_PAUSE: Duration = Duration::from_millis(5);

/// Kills the process group of `leader`. Does nothing when it is gone.
pub fn group(leader: Pid) {
    // 0 and 1 would mean ourselves and everybody.
    if leader.as_raw() > 1 {
        // ESRCH (all gone) is what we want, EPERM cannot be helped.
        let _ = killpg(leader, Signal::SIGKILL);
    }
}

/// Kills the process group of `leader` and all descendants of its members, also those that left the group.
///
/// They are stopped first, until no new one turns up: one that forks or leaves the group while the others are
/// being killed would lose its parent by that, and with it the only way to find it.
pub fn tree(leader: Pid) {
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let found = descent(leader);
        let new: Vec<i32> = found.difference(&stopped).copied().collect();
        if new.is_empty() {
            break;
        }
        for id in new {
            // Gone already is what we want.
            let _ = kill(Pid::from_raw(id), Signal::SIGSTOP);
            stopped.insert(id);
        }
    }
    for id in stopped {
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
    group(leader);
}

/// The living members of `leader`'s group and all their descendants.
fn descent(leader: Pid) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut unseen = vec![leader.as_raw()];
    let mut tree = HashSet::new();
    for process in table::all().filter(|process| !process.is_dead) {
        children.entry(process.parent).or_default().push(process.id);
        if process.group == leader.as_raw() {
            tree.insert(process.id);
            unseen.push(process.id);
        }
    }
    while let Some(process_id) = unseen.pop() {
        for &child in children.get(&process_id).into_iter().flatten() {
            if tree.insert(child) {
                unseen.push(child);
            }
        }
    }
    tree
}

/// Kills the processes which were started with the variable, wherever they moved to, those in the group if
/// one is given, and all descendants of both. Returns whom it killed.
///
/// Finds only those who let it: a process may clean its environment, or hide it, before it leaves its
/// parents. That is what [`crate::orphans`] is for.
pub fn with_variable(name: &str, value: &str, group: Option<Pid>) -> Vec<Ended> {
    let entry = format!("{name}={value}");
    let mut ended = BTreeMap::new();
    for _ in 0..ROUNDS {
        let found = marked(entry.as_bytes(), group);
        if found.is_empty() {
            break;
        }
        for id in found {
            let name = table::name(id);
            if kill(Pid::from_raw(id), Signal::SIGKILL).is_ok() {
                ended.entry(id).or_insert(name);
            }
        }
        thread::sleep(ROUND_PAUSE);
    }
    ended.into_iter().map(|(process_id, name)| Ended { process_id, name }).collect()
}

/// The living processes with the variable or in the group, and all their descendants, but for the present
/// one.
fn marked(entry: &[u8], group: Option<Pid>) -> BTreeSet<i32> {
    let own = std::process::id().cast_signed();
    let living: Vec<Process> = table::all().filter(|process| !process.is_dead && process.id != own).collect();
    let mut found: BTreeSet<i32> = living
        .iter()
        .filter(|process| {
            group.is_some_and(|group| group.as_raw() == process.group)
                || table::has_variable(process.id, entry)
        })
        .map(|process| process.id)
        .collect();
    // Descendants of what was found, for those who cleaned their environment.
    loop {
        let before = found.len();
        for process in &living {
            if found.contains(&process.parent) {
                found.insert(process.id);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}
