//! The compiled pipeline: typed, free of `${{ }}`, checked, serialisable.
//!
//! What can only be known when the run is under way (`$[ ]`, conditions, macros) is still text here; the
//! [`Orchestration`](crate::Orchestration) evaluates it.

use std::collections::BTreeMap;

use serde::Serialize;

/// A value that is either known at compile time or an expression for later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Setting<T> {
    /// Known.
    Value(T),
    /// Text with `$[ ]` or `$( )`, evaluated when the job starts.
    Expression(String),
}

/// One pipeline file, compiled.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The run number's format (`name:`), if it is given. See [`crate::run_number`].
    pub name: Option<String>,
    /// Whether the commit's message is part of the run's title.
    pub append_commit_message_to_run_name: bool,
    /// What a second run does while one holds an exclusive lock.
    pub lock_behavior: LockBehavior,
    /// Which pushes start a run.
    pub trigger: Trigger,
    /// Which pull requests start a run.
    pub pull_request: PullRequestTrigger,
    /// When runs are started by the clock.
    pub schedules: Vec<Schedule>,
    /// The parameters with the values of this run.
    pub parameters: Vec<Parameter>,
    /// The variables of the whole run.
    pub variables: Vec<Variable>,
    /// Library groups that the file names, at any level. Their values are not part of the file.
    pub variable_groups: Vec<String>,
    /// Repositories, containers and so on.
    pub resources: Resources,
    /// The stages, in the order of the file. Never empty.
    pub stages: Vec<Stage>,
}

/// What happens to runs that wait for an exclusive lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LockBehavior {
    /// One after the other.
    Sequential,
    /// Only the latest one.
    #[default]
    RunLatest,
}

/// Patterns that take in and leave out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Filter {
    /// Patterns that match. Empty: everything.
    pub include: Vec<String>,
    /// Patterns that are taken away again.
    pub exclude: Vec<String>,
}

/// `trigger:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Trigger {
    /// Not written: every branch.
    Default,
    /// `none`.
    None,
    /// Some branches, paths, tags.
    #[serde(rename_all = "camelCase")]
    Filters {
        /// Whether pushes during a run are gathered into one.
        batch: bool,
        /// Branches.
        branches: Filter,
        /// Paths.
        paths: Filter,
        /// Tags.
        tags: Filter,
    },
}

/// `pr:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum PullRequestTrigger {
    /// Not written: pull requests to every branch.
    Default,
    /// `none`.
    None,
    /// Some target branches and paths.
    #[serde(rename_all = "camelCase")]
    Filters {
        /// Whether a push to the request cancels its running builds.
        auto_cancel: bool,
        /// Whether drafts count.
        drafts: bool,
        /// Target branches.
        branches: Filter,
        /// Paths.
        paths: Filter,
    },
}

/// An entry of `schedules:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Five fields, UTC.
    pub cron: String,
    /// Its name.
    pub display_name: Option<String>,
    /// Branches.
    pub branches: Filter,
    /// Whether it waits for a run of the same schedule.
    pub batch: bool,
    /// Whether it runs without changes since the last successful run.
    pub always: bool,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the variants are the words of the YAML schema")]
pub enum ParameterType {
    String,
    StringList,
    Number,
    Boolean,
    Object,
    Step,
    StepList,
    Job,
    JobList,
    Deployment,
    DeploymentList,
    Stage,
    StageList,
    Container,
    ContainerList,
    FilePath,
    Pool,
    Environment,
    ServiceConnection,
    SecureFile,
    LegacyObject,
}

/// A parameter with its value in this run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The name for people.
    pub display_name: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The value when none is given. `None`: one has to be given.
    pub default: Option<serde_json::Value>,
    /// The only values that are allowed. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<serde_json::Value>,
    /// The value in this run.
    pub value: serde_json::Value,
}

/// A variable as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value: text, perhaps with macros, or one `$[ ]`.
    pub value: String,
    /// Whether steps may not write it.
    #[serde(rename = "readonly")]
    pub read_only: bool,
}

/// `resources:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Repositories; `self` is among them only when the file says something about it.
    pub repositories: Vec<RepositoryResource>,
    /// Containers.
    pub containers: Vec<ContainerResource>,
    /// Other pipelines, whose artifacts are used.
    pub pipelines: Vec<PipelineResource>,
    /// Builds, packages and webhooks: kept, not used.
    pub others: Vec<OtherResource>,
}

