//! A job instance to the message that an agent receives (`AgentJobRequestMessage`).
//!
//! [`RunContext`] holds what the service knows of a run. Its [`variables`](RunContext::variables) belong into
//! [`RunInputs::variables`](crate::RunInputs), so that conditions see them too; [`message`] adds those of the
//! single job.

use std::collections::BTreeMap;

use dayfly_protocol::{
    ProjectId, RecordId, TaskId, TimelineId,
    job::{
        AgentJobRequestMessage, CheckoutOptions, ContainerProperties, ContainerResource,
        EndpointAuthorization, EndpointReference, JobResources, MaskHint, RepositoryProperties,
        RepositoryResource, SYSTEM_CONNECTION, SecureFile, ServiceEndpoint, SettableVariables, Step,
        StepTarget, Variables, VersionInfo, WorkspaceOptions,
    },
    message::PIPELINE_AGENT_JOB_REQUEST,
    plan::TaskOrchestrationPlanReference,
    task::CHECKOUT,
    timeline::{TaskReference, TimelineReference, VariableValue},
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use uuid::Uuid;

use crate::{
    identifiers,
    orchestration::JobInstance,
    plan::{self, WorkspaceClean},
    variable_set::VariableSet,
};

mod environments;
mod pipelines;

use environments::Target;
pub use environments::{EnvironmentContext, EnvironmentResource};
pub use pipelines::{PipelineContext, downloaded_alias};

/// What the service knows of a run.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// The plan, with its project, pipeline and run.
    pub plan: TaskOrchestrationPlanReference,
    /// The run's timeline.
    pub timeline: TimelineId,
    /// The organization's address.
    pub collection_url: Url,
    /// The organization.
    pub collection_id: Uuid,
    /// The project.
    pub project: ProjectId,
    /// The project's name.
    pub project_name: String,
    /// The build.
    pub build: BuildContext,
    /// The pipeline's own repository under the alias `self`, and others that its jobs use.
    pub repositories: Vec<RepositoryContext>,
    /// The runs that stand behind `resources.pipelines`, as far as there are any.
    pub pipelines: Vec<PipelineContext>,
    /// The service connections that its jobs may name.
    pub endpoints: Vec<ServiceEndpoint>,
    /// The environments that its deployment jobs may name.
    pub environments: Vec<EnvironmentContext>,
    /// The secure files that its jobs may name.
    pub secure_files: Vec<SecureFile>,
    /// When the run was started, as [`RunInputs::start_time`](crate::RunInputs).
    pub start_time: String,
}

/// The build that a run is.
#[derive(Debug, Clone, Default)]
pub struct BuildContext {
    /// Its number within the organization.
    pub id: i32,
    /// The run number, see [`crate::run_number`].
    pub number: String,
    /// `Manual`, `Schedule`, ...
    pub reason: String,
    /// The pipeline.
    pub definition_id: i32,
    /// The pipeline's name.
    pub definition_name: String,
    /// The pipeline's version.
    pub definition_version: i32,
    /// Who started it.
    pub requested_for: String,
    /// The id of who started it.
    pub requested_for_id: Uuid,
    /// The address of who started it.
    pub requested_for_email: String,
    /// The file container of its artifacts.
    pub container_id: i64,
}

/// A repository that jobs of the run may check out.
#[derive(Debug, Clone)]
pub struct RepositoryContext {
    /// Its name in the pipeline; `self` for the pipeline's own.
    pub alias: String,
    /// Its id.
    pub id: String,
    /// `Git` for Azure Repos, `GitHub`, `ExternalGit`, ...
    pub repository_type: String,
    /// Its name.
    pub name: String,
    /// Where it is fetched from.
    pub url: Url,
    /// The branch or tag, in full.
    pub reference: String,
    /// The commit.
    pub version: String,
    /// Its default branch, in full.
    pub default_branch: String,
    /// Who made the commit.
    pub author: String,
    /// What the commit says.
    pub message: String,
    /// What checkouts do unless they say otherwise.
    pub checkout: BTreeMap<String, String>,
}

/// Why a job cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A step checks out what is not there.
    #[error(
        "the job `{}` uses the repository `{alias}`, which is not available here",
        identifiers::shown(job)
    )]
    RepositoryMissing {
        /// The job's identifier.
        job: String,
        /// The repository.
        alias: String,
    },
}

