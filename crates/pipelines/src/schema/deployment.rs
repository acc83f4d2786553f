//! What makes a job a deployment: its environment and the hooks of its strategy.

use super::{
    pool,
    reader::{Fields, Reader, short},
    steps,
};
use crate::{
    plan::{Deployment, Environment, Hook, HookKind, Job},
    yaml::Node,
};

/// Reads `environment:`.
pub(super) fn environment(node: Option<&Node>, reader: &mut Reader<'_>) -> Option<Environment> {
    let node = node.filter(|node| !node.is_blank())?;
    if let Some(text) = node.text() {
        return Some(named(text));
    }
    let mut fields = Fields::open(node, "environment", reader);
    if fields.is_silent() {
        return None;
    }
    let name = reader.optional(fields.take("name"), "the environment's `name`");
    let mut environment = name.as_deref().map(named).unwrap_or_default();
    if name.is_none() {
        reader.collector.error(fields.span, "an environment needs `name`");
    }
    if let Some(resource) = reader.optional(fields.take("resourceName"), "`resourceName`") {
        environment.resource_name = Some(resource);
    }
    environment.resource_type = reader.optional(fields.take("resourceType"), "`resourceType`");
    fields.take("resourceId");
    let tags = reader.texts(fields.take("tags"), "tags");
    environment.tags = (!tags.is_empty()).then(|| tags.join(","));
    fields.finish(reader);
    Some(environment)
}

/// `name`, or `name.resource`.
fn named(text: &str) -> Environment {
    match text.split_once('.') {
        Some((name, resource)) => Environment {
            name: name.to_owned(),
            resource_name: Some(resource.to_owned()),
            ..Environment::default()
        },
        None => Environment { name: text.to_owned(), ..Environment::default() },
    }
}

/// Reads `strategy:` of a deployment job.
pub(super) fn strategy(
    node: Option<&Node>,
    job: &Job,
    environment: Option<Environment>,
    reader: &mut Reader<'_>,
) -> Option<Deployment> {
    let Some(node) = node.filter(|node| !node.is_blank()) else {
        // Only `deployment` is required (azure-pipelines-vscode, `service-schema.json`): such jobs serve as
        // gates.
        let (hooks, on_failure, on_success) = (Vec::new(), None, None);
        return Some(Deployment { environment, strategy: String::new(), hooks, on_failure, on_success });
    };
    let mut fields = Fields::open(node, "the strategy of a deployment", reader);
    if fields.is_silent() {
        return None;
    }
    let which = fields.which(&["runOnce", "rolling", "canary"]);
    let entry = which.and_then(|which| fields.take_entry(which));
    let (Some(which), Some(entry)) = (which, entry) else {
        reader.collector.error(fields.span, "a deployment strategy must be `runOnce`, `rolling` or `canary`");
        return None;
    };
    fields.finish(reader);
    if which == "rolling" {
        reader
            .collector
            .error(
                entry.key.span,
                "the strategy `rolling` is not supported: it needs the virtual machines of an environment",
            )
            .help("use `runOnce`, or `canary`");
        return None;
    }
    let resource = environment.as_ref().and_then(|environment| environment.resource_name.clone());
    let mut hooks = Hooks { job, resource, hooks: Vec::new(), on_failure: None, on_success: None };
    hooks.read(which, &entry.value, reader);
    if !reader.is_part && !hooks.hooks.iter().any(|hook| hook.kind == HookKind::Deploy) {
        reader.collector.error(entry.key.span, format!("`{which}` needs the hook `deploy`"));
    }
    Some(Deployment {
        environment,
        strategy: which.to_owned(),
        hooks: hooks.hooks,
        on_failure: hooks.on_failure,
        on_success: hooks.on_success,
    })
}

struct Hooks<'a> {
    job: &'a Job,
    resource: Option<String>,
    hooks: Vec<Hook>,
    on_failure: Option<Hook>,
    on_success: Option<Hook>,
}

