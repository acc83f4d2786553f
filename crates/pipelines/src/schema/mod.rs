//! From the expanded node tree to the [`Plan`]: which keys exist, what they may hold, what they mean when
//! they are missing.

pub(crate) mod parameters;
pub(crate) mod variables;

mod canonical;
mod deployment;
mod foreign;
mod graph;
mod jobs;
mod legacy;
mod names;
mod pool;
mod reader;
mod resources;
mod settings;
mod stages;
mod steps;
pub(crate) mod strategy;
mod triggers;

pub(crate) use foreign::is_foreign;
use reader::{Fields, short};
pub(crate) use reader::{Reader, closest, listed, parse_boolean};

use crate::{
    plan::{LockBehavior, Parameter, Plan, PullRequestTrigger, RepositoryResource, Trigger},
    yaml::Node,
};

/// Reads a root file whose template expressions are expanded.
pub(crate) fn pipeline(mut root: Node, parameters: Vec<Parameter>, reader: &mut Reader<'_>) -> Plan {
    legacy::rewrite(&mut root);
    let mut fields = Fields::open(&root, "the pipeline", reader);
    let resources =
        fields.take("resources").map(|node| resources::resources(node, reader)).unwrap_or_default();
    reader.pipelines = resources.pipelines.iter().map(|one| one.alias.clone()).collect();
    reader.repositories = resources.repositories.iter().map(|one| one.alias.clone()).collect();
    let nameless = |one: &&RepositoryResource| one.name.is_none() && !one.alias.eq_ignore_ascii_case("self");
    reader.nameless = resources.repositories.iter().filter(nameless).map(|one| one.alias.clone()).collect();
    reader.containers = resources.containers.iter().map(|one| one.alias.clone()).collect();
    fields.take("parameters");
    let name = reader.optional(fields.take("name"), "`name`");
    let append = fields.take("appendCommitMessageToRunName");
    let pool = fields.take("pool").and_then(|node| pool::pool(node, reader));
    let mut plan = Plan {
        name,
        append_commit_message_to_run_name: reader.boolean(append, "`appendCommitMessageToRunName`", true),
        lock_behavior: fields
            .take("lockBehavior")
            .and_then(|node| lock_behavior(node, reader))
            .unwrap_or_default(),
        trigger: fields.take("trigger").map_or(Trigger::Default, |node| triggers::trigger(node, reader)),
        pull_request: fields
            .take("pr")
            .map_or(PullRequestTrigger::Default, |node| triggers::pull_request(node, reader)),
        schedules: fields.take("schedules").map(|node| triggers::schedules(node, reader)).unwrap_or_default(),
        parameters,
        variables: variables::variables(fields.take("variables"), reader),
        variable_groups: Vec::new(),
        resources,
        stages: Vec::new(),
    };
    plan.stages = body(&mut fields, pool.as_ref(), reader);
    if !fields.is_silent() {
        fields.finish(reader);
    }
    plan.variable_groups = std::mem::take(&mut reader.groups);
    plan
}

/// Stages, jobs or steps: exactly one of them.
fn body(
    fields: &mut Fields<'_>,
    pool: Option<&crate::plan::Pool>,
    reader: &mut Reader<'_>,
) -> Vec<crate::plan::Stage> {
    let kinds = ["stages", "jobs", "steps"];
    let mut present: Vec<_> = kinds.into_iter().filter_map(|kind| fields.take_entry(kind)).collect();
    present.sort_by_key(|entry| entry.key.span.start());
    let Some(first) = present.first() else {
        if !fields.is_silent() {
            reader
                .collector
                .error(fields.span, "the pipeline does nothing: it has no `stages`, `jobs` or `steps`");
        }
        return Vec::new();
    };
    for second in &present[1..] {
        reader
            .collector
            .error(
                second.key.span,
                format!("`{}` and `{}` cannot be used together", first.key.text, second.key.text),
            )
            .help("a pipeline has either `stages`, `jobs` or `steps`");
    }
    match first.key.text.as_str() {
        "stages" => stages::stages(&first.value, pool, reader),
        "jobs" => vec![stages::implicit(stages::job_list(&first.value, pool, reader))],
        _ => {
            let job = jobs::implicit(fields, &first.value, pool, reader);
            vec![stages::implicit(vec![job])]
        }
    }
}

fn lock_behavior(node: &Node, reader: &mut Reader<'_>) -> Option<LockBehavior> {
    let text = reader.optional(Some(node), "`lockBehavior`")?;
    match text.to_ascii_lowercase().as_str() {
        "sequential" => Some(LockBehavior::Sequential),
        "runlatest" => Some(LockBehavior::RunLatest),
        _ => {
            reader.collector.error(
                node.span,
                format!("`lockBehavior` must be `sequential` or `runLatest`, not `{}`", short(&text)),
            );
            None
        }
    }
}
