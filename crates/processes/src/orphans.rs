//! What loses its parent below this process becomes its child, and is ended by it.
//!
//! Whoever wants to outlive a job leaves it by a double fork, whatever it does with its session, its
//! environment and its memory beside that. Then the kernel gives it to the nearest living ancestor that has
//! asked for such orphans (`PR_SET_CHILD_SUBREAPER`). A worker asks, so that a job's processes stay below it;
//! the listener asks as well, for those of a worker that was killed. So "kill our children, and those that
//! become our children by that, until there are none" ends them all, in whatever shape they come, without any
//! list of descendants that would be out of date before it is used.
//!
//! Systems other than Linux have no such thing: there, nothing in this module does anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Ended;
use crate::table::{self, Process};

/// Pause when all that was found is being ended already.
const PAUSE: Duration = Duration::from_millis(1);

/// Which children of this process are orphans, beside those that are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopt {
    /// All: for a process that starts others by [`spawn`] only.
    All,
    /// Those in other sessions than this process: for one that starts programs by other ways too, which stay
    /// in its session. What comes from a worker is in another, since a worker makes itself one, and no
    /// process can go back.
    OtherSessions,
}

/// What this process knows of its children.
struct Children {
    /// None as long as it has not asked for orphans.
    adopts: Option<Adopt>,
    own: BTreeSet<i32>,
}

/// The kernel keeps one list of children for a process, and so do we.
static CHILDREN: Mutex<Children> = Mutex::new(Children { adopts: None, own: BTreeSet::new() });

fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on orphans below this process become its children. Those it has already are its own.
///
/// # Errors
///
/// The operating system's refusal.
pub fn adopt(which: Adopt) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let mut children = children();
        children.own.extend(present_children());
        children.adopts = Some(which);
        nix::sys::prctl::set_child_subreaper(true)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = which;
    Ok(())
}

/// Starts a child of our own, whose `id` is told by its handle.
///
/// # Errors
///
/// Those of `start`.
pub fn spawn<T, E>(start: impl FnOnce() -> Result<T, E>, id: impl FnOnce(&T) -> Option<u32>) -> Result<T, E> {
    // Held meanwhile, so that a child that ends at once is not taken for an orphan.
    let mut children = children();
    let child = start()?;
    children.own.extend(id(&child).map(u32::cast_signed));
    Ok(child)
}

/// To be called when a child of our own has been waited for: its id may come again.
pub fn forget(child: Pid) {
    children().own.remove(&child.as_raw());
}

/// Takes away orphans that have ended.
pub fn reap() {
    let children = children();
    for id in orphans(&children, quick_children()) {
        let _ = waitpid(Pid::from_raw(id), Some(WaitPidFlag::WNOHANG));
    }
}

/// Kills all orphans, and what becomes one by that, until there are none, for at most `patience`; returns
/// whom it killed. Those of other users cannot be killed.
pub fn end_all(patience: Duration) -> Vec<Ended> {
    let until = Instant::now() + patience;
    let mut ended: BTreeMap<i32, String> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    // The quick list may lack some, so the slow one has the last word.
    let mut is_sure = false;
    loop {
        let (mut living, mut is_new) = (0, false);
        {
            let children = children();
            let present = if is_sure { present_children() } else { quick_children() };
            for id in orphans(&children, present) {
                match end(id, &mut ended, &mut refused) {
                    Fate::Gone => {}
                    Fate::Killed => (living, is_new) = (living + 1, true),
                    Fate::Dying => living += 1,
                }
            }
        }
        if living == 0 && is_sure {
            break;
        }
        is_sure = living == 0;
        if Instant::now() > until {
            tracing::warn!(living, "processes that a job left behind do not end although they were killed");
            break;
        }
        // As long as there are new ones there is no time to lose: somebody forks.
        if living > 0 && !is_new {
            thread::sleep(PAUSE);
        }
    }
    ended.into_iter().map(|(process_id, name)| Ended { process_id, name }).collect()
}

/// What became of an orphan.
enum Fate {
    Gone,
    Killed,
    Dying,
}

fn end(id: i32, ended: &mut BTreeMap<i32, String>, refused: &mut BTreeSet<i32>) -> Fate {
    let process = Pid::from_raw(id);
    if refused.contains(&id)
        || !matches!(waitpid(process, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
    {
        return Fate::Gone;
    }
    if ended.contains_key(&id) {
        return Fate::Dying;
    }
    let name = table::name(id);
    match kill(process, Signal::SIGKILL) {
        Ok(()) => {
            ended.insert(id, name);
            Fate::Killed
        }
        Err(Errno::EPERM) => {
            tracing::warn!(
                process_id = id,
                name,
                "a process that a job left behind belongs to another user and stays"
            );
            refused.insert(id);
            Fate::Gone
        }
        Err(_) => Fate::Gone,
    }
}

/// Those of our children that are orphans.
fn orphans(children: &Children, present: Vec<i32>) -> Vec<i32> {
    let Some(adopts) = children.adopts else { return Vec::new() };
    let own = Process::read(std::process::id().cast_signed()).map(|own| own.session);
    let is_orphan = |id: &i32| {
        !children.own.contains(id)
            && (adopts == Adopt::All || Process::read(*id).is_some_and(|child| Some(child.session) != own))
    };
    present.into_iter().filter(is_orphan).collect()
}

fn quick_children() -> Vec<i32> {
    table::own_children().unwrap_or_else(present_children)
}

fn present_children() -> Vec<i32> {
    let own = std::process::id().cast_signed();
    table::all().filter(|process| process.parent == own).map(|process| process.id).collect()
}
