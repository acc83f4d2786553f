//! `steps:`: tasks, and the shortcuts that stand for tasks.

use std::collections::{BTreeMap, HashSet};

use dayfly_protocol::task::CHECKOUT;
use uuid::{Uuid, uuid};

use super::{
    names,
    reader::{Fields, Reader, closest, is_slip, short},
};
use crate::{
    diagnostics::Span,
    expression::{self, Place},
    plan::{Step, StepTarget, TaskReference},
    tasks::{self, RunsOn},
    yaml::{Kind, Node},
};

/// How often a step may be tried again at the most.
const MAX_RETRIES: u32 = 10;

/// The keys that say what a step is.
const KINDS: &[&str] = &[
    "script",
    "bash",
    "pwsh",
    "powershell",
    "checkout",
    "task",
    "publish",
    "upload",
    "download",
    "downloadBuild",
    "getPackage",
    "reviewApp",
];

/// A list of steps, and what was said about the steps that the service adds.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    /// Where each of them is written.
    spans: Vec<Span>,
    /// A checkout step is written (also `checkout: none`).
    pub(super) checkout_written: bool,
    /// A download step is written (also `download: none`).
    pub(super) download_written: bool,
}

/// Reads steps. Steps with `enabled: false` are checked and left out.
pub(super) fn steps(node: &Node, reader: &mut Reader<'_>) -> Steps {
    let mut result = Steps::default();
    let mut names: HashSet<String> = HashSet::new();
    for item in reader.items(node, "steps") {
        let Some(step) = step(item, &mut result, reader) else { continue };
        if !step.name.is_empty() && !names.insert(step.name.to_lowercase()) {
            let span = item.get("name").map_or(item.span, |name| name.span);
            reader
                .collector
                .error(span, format!("two steps of this job are called `{}`", step.name))
                .help("step names must be unique in a job: outputs are found by them");
        }
        result.steps.push(step);
        result.spans.push(item.span);
    }
    result
}

/// Refuses steps whose task does not run where the job does: the service runs some tasks itself, in jobs of
/// `pool: server`, and no others there (`runsOn` in their task.json). Of what is no task of the service's own
/// nobody knows it here.
pub(super) fn check_place(list: &Steps, is_server_job: bool, reader: &mut Reader<'_>) {
    for (step, span) in list.steps.iter().zip(&list.spans) {
        let runs_here = match tasks::runs_on(step.task.id) {
            None => true,
            Some(RunsOn::Server) => is_server_job,
            Some(RunsOn::Agent) => !is_server_job,
        };
        if runs_here {
            continue;
        }
        let name = &step.task.name;
        if is_server_job {
            reader
                .collector
                .error(*span, format!("`{name}` runs on an agent, and a job of `pool: server` has none"))
                .help("put the step into another job; only tasks that the service runs itself go here");
        } else {
            reader
                .collector
                .error(*span, format!("`{name}` does not run on an agent, only in a job of `pool: server`"))
                .help("put the step into a job of its own with `pool: server`");
        }
    }
}

/// Gives names to steps without one: the task's name when only one step of the task is unnamed, else the
/// task's name with a number from 1 on (actions/runner `Phase.cs`, `GenerateDefaultTaskNames`).
pub(super) fn name(steps: &mut [Step]) {
    let mut known: HashSet<String> = steps
        .iter()
        .filter(|step| !step.name.is_empty())
        .map(|step| step.name.to_ascii_lowercase())
        .collect();
    let mut unnamed: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.name.is_empty()) {
        let base: String = step.task.name.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
        unnamed.entry(base).or_default().push(at);
    }
    for (base, places) in unnamed {
        let alone = places.len() == 1 && !known.contains(&base.to_ascii_lowercase());
        let mut number = 0;
        for at in places {
            let candidate = if alone {
                base.clone()
            } else {
                loop {
                    number += 1;
                    let candidate = format!("{base}{number}");
                    if !known.contains(&candidate.to_ascii_lowercase()) {
                        break candidate;
                    }
                }
            };
            known.insert(candidate.to_ascii_lowercase());
            steps[at].name = candidate;
        }
    }
}

/// The checkout of the pipeline's own repository that jobs have when they say nothing about it.
pub(super) fn automatic_checkout() -> Step {
    let task = TaskReference {
        id: CHECKOUT,
        name: "Checkout".to_owned(),
        version: crate::tasks::CHECKOUT_VERSION.to_owned(),
    };
    Step { inputs: BTreeMap::from([("repository".to_owned(), "self".to_owned())]), ..blank(task) }
}

