//! Tasks of Microsoft's catalogue that this worker has built in: one file each, behind one trait.

mod archive_files;
mod cmake;
mod copy_files;
mod delete_files;
mod go;
mod matching;
mod npm;
mod program;
mod python_script;
mod test_results;

use dayfly_protocol::TaskResult;
use futures::future::BoxFuture;
use uuid::{Uuid, uuid};

use super::{Definition, Prepared, StepError};
use crate::context::StepContext;

/// What the work of a task comes to.
pub(super) type Running<'a> = BoxFuture<'a, Result<TaskResult, StepError>>;

/// A built-in task.
pub(super) trait Task: Sync {
    /// What its `task.json` says.
    fn definition(&self) -> &'static Definition;

    /// Whether it looks at, or starts, what steps find where they run, which may be a container. All else is
    /// the worker's own work.
    fn works_where_scripts_do(&self) -> bool;

    /// Does its work.
    fn run<'a>(&'a self, step: &'a StepContext, prepared: &'a Prepared) -> Running<'a>;
}

/// Id, the first major version that is meant, and the task; of one id, newer versions come first.
const TASKS: &[(Uuid, u32, &dyn Task)] = &[
    (uuid!("5bfb729a-a7c8-4a78-a7c3-8d717bb7c13c"), 2, &copy_files::COPY_FILES),
    (uuid!("b7e8b412-0437-4065-9371-edc5881de25b"), 1, &delete_files::DELETE_FILES),
    (uuid!("d8b84976-e99a-4b86-b885-4849694435b0"), 2, &archive_files::ARCHIVE_FILES),
    (uuid!("0b0f01ed-7dde-43ff-9cbb-e48954daf9b1"), 2, &test_results::PUBLISH_TEST_RESULTS),
    (uuid!("6392f95f-7e76-4a18-b3c7-7f078d2f7700"), 0, &python_script::PYTHON_SCRIPT),
    (uuid!("34b37fdd-bbf7-4ef1-b37c-9652ca7bb355"), 0, &go::GO),
    (uuid!("7d831c3c-3c68-459a-a5c9-bde6e659596c"), 1, &cmake::CMAKE),
    (uuid!("fe47e961-9fa8-4106-8639-368c022d43ad"), 1, &npm::NPM),
];

/// The built-in task with an id, and a version such as `2.1.0`.
pub(super) fn of(id: Uuid, version: &str) -> Option<&'static dyn Task> {
    let major = version.split('.').next()?.parse().unwrap_or(u32::MAX);
    TASKS.iter().find(|(own, since, _)| *own == id && *since <= major).map(|(_, _, task)| *task)
}

/// Whether the service is the emulator of this machine.
pub(super) fn is_on_this_machine(service: &str) -> bool {
    let Ok(service) = url::Url::parse(service) else { return false };
    match service.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_this_machine_is_told_from_others() {
        assert!(is_on_this_machine("http://127.0.0.1:4711/dayfly/"));
        assert!(is_on_this_machine("http://[::1]:1/") && is_on_this_machine("http://localhost:1/"));
        assert!(!is_on_this_machine("https://dev.azure.com/contoso/") && !is_on_this_machine(""));
    }
}
