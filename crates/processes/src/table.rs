//! The kernel's table of processes, `/proc`.

use std::fs;

/// What is known of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) id: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// It has ended and waits for its parent only.
    pub(crate) is_dead: bool,
    /// When it was started, in ticks since the machine was.
    pub(crate) started: Option<u64>,
}

impl Process {
    /// Reads `/proc/ID/stat`: `id (name) state parent group session ...`, where the name may hold anything.
    pub(crate) fn read(id: i32) -> Option<Process> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let mut number = || fields.next()?.parse().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        // The 22nd of all fields; the session is the sixth (`proc_pid_stat(5)`).
        let started = fields.nth(15).and_then(|field| field.parse().ok());
        Some(Process { id, is_dead, parent, group, session, started })
    }
}

/// All processes.
pub(crate) fn all() -> impl Iterator<Item = Process> {
    numbers("/proc").filter_map(Process::read)
}

/// The children of the present process, quickly: a child that ends meanwhile may hide others. None where the
/// kernel does not tell.
pub(crate) fn own_children() -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for thread in numbers("/proc/self/task") {
        match fs::read_to_string(format!("/proc/self/task/{thread}/children")) {
            Ok(text) => {
                children.extend(text.split_ascii_whitespace().filter_map(|id| id.parse::<i32>().ok()))
            }
            // A thread may end meanwhile; a kernel without the file has it for none.
            Err(_) if fs::exists(format!("/proc/self/task/{thread}")).unwrap_or(false) => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

/// The short name of a process; empty when it is gone.
pub(crate) fn name(id: i32) -> String {
    fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Whether a process was started with exactly this `NAME=value`. Those of other users, and those that hide,
/// do not tell.
pub(crate) fn has_variable(id: i32, entry: &[u8]) -> bool {
    fs::read(format!("/proc/{id}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == entry))
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> impl Iterator<Item = i32> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