/// An entry of `resources.repositories`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryResource {
    /// The name by which the file refers to it.
    pub alias: String,
    /// `git`, `github`, `githubenterprise` or `bitbucket`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `repo`, `project/repo` or `owner/repo`.
    pub name: Option<String>,
    /// Branch or tag.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The service connection.
    pub endpoint: Option<String>,
    /// What checkouts of it do unless they say otherwise (`clean`, `fetchDepth`, `lfs`, ...).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checkout: BTreeMap<String, String>,
    /// Which pushes to it start a run.
    pub trigger: Option<Trigger>,
}

/// An entry of `resources.containers`, or a container written in place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResource {
    /// The name by which the file refers to it.
    pub alias: String,
    /// The image.
    pub image: String,
    /// The service connection of the registry.
    pub endpoint: Option<String>,
    /// `ACR` or nothing.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Environment of the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Options of `docker create`.
    pub options: Option<String>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Whether the Docker socket is shared with it.
    pub map_docker_socket: Option<bool>,
    /// Which mounts are read only (`work`, `externals`, `tools`, `tasks`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mount_read_only: BTreeMap<String, bool>,
    /// Whether the image is on the machine already.
    pub local_image: Option<bool>,
}

/// An entry of `resources.pipelines`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineResource {
    /// The name by which the file refers to it.
    pub alias: String,
    /// Its project; nothing: this one.
    pub project: Option<String>,
    /// Its name.
    pub source: Option<String>,
    /// The run.
    pub version: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// Tags that the run has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A resource that is parsed and kept only.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherResource {
    /// `builds`, `packages` or `webhooks`.
    pub list: String,
    /// The whole entry.
    pub settings: serde_json::Value,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Its name, unique without regard to case; `__default` when the file has no stages.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// The stages that have to be done before, by their names as the stages are written.
    pub depends_on: Vec<String>,
    /// When it runs; nothing: `succeeded()`.
    pub condition: Option<String>,
    /// Variables of its jobs.
    pub variables: Vec<Variable>,
    /// Whether it waits for a person.
    pub manual: bool,
    /// Whether people may leave it out.
    pub skippable: bool,
    /// What a second run does while one holds an exclusive lock.
    pub lock_behavior: Option<LockBehavior>,
    /// Its jobs. Never empty.
    pub jobs: Vec<Job>,
}

/// A job or deployment job (the service calls it a phase): what is written once and run once per leg.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its name, unique in its stage without regard to case; `Job` when the file has only steps.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// The jobs of the stage that have to be done before.
    pub depends_on: Vec<String>,
    /// When it runs; nothing: `succeeded()`.
    pub condition: Option<String>,
    /// Whether its failure counts as success with issues.
    pub continue_on_error: Setting<bool>,
    /// How long it may run, in minutes; 0: as long as the pool allows.
    pub timeout_in_minutes: Setting<u32>,
    /// How long it may take to end after a cancellation, in minutes.
    pub cancel_timeout_in_minutes: Setting<u32>,
    /// Its variables.
    pub variables: Vec<Variable>,
    /// Into how many jobs it unfolds.
    pub strategy: Strategy,
    /// Where it runs.
    pub pool: Pool,
    /// The container its steps run in.
    pub container: Option<Container>,
    /// Containers beside it, by name.
    pub services: Vec<Service>,
    /// Where its container, or else its services, are written.
    #[serde(skip)]
    pub containers_location: Option<crate::Location>,
    /// What is cleaned before it starts.
    pub workspace_clean: Option<WorkspaceClean>,
    /// Repositories it uses without a checkout step.
    pub uses_repositories: Vec<String>,
    /// Pools it uses without naming them in `pool`.
    pub uses_pools: Vec<String>,
    /// Its steps (empty for a deployment: see `deployment`).
    pub steps: Vec<Step>,
    /// What makes it a deployment job.
    pub deployment: Option<Deployment>,
}

/// How a job unfolds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Strategy {
    /// One job.
    Single,
    /// One job per leg.
    #[serde(rename_all = "camelCase")]
    Matrix {
        /// The legs.
        legs: Legs,
        /// How many run at the same time; 0: all.
        max_parallel: Setting<u32>,
    },
    /// Copies of one job.
    #[serde(rename_all = "camelCase")]
    Parallel {
        /// How many.
        count: Setting<u32>,
        /// How many run at the same time; 0: all.
        max_parallel: Setting<u32>,
    },
}

/// The legs of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Legs {
    /// Written in the file.
    List(Vec<Leg>),
    /// A `$[ ]` that gives them as JSON text when the job starts.
    Expression(String),
}

