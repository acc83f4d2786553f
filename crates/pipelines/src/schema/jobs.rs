//! `jobs:`: jobs and deployment jobs.

use super::{
    deployment, names, pool,
    reader::{Fields, Reader, closest, short},
    resources, settings, steps, strategy, variables,
};
use crate::{
    diagnostics::Span,
    expression::{self, Place},
    plan::{Job, Pool, Setting, Strategy, WorkspaceClean},
    yaml::{Kind, Node},
};

/// The service's defaults, in minutes.
const TIMEOUT: u32 = 60;
const CANCEL_TIMEOUT: u32 = 5;
/// The bounds of `cancelTimeoutInMinutes`.
const CANCEL_TIMEOUTS: std::ops::RangeInclusive<u32> = 1..=35_790;

/// The name of the only job of a file that has only steps (AG `src/Test/L1`).
pub(super) const IMPLICIT_JOB: &str = "Job";

/// A job with the places that later checks point to.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) name: Span,
    pub(super) depends_on: Vec<(String, Span)>,
    /// Whether `dependsOn` is written at all.
    pub(super) depends_on_written: bool,
    /// Whether the name is written.
    pub(super) named: bool,
}

/// Reads a list of jobs.
pub(super) fn jobs(node: &Node, pool: Option<&Pool>, reader: &mut Reader<'_>) -> Vec<Placed<Job>> {
    let mut jobs = Vec::new();
    for item in reader.items(node, "jobs") {
        jobs.extend(job(item, pool, reader));
    }
    jobs
}

/// Reads the only job of a file whose root holds steps.
pub(super) fn implicit(
    fields: &mut Fields<'_>,
    node: &Node,
    pool: Option<&Pool>,
    reader: &mut Reader<'_>,
) -> Job {
    let mut job = keys(fields, IMPLICIT_JOB.to_owned(), None, None, pool, reader);
    job.strategy = strategy::strategy(fields.take("strategy"), reader);
    // The root's variables are the run's; its pool is the default pool already.
    let list = steps::steps(node, reader);
    finish_steps(&mut job, list, reader);
    job
}

pub(super) fn job(item: &Node, pool: Option<&Pool>, reader: &mut Reader<'_>) -> Option<Placed<Job>> {
    let mut fields = Fields::open(item, "a job", reader);
    if fields.is_silent() {
        return None;
    }
    let Some(kind) = fields.which(&["job", "deployment"]) else {
        not_a_job(item, reader);
        return None;
    };
    fields.demand_first(kind, reader);
    let name_node = fields.take(kind)?;
    let name = reader.text(name_node, &format!("the name of a {kind}"));
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if let Some(name) = &name {
        names::check(name, "a job", name_node.span, reader);
    }
    let depends_node = fields.take("dependsOn");
    let depends_on = reader.spanned_texts(depends_node, "dependsOn");
    let condition_node = fields.take("condition");
    let condition = expression::condition(condition_node, Place::Job, reader);
    let display_name = reader.optional(fields.take("displayName"), "`displayName`");
    let own_pool = fields.take("pool").and_then(|node| pool::pool(node, reader));
    let own_variables = variables::variables(fields.take("variables"), reader);
    expression::warn_of_later_variables(condition_node, Place::Job, &own_variables, reader);

    let named = name.is_some();
    let mut job = keys(&mut fields, name.unwrap_or_default(), display_name, own_pool, pool, reader);
    job.condition = condition;
    job.variables = own_variables;
    job.depends_on = depends_on.iter().map(|(name, _)| name.clone()).collect();
    uses(&mut fields, &mut job, reader);
    if kind == "deployment" {
        deploy(&mut fields, &mut job, reader);
    } else {
        job.strategy = strategy::strategy(fields.take("strategy"), reader);
        let list = match fields.take("steps") {
            Some(node) => steps::steps(node, reader),
            // A job without steps is taken: it checks out and ends.
            None => steps::Steps::default(),
        };
        finish_steps(&mut job, list, reader);
    }
    for kept in ["templateContext", "lockBehavior"] {
        fields.take(kept);
    }
    fields.finish(reader);
    Some(Placed {
        value: job,
        name: name_node.span,
        depends_on,
        depends_on_written: depends_node.is_some(),
        named,
    })
}

fn not_a_job(item: &Node, reader: &mut Reader<'_>) {
    let Kind::Mapping(entries) = &item.kind else { return };
    let Some(first) = entries.first() else {
        reader.collector.error(item.span, "the job is empty");
        return;
    };
    let message =
        format!("`{}` is not a job: a job starts with `job` or `deployment`", short(&first.key.text));
    let diagnostic = reader.collector.error(first.key.span, message);
    if let Some(best) = closest(&first.key.text, ["job", "deployment"].into_iter()) {
        diagnostic.help(format!("did you mean `{best}`?"));
    } else if steps_key(&first.key.text) {
        diagnostic.help("steps go under the `steps:` of a job");
    }
}

