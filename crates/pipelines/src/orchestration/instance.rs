//! A job of the file unfolds into the jobs that agents run.

use std::collections::BTreeMap;

use dayfly_protocol::{job::Variables, timeline::VariableValue};
use serde::Serialize;

use super::{JobReference, PhaseReference, StageReference, context::Surroundings, matrix};
use crate::{
    identifiers::DEFAULT_NAME,
    plan::{
        Container, ContainerResource, Environment, Hook, HookKind, Job, Legs, Plan, Pool, Setting, Step,
        Strategy, WorkspaceClean,
    },
    schema::strategy::MAX_JOBS,
    variable_set::VariableSet,
};

/// One job for one agent: everything but what only the service knows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobInstance {
    /// The job.
    pub job: JobReference,
    /// Its stage.
    pub stage: StageReference,
    /// Its phase.
    pub phase: PhaseReference,
    /// Its place among the jobs of its phase, from 1.
    pub position_in_phase: u32,
    /// How many jobs its phase has.
    pub total_in_phase: u32,
    /// Its variables, except those that [`message()`](crate::message()) adds. May hold secrets.
    #[serde(skip)]
    pub variables: Variables,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Where it runs; macros are expanded.
    pub pool: Pool,
    /// How long it may run, in minutes; 0: as long as the pool allows.
    pub timeout_in_minutes: u32,
    /// How long it may take to end after a cancellation, in minutes.
    pub cancel_timeout_in_minutes: u32,
    /// Whether its failure counts as success with issues.
    pub continue_on_error: bool,
    /// What is cleaned before it starts.
    pub workspace_clean: Option<WorkspaceClean>,
    /// The alias of the container its steps run in.
    pub container: Option<String>,
    /// Service containers: network name to alias.
    pub services: BTreeMap<String, String>,
    /// All containers it names.
    pub containers: Vec<ContainerResource>,
    /// Repositories it uses without a checkout step.
    pub uses_repositories: Vec<String>,
    /// What it is in a deployment.
    pub deployment: Option<DeploymentInstance>,
}

/// A job's part in a deployment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentInstance {
    /// Where to.
    pub environment: Option<Environment>,
    /// `runOnce` or `canary`.
    pub strategy: String,
    /// Which hook it is.
    pub hook: HookKind,
    /// The percentage of a canary round.
    pub increment: Option<u32>,
}

/// What all jobs of a phase have in common, and what tells them apart.
pub(super) struct Unfolded {
    pub(super) display_name: String,
    pub(super) drafts: Vec<Draft>,
    pub(super) max_parallel: usize,
    /// One after the other, as the hooks of a deployment.
    pub(super) sequential: bool,
    pub(super) continue_on_error: bool,
    timeout_in_minutes: u32,
    cancel_timeout_in_minutes: u32,
    container: Option<String>,
    services: BTreeMap<String, String>,
    /// Containers that are written in place, by alias.
    in_place: Vec<ContainerResource>,
}

/// A job before it starts.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) display_name: String,
    pub(super) hook: Option<Hook>,
    variables: VariableSet,
}