/// A leg of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Its name.
    pub name: String,
    /// Its variables.
    pub variables: Vec<Variable>,
}

/// Where a job runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// The agent pool. Nothing: the default one.
    pub name: Option<String>,
    /// The image of a hosted pool.
    pub vm_image: Option<String>,
    /// What the agent has to have: `name` or `name -equals value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub demands: Vec<String>,
    /// Whether it runs on no agent (`pool: server`).
    pub server: bool,
    /// Keys that some pools understand (`image`, `os`, ...).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// The container of a job or a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "value")]
pub enum Container {
    /// An alias of `resources.containers`, an image, or a `$[ ]` that gives one of them (or nothing).
    Text(String),
    /// Written in place.
    Inline(Box<ContainerResource>),
}

/// A container beside a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Its name: its host name for the job.
    pub name: String,
    /// What runs.
    pub container: Container,
}

/// What is deleted before a job on a self-hosted agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceClean {
    /// The binaries folder.
    Outputs,
    /// The sources folder.
    Resources,
    /// The whole folder of the job.
    All,
}

/// What makes a job a deployment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Where to.
    pub environment: Option<Environment>,
    /// `runOnce` or `canary`; empty when the file names none, and there are no hooks then.
    pub strategy: String,
    /// The hooks in the order in which they run. Those of `on:` are not among them.
    pub hooks: Vec<Hook>,
    /// Runs when a hook failed.
    pub on_failure: Option<Hook>,
    /// Runs when all hooks succeeded.
    pub on_success: Option<Hook>,
}

/// `environment:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// A resource of it.
    pub resource_name: Option<String>,
    /// The kind of the resource.
    pub resource_type: Option<String>,
    /// Tags that choose resources.
    pub tags: Option<String>,
}

/// One hook of a deployment: a job of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The name of its job, as outputs are addressed (`J.step.v`, `deploy_10.step.v`).
    pub job_name: String,
    /// Its kind.
    pub kind: HookKind,
    /// The percentage of a canary round.
    pub increment: Option<u32>,
    /// Where it runs, when not where the job runs.
    pub pool: Option<Pool>,
    /// Its steps.
    pub steps: Vec<Step>,
}

impl Hook {
    /// What people read: `preDeploy`, `deploy 10 %`.
    #[must_use]
    pub fn label(&self) -> String {
        let word = match self.kind {
            HookKind::PreDeploy => "preDeploy",
            HookKind::Deploy => "deploy",
            HookKind::RouteTraffic => "routeTraffic",
            HookKind::PostRouteTraffic => "postRouteTraffic",
            HookKind::OnFailure => "on failure",
            HookKind::OnSuccess => "on success",
        };
        match self.increment {
            Some(increment) => format!("{word} {increment} %"),
            None => word.to_owned(),
        }
    }
}

/// The hooks of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the variants are the words of the YAML schema")]
pub enum HookKind {
    PreDeploy,
    Deploy,
    RouteTraffic,
    PostRouteTraffic,
    OnFailure,
    OnSuccess,
}

/// A step: one task with its inputs. The shortcuts (`script:`, `checkout:`, ...) are tasks as well.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name, unique in the job; made from the task's name when none is written.
    pub name: String,
    /// The name for people. Nothing: the task's name (a checkout is named by what it checks out).
    pub display_name: Option<String>,
    /// What it runs.
    pub task: TaskReference,
    /// The task's inputs.
    pub inputs: BTreeMap<String, String>,
    /// Environment of its process.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// When it runs; nothing: `succeeded()`.
    pub condition: Option<String>,
    /// Whether its failure leaves the job succeeded with issues.
    pub continue_on_error: bool,
    /// How long it may run, in minutes; 0: as long as the job.
    pub timeout_in_minutes: u32,
    /// How often it is tried again.
    pub retry_count_on_task_failure: u32,
    /// Where it runs inside of the job.
    pub target: Option<StepTarget>,
    /// Where it is written. Nothing: it is a checkout or download that nobody wrote.
    #[serde(skip)]
    pub location: Option<crate::Location>,
}

/// A task, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskReference {
    /// The task's id.
    pub id: uuid::Uuid,
    /// Its name.
    pub name: String,
    /// The exact version.
    pub version: String,
}

/// `target:` of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepTarget {
    /// `host` or the alias of a container.
    pub container: Option<String>,
    /// Whether only harmless logging commands are taken from the step.
    pub restricted: bool,
    /// Variables the step may set (names or patterns). Nothing: all; an empty list: none.
    pub settable_variables: Option<Vec<String>>,
}
