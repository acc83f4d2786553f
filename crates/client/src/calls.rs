//! The typed calls, one file per resource. Addresses are the service's well-known routes; agents of other
//! makers use them as well.

pub(crate) mod agents;
pub(crate) mod artifacts;
pub(crate) mod builds;
pub(crate) mod job_requests;
pub(crate) mod locations;
pub(crate) mod messages;
pub(crate) mod pipelines;
pub(crate) mod plans;
pub(crate) mod pools;
pub(crate) mod secure_files;
pub(crate) mod sessions;
pub(crate) mod tasks;
pub(crate) mod test_results;