/// Unfolds a job that is about to begin. `Err`: why it cannot.
pub(super) fn unfold(
    job: &Job,
    surroundings: &Surroundings<'_>,
    variables: VariableSet,
    secret_outputs: &[String],
) -> Result<Unfolded, String> {
    let evaluate = |text: &str| surroundings.text(text).map(|text| variables.expand(&text));
    let display_name = variables.expand(&job.display_name);
    let (drafts, max_parallel) = match (&job.deployment, &job.strategy) {
        (Some(deployment), _) => {
            let hooks = deployment.hooks.iter().chain(&deployment.on_failure).chain(&deployment.on_success);
            let many = hooks.clone().count() > 1;
            let drafts = hooks.map(|hook| Draft {
                name: hook.job_name.clone(),
                display_name: if many {
                    format!("{display_name} {}", hook.label())
                } else {
                    display_name.clone()
                },
                hook: Some(hook.clone()),
                variables: variables.clone(),
            });
            (drafts.collect(), 1)
        }
        (None, Strategy::Single) => {
            let (name, variables) = (DEFAULT_NAME.to_owned(), variables.clone());
            (vec![Draft { name, display_name: display_name.clone(), hook: None, variables }], 1)
        }
        (None, Strategy::Parallel { count, max_parallel }) => {
            let count = number(count, "parallel", &evaluate)?;
            if !(1..=MAX_JOBS).contains(&(count as usize)) {
                return Err(format!("`parallel` gives {count}; it has to be a number from 1 to {MAX_JOBS}"));
            }
            let drafts = (1..=count).map(|position| Draft {
                name: format!("Job{position}"),
                display_name: format!("{display_name} {position}"),
                hook: None,
                variables: variables.clone(),
            });
            (drafts.collect(), number(max_parallel, "maxParallel", &evaluate)?)
        }
        (None, Strategy::Matrix { legs, max_parallel }) => {
            let max_parallel = number(max_parallel, "maxParallel", &evaluate)?;
            let legs = match legs {
                Legs::List(legs) => {
                    legs.iter().map(|leg| (leg.name.clone(), leg.variables.clone())).collect()
                }
                Legs::Expression(text) => matrix::legs(&surroundings.text(text)?)?,
            };
            let mut drafts = Vec::with_capacity(legs.len());
            for (name, written) in legs {
                let mut set = variables.clone();
                surroundings.inside(&set).variables(&written, &mut set, secret_outputs)?;
                drafts.push(Draft {
                    display_name: format!("{display_name} {name}"),
                    name,
                    hook: None,
                    variables: set,
                });
            }
            (drafts, max_parallel)
        }
    };
    let mut in_place = Vec::new();
    let container = match &job.container {
        Some(container) => place(container, "container", &evaluate, &mut in_place)?,
        None => None,
    };
    let mut services = BTreeMap::new();
    for service in &job.services {
        if let Some(alias) = place(&service.container, &service.name, &evaluate, &mut in_place)? {
            services.insert(service.name.clone(), alias);
        }
    }
    Ok(Unfolded {
        display_name,
        drafts,
        // 0 stands for no limit.
        max_parallel: if max_parallel == 0 { MAX_JOBS } else { max_parallel as usize },
        sequential: job.deployment.is_some(),
        continue_on_error: boolean(&job.continue_on_error, &evaluate)?,
        timeout_in_minutes: number(&job.timeout_in_minutes, "timeoutInMinutes", &evaluate)?,
        cancel_timeout_in_minutes: number(
            &job.cancel_timeout_in_minutes,
            "cancelTimeoutInMinutes",
            &evaluate,
        )?,
        container,
        services,
        in_place,
    })
}

/// The alias under which a container is known to the job. Nothing when its expression gives nothing.
fn place(
    container: &Container,
    name: &str,
    evaluate: &impl Fn(&str) -> Result<String, String>,
    in_place: &mut Vec<ContainerResource>,
) -> Result<Option<String>, String> {
    match container {
        Container::Text(text) => {
            let text = evaluate(text)?.trim().to_owned();
            Ok((!text.is_empty()).then_some(text))
        }
        Container::Inline(resource) => {
            let mut resource = (**resource).clone();
            if resource.alias.is_empty() {
                resource.alias = format!("{name}_in_place");
            }
            let alias = resource.alias.clone();
            in_place.push(resource);
            Ok(Some(alias))
        }
    }
}

fn number(
    setting: &Setting<u32>,
    key: &str,
    evaluate: &impl Fn(&str) -> Result<String, String>,
) -> Result<u32, String> {
    match setting {
        Setting::Value(value) => Ok(*value),
        Setting::Expression(text) => {
            let result = evaluate(text)?;
            result
                .trim()
                .parse()
                .map_err(|_| format!("`{key}: {text}` gives `{result}`, which is not a whole number"))
        }
    }
}

fn boolean(
    setting: &Setting<bool>,
    evaluate: &impl Fn(&str) -> Result<String, String>,
) -> Result<bool, String> {
    match setting {
        Setting::Value(value) => Ok(*value),
        Setting::Expression(text) => {
            let result = evaluate(text)?;
            crate::schema::parse_boolean(&result).ok_or_else(|| {
                format!("`continueOnError: {text}` gives `{result}`, which is neither `true` nor `false`")
            })
        }
    }
}

impl<'a> Surroundings<'a> {
    /// The same surroundings with other variables.
    fn inside(&self, set: &VariableSet) -> Surroundings<'a> {
        Surroundings {
            variables: set.object(),
            dependencies: self.dependencies.clone(),
            stage_dependencies: self.stage_dependencies.clone(),
            resources: self.resources.clone(),
            pipeline: self.pipeline.clone(),
            upstream: self.upstream,
            counter: self.counter,
        }
    }
}