fn steps_key(key: &str) -> bool {
    ["script", "bash", "pwsh", "powershell", "task", "checkout", "steps"].contains(&key)
}

/// The keys that jobs and the root of a file with only steps have in common.
fn keys(
    fields: &mut Fields<'_>,
    name: String,
    display_name: Option<String>,
    own_pool: Option<Pool>,
    pool: Option<&Pool>,
    reader: &mut Reader<'_>,
) -> Job {
    let cancel_node = fields.take("cancelTimeoutInMinutes");
    let cancel_timeout_in_minutes =
        settings::number(cancel_node, "`cancelTimeoutInMinutes`", CANCEL_TIMEOUT, reader);
    if let (Some(node), Setting::Value(minutes)) = (cancel_node, &cancel_timeout_in_minutes)
        && !CANCEL_TIMEOUTS.contains(minutes)
    {
        reader.collector.error(
            node.span,
            format!(
                "`cancelTimeoutInMinutes` must be a number from {} to {}",
                CANCEL_TIMEOUTS.start(),
                CANCEL_TIMEOUTS.end()
            ),
        );
    }
    let containers = [fields.take("container"), fields.take("services")];
    let containers_node = containers.into_iter().flatten().find(|node| !node.is_blank());
    let [container, services] = containers;
    Job {
        display_name: display_name.unwrap_or_else(|| name.clone()),
        name,
        depends_on: Vec::new(),
        condition: None,
        continue_on_error: settings::boolean(
            fields.take("continueOnError"),
            "`continueOnError`",
            false,
            reader,
        ),
        timeout_in_minutes: settings::number(
            fields.take("timeoutInMinutes"),
            "`timeoutInMinutes`",
            TIMEOUT,
            reader,
        ),
        cancel_timeout_in_minutes,
        variables: Vec::new(),
        strategy: Strategy::Single,
        pool: own_pool.or_else(|| pool.cloned()).unwrap_or_default(),
        container: container.and_then(|node| resources::container(node, reader)),
        services: resources::services(services, reader),
        containers_location: containers_node.and_then(|node| reader.collector.location(node.span)),
        workspace_clean: workspace(fields.take("workspace"), reader),
        uses_repositories: Vec::new(),
        uses_pools: Vec::new(),
        steps: Vec::new(),
        deployment: None,
    }
}

/// Reads `uses:`.
fn uses(fields: &mut Fields<'_>, job: &mut Job, reader: &mut Reader<'_>) {
    let Some(node) = fields.take("uses").filter(|node| !node.is_blank()) else { return };
    let mut uses = Fields::open(node, "uses", reader);
    job.uses_repositories = reader.texts(uses.take("repositories"), "repositories");
    job.uses_pools = reader.texts(uses.take("pools"), "pools");
    uses.finish(reader);
}

fn workspace(node: Option<&Node>, reader: &mut Reader<'_>) -> Option<WorkspaceClean> {
    let node = node.filter(|node| !node.is_blank())?;
    let mut fields = Fields::open(node, "workspace", reader);
    let clean = fields.take("clean");
    fields.finish(reader);
    let clean = clean.filter(|node| !node.is_blank())?;
    let text = reader.text(clean, "`clean`")?;
    match text.trim().to_ascii_lowercase().as_str() {
        "outputs" => Some(WorkspaceClean::Outputs),
        "resources" => Some(WorkspaceClean::Resources),
        "all" => Some(WorkspaceClean::All),
        _ => {
            reader.collector.error(
                clean.span,
                format!("`clean` must be `outputs`, `resources` or `all`, not `{}`", short(&text)),
            );
            None
        }
    }
}

fn finish_steps(job: &mut Job, mut list: steps::Steps, reader: &mut Reader<'_>) {
    steps::check_place(&list, job.pool.server, reader);
    if !list.checkout_written && !job.pool.server {
        list.steps.insert(0, steps::automatic_checkout());
    }
    steps::name(&mut list.steps);
    job.steps = list.steps;
}

fn deploy(fields: &mut Fields<'_>, job: &mut Job, reader: &mut Reader<'_>) {
    if let Some(entry) = fields.take_entry("steps") {
        reader
            .collector
            .error(entry.key.span, "a deployment job cannot have `steps` of its own")
            .help("put them under `strategy: runOnce: deploy: steps:`");
    }
    let environment = deployment::environment(fields.take("environment"), reader);
    let strategy = fields.take("strategy");
    job.deployment = deployment::strategy(strategy, job, environment, reader);
}
