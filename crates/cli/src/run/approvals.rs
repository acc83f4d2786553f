//! Approvals of environments: before the jobs of a stage that deploys to one, a job without an agent waits
//! for somebody's word.
//!
//! In Azure DevOps the whole stage waits, and a rejection leaves all its jobs out.

use std::collections::BTreeSet;

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::{Job, Pool, Setting, Stage, Step, Strategy, TaskReference};
use dayfly_protocol::task::MANUAL_VALIDATION;

use super::environments;

/// The name of the job that waits.
const NAME: &str = "Approval";

/// Has the stages wait whose wanted jobs deploy to environments that `needs_approval`. The wanted jobs grow
/// by those that wait, also in `named`, where the user has chosen jobs by name.
pub(crate) fn insert(
    plan: &mut Plan,
    wanted: &mut [Vec<bool>],
    named: &mut Vec<String>,
    needs_approval: impl Fn(&str) -> bool,
) {
    for (stage, wanted) in plan.stages.iter_mut().zip(wanted) {
        let chosen = stage.jobs.iter().zip(&*wanted).filter(|(_, wanted)| **wanted);
        let used = chosen.filter_map(|(job, _)| environments::of_job(job));
        let waited_for: BTreeSet<String> =
            used.map(|used| used.environment.to_owned()).filter(|name| needs_approval(name)).collect();
        if waited_for.is_empty() {
            continue;
        }
        let name = free_name(stage);
        for job in &mut stage.jobs {
            wait_for(job, &name);
        }
        if !named.is_empty() {
            named.push(format!("{}.{name}", stage.name));
        }
        stage.jobs.insert(0, approval(name, &waited_for));
        wanted.insert(0, true);
    }
}

/// A name that no job of the stage has.
fn free_name(stage: &Stage) -> String {
    let is_free = |name: &String| !stage.jobs.iter().any(|job| job.name.eq_ignore_ascii_case(name));
    let numbered = (2..).map(|number| format!("{NAME}_{number}"));
    std::iter::once(NAME.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

/// Has a job run only after an approval, whatever its condition makes of failed jobs.
fn wait_for(job: &mut Job, approval: &str) {
    job.depends_on.push(approval.to_owned());
    job.condition = job
        .condition
        .take()
        .map(|condition| format!("and(eq(dependencies.{approval}.result, 'Succeeded'), {condition})"));
}

fn approval(name: String, environments: &BTreeSet<String>) -> Job {
    let names: Vec<_> = environments.iter().map(String::as_str).collect();
    let names = names.join(", ");
    let step = Step {
        name: NAME.to_owned(),
        display_name: Some(format!("Approval of {names}")),
        task: TaskReference {
            id: MANUAL_VALIDATION,
            name: "ManualValidation".to_owned(),
            version: "1.0.0".to_owned(),
        },
        inputs: [("instructions".to_owned(), format!("Deployment to the environment {names}"))].into(),
        env: std::collections::BTreeMap::new(),
        condition: None,
        continue_on_error: false,
        timeout_in_minutes: 0,
        retry_count_on_task_failure: 0,
        target: None,
        location: None,
    };
    Job {
        display_name: format!("Approval of {names}"),
        name,
        depends_on: Vec::new(),
        condition: None,
        continue_on_error: Setting::Value(false),
        // As long as the task itself waits.
        timeout_in_minutes: Setting::Value(0),
        cancel_timeout_in_minutes: Setting::Value(1),
        variables: Vec::new(),
        strategy: Strategy::Single,
        pool: Pool { server: true, ..Pool::default() },
        container: None,
        services: Vec::new(),
        containers_location: None,
        workspace_clean: None,
        uses_repositories: Vec::new(),
        uses_pools: Vec::new(),
        steps: vec![step],
        deployment: None,
    }
}
