//! Which process it is, told from a later one with the same number.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::table::Process;

/// A process that can be found again, also by who is not its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub process: u32,
    /// When it was started, in the kernel's own measure; none where the kernel does not tell.
    started: Option<u64>,
}

impl Identity {
    /// Of a process that runs.
    pub fn of(process: u32) -> Self {
        Self { process, started: started(process) }
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.id().is_some_and(|id| kill(id, None).is_ok()) && started(self.process) == self.started
    }

    /// Kills it, if it still runs.
    pub fn kill(&self) {
        if let Some(id) = self.id().filter(|_| self.is_alive()) {
            // Gone already is what we want.
            let _ = kill(id, Signal::SIGKILL);
        }
    }

    /// 0 and 1 would mean ourselves and everybody.
    fn id(&self) -> Option<Pid> {
        i32::try_from(self.process).ok().filter(|id| *id > 1).map(Pid::from_raw)
    }
}

fn started(process: u32) -> Option<u64> {
    Process::read(process.cast_signed())
        .filter(|process| !process.is_dead)
        .and_then(|process| process.started)
}
