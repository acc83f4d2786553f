//! Values of parameters of the types `step`, `job`, `stage` and their lists: checked, and brought into the
//! form in which the service hands them to a template. There every step is a task, and what may be written as
//! text or as a mapping is a mapping.
//!
//! The form is what the service's preview of a pipeline answers (`finalYaml`): `checkout`, `download` and
//! `publish` become tasks that are named by their id, `none` becomes a step whose condition is `false`.

use dayfly_expressions::Value;

use super::{jobs, parameters, reader::Reader, resources, stages, steps};
use crate::{
    diagnostics::Span,
    plan::ParameterType,
    values,
    yaml::{Entry, Key, Kind, Node},
};

/// What a value is made of.
#[derive(Debug, Clone, Copy)]
enum Part {
    Step,
    Job,
    Stage,
    Container,
}

fn part(kind: ParameterType) -> Option<Part> {
    use ParameterType as T;
    match kind {
        T::Step | T::StepList => Some(Part::Step),
        T::Job | T::JobList | T::Deployment | T::DeploymentList => Some(Part::Job),
        T::Stage | T::StageList => Some(Part::Stage),
        T::Container | T::ContainerList => Some(Part::Container),
        _ => None,
    }
}

/// Whether values of this type are checked and rewritten.
pub(crate) fn is_structural(kind: ParameterType) -> bool {
    part(kind).is_some()
}

/// Checks a value and rewrites it. Entries with mistakes are reported and left out.
pub(crate) fn value(name: &str, kind: ParameterType, node: &Node, reader: &mut Reader<'_>) -> Option<Value> {
    let part = part(kind)?;
    let is_list = parameters::is_list(kind);
    match &node.kind {
        Kind::Invalid => None,
        Kind::Scalar(text) if parameters::is_null(text, reader.collector.slice(node.span)) => {
            Some(if is_list { Value::from(Vec::new()) } else { Value::Null })
        }
        Kind::Sequence(items) if is_list => {
            let items: Vec<Value> = items
                .iter()
                .filter_map(|item| checked(part, item, reader))
                .map(|item| values::from_node(&item))
                .collect();
            Some(items.into())
        }
        Kind::Mapping(_) if !is_list => {
            Some(checked(part, node, reader).map_or(Value::Null, |node| values::from_node(&node)))
        }
        _ => {
            parameters::wrong_type(name, kind, node, reader);
            None
        }
    }
}

/// One step, job, stage or container in its form, unless it has mistakes.
fn checked(part: Part, node: &Node, reader: &mut Reader<'_>) -> Option<Node> {
    if matches!(node.kind, Kind::Invalid) {
        return None;
    }
    let (errors, told) = (reader.collector.errors(), reader.collector.len());
    let mut alone = Reader::of_a_part(reader.collector, reader.tasks);
    match part {
        Part::Step => drop(steps::step(node, &mut steps::Steps::default(), &mut alone)),
        Part::Job => drop(jobs::job(node, None, &mut alone)),
        Part::Stage => drop(stages::stage(node, None, &mut alone)),
        Part::Container => drop(resources::container_resource(node, &mut alone)),
    }
    // What is placed is read again, with all that is around it.
    reader.collector.forget_warnings(told);
    (reader.collector.errors() == errors).then(|| match part {
        Part::Step => step(node),
        Part::Job => job(node),
        Part::Stage => stage(node),
        Part::Container => node.clone(),
    })
}

/// What a shortcut stands for.
struct Shortcut {
    key: &'static str,
    task: &'static str,
    /// The input that gets the shortcut's own value.
    input: &'static str,
    fixed: &'static [(&'static str, &'static str)],
}

const fn shortcut(
    key: &'static str,
    task: &'static str,
    input: &'static str,
    fixed: &'static [(&'static str, &'static str)],
) -> Shortcut {
    Shortcut { key, task, input, fixed }
}

const INLINE: &[(&str, &str)] = &[("targetType", "inline")];

const SHORTCUTS: &[Shortcut] = &[
    shortcut("script", "CmdLine@2", "script", &[]),
    shortcut("bash", "Bash@3", "script", INLINE),
    shortcut("pwsh", "PowerShell@2", "script", &[("targetType", "inline"), ("pwsh", "true")]),
    shortcut("powershell", "PowerShell@2", "script", INLINE),
    shortcut("checkout", "6d15af64-176c-496d-b583-fd2ae21d4df4@1", "repository", &[]),
    shortcut("publish", "ecdc45f6-832d-4ad9-b52b-ee49e94659be@1", "path", &[]),
    shortcut("upload", "ecdc45f6-832d-4ad9-b52b-ee49e94659be@1", "path", &[]),
    shortcut("download", "30f35852-3f7e-4c0c-9a88-e127b4f97211@1", "alias", &[]),
    shortcut("downloadBuild", "DownloadBuildArtifacts@0", "definition", &[]),
    shortcut("getPackage", "DownloadPackage@1", "definition", &[]),
    shortcut("reviewApp", "ReviewApp@0", "resourceName", &[]),
];

/// The keys of every step, in the order of the form. What else a shortcut has is an input.
const STEP_KEYS: &[&str] = &[
    "name",
    "displayName",
    "condition",
    "continueOnError",
    "enabled",
    "retryCountOnTaskFailure",
    "timeoutInMinutes",
    "target",
];