impl Hooks<'_> {
    fn read(&mut self, which: &'static str, node: &Node, reader: &mut Reader<'_>) {
        let mut fields = Fields::open(node, which, reader);
        let increments = match which {
            "canary" => increments(fields.take("increments"), reader),
            _ => Vec::new(),
        };
        let pre_deploy = fields.take("preDeploy");
        let rounds = ["deploy", "routeTraffic", "postRouteTraffic"].map(|key| fields.take(key));
        let kinds = [HookKind::Deploy, HookKind::RouteTraffic, HookKind::PostRouteTraffic];
        if let Some(node) = pre_deploy
            && let Some(hook) = self.hook(HookKind::PreDeploy, None, node, reader)
        {
            self.hooks.push(hook);
        }
        // Without increments there is one round, and it has no number.
        let increments: Vec<Option<u32>> =
            if increments.is_empty() { vec![None] } else { increments.into_iter().map(Some).collect() };
        let mut errors_told = false;
        for increment in increments {
            for (kind, node) in kinds.into_iter().zip(rounds) {
                let Some(node) = node else { continue };
                let before = reader.collector.errors();
                if !errors_told && let Some(hook) = self.hook(kind, increment, node, reader) {
                    self.hooks.push(hook);
                }
                errors_told |= reader.collector.errors() > before && increment.is_some();
            }
        }
        if let Some(node) = fields.take("on") {
            let mut on = Fields::open(node, "on", reader);
            let failure = on.take("failure");
            let success = on.take("success");
            on.finish(reader);
            self.on_failure = failure.and_then(|node| self.hook(HookKind::OnFailure, None, node, reader));
            self.on_success = success.and_then(|node| self.hook(HookKind::OnSuccess, None, node, reader));
        }
        fields.finish(reader);
    }

    fn hook(
        &self,
        kind: HookKind,
        increment: Option<u32>,
        node: &Node,
        reader: &mut Reader<'_>,
    ) -> Option<Hook> {
        let mut fields = Fields::open(node, "a hook", reader);
        if fields.is_silent() {
            return None;
        }
        let pool = fields.take("pool").and_then(|node| pool::pool(node, reader));
        let mut list = match fields.take("steps") {
            Some(node) => steps::steps(node, reader),
            None => {
                reader.collector.error(fields.span, "a hook needs `steps`");
                steps::Steps::default()
            }
        };
        fields.finish(reader);
        let server = pool.as_ref().map_or(self.job.pool.server, |pool| pool.server);
        steps::check_place(&list, server, reader);
        if kind == HookKind::Deploy && !list.download_written && !server {
            list.steps.splice(0..0, steps::automatic_downloads(reader));
        }
        steps::name(&mut list.steps);
        Some(Hook { job_name: self.name(kind, increment), kind, increment, pool, steps: list.steps })
    }

    /// The name of the hook's job, which is how its outputs are addressed.
    fn name(&self, kind: HookKind, increment: Option<u32>) -> String {
        let base = match kind {
            HookKind::PreDeploy => "preDeploy",
            HookKind::Deploy if increment.is_none() && self.resource.is_none() => {
                return self.job.name.clone();
            }
            HookKind::Deploy if increment.is_none() => "Deploy",
            HookKind::Deploy => "deploy",
            HookKind::RouteTraffic => "routeTraffic",
            HookKind::PostRouteTraffic => "postRouteTraffic",
            HookKind::OnFailure => "onFailure",
            HookKind::OnSuccess => "onSuccess",
        };
        match (increment, &self.resource) {
            (Some(increment), _) => format!("{base}_{increment}"),
            (None, Some(resource)) => format!("{base}_{resource}"),
            (None, None) => base.to_owned(),
        }
    }
}

fn increments(node: Option<&Node>, reader: &mut Reader<'_>) -> Vec<u32> {
    let mut increments = Vec::new();
    for (text, span) in reader.spanned_texts(node, "increments") {
        match text.trim().trim_end_matches('%').parse::<u32>() {
            Ok(increment) if (1..=100).contains(&increment) && !increments.contains(&increment) => {
                increments.push(increment);
            }
            _ => {
                reader.collector.error(
                    span,
                    format!(
                        "`{}` is not a valid increment: use different numbers from 1 to 100",
                        short(&text)
                    ),
                );
            }
        }
    }
    increments
}
