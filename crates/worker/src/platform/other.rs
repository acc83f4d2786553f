//! Systems without `/proc` and `prctl`: process groups are all we have.

use std::io;

use nix::unistd::Pid;

use super::Orphan;

pub(super) fn protect() -> io::Result<()> {
    Ok(())
}

pub(super) fn tracer() -> Option<i32> {
    None
}

pub(super) fn adjust_out_of_memory_score(_process_id: Pid, _score: i32) {}

pub(super) fn processes_with_variable(_name: &str, _value: &str) -> Vec<Orphan> {
    Vec::new()
}

pub(super) fn tree_outside_of_group(_leader: Pid) -> Vec<Pid> {
    Vec::new()
}