fn step(node: &Node) -> Node {
    let Kind::Mapping(entries) = &node.kind else { return node.clone() };
    let Some(first) = entries.first() else { return node.clone() };
    let known = SHORTCUTS.iter().find(|shortcut| shortcut.key == first.key.text);
    let mut made = Vec::with_capacity(entries.len() + 1);
    made.push(match known {
        Some(shortcut) => entry("task", Node::scalar(shortcut.task, first.value.span), first.key.span),
        None => first.clone(),
    });
    for key in STEP_KEYS {
        if let Some(own) = entries.iter().find(|own| own.key.text == *key && !own.value.is_blank()) {
            made.push(match *key {
                "target" => own_mapping(own, "container"),
                _ => own.clone(),
            });
        }
    }
    let is_none = first.value.text().is_some_and(|text| text.eq_ignore_ascii_case("none"));
    if is_none && matches!(first.key.text.as_str(), "checkout" | "download") {
        made.retain(|entry| entry.key.text != "condition");
        made.push(entry("condition", Node::scalar("false", first.value.span), first.key.span));
    }
    let inputs = match known {
        Some(shortcut) => inputs(shortcut, first, &entries[1..]),
        None => entries.iter().find(|own| own.key.text == "inputs").cloned(),
    };
    made.extend(inputs);
    made.extend(entries.iter().find(|own| own.key.text == "env").cloned());
    mapping(made, node.span)
}

/// The inputs of the task that a shortcut stands for.
fn inputs(shortcut: &Shortcut, first: &Entry, rest: &[Entry]) -> Option<Entry> {
    let place = first.key.span;
    let mut made = Vec::new();
    for own in rest {
        let key = own.key.text.as_str();
        match (&own.value.kind, key) {
            (_, "env") => {}
            (_, key) if STEP_KEYS.contains(&key) => {}
            (Kind::Mapping(entries), "inputs") => made.extend(entries.iter().cloned()),
            (_, "artifact") if matches!(shortcut.key, "publish" | "upload") => {
                made.push(entry("artifactName", own.value.clone(), own.key.span));
            }
            _ if own.value.is_blank() => {}
            _ => made.push(own.clone()),
        }
    }
    made.extend(shortcut.fixed.iter().map(|(name, value)| entry(name, Node::scalar(*value, place), place)));
    made.push(entry(shortcut.input, first.value.clone(), place));
    Some(entry("inputs", mapping(made, first.value.span), place))
}

fn job(node: &Node) -> Node {
    rewritten(node, |own| match own.key.text.as_str() {
        "environment" => own_mapping(own, "name"),
        "strategy" => with(own, strategy),
        "steps" => with(own, steps_of),
        _ => common(own),
    })
}

fn stage(node: &Node) -> Node {
    rewritten(node, |own| match own.key.text.as_str() {
        "jobs" => with(own, |jobs| items(jobs, job)),
        _ => common(own),
    })
}

/// The keys that stages and jobs have in common.
fn common(own: &Entry) -> Entry {
    match own.key.text.as_str() {
        "dependsOn" => with(own, list),
        "pool" => pool(own),
        "variables" => with(own, variables),
        _ => own.clone(),
    }
}

/// The hooks below a strategy hold steps.
fn strategy(node: &Node) -> Node {
    rewritten(node, |own| match own.key.text.as_str() {
        "steps" => with(own, steps_of),
        "pool" => pool(own),
        "matrix" => own.clone(),
        _ => with(own, strategy),
    })
}

fn steps_of(node: &Node) -> Node {
    items(node, step)
}

fn pool(own: &Entry) -> Entry {
    // `server` is no pool's name.
    if own.value.text().is_some_and(|text| text.trim().eq_ignore_ascii_case("server")) {
        return own.clone();
    }
    let own = own_mapping(own, "name");
    with(&own, |pool| {
        rewritten(pool, |own| match own.key.text.as_str() {
            "demands" => with(own, list),
            _ => own.clone(),
        })
    })
}

/// A mapping of variables as a list.
fn variables(node: &Node) -> Node {
    let Kind::Mapping(entries) = &node.kind else { return node.clone() };
    let variable = |own: &Entry| {
        let name = Node::scalar(own.key.text.clone(), own.key.span);
        mapping(
            vec![entry("name", name, own.key.span), entry("value", own.value.clone(), own.key.span)],
            own.value.span,
        )
    };
    Node { kind: Kind::Sequence(entries.iter().map(variable).collect()), span: node.span }
}

/// A single text as a list.
fn list(node: &Node) -> Node {
    match &node.kind {
        Kind::Scalar(_) if node.is_blank() => Node { kind: Kind::Sequence(Vec::new()), span: node.span },
        Kind::Scalar(_) => Node { kind: Kind::Sequence(vec![node.clone()]), span: node.span },
        _ => node.clone(),
    }
}

/// The text of an entry as the mapping it is short for.
fn own_mapping(own: &Entry, key: &str) -> Entry {
    match &own.value.kind {
        Kind::Scalar(_) if !own.value.is_blank() => {
            with(own, |text| mapping(vec![entry(key, text.clone(), own.key.span)], text.span))
        }
        _ => own.clone(),
    }
}

fn items(node: &Node, rewrite: impl Fn(&Node) -> Node) -> Node {
    match &node.kind {
        Kind::Sequence(items) => {
            Node { kind: Kind::Sequence(items.iter().map(rewrite).collect()), span: node.span }
        }
        _ => node.clone(),
    }
}

fn rewritten(node: &Node, rewrite: impl Fn(&Entry) -> Entry) -> Node {
    match &node.kind {
        Kind::Mapping(entries) => mapping(entries.iter().map(rewrite).collect(), node.span),
        _ => node.clone(),
    }
}

fn with(own: &Entry, rewrite: impl Fn(&Node) -> Node) -> Entry {
    Entry { key: own.key.clone(), value: rewrite(&own.value) }
}

fn entry(key: &str, value: Node, span: Span) -> Entry {
    Entry { key: Key { text: key.to_owned(), span }, value }
}

fn mapping(entries: Vec<Entry>, span: Span) -> Node {
    Node { kind: Kind::Mapping(entries), span }
}
