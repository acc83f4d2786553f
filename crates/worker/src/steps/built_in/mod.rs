//! Tasks of Microsoft's catalogue that this worker has built in: one file each.

mod ant;
mod archive_files;
mod cache;
mod cluster;
mod cmake;
mod copy_files;
mod delete_files;
mod docker;
mod dotnet;
mod download_secure_file;
mod extract_files;
mod go;
mod gradle;
mod gulp;
mod helm_deploy;
mod java;
mod kubernetes;
mod kubernetes_manifest;
mod matching;
mod maven;
mod npm;
mod nuget;
mod package_version;
mod program;
mod publish_code_coverage;
mod publish_test_results;
mod python_script;
mod shell_script;

use std::ops::RangeInclusive;

use dayfly_protocol::{TaskResult, task, timeline::TaskReference};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use uuid::{Uuid, uuid};

use super::{Definition, Prepared, StepError};
use crate::context::{JobContext, StepContext};

/// What the work of a task comes to.
pub(super) type Running<'a> = BoxFuture<'a, Result<TaskResult, StepError>>;

/// A built-in task.
pub(super) struct Task {
    /// What its `task.json` says.
    pub(super) definition: Definition,
    /// Whether it looks at, or starts, what steps find where they run, which may be a container. All else is
    /// the worker's own work.
    pub(super) works_where_scripts_do: bool,
    /// Does its work: as the step itself, or before all steps.
    pub(super) run: for<'a> fn(&'a StepContext, &'a Prepared) -> Running<'a>,
}

/// All later versions, whose inputs have been the same so far.
const LATER: u32 = u32::MAX;

/// Id, the major versions that are meant, and the task.
const TASKS: &[(Uuid, RangeInclusive<u32>, &Task)] = &[
    (uuid!("5bfb729a-a7c8-4a78-a7c3-8d717bb7c13c"), 2..=LATER, &copy_files::COPY_FILES),
    (uuid!("b7e8b412-0437-4065-9371-edc5881de25b"), 1..=LATER, &delete_files::DELETE_FILES),
    (uuid!("d8b84976-e99a-4b86-b885-4849694435b0"), 2..=LATER, &archive_files::ARCHIVE_FILES),
    (uuid!("0b0f01ed-7dde-43ff-9cbb-e48954daf9b1"), 2..=LATER, &publish_test_results::PUBLISH_TEST_RESULTS),
    (uuid!("6392f95f-7e76-4a18-b3c7-7f078d2f7700"), 0..=LATER, &python_script::PYTHON_SCRIPT),
    (uuid!("34b37fdd-bbf7-4ef1-b37c-9652ca7bb355"), 0..=LATER, &go::GO),
    (uuid!("7d831c3c-3c68-459a-a5c9-bde6e659596c"), 1..=LATER, &cmake::CMAKE),
    (uuid!("fe47e961-9fa8-4106-8639-368c022d43ad"), 1..=LATER, &npm::NPM),
    (uuid!("fe47e961-9fa8-4106-8639-368c022d43ad"), 0..=0, &npm::NPM_0),
    (uuid!("b82cfbe4-34f9-40f5-889e-c8842ca9dd9d"), 1..=LATER, &gulp::GULP),
    (uuid!("b82cfbe4-34f9-40f5-889e-c8842ca9dd9d"), 0..=0, &gulp::GULP_0),
    (uuid!("521d1e15-f5fb-4b73-a93b-b2fe88a9a286"), 0..=LATER, &gulp::GRUNT),
    (uuid!("5e1e3830-fbfb-11e5-aab1-090c92bc4988"), 1..=LATER, &extract_files::EXTRACT_FILES),
    // Bash has the same id from version 3 on.
    (uuid!("6c731c3c-3c68-459a-a5c9-bde6e6595b5b"), 2..=2, &shell_script::SHELL_SCRIPT),
    (uuid!("2a7ebc54-c13e-490e-81a5-d7561ab7cd97"), 2..=LATER, &publish_code_coverage::COVERAGE),
    (uuid!("2a7ebc54-c13e-490e-81a5-d7561ab7cd97"), 1..=1, &publish_code_coverage::COVERAGE_OF_ONE_TOOL),
    (uuid!("5541a522-603c-47ad-91fc-a4b1d163081b"), 2..=LATER, &dotnet::DOTNET),
    (uuid!("333b11bd-d341-40d9-afcf-b32d5ce6f23b"), 2..=LATER, &nuget::NUGET),
    (uuid!("ac4ee482-65da-4485-a532-7b085873e532"), 2..=LATER, &maven::MAVEN),
    (uuid!("8d8eebd8-2b94-4c97-85af-839254cc6da4"), 2..=LATER, &gradle::GRADLE),
    (uuid!("e28912f1-0114-4464-802a-a3a35437fd16"), 2..=LATER, &docker::DOCKER),
    (uuid!("e28912f1-0114-4464-802a-a3a35437fd16"), 1..=1, &docker::DOCKER_1),
    (uuid!("e28912f1-0114-4464-802a-a3a35437fd16"), 0..=0, &docker::DOCKER_0),
    (uuid!("3a6a2d63-f2b2-4e93-bcf9-0cbe22f5dc26"), 1..=LATER, &ant::ANT),
    (uuid!("cbc316a2-586f-4def-be79-488a1f503564"), 1..=LATER, &kubernetes::KUBERNETES),
    (uuid!("cbc316a2-586f-4def-be79-488a1f503564"), 0..=0, &kubernetes::KUBERNETES_0),
    (uuid!("dee316a2-586f-4def-be79-488a1f503dfe"), 0..=LATER, &kubernetes_manifest::KUBERNETES_MANIFEST),
    (uuid!("afa7d54d-537b-4dc8-b60a-e0eeea2c9a87"), 0..=LATER, &helm_deploy::HELM_DEPLOY),
    (task::DOWNLOAD_SECURE_FILE, 1..=LATER, &download_secure_file::DOWNLOAD_SECURE_FILE),
    // `CacheBeta` until version 1, with the same inputs.
    (CACHE, 0..=LATER, &cache::CACHE),
];

