//! `stages:`.

use std::collections::HashSet;

use super::{
    graph,
    jobs::{self, Placed},
    lock_behavior, names, pool,
    reader::{Fields, Reader, closest, short},
    strategy::MAX_JOBS,
    variables,
};
use crate::{
    expression::{self, Place},
    plan::{Job, Pool, Stage},
    yaml::{Kind, Node},
};

/// The name of the only stage of a file without stages (actions/runner `PipelineConstants.cs`).
pub(super) const IMPLICIT_STAGE: &str = "__default";

/// Reads the list of stages and checks their graph.
pub(super) fn stages(node: &Node, pool: Option<&Pool>, reader: &mut Reader<'_>) -> Vec<Stage> {
    let mut stages: Vec<Placed<Stage>> = Vec::new();
    for item in reader.items(node, "stages") {
        stages.extend(stage(item, pool, reader));
    }
    if stages.is_empty() && matches!(&node.kind, Kind::Sequence(items) if items.is_empty()) {
        reader.collector.error(node.span, "the list of stages is empty");
    }
    name_unnamed(&mut stages, "Stage", |stage| &mut stage.name);
    for placed in &mut stages {
        if placed.value.display_name.is_empty() {
            placed.value.display_name.clone_from(&placed.value.name);
        }
    }
    // A stage that says nothing waits for the one above it.
    for at in 1..stages.len() {
        if !stages[at].depends_on_written {
            let above = stages[at - 1].value.name.clone();
            stages[at].depends_on = vec![(above.clone(), stages[at].name)];
            stages[at].value.depends_on = vec![above];
        }
    }
    let nodes: Vec<graph::Node<'_>> =
        stages.iter().map(|stage| graph::Node::of(stage, &stage.value.name)).collect();
    graph::check(&nodes, "stage", "stages", reader);
    stages.into_iter().map(|stage| stage.value).collect()
}

/// The only stage of a file without stages.
pub(super) fn implicit(jobs: Vec<Job>) -> Stage {
    Stage {
        name: IMPLICIT_STAGE.to_owned(),
        display_name: IMPLICIT_STAGE.to_owned(),
        depends_on: Vec::new(),
        condition: None,
        variables: Vec::new(),
        manual: false,
        skippable: true,
        lock_behavior: None,
        jobs,
    }
}

/// Reads a list of jobs and checks their graph.
pub(super) fn job_list(node: &Node, pool: Option<&Pool>, reader: &mut Reader<'_>) -> Vec<Job> {
    let mut jobs = jobs::jobs(node, pool, reader);
    if reader.is_part {
        return jobs.into_iter().map(|job| job.value).collect();
    }
    if jobs.is_empty() && matches!(&node.kind, Kind::Sequence(items) if items.is_empty()) {
        reader.collector.error(node.span, "the list of jobs is empty");
    }
    if jobs.len() > MAX_JOBS {
        let message = format!("the stage has {} jobs, but at most {MAX_JOBS} are allowed", jobs.len());
        reader.collector.error(node.span, message);
        return Vec::new();
    }
    name_unnamed(&mut jobs, "Job", |job| &mut job.name);
    for placed in &mut jobs {
        if placed.value.display_name.is_empty() {
            placed.value.display_name.clone_from(&placed.value.name);
        }
        if let Some(deployment) = &mut placed.value.deployment
            && !placed.named
        {
            // The hook's job is named after the deployment, which had no name yet when it was read.
            for hook in deployment.hooks.iter_mut().filter(|hook| hook.job_name.is_empty()) {
                hook.job_name.clone_from(&placed.value.name);
            }
        }
    }
    let nodes: Vec<graph::Node<'_>> = jobs.iter().map(|job| graph::Node::of(job, &job.value.name)).collect();
    graph::check(&nodes, "job", "jobs", reader);
    jobs.into_iter().map(|job| job.value).collect()
}