impl JobInstance {
    pub(super) fn new(
        plan: &Plan,
        stage: StageReference,
        phase: PhaseReference,
        job: JobReference,
        written: &Job,
        unfolded: &Unfolded,
        draft: &Draft,
    ) -> Self {
        let set = &draft.variables;
        let hook = draft.hook.as_ref();
        let steps = hook.map_or(&written.steps, |hook| &hook.steps).clone();
        let pool = hook.and_then(|hook| hook.pool.as_ref()).unwrap_or(&written.pool);
        let count = unfolded.drafts.len();
        let mut aliases: Vec<&str> =
            unfolded.container.iter().chain(unfolded.services.values()).map(String::as_str).collect();
        aliases.extend(steps.iter().filter_map(|step| step.target.as_ref()?.container.as_deref()));
        let containers = containers(plan, unfolded, &aliases, set);
        Self {
            position_in_phase: if unfolded.sequential { 1 } else { job.order },
            total_in_phase: if unfolded.sequential { 1 } else { u32::try_from(count).unwrap_or(u32::MAX) },
            variables: variables(set, written, draft),
            pool: expanded(pool, set),
            timeout_in_minutes: unfolded.timeout_in_minutes,
            cancel_timeout_in_minutes: unfolded.cancel_timeout_in_minutes,
            continue_on_error: unfolded.continue_on_error,
            workspace_clean: written.workspace_clean,
            container: unfolded.container.clone(),
            services: unfolded.services.clone(),
            containers,
            uses_repositories: written.uses_repositories.clone(),
            deployment: written.deployment.as_ref().zip(hook).map(|(deployment, hook)| DeploymentInstance {
                environment: deployment.environment.clone(),
                strategy: deployment.strategy.clone(),
                hook: hook.kind,
                increment: hook.increment,
            }),
            job,
            stage,
            phase,
            steps,
        }
    }
}

/// The variables of one job: its own, and those of its part in a deployment.
fn variables(set: &VariableSet, written: &Job, draft: &Draft) -> Variables {
    let mut variables = set.to_message();
    if let Some((deployment, hook)) = written.deployment.as_ref().zip(draft.hook.as_ref()) {
        let mut add = |name: &str, value: &str| {
            variables.insert(name.to_owned(), VariableValue::read_only(value));
        };
        add("strategy.name", &deployment.strategy);
        add("strategy.action", if deployment.strategy == "canary" { "deploy" } else { "" });
        if let Some(increment) = hook.increment {
            add("strategy.increment", &increment.to_string());
        }
        if let Some(environment) = &deployment.environment {
            add("Environment.Name", &set.expand(&environment.name));
            if let Some(resource) = &environment.resource_name {
                add("Environment.ResourceName", resource);
            }
        }
    }
    variables
}

/// Containers by their aliases. An alias that no resource has is an image.
fn containers(
    plan: &Plan,
    unfolded: &Unfolded,
    aliases: &[&str],
    set: &VariableSet,
) -> Vec<ContainerResource> {
    let mut containers: Vec<ContainerResource> = Vec::new();
    for alias in aliases.iter().filter(|alias| !alias.eq_ignore_ascii_case("host")) {
        if containers.iter().any(|known| known.alias.eq_ignore_ascii_case(alias)) {
            continue;
        }
        let known = unfolded.in_place.iter().chain(&plan.resources.containers);
        let mut resource = known
            .into_iter()
            .find(|resource| resource.alias.eq_ignore_ascii_case(alias))
            .cloned()
            .unwrap_or_else(|| ContainerResource {
                image: (*alias).to_owned(),
                ..ContainerResource::default()
            });
        resource.alias = (*alias).to_owned();
        resource.image = set.expand(&resource.image);
        containers.push(resource);
    }
    containers
}

fn expanded(pool: &Pool, set: &VariableSet) -> Pool {
    let text = |value: &Option<String>| value.as_deref().map(|value| set.expand(value));
    Pool {
        name: text(&pool.name),
        vm_image: text(&pool.vm_image),
        demands: pool.demands.iter().map(|demand| set.expand(demand)).collect(),
        server: pool.server,
        other: pool.other.clone(),
    }
}