/// The downloads that deploy hooks begin with: of the run's artifacts and those of the pipeline resources.
pub(super) fn automatic_downloads(reader: &Reader<'_>) -> Vec<Step> {
    let Some(task) = reader.tasks.resolve("DownloadPipelineArtifact", 2) else { return Vec::new() };
    let runs = std::iter::once("current").chain(reader.pipelines.iter().map(String::as_str));
    runs.map(|run| {
        let mut inputs = BTreeMap::new();
        name_run(run, &mut inputs);
        Step { inputs, ..blank(task.clone()) }
    })
    .collect()
}

fn blank(task: TaskReference) -> Step {
    Step {
        name: String::new(),
        display_name: None,
        task,
        inputs: BTreeMap::new(),
        env: BTreeMap::new(),
        condition: None,
        continue_on_error: false,
        timeout_in_minutes: 0,
        retry_count_on_task_failure: 0,
        target: None,
        location: None,
    }
}

pub(super) fn step(item: &Node, steps: &mut Steps, reader: &mut Reader<'_>) -> Option<Step> {
    let mut fields = Fields::open(item, "a step", reader);
    if fields.is_silent() {
        return None;
    }
    let Some(kind) = fields.which(KINDS) else {
        unknown_kind(item, reader);
        return None;
    };
    fields.demand_first(kind, reader);
    let work = work(kind, &mut fields, steps, reader);
    let extras = extras(&mut fields, reader);
    let enabled = reader.boolean(fields.take("enabled"), "`enabled`", true);
    fields.finish(reader);
    let (task, inputs) = work?;
    enabled.then_some(())?;
    Some(Step {
        name: extras.name.unwrap_or_default(),
        display_name: extras.display_name,
        inputs,
        env: extras.env,
        condition: extras.condition,
        continue_on_error: extras.continue_on_error,
        timeout_in_minutes: extras.timeout_in_minutes,
        retry_count_on_task_failure: extras.retries,
        target: extras.target,
        location: reader.collector.location(item.span),
        ..blank(task)
    })
}

fn unknown_kind(item: &Node, reader: &mut Reader<'_>) {
    let Kind::Mapping(entries) = &item.kind else { return };
    let Some(first) = entries.first() else {
        reader.collector.error(item.span, "the step is empty");
        return;
    };
    // Templates that guard others make such a key on purpose, with their message in it.
    let message = format!("`{}` is not a kind of step", short(&first.key.text));
    let diagnostic = reader.collector.error(first.key.span, message);
    match closest(&first.key.text, KINDS.iter().copied()) {
        Some(best) => diagnostic.help(format!("did you mean `{best}`?")),
        None => diagnostic
            .help("a step starts with `script`, `bash`, `pwsh`, `checkout`, `task`, `publish` or `download`"),
    };
}

/// The keys that all steps have.
struct Extras {
    name: Option<String>,
    display_name: Option<String>,
    env: BTreeMap<String, String>,
    condition: Option<String>,
    continue_on_error: bool,
    timeout_in_minutes: u32,
    retries: u32,
    target: Option<StepTarget>,
}