impl RunContext {
    /// The predefined variables of the run (`system.*`, `build.*`, `resources.pipeline.*`): read only, and
    /// the same for all its jobs.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let build = &self.build;
        let uri = self.collection_url.as_str();
        let mut rows: Vec<(&str, String)> = vec![
            ("system", "build".to_owned()),
            ("system.hosttype", "build".to_owned()),
            // Without it, Microsoft's agent rewrites addresses to those it was configured with (AG
            // `JobRunner.cs`).
            ("system.servertype", "Hosted".to_owned()),
            ("system.culture", "en-US".to_owned()),
            ("system.collectionId", self.collection_id.to_string()),
            ("system.collectionUri", uri.to_owned()),
            ("system.teamFoundationCollectionUri", uri.to_owned()),
            ("system.taskDefinitionsUri", uri.to_owned()),
            ("system.teamProject", self.project_name.clone()),
            ("system.teamProjectId", self.project.to_string()),
            ("system.definitionId", build.definition_id.to_string()),
            ("system.definitionName", build.definition_name.clone()),
            ("system.planId", self.plan.plan_id.to_string()),
            ("system.timelineId", self.timeline.to_string()),
            ("system.pipelineStartTime", self.start_time.clone()),
            ("system.isScheduled", title(build.reason == "Schedule")),
            ("system.enableAccessToken", "SecretVariable".to_owned()),
            ("build.buildId", build.id.to_string()),
            ("build.buildUri", format!("vstfs:///Build/Build/{}", build.id)),
            ("build.buildNumber", build.number.clone()),
            ("build.containerId", build.container_id.to_string()),
            ("build.reason", build.reason.clone()),
            ("build.definitionName", build.definition_name.clone()),
            ("build.definitionVersion", build.definition_version.to_string()),
            ("build.queuedBy", build.requested_for.clone()),
            ("build.queuedById", build.requested_for_id.to_string()),
            ("build.requestedFor", build.requested_for.clone()),
            ("build.requestedForId", build.requested_for_id.to_string()),
            ("build.requestedForEmail", build.requested_for_email.clone()),
        ];
        if let Some(own) = self.repository("self") {
            rows.extend([
                ("build.sourceBranch", own.reference.clone()),
                ("build.sourceBranchName", branch_name(&own.reference).to_owned()),
                ("build.sourceVersion", own.version.clone()),
                ("build.sourceVersionAuthor", own.author.clone()),
                ("build.sourceVersionMessage", own.message.lines().next().unwrap_or_default().to_owned()),
                ("build.repository.id", own.id.clone()),
                ("build.repository.name", own.name.clone()),
                ("build.repository.uri", own.url.to_string()),
                ("build.repository.provider", provider(&own.repository_type).to_owned()),
            ]);
        }
        let own = rows.into_iter().map(|(name, value)| (name.to_owned(), value));
        let of_pipelines = self.pipelines.iter().flat_map(PipelineContext::variables);
        own.chain(of_pipelines).map(|(name, value)| (name, VariableValue::read_only(value))).collect()
    }

    fn pipeline(&self, alias: &str) -> Option<&PipelineContext> {
        self.pipelines.iter().find(|pipeline| pipeline.alias.eq_ignore_ascii_case(alias))
    }

    fn repository(&self, alias: &str) -> Option<&RepositoryContext> {
        self.repositories.iter().find(|repository| repository.alias.eq_ignore_ascii_case(alias))
    }
}

