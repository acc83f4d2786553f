//! The agents of a set: registered, kept online, and given up together.

pub(crate) mod phase;

mod job_message;
mod outage;
pub(crate) mod registration;
pub(crate) mod set;
pub(crate) mod summary;
mod supervisor;
mod virtual_agent;