fn extras(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Extras {
    let name = fields.take("name").filter(|node| !node.is_blank()).and_then(|node| {
        let name = reader.text(node, "`name`")?;
        names::check(&name, "a step", node.span, reader);
        Some(name)
    });
    let retry_node = fields.take("retryCountOnTaskFailure");
    let mut retries = reader.number(retry_node, "`retryCountOnTaskFailure`", 0);
    if let Some(node) = retry_node
        && retries > MAX_RETRIES
    {
        reader.collector.error(node.span, format!("a step can be retried at most {MAX_RETRIES} times"));
        retries = MAX_RETRIES;
    }
    Extras {
        name,
        display_name: reader.optional(fields.take("displayName"), "`displayName`"),
        env: reader.pairs(fields.take("env"), "env").into_iter().collect(),
        condition: expression::condition(fields.take("condition"), Place::Step, reader),
        continue_on_error: reader.boolean(fields.take("continueOnError"), "`continueOnError`", false),
        timeout_in_minutes: reader.number(fields.take("timeoutInMinutes"), "`timeoutInMinutes`", 0),
        retries,
        target: fields.take("target").and_then(|node| target(node, reader)),
    }
}

fn target(node: &Node, reader: &mut Reader<'_>) -> Option<StepTarget> {
    if let Some(text) = node.text() {
        let container = Some(text.trim().to_owned()).filter(|text| !text.is_empty())?;
        check_target(&container, node, reader);
        return Some(StepTarget { container: Some(container), ..StepTarget::default() });
    }
    let mut fields = Fields::open(node, "target", reader);
    if fields.is_silent() {
        return None;
    }
    let container_node = fields.take("container");
    let container = reader.optional(container_node, "`container`");
    if let (Some(container), Some(node)) = (&container, container_node) {
        check_target(container, node, reader);
    }
    let commands = fields.take("commands");
    let restricted = match reader.optional(commands, "`commands`").as_deref() {
        Some("restricted") => true,
        None | Some("any") => false,
        Some(other) => {
            let span = commands.map_or(fields.span, |node| node.span);
            reader
                .collector
                .error(span, format!("`commands` must be `any` or `restricted`, not `{}`", short(other)));
            false
        }
    };
    let settable_variables = fields.take("settableVariables").map(|node| {
        if node.text().is_some_and(|text| text.eq_ignore_ascii_case("none")) {
            Vec::new()
        } else {
            reader.texts(Some(node), "settableVariables")
        }
    });
    fields.finish(reader);
    Some(StepTarget { container, restricted, settable_variables })
}

fn check_target(container: &str, node: &Node, reader: &mut Reader<'_>) {
    if container.eq_ignore_ascii_case("host") || reader.has_container(container) || container.contains("$(") {
        return;
    }
    let mut known: Vec<String> = reader.containers.clone();
    known.push("host".to_owned());
    let best = reader.suggest(container, known.iter().map(String::as_str)).map(str::to_owned);
    let diagnostic = reader
        .collector
        .error(node.span, format!("`{}` is not a container in `resources.containers`", short(container)));
    if let Some(best) = best {
        diagnostic.help(format!("did you mean `{best}`?"));
    }
}

type Work = (TaskReference, BTreeMap<String, String>);

/// Reads the keys of one kind of step. `None` when the step is left out or no task could be found for it.
fn work(
    kind: &'static str,
    fields: &mut Fields<'_>,
    steps: &mut Steps,
    reader: &mut Reader<'_>,
) -> Option<Work> {
    let node = fields.take(kind)?;
    match kind {
        "script" => script(node, ("CmdLine", 2), &[], &["failOnStderr", "workingDirectory"], fields, reader),
        "bash" => {
            let fixed = [("targetType", "inline")];
            script(node, ("Bash", 3), &fixed, &["failOnStderr", "workingDirectory"], fields, reader)
        }
        "pwsh" | "powershell" => {
            let fixed: &[_] = if kind == "pwsh" {
                &[("targetType", "inline"), ("pwsh", "true")]
            } else {
                &[("targetType", "inline")]
            };
            let keys = ["errorActionPreference", "failOnStderr", "ignoreLASTEXITCODE", "workingDirectory"];
            script(node, ("PowerShell", 2), fixed, &keys, fields, reader)
        }
        "checkout" => checkout(node, fields, steps, reader),
        "task" => task(node, fields, steps, reader),
        "publish" | "upload" => {
            let path = reader.filled(node, &format!("`{kind}`"))?;
            let mut inputs = keys(&["artifact"], fields, reader);
            inputs.insert("path".to_owned(), path);
            Some((builtin("PublishPipelineArtifact", 1, node, reader)?, inputs))
        }
        "download" => download(node, fields, steps, reader),
        "downloadBuild" => {
            let build = reader.filled(node, "`downloadBuild`")?;
            let mut inputs = keys(&["artifact", "path", "patterns"], fields, reader);
            inputs.extend(reader.pairs(fields.take("inputs"), "inputs"));
            inputs.insert("definition".to_owned(), build);
            Some((builtin("DownloadBuildArtifacts", 0, node, reader)?, inputs))
        }
        "getPackage" => {
            let package = reader.filled(node, "`getPackage`")?;
            let mut inputs = keys(&["path"], fields, reader);
            inputs.insert("definition".to_owned(), package);
            Some((builtin("DownloadPackage", 1, node, reader)?, inputs))
        }
        _ => {
            let resource = reader.filled(node, "`reviewApp`")?;
            Some((
                builtin("ReviewApp", 0, node, reader)?,
                BTreeMap::from([("resourceName".to_owned(), resource)]),
            ))
        }
    }
}

/// Keys of a shortcut that are inputs of the same name.
fn keys(
    names: &[&'static str],
    fields: &mut Fields<'_>,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, String> {
    let mut inputs = BTreeMap::new();
    for name in names {
        if let Some(text) = reader.optional(fields.take(name), &format!("`{name}`")) {
            inputs.insert((*name).to_owned(), text);
        }
    }
    inputs
}

fn script(
    node: &Node,
    (task, major): (&str, u32),
    fixed: &[(&str, &str)],
    names: &[&'static str],
    fields: &mut Fields<'_>,
    reader: &mut Reader<'_>,
) -> Option<Work> {
    let text = reader.text(node, "the script");
    let mut inputs = keys(names, fields, reader);
    inputs.extend(fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    inputs.insert("script".to_owned(), text?);
    Some((builtin(task, major, node, reader)?, inputs))
}

fn checkout(
    node: &Node,
    fields: &mut Fields<'_>,
    steps: &mut Steps,
    reader: &mut Reader<'_>,
) -> Option<Work> {
    let repository = reader.filled(node, "`checkout`");
    let names = [
        "clean",
        "fetchDepth",
        "fetchFilter",
        "fetchTags",
        "lfs",
        "submodules",
        "persistCredentials",
        "path",
        "sparseCheckoutDirectories",
        "sparseCheckoutPatterns",
        "workspaceRepo",
    ];
    let inputs = keys(&names, fields, reader);
    checkout_of(repository, inputs, node, steps, reader)
}

/// A checkout of a repository with the inputs that are written.
fn checkout_of(
    repository: Option<String>,
    mut inputs: BTreeMap<String, String>,
    node: &Node,
    steps: &mut Steps,
    reader: &mut Reader<'_>,
) -> Option<Work> {
    steps.checkout_written = true;
    let repository = repository?;
    if repository.eq_ignore_ascii_case("none") {
        return None;
    }
    if reader.nameless.iter().any(|alias| alias.eq_ignore_ascii_case(&repository)) {
        reader
            .collector
            .error(node.span, format!("the repository resource `{}` has no `name`", short(&repository)))
            .help("write `name: repo` or `name: project/repo` there");
    } else if !reader.has_repository(&repository) {
        let best =
            reader.suggest(&repository, reader.repositories.iter().map(String::as_str)).map(str::to_owned);
        let diagnostic = reader.collector.error(
            node.span,
            format!("`{}` is not a repository in `resources.repositories`", short(&repository)),
        );
        if let Some(best) = best {
            diagnostic.help(format!("did you mean `{best}`?"));
        } else {
            diagnostic.help(
                "use `self` for the pipeline's own repository, or name another one in place: \
                    `git://project/repo@ref`",
            );
        }
    }
    inputs.insert("repository".to_owned(), repository);
    Some((automatic_checkout().task, inputs))
}

fn download(
    node: &Node,
    fields: &mut Fields<'_>,
    steps: &mut Steps,
    reader: &mut Reader<'_>,
) -> Option<Work> {
    let what = reader.filled(node, "`download`");
    let inputs = keys(&["artifact", "patterns", "path"], fields, reader);
    download_of(what, inputs, node, steps, reader)
}

/// A download from a run with the inputs that are written.
fn download_of(
    what: Option<String>,
    mut inputs: BTreeMap<String, String>,
    node: &Node,
    steps: &mut Steps,
    reader: &mut Reader<'_>,
) -> Option<Work> {
    steps.download_written = true;
    let what = what?;
    if what.eq_ignore_ascii_case("none") {
        return None;
    }
    name_run(&what, &mut inputs);
    Some((builtin("DownloadPipelineArtifact", 2, node, reader)?, inputs))
}

/// Says in a step's inputs from which run it downloads: this one (`current`) or that of a pipeline resource.
fn name_run(run: &str, inputs: &mut BTreeMap<String, String>) {
    let is_current = run.eq_ignore_ascii_case("current");
    // Unlike the task, the shortcut gives a pipeline and a single artifact folders of their names.
    let folders = [Some(run).filter(|_| !is_current), inputs.get("artifact").map(String::as_str)];
    let folders: Vec<_> = folders.into_iter().flatten().collect();
    if !folders.is_empty() && !inputs.contains_key("path") {
        inputs.insert("path".to_owned(), format!("$(Pipeline.Workspace)/{}", folders.join("/")));
    }
    inputs.insert("buildType".to_owned(), if is_current { "current" } else { "specific" }.to_owned());
    if !is_current {
        // Which run it is is known when this one starts.
        inputs.insert("alias".to_owned(), run.to_owned());
    }
}

/// The task that the service writes for `download:`. No list of tasks has it.
const DOWNLOAD: Uuid = uuid!("30f35852-3f7e-4c0c-9a88-e127b4f97211");

fn task(node: &Node, fields: &mut Fields<'_>, steps: &mut Steps, reader: &mut Reader<'_>) -> Option<Work> {
    let mut inputs: BTreeMap<String, String> =
        reader.pairs(fields.take("inputs"), "inputs").into_iter().collect();
    let text = reader.filled(node, "`task`")?;
    let Some((name, version)) = text.rsplit_once('@') else {
        let name = short(&text);
        let newest = reader.tasks.newest(text.trim()).unwrap_or(1);
        reader
            .collector
            .error(node.span, format!("the task `{name}` needs a version"))
            .help(format!("put the major version after the name, for example `{name}@{newest}`"));
        return None;
    };
    let major = version.trim().split('.').next().and_then(|major| major.parse().ok());
    let Some(major) = major else {
        reader.collector.error(node.span, format!("`{}` is not a task version", short(version)));
        return None;
    };
    // In the form in which typed parameters hand steps over, `checkout` and `download` are tasks.
    let id = Uuid::try_parse(name.trim()).ok();
    if id == Some(CHECKOUT) || name.trim().eq_ignore_ascii_case("Checkout") {
        let repository = inputs.remove("repository").unwrap_or_else(|| "self".to_owned());
        return checkout_of(Some(repository), inputs, node, steps, reader);
    }
    if id == Some(DOWNLOAD) {
        let run = inputs.remove("alias");
        return download_of(run, inputs, node, steps, reader);
    }
    Some((find(name.trim(), major, node, reader)?, inputs))
}

fn builtin(name: &str, major: u32, node: &Node, reader: &mut Reader<'_>) -> Option<TaskReference> {
    // A catalog may hold newer versions; what it does not hold, we know by heart.
    let builtin = || crate::tasks::TaskCatalog::resolve(&crate::tasks::BuiltinTasks, name, major);
    reader.tasks.resolve(name, major).or_else(builtin).or_else(|| find(name, major, node, reader))
}

fn find(name: &str, major: u32, node: &Node, reader: &mut Reader<'_>) -> Option<TaskReference> {
    let found = reader.tasks.resolve(name, major);
    let taken = found.is_some();
    if taken && (reader.tasks.is_certain(name, major) || !reader.doubted.insert((name.to_lowercase(), major)))
    {
        return found;
    }
    let Some((message, help)) = doubt(name, major, taken, reader) else { return found };
    let diagnostic = match taken {
        true => reader.collector.warning(node.span, message),
        false => reader.collector.error(node.span, message),
    };
    if let Some(help) = help {
        diagnostic.help(help);
    }
    found
}

/// What to say of a task that is not known to exist, and what to do about it. Nothing of a task that is like
/// no other: it is an extension's.
fn doubt(name: &str, major: u32, taken: bool, reader: &Reader<'_>) -> Option<(String, Option<String>)> {
    // The catalog's list of names is made for each call, and only for this message.
    let names = if reader.collector.is_full() { Vec::new() } else { reader.tasks.names() };
    let newest = |task: &str| Some(format!("`{task}@{}`", reader.tasks.newest(task)?));
    if let Some(known) = names.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        let message = match taken {
            true => format!("Dayfly does not know version {major} of the task `{known}`"),
            false => format!("the task `{known}` has no version {major} here"),
        };
        return Some((message, newest(known).map(|newest| format!("the newest known version is {newest}"))));
    }
    let best = closest(name, names.iter().map(String::as_str));
    let best = best.filter(|best| !taken || is_slip(name, best)).and_then(newest);
    let name = short(name);
    match (taken, best) {
        (true, None) => None,
        (true, Some(best)) => Some((
            format!("`{name}` is not one of Azure Pipelines' own tasks"),
            Some(format!("did you mean {best}? Ignore this if an extension provides `{name}`")),
        )),
        (false, best) => Some((
            format!("there is no task `{name}` here"),
            Some(match best {
                Some(best) => format!("did you mean {best}?"),
                None => "tasks come from Azure DevOps: make this one available, or use a script".to_owned(),
            }),
        )),
    }
}