/// The last part of a branch (`refs/heads/feature/x` is `x`, as on the service).
fn branch_name(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

/// The value of `Build.Repository.Provider` for a type of repository (AG `BuildJobExtension.cs`).
fn provider(repository_type: &str) -> &str {
    match repository_type {
        "Git" => "TfsGit",
        "ExternalGit" => "Git",
        "Tfvc" => "TfsVersionControl",
        other => other,
    }
}

fn title(value: bool) -> String {
    if value { "True" } else { "False" }.to_owned()
}

/// Makes the message of a job. `token` is the job's own token. The request's number and lock are left for the
/// pool's queue to fill in.
///
/// # Errors
/// A checkout of a repository that the run does not have.
pub fn message(
    instance: &JobInstance,
    run: &RunContext,
    token: &SecretString,
) -> Result<AgentJobRequestMessage, MessageError> {
    let variables = variables(instance, run, token);
    let endpoints = std::iter::once(system_connection(run, token));
    let set = VariableSet::new(&variables);
    let target = Target::of(instance, &run.environments, &set);
    // The service does not add a download from a pipeline that has no run.
    let is_idle = |step: &&plan::Step| {
        step.location.is_none() && downloaded_alias(step).is_some_and(|alias| run.pipeline(alias).is_none())
    };
    let written = instance.steps.iter().filter(|step| !is_idle(step));
    let steps: Vec<_> = written.map(|written| step(written, instance, run, &set, target)).collect();
    let named = Named::new(&steps, instance, &set);
    Ok(AgentJobRequestMessage {
        message_type: PIPELINE_AGENT_JOB_REQUEST.to_owned(),
        plan: run.plan.clone(),
        timeline: TimelineReference { id: run.timeline, ..TimelineReference::default() },
        job_id: instance.job.id,
        job_display_name: instance.job.display_name.clone(),
        job_name: instance.job.name.clone(),
        job_container: instance.container.clone(),
        job_sidecar_containers: instance.services.clone(),
        resources: JobResources {
            endpoints: endpoints.chain(named.connections(run)).collect(),
            repositories: repositories(instance, run)?,
            containers: instance.containers.iter().map(container).collect(),
            secure_files: named.secure_files(run),
        },
        workspace: instance.workspace_clean.map(|clean| WorkspaceOptions {
            clean: Some(
                match clean {
                    WorkspaceClean::Outputs => "outputs",
                    WorkspaceClean::Resources => "resources",
                    WorkspaceClean::All => "all",
                }
                .to_owned(),
            ),
        }),
        mask: vec![MaskHint { hint_type: "regex".to_owned(), value: escaped(token.expose_secret()) }],
        steps,
        variables,
        ..AgentJobRequestMessage::default()
    })
}

/// What the service turns on and off for all agents (AG `AgentKnobs.cs`), as far as it changes what a job on
/// Linux sees. The values are those that Azure DevOps sends.
const SWITCHES: &[(&str, &str)] = &[
    ("agent.disablelogplugin.TestFilePublisherPlugin", "true"),
    ("agent.disablelogplugin.TestResultLogPlugin", "true"),
    ("agent.readOnlyVariables", "true"),
    ("agent.retainDefaultEncoding", "false"),
    ("agent.taskRestrictionsEnforcementMode", "Enabled"),
    ("agent.useWorkspaceId", "true"),
    ("AGENT_USE_FETCH_FILTER_IN_CHECKOUT_TASK", "true"),
    ("ENABLE_ISSUE_SOURCE_VALIDATION", "true"),
];

fn variables(instance: &JobInstance, run: &RunContext, token: &SecretString) -> Variables {
    let (stage, phase, job) = (&instance.stage, &instance.phase, &instance.job);
    let mut set = VariableSet::new(&run.variables());
    let rows = [
        ("system.jobId", job.id.to_string()),
        ("system.jobName", job.name.clone()),
        ("system.jobDisplayName", job.display_name.clone()),
        ("system.jobIdentifier", job.identifier.clone()),
        ("system.jobAttempt", job.attempt.to_string()),
        ("system.phaseId", phase.record_id.to_string()),
        ("system.phaseName", phase.name.clone()),
        ("system.phaseDisplayName", phase.display_name.clone()),
        ("system.phaseAttempt", phase.attempt.to_string()),
        ("system.stageId", stage.record_id.to_string()),
        ("system.stageName", stage.name.clone()),
        ("system.stageDisplayName", stage.display_name.clone()),
        ("system.stageAttempt", stage.attempt.to_string()),
        ("System.JobPositionInPhase", instance.position_in_phase.to_string()),
        ("System.TotalJobsInPhase", instance.total_in_phase.to_string()),
        ("system.jobParallelismTag", "Private".to_owned()),
    ];
    for (name, value) in rows {
        set.put(name, VariableValue::read_only(value));
    }
    for (name, value) in SWITCHES {
        set.put(name, VariableValue::read_only(*value));
    }
    set.put("system.jobTimeout", VariableValue::read_only(instance.timeout_in_minutes.to_string()));
    let secret = VariableValue { is_read_only: true, ..VariableValue::secret(token.expose_secret()) };
    set.put("system.accessToken", secret);
    for (name, value) in &instance.variables {
        // Predefined ones are read only, and so stay as they are.
        set.put(name, value.clone());
    }
    if let Some(Target { environment, resource }) = Target::of(instance, &run.environments, &set) {
        set.put("Environment.Id", VariableValue::read_only(environment.id.to_string()));
        if let Some(resource) = resource {
            set.put("Environment.ResourceId", VariableValue::read_only(resource.id.to_string()));
        }
    }
    set.to_message()
}

fn system_connection(run: &RunContext, token: &SecretString) -> ServiceEndpoint {
    ServiceEndpoint {
        name: Some(SYSTEM_CONNECTION.to_owned()),
        url: Some(run.collection_url.clone()),
        authorization: Some(EndpointAuthorization {
            scheme: "OAuth".to_owned(),
            parameters: BTreeMap::from([("AccessToken".to_owned(), token.expose_secret().to_owned())]),
        }),
        data: BTreeMap::from([
            ("ServerId".to_owned(), run.collection_id.to_string()),
            ("ServerName".to_owned(), run.collection_url.host_str().unwrap_or_default().to_owned()),
        ]),
        ..ServiceEndpoint::default()
    }
}

/// What the steps and containers of a job name. Other service connections and files are not its business.
struct Named(Vec<String>);

impl Named {
    fn new(steps: &[Step], instance: &JobInstance, set: &VariableSet) -> Self {
        let inputs = steps.iter().flat_map(|step| step.inputs.values());
        let registries = instance.containers.iter().filter_map(|container| container.endpoint.clone());
        Self(inputs.map(|value| set.expand(value)).chain(registries).collect())
    }

    fn connections(&self, run: &RunContext) -> Vec<ServiceEndpoint> {
        let is_named =
            |endpoint: &&ServiceEndpoint| self.0.iter().any(|wanted| endpoint.is_called(wanted.trim()));
        run.endpoints.iter().filter(is_named).cloned().collect()
    }

    fn secure_files(&self, run: &RunContext) -> Vec<SecureFile> {
        let is_named = |file: &&SecureFile| self.0.iter().any(|wanted| file.is_called(wanted.trim()));
        run.secure_files.iter().filter(is_named).cloned().collect()
    }
}

/// A text with the macros `$(name)` expanded by these variables, secrets among them: what the service does
/// with the inputs of a task that it runs itself.
#[must_use]
pub fn expand(text: &str, variables: &Variables) -> String {
    VariableSet::new(variables).expand_all(text)
}

/// The pipeline's own repository, always, and what the job's steps use besides.
fn repositories(instance: &JobInstance, run: &RunContext) -> Result<Vec<RepositoryResource>, MessageError> {
    let checked_out = instance
        .steps
        .iter()
        .filter(|step| step.task.id == CHECKOUT)
        .filter_map(|step| step.inputs.get("repository"));
    let mut aliases: Vec<&str> = vec!["self"];
    for alias in checked_out.chain(&instance.uses_repositories) {
        if !aliases.iter().any(|known| known.eq_ignore_ascii_case(alias)) {
            aliases.push(alias);
        }
    }
    aliases
        .into_iter()
        .map(|alias| {
            let missing = || MessageError::RepositoryMissing {
                job: instance.job.identifier.clone(),
                alias: alias.to_owned(),
            };
            run.repository(alias).map(|repository| resource(alias, repository)).ok_or_else(missing)
        })
        .collect()
}

fn resource(alias: &str, repository: &RepositoryContext) -> RepositoryResource {
    let option = |name: &str| repository.checkout.get(name).cloned();
    RepositoryResource {
        alias: alias.to_owned(),
        endpoint: Some(EndpointReference {
            name: Some(SYSTEM_CONNECTION.to_owned()),
            ..EndpointReference::default()
        }),
        properties: RepositoryProperties {
            id: Some(repository.id.clone()),
            repository_type: Some(repository.repository_type.clone()),
            version: Some(repository.version.clone()),
            name: Some(repository.name.clone()),
            default_branch: Some(repository.default_branch.clone()),
            reference: Some(repository.reference.clone()),
            url: Some(repository.url.clone()),
            version_info: Some(VersionInfo {
                author: repository.author.clone(),
                message: repository.message.clone(),
            }),
            checkout_options: (!repository.checkout.is_empty()).then(|| CheckoutOptions {
                clean: option("clean"),
                fetch_depth: option("fetchDepth"),
                fetch_tags: option("fetchTags"),
                lfs: option("lfs"),
                submodules: option("submodules"),
                persist_credentials: option("persistCredentials"),
            }),
            ..RepositoryProperties::default()
        },
    }
}

fn container(resource: &plan::ContainerResource) -> ContainerResource {
    ContainerResource {
        alias: resource.alias.clone(),
        endpoint: resource
            .endpoint
            .clone()
            .map(|name| EndpointReference { name: Some(name), ..EndpointReference::default() }),
        properties: ContainerProperties {
            image: resource.image.clone(),
            options: resource.options.clone(),
            env: resource.env.clone(),
            volumes: resource.volumes.clone(),
            ports: resource.ports.clone(),
            map_docker_socket: resource.map_docker_socket,
            read_only_mounts: resource
                .mount_read_only
                .iter()
                .filter(|(_, is_read_only)| **is_read_only)
                .map(|(mount, _)| mount.clone())
                .collect(),
            local_image: resource.local_image,
        },
    }
}

/// The inputs of a step. Service connections and secure files stand there by their ids, by which tasks look
/// for them.
fn inputs(
    written: &plan::Step,
    run: &RunContext,
    set: &VariableSet,
    target: Option<Target<'_>>,
) -> BTreeMap<String, String> {
    let id = |value: &str| {
        let value = set.expand(value);
        let is = |name: &str| name.eq_ignore_ascii_case(value.trim());
        let mut endpoints = run.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.name.as_deref().is_some_and(is));
        let file = || run.secure_files.iter().find(|file| is(&file.name)).map(|file| file.id);
        endpoint.and_then(|endpoint| endpoint.id).or_else(file)
    };
    let replaced = |(name, value): (&String, &String)| {
        let id = Some(value).filter(|_| names_a_resource(name)).and_then(|value| id(value));
        (name.clone(), id.map_or_else(|| value.clone(), |id| id.to_string()))
    };
    let of_environment = target.and_then(|target| target.inputs(written, &run.endpoints)).unwrap_or_default();
    let upstream = downloaded_alias(written).and_then(|alias| run.pipeline(alias));
    let of_upstream = upstream.map(PipelineContext::inputs).unwrap_or_default();
    written.inputs.iter().map(replaced).chain(of_environment).chain(of_upstream).collect()
}

