//! What a pipeline asks for that this machine does not do, as far as it is known before the run.

use std::collections::BTreeSet;

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::{Job, Legs, Pool, Stage, Step, Strategy, Variable};

/// Sentences for whoever starts a run of the wanted jobs.
pub(crate) fn caveats(plan: &Plan, wanted: &[Vec<bool>]) -> Vec<String> {
    let (mut images, mut tasks) = (BTreeSet::new(), BTreeSet::new());
    for (stage, wanted) in plan.stages.iter().zip(wanted) {
        for (job, _) in stage.jobs.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
            images.extend(foreign_images(plan, stage, job).into_iter().map(|image| format!("`{image}`")));
            tasks.extend(
                steps(job).filter(|step| !is_known(step)).map(|step| format!("`{}`", reference(step))),
            );
        }
    }
    let mut sentences = Vec::new();
    if !images.is_empty() {
        sentences.push(format!("jobs for {} run on this machine all the same", list(images)));
    }
    if !tasks.is_empty() {
        sentences.push(format!(
            "Dayfly's worker cannot run {}: such steps fail unless a condition leaves them out",
            list(tasks)
        ));
    }
    sentences
}

/// Whether the worker can run a step's task.
pub(crate) fn is_known(step: &Step) -> bool {
    dayfly_worker::can_run(step.task.id)
}

/// A task as files name it: `CMake@1`.
pub(crate) fn reference(step: &Step) -> String {
    let version = step.task.version.as_str();
    format!("{}@{}", step.task.name, version.split_once('.').map_or(version, |(major, _)| major))
}

/// The images of other operating systems that a job asks for.
pub(crate) fn foreign_images(plan: &Plan, stage: &Stage, job: &Job) -> BTreeSet<String> {
    let hooks = hooks(job).filter_map(|hook| hook.pool.as_ref());
    let images = std::iter::once(&job.pool).chain(hooks).flat_map(|pool| images(plan, stage, job, pool));
    images.filter(|image| is_foreign(image, std::env::consts::OS)).collect()
}

/// The images of a pool: a variable's name stands for its values in all legs.
fn images(plan: &Plan, stage: &Stage, job: &Job, pool: &Pool) -> Vec<String> {
    let Some(image) = &pool.vm_image else { return Vec::new() };
    let Some(name) = image.trim().strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) else {
        return vec![image.clone()];
    };
    let value = |variables: &[Variable]| {
        let found = variables.iter().rev().find(|variable| variable.name.eq_ignore_ascii_case(name));
        found.map(|variable| variable.value.clone())
    };
    let outside =
        || value(&job.variables).or_else(|| value(&stage.variables)).or_else(|| value(&plan.variables));
    match &job.strategy {
        Strategy::Matrix { legs: Legs::List(legs), .. } => {
            legs.iter().filter_map(|leg| value(&leg.variables).or_else(outside)).collect()
        }
        _ => outside().into_iter().collect(),
    }
}

fn is_foreign(image: &str, here: &str) -> bool {
    let image = image.to_ascii_lowercase();
    let is_windows = image.starts_with("win") || image.starts_with("vs20");
    is_windows && here != "windows" || image.starts_with("macos") && here != "macos"
}

/// The hooks of a deployment.
pub(crate) fn hooks(job: &Job) -> impl Iterator<Item = &dayfly_pipelines::plan::Hook> {
    job.deployment.iter().flat_map(|deployment| {
        deployment.hooks.iter().chain(&deployment.on_success).chain(&deployment.on_failure)
    })
}

fn steps(job: &Job) -> impl Iterator<Item = &Step> {
    job.steps.iter().chain(hooks(job).flat_map(|hook| &hook.steps))
}

fn list(names: BTreeSet<String>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_other_systems_are_told_from_those_of_this() {
        for image in ["windows-latest", "vs2017-win2016", "macOS-14"] {
            assert!(is_foreign(image, "linux"), "{image}");
        }
        assert!(!is_foreign("ubuntu-latest", "linux"));
        assert!(!is_foreign("macOS-latest", "macos"));
        assert!(is_foreign("windows-2022", "macos"));
    }
}