const CACHE: Uuid = uuid!("d53ccab4-555e-4494-9d06-11db043fb4a9");

/// The variable that names tasks, with commas between them, which are to be those that are built in. `all`
/// are, or `none` is that there is a package of.
const CHOICE: &str = "Dayfly.BuiltInTasks";

/// Whether a task that is built in comes before one that could be downloaded. With a service elsewhere,
/// Microsoft's own tasks come first unless the pipeline says otherwise, since they also do what only that
/// service can do for them.
pub(super) fn comes_first(job: &JobContext, task: &TaskReference) -> bool {
    // A plugin of Microsoft's agent: its package has nothing that could be run.
    if task.id.0 == CACHE {
        return true;
    }
    let choice = job.variable_or_empty(CHOICE);
    let is_chosen = |name: &str| {
        let name = name.trim();
        let name = name.split_once('@').map_or(name, |(name, _)| name);
        name.eq_ignore_ascii_case(&task.name)
    };
    match choice.trim() {
        all if all.eq_ignore_ascii_case("all") => true,
        none if none.eq_ignore_ascii_case("none") => false,
        names => names.split(',').any(is_chosen) || is_local(job),
    }
}

/// Whether the built-in task with this id does its work before all steps, and nothing when its turn comes.
pub(super) fn comes_before_steps(id: Uuid) -> bool {
    id == task::DOWNLOAD_SECURE_FILE
}

/// What the built-in task with this id does after all steps.
pub(super) fn post_job(id: Uuid) -> Option<for<'a> fn(&'a StepContext, &'a Prepared) -> Running<'a>> {
    match id {
        CACHE => Some(|step, prepared| cache::save(step, prepared).boxed()),
        task::DOWNLOAD_SECURE_FILE => Some(|step, _| download_secure_file::delete(step).boxed()),
        _ => None,
    }
}

/// The built-in task with an id, and a version such as `2.1.0`.
pub(super) fn of(id: Uuid, version: &str) -> Option<&'static Task> {
    let major = version.split('.').next()?.parse().unwrap_or(LATER);
    TASKS.iter().find(|(own, versions, _)| *own == id && versions.contains(&major)).map(|(_, _, task)| *task)
}

/// The variable by which `dayfly run` says that it is one, where jobs reach its service by another way than
/// this machine.
const RUN: &str = "Dayfly.Run";

/// Whether the job is one of `dayfly run`, or of an emulator on this machine: what an organization has is not
/// there.
pub(super) fn is_local(job: &JobContext) -> bool {
    !job.variable_or_empty(RUN).is_empty()
        || is_on_this_machine(&job.variable_or_empty("system.collectionUri"))
}

/// Whether a service is on this machine.
fn is_on_this_machine(service: &str) -> bool {
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