/// Whether an input is of the kind that names a service connection or a secure file. The service knows that
/// from the task's task.json; here its name has to say it.
fn names_a_resource(input: &str) -> bool {
    let name = input.to_lowercase();
    let words = ["connection", "connectedservice", "endpoint", "subscription", "registry", "securefile"];
    words.iter().any(|word| name.contains(word))
}

fn step(
    written: &plan::Step,
    instance: &JobInstance,
    run: &RunContext,
    set: &VariableSet,
    target: Option<Target<'_>>,
) -> Step {
    let identifier = format!("{}.{}", instance.job.identifier, written.name);
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    Step {
        step_type: Some("task".to_owned()),
        id: RecordId(identifiers::record_id(&identifier)),
        name: Some(written.name.clone()),
        display_name: Some(display_name(written, instance, run)),
        reference: Some(TaskReference {
            id: TaskId(written.task.id),
            name: written.task.name.clone(),
            version: written.task.version.clone(),
        }),
        condition: Some(written.condition.clone().unwrap_or_else(|| "succeeded()".to_owned())),
        continue_on_error: written.continue_on_error,
        enabled: true,
        timeout_in_minutes: number(written.timeout_in_minutes),
        retry_count_on_task_failure: number(written.retry_count_on_task_failure),
        inputs: inputs(written, run, set, target),
        environment: written.env.clone(),
        target: written.target.as_ref().map(|target| StepTarget {
            target: target.container.clone(),
            commands: target.restricted.then(|| "restricted".to_owned()),
            settable_variables: target
                .settable_variables
                .clone()
                .map(|allowed| SettableVariables { allowed }),
        }),
    }
}

