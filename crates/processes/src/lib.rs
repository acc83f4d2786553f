//! The processes of this machine, as listener and worker see them: who belongs to whom, and how all that a
//! job has started is ended.
//!
//! Two ways lead to a job's processes. [`orphans`] makes the present process the parent of whatever loses its
//! own below it, which no process can evade; [`kill`] finds processes by group, descent and an environment
//! variable, which works after the parent is gone and on processes that somebody else has adopted. Only
//! [`table`] reads `/proc`; on systems without it, process groups are all there is.
//!
//! Everything here blocks, for milliseconds as a rule.

mod identity;
pub mod kill;
pub mod orphans;
pub mod programs;
mod table;

pub use identity::Identity;

/// A process that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub process_id: i32,
    /// Its short name.
    pub name: String,
}
