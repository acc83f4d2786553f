//! Files that are for another system.

use crate::{
    diagnostics::Collector,
    yaml::{Kind, Node},
};

/// Reports a workflow of GitHub Actions. Whether the file is one: what else could be said about it is no help
/// then.
pub(crate) fn is_foreign(root: &Node, collector: &mut Collector) -> bool {
    let Kind::Mapping(entries) = &root.kind else { return false };
    let jobs = root.get("jobs").map(|jobs| &jobs.kind);
    let Some(Kind::Mapping(jobs)) = jobs else { return false };
    let on = entries.iter().find(|entry| entry.key.text == "on");
    let job = jobs.iter().find(|job| job.value.get("runs-on").is_some() || job.value.get("uses").is_some());
    let Some(entry) = on.or(job) else { return false };
    collector
        .error(entry.key.span, "this looks like a GitHub Actions workflow, not an Azure pipeline")
        .help("Dayfly runs Azure Pipelines: there, `jobs:` is a list whose entries start with `- job: name`");
    true
}