/// A step without a name for people is called by its task; a checkout by what it checks out, and where to.
fn display_name(written: &plan::Step, instance: &JobInstance, run: &RunContext) -> String {
    if let Some(name) = &written.display_name {
        return name.clone();
    }
    let alias = written.inputs.get("repository").filter(|_| written.task.id == CHECKOUT);
    match alias.and_then(|alias| run.repository(alias)) {
        Some(repository) => {
            let reference = repository.reference.strip_prefix("refs/heads/").unwrap_or(&repository.reference);
            let path = written.inputs.get("path").cloned().unwrap_or_else(|| {
                let several = instance.steps.iter().filter(|step| step.task.id == CHECKOUT).count() > 1;
                let folder = repository.name.rsplit('/').next().unwrap_or_default();
                if several { format!("s/{folder}") } else { "s".to_owned() }
            });
            format!("Checkout {}@{reference} to {path}", repository.name)
        }
        None => written.task.name.clone(),
    }
}

/// A regular expression that matches the text and nothing else. Only what .NET's `Regex.Escape` escapes is
/// escaped: it takes others, such as `\_`, for mistakes.
fn escaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\*+?|{[()^$.# ".contains(c) {
            result.push('\\');
        }
        result.push(c);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_match_only_the_token() {
        assert_eq!(escaped("a.b+c_ü-<d>\\"), "a\\.b\\+c_ü-<d>\\\\");
    }
}