/// Names what has no name: the word and a number that counts the unnamed ones from 1.
fn name_unnamed<T>(list: &mut [Placed<T>], word: &str, name: impl Fn(&mut T) -> &mut String) {
    let mut taken: HashSet<String> = list
        .iter_mut()
        .filter(|placed| placed.named)
        .map(|placed| name(&mut placed.value).to_lowercase())
        .collect();
    let mut number = 0;
    for placed in list.iter_mut().filter(|placed| !placed.named) {
        let chosen = loop {
            number += 1;
            let candidate = format!("{word}{number}");
            if !taken.contains(&candidate.to_lowercase()) {
                break candidate;
            }
        };
        taken.insert(chosen.to_lowercase());
        *name(&mut placed.value) = chosen;
    }
}

pub(super) fn stage(item: &Node, pool: Option<&Pool>, reader: &mut Reader<'_>) -> Option<Placed<Stage>> {
    let mut fields = Fields::open(item, "a stage", reader);
    if fields.is_silent() {
        return None;
    }
    let Some(kind) = fields.which(&["stage"]) else {
        not_a_stage(item, reader);
        return None;
    };
    fields.demand_first(kind, reader);
    let name_node = fields.take("stage")?;
    let name = reader.text(name_node, "the name of a stage").unwrap_or_default().trim().to_owned();
    if !name.is_empty() {
        names::check(&name, "a stage", name_node.span, reader);
    }
    let depends_node = fields.take("dependsOn");
    let depends_on = reader.spanned_texts(depends_node, "dependsOn");
    let own_pool = fields.take("pool").and_then(|node| pool::pool(node, reader));
    let pool = own_pool.as_ref().or(pool);
    let trigger = reader.optional(fields.take("trigger"), "`trigger`");
    if let Some(trigger) = &trigger
        && !["manual", "automatic"].contains(&trigger.to_ascii_lowercase().as_str())
    {
        let span = item.get("trigger").map_or(item.span, |node| node.span);
        reader.collector.error(
            span,
            format!("the trigger of a stage must be `manual` or `automatic`, not `{}`", short(trigger)),
        );
    }
    let condition_node = fields.take("condition");
    let condition = expression::condition(condition_node, Place::Stage, reader);
    let own_variables = variables::variables(fields.take("variables"), reader);
    expression::warn_of_later_variables(condition_node, Place::Stage, &own_variables, reader);
    let stage = Stage {
        display_name: reader
            .optional(fields.take("displayName"), "`displayName`")
            .unwrap_or_else(|| name.clone()),
        depends_on: depends_on.iter().map(|(name, _)| name.clone()).collect(),
        condition,
        variables: own_variables,
        manual: trigger.is_some_and(|trigger| trigger.eq_ignore_ascii_case("manual")),
        skippable: reader.boolean(fields.take("isSkippable"), "`isSkippable`", true),
        lock_behavior: fields.take("lockBehavior").and_then(|node| lock_behavior(node, reader)),
        jobs: match fields.take("jobs") {
            Some(node) => job_list(node, pool, reader),
            None if reader.is_part => Vec::new(),
            None => {
                reader.collector.error(name_node.span, "the stage has no `jobs`");
                Vec::new()
            }
        },
        name,
    };
    for kept in ["templateContext", "group", "checks"] {
        fields.take(kept);
    }
    fields.finish(reader);
    let named = !stage.name.is_empty();
    Some(Placed {
        value: stage,
        name: name_node.span,
        depends_on,
        depends_on_written: depends_node.is_some(),
        named,
    })
}

fn not_a_stage(item: &Node, reader: &mut Reader<'_>) {
    let Kind::Mapping(entries) = &item.kind else { return };
    let Some(first) = entries.first() else {
        reader.collector.error(item.span, "the stage is empty");
        return;
    };
    let message = format!("`{}` is not a stage: a stage starts with `stage`", short(&first.key.text));
    let diagnostic = reader.collector.error(first.key.span, message);
    if let Some(best) = closest(&first.key.text, ["stage"].into_iter()) {
        diagnostic.help(format!("did you mean `{best}`?"));
    } else if ["job", "deployment"].contains(&first.key.text.as_str()) {
        diagnostic.help("jobs go under the `jobs:` of a stage");
    }
}
