//! `--list`: the plan as a tree.

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::{Job, Legs, Setting, Stage, Step, Strategy};

use super::caveats;
use super::change::is_implicit;
use super::lines::{FAINT, STRONG, sanitize};
use super::names;
use super::on::On;
use super::repositories::Repositories;
use super::tasks::{Pulled, State, short};
use super::upstream::Upstream;

/// Leaves only the wanted jobs, and the stages that have some.
pub(crate) fn keep(plan: &mut Plan, wanted: &[Vec<bool>]) {
    let mut stages = wanted.iter();
    plan.stages.retain_mut(|stage| {
        let mut jobs = stages.next().into_iter().flatten();
        stage.jobs.retain(|_| jobs.next().is_some_and(|wanted| *wanted));
        !stage.jobs.is_empty()
    });
}

/// What is listed, and what there is for it.
pub(crate) struct Listed<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) repositories: &'a Repositories,
    pub(crate) upstream: &'a Upstream,
    pub(crate) on: On,
    pub(crate) pulled: &'a Pulled,
    /// Whether containers can be started where jobs run.
    pub(crate) has_containers: bool,
}

/// The plan as text, with colours.
pub(crate) fn tree(file: &str, listed: &Listed<'_>) -> String {
    let plan = listed.plan;
    let mut text = format!("{STRONG}{}{STRONG:#}\n", sanitize(file));
    let implicit = plan.stages.len() == 1 && is_implicit(&plan.stages[0].name);
    if implicit {
        jobs(&mut text, "", listed, &plan.stages[0]);
        return text;
    }
    for (last, stage) in with_last(&plan.stages) {
        let notes = notes_of_stage(stage);
        branch(&mut text, "", last, "stage", &stage.name, &stage.display_name, &notes);
        jobs(&mut text, indent(last), listed, stage);
    }
    text
}

fn jobs(text: &mut String, prefix: &str, listed: &Listed<'_>, stage: &Stage) {
    for (last, job) in with_last(&stage.jobs) {
        let kind = if job.deployment.is_some() { "deployment" } else { "job" };
        let mut notes = notes_of_job(job);
        let foreign = Vec::from_iter(caveats::foreign_images(listed.plan, stage, job, listed.on));
        if !foreign.is_empty() {
            notes.push(format!("for {}, but runs here", foreign.join(" and ")));
        }
        notes.extend(refused(job, listed.has_containers).map(|what| format!("{what}: cannot run here")));
        branch(text, prefix, last, kind, &job.name, &job.display_name, &notes);
        let prefix = format!("{prefix}{}", indent(last));
        match &job.deployment {
            None => steps(text, &prefix, listed, &job.steps),
            Some(deployment) => {
                let hooks: Vec<_> = deployment
                    .hooks
                    .iter()
                    .chain(&deployment.on_success)
                    .chain(&deployment.on_failure)
                    .collect();
                for (last, hook) in with_last(&hooks) {
                    branch(text, &prefix, last, "hook", &hook.job_name, &hook.job_name, &[]);
                    steps(text, &format!("{prefix}{}", indent(last)), listed, &hook.steps);
                }
            }
        }
    }
}

/// What a job has that needs containers, where there are none.
fn refused(job: &Job, has_containers: bool) -> impl Iterator<Item = &'static str> {
    let wishes = [
        (job.container.is_some(), "container"),
        (!job.services.is_empty(), "services"),
        (caveats::targets_containers(job), "steps in containers"),
    ];
    wishes.into_iter().filter(move |(is_there, _)| *is_there && !has_containers).map(|(_, what)| what)
}

/// The plan as JSON, where what the file does not name has no name.
pub(crate) fn json(plan: &Plan) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(plan)?;
    for stage in value["stages"].as_array_mut().into_iter().flatten() {
        for member in ["name", "displayName", "display_name"] {
            if stage.get(member).and_then(|name| name.as_str()).is_some_and(is_implicit) {
                stage[member] = serde_json::Value::Null;
            }
        }
    }
    Ok(value)
}

fn steps(text: &mut String, prefix: &str, listed: &Listed<'_>, steps: &[Step]) {
    for (last, step) in with_last(steps) {
        let named = step.display_name.clone().or_else(|| names::made_up(step));
        let mut notes = step.condition.iter().map(|condition| format!("if {condition}")).collect::<Vec<_>>();
        match listed.pulled.state(&step.task) {
            State::Missing => notes.push("cannot run here".to_owned()),
            State::LeftOut => notes.push("left out here".to_owned()),
            State::BuiltIn | State::Pulled | State::StandsIn => {}
        }
        let has_place = |alias| listed.repositories.has_place(listed.plan, alias);
        let is_missing = caveats::foreign_repository(step).is_some_and(|alias| !has_place(alias))
            || listed.upstream.missing_alias(step).is_some();
        if is_missing {
            notes.push("not available here".to_owned());
        }
        // Other tasks without a name are called as the file calls them.
        let (kind, name) = match named {
            Some(name) => (step.task.name.as_str(), name),
            None => ("task", short(&step.task)),
        };
        branch(text, prefix, last, kind, &name, &name, &notes);
    }
}

fn branch(
    text: &mut String,
    prefix: &str,
    last: bool,
    kind: &str,
    name: &str,
    shown: &str,
    notes: &[String],
) {
    let corner = if last { "└─" } else { "├─" };
    let alias = if shown == name { String::new() } else { format!(" {FAINT}({}){FAINT:#}", sanitize(name)) };
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!("  {FAINT}{}{FAINT:#}", sanitize(&notes.join(", ")))
    };
    let shown = sanitize(shown);
    text.push_str(&format!(
        "{prefix}{corner} {FAINT}{kind}{FAINT:#} {STRONG}{shown}{STRONG:#}{alias}{notes}\n"
    ));
}

fn notes_of_stage(stage: &Stage) -> Vec<String> {
    let mut notes = after(&stage.depends_on);
    notes.extend(stage.condition.iter().map(|condition| format!("if {condition}")));
    notes
}

fn notes_of_job(job: &Job) -> Vec<String> {
    let mut notes = after(&job.depends_on);
    notes.extend(job.condition.iter().map(|condition| format!("if {condition}")));
    match &job.strategy {
        Strategy::Single => {}
        Strategy::Matrix { legs: Legs::List(legs), .. } => {
            notes.push(format!(
                "matrix: {}",
                legs.iter().map(|leg| leg.name.as_str()).collect::<Vec<_>>().join(", ")
            ));
        }
        Strategy::Matrix { legs: Legs::Expression(expression), .. } => {
            notes.push(format!("matrix: {expression}"))
        }
        Strategy::Parallel { count: Setting::Value(count), .. } => notes.push(format!("{count} copies")),
        Strategy::Parallel { count: Setting::Expression(expression), .. } => {
            notes.push(format!("{expression} copies"))
        }
    }
    notes
}

fn after(depends_on: &[String]) -> Vec<String> {
    if depends_on.is_empty() { Vec::new() } else { vec![format!("after {}", depends_on.join(" and "))] }
}

fn indent(last: bool) -> &'static str {
    if last { "   " } else { "│  " }
}

fn with_last<T>(items: &[T]) -> impl Iterator<Item = (bool, &T)> {
    items.iter().enumerate().map(|(index, item)| (index + 1 == items.len(), item))
}
