//! Steps that the user wants to be left out, by their task.

use std::convert::Infallible;
use std::str::FromStr;

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::Step;

use crate::run::tasks::short;

/// A task whose steps are left out: `Name` or `Name@1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SkippedTask(String);

impl FromStr for SkippedTask {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl SkippedTask {
    /// A pipeline may put the names of the publisher, the extension and the contribution before the task's
    /// own.
    fn is(&self, step: &Step) -> bool {
        let names = [step.task.name.clone(), short(&step.task)];
        names.iter().any(|name| {
            let own = name.rsplit('.').next().unwrap_or(name);
            self.0.eq_ignore_ascii_case(name) || self.0.eq_ignore_ascii_case(own)
        })
    }
}

/// Takes the steps of these tasks out of the plan. The sentences say of which there was none.
pub(crate) fn skip(plan: &mut Plan, tasks: &[SkippedTask]) -> Vec<String> {
    let mut is_used = vec![false; tasks.len()];
    for job in plan.stages.iter_mut().flat_map(|stage| &mut stage.jobs) {
        let hooks = job.deployment.iter_mut().flat_map(|deployment| {
            deployment.hooks.iter_mut().chain(&mut deployment.on_success).chain(&mut deployment.on_failure)
        });
        for steps in hooks.map(|hook| &mut hook.steps).chain([&mut job.steps]) {
            steps.retain(|step| {
                let skipped = tasks.iter().position(|task| task.is(step));
                if let Some(index) = skipped {
                    is_used[index] = true;
                }
                skipped.is_none()
            });
        }
    }
    let unused = tasks.iter().zip(is_used).filter(|(_, is_used)| !is_used);
    unused
        .map(|(task, _)| format!("`--skip-task {}`: the pipeline has no step of that task", task.0))
        .collect()
}
