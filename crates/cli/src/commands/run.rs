//! `dayfly run [FILE]`: a pipeline on this machine, or from it in pods of a cluster.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use dayfly_kubernetes::{RunPods, RunSettings};
use dayfly_pipelines::{Compiled, Diagnostics, Plan, Style};
use dayfly_protocol::TaskResult;
use dayfly_protocol::job::ServiceEndpoint;

use crate::host;
use crate::output;
use crate::run::alias_folder::AliasFolder;
use crate::run::approvals;
use crate::run::caveats::{self, caveats, of_sudo, tasks};
use crate::run::config::Config;
use crate::run::engine::{self, Ended, Order, Output};
use crate::run::environments;
use crate::run::foreign;
use crate::run::inputs::{Pair, SecretSource};
use crate::run::keep;
use crate::run::list::{self, Listed};
use crate::run::names;
use crate::run::on::On;
use crate::run::pipeline::{self, Catalog, PipelineFile};
use crate::run::repositories::{self, Repositories};
use crate::run::skip::{self, SkippedTask};
use crate::run::tasks::Pulled;
use crate::run::upstream::{self, Upstream};
use crate::run::validations::Decider;
use crate::run::values::{GroupSource, Values};
use crate::run::warnings;

/// The run was cancelled, as shells say it of a program that was interrupted.
pub(super) const EXIT_CANCELLED: u8 = 130;
/// How many jobs run at a time in a cluster unless the user says otherwise.
const AGENTS_IN_CLUSTER: usize = 10;
/// Above the options that are for clusters only.
const IN_CLUSTER: &str = "With --on kubernetes";
/// The most virtual agents of a run.
const MAX_AGENTS: i64 = 256;

/// Arguments of `dayfly run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dayfly run                                  azure-pipelines.yml of this folder or repository
  dayfly run ci/build.yml --list              what it would do
  dayfly run --job compile --keep-work        one job; its folder stays
  dayfly run -p configuration=Release         a parameter
  dayfly run --variables-file .env --secret TOKEN=env
  dayfly run --variable-group prod=@prod.yml  the values of a variable group
  dayfly run --on kubernetes --image JOB-IMAGE --dayfly-image DAYFLY-IMAGE

Exit codes: 0 succeeded (perhaps with issues), 1 failed, 2 bad usage or YAML that does not compile, \
130 cancelled.
Ctrl-C cancels as the service would: steps with `condition: always()` still run. A second Ctrl-C kills.")]
pub(crate) struct RunArgs {
    /// The pipeline file [default: `azure-pipelines.yml` in this folder or at the top of the repository]
    file: Option<PathBuf>,
    /// The value of a parameter; write lists and mappings as YAML
    #[arg(short, long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<Pair>,
    /// A variable, as set when a run is queued; variables in the YAML win
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    variables: Vec<Pair>,
    /// Variables from a file: YAML or JSON by its extension, else NAME=VALUE lines as in `.env`; `--variable`
    /// wins
    #[arg(long = "variables-file", value_name = "FILE")]
    variables_files: Vec<PathBuf>,
    /// The file with variable groups, service connections and secure files [default: `dayfly.toml` beside the
    /// pipeline or at the top of its repository]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The values of a variable group of the pipeline, from a file like those of `--variables-file`
    #[arg(long = "variable-group", value_name = "NAME=@FILE")]
    variable_groups: Vec<GroupSource>,
    /// A secret variable, from a file (`NAME=@FILE`) or the environment (`NAME=env`, `NAME=env:VARIABLE`)
    #[arg(long = "secret", value_name = "NAME=@FILE|env")]
    secrets: Vec<SecretSource>,
    /// The folder of another repository of the pipeline, for templates and checkouts [default: a copy by git]
    #[arg(long = "repository", value_name = "ALIAS=FOLDER", value_parser = repositories::folder)]
    repositories: Vec<AliasFolder>,
    /// A folder with the artifacts of another pipeline (`resources.pipelines`), as `--artifacts-dir` of its
    /// run leaves them
    #[arg(long = "artifacts-of", value_name = "ALIAS=FOLDER", value_parser = upstream::folder)]
    pipelines: Vec<AliasFolder>,
    /// Which version of a tool will do where a task would install one: the one it asks for, or any
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    tools: Tools,
    /// Leave out the steps of this task, as `SonarQubePrepare` or `AzureCLI@2`; may be given several times
    #[arg(long = "skip-task", value_name = "NAME[@N]")]
    skipped_tasks: Vec<SkippedTask>,
    /// Approve every validation (`ManualValidation`) without asking
    #[arg(long)]
    approve: bool,
    /// Run nothing if this machine does not do all that the pipeline asks for
    #[arg(long)]
    strict: bool,
    /// Run only this stage; its dependencies count as succeeded
    #[arg(long = "stage", value_name = "NAME")]
    stages: Vec<String>,
    /// Run only this job (`JOB` or `STAGE.JOB`) or this leg of its matrix (`JOB.LEG` or `STAGE.JOB.LEG`); its
    /// dependencies count as succeeded
    #[arg(long = "job", value_name = "NAME")]
    jobs: Vec<String>,
    /// Leave out jobs, and legs of a matrix, whose image is of another system; what depends on them runs as
    /// if they had succeeded
    #[arg(long)]
    skip_foreign: bool,
    /// How many jobs run at a time [default: one per processor, in a cluster 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_AGENTS))]
    agents: Option<u16>,
    /// Show the plan as a tree and run nothing
    #[arg(long)]
    list: bool,
    /// How to print the output of jobs that run in parallel
    #[arg(long, value_enum, value_name = "HOW", default_value_t, conflicts_with = "json")]
    output: Output,
    /// Print one JSON object per event
    #[arg(long)]
    json: bool,
    /// Show every line, including those of the worker's own steps
    #[arg(short, long)]
    verbose: bool,
    /// Copy the full logs here, one file per step (`dayfly logs` shows those of recent runs)
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Copy the artifacts here
    #[arg(long, value_name = "DIR")]
    artifacts_dir: Option<PathBuf>,
    /// Keep the jobs' work folders and print where they are
    #[arg(long)]
    keep_work: bool,
    /// Where the jobs run; nothing needs to be installed in the cluster
    #[arg(long, value_enum, value_name = "WHERE", default_value_t)]
    on: On,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is for `--on kubernetes` only.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// Image in which steps run when their job names no container; it needs git and bash
    #[arg(
        long,
        help_heading = IN_CLUSTER,
        value_name = "IMAGE",
        env = "DAYFLY_RUN_IMAGE",
        hide_env_values = true
    )]
    image: Option<String>,
    /// Make the pods as this agent set of the namespace has them; its image goes before `--image`
    #[arg(long, help_heading = IN_CLUSTER, value_name = "NAME", requires = "on")]
    agent_set: Option<String>,
    /// Dayfly's own image, from which pods take the program: of this version
    #[arg(
        long,
        help_heading = IN_CLUSTER,
        value_name = "IMAGE",
        env = "DAYFLY_RUN_DAYFLY_IMAGE",
        hide_env_values = true,
        required_if_eq("on", "kubernetes")
    )]
    dayfly_image: Option<String>,
    /// Namespace of the pods [default: that of the context]
    #[arg(long, help_heading = IN_CLUSTER, value_name = "NAMESPACE", requires = "on")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, help_heading = IN_CLUSTER, value_name = "NAME", requires = "on")]
    context: Option<String>,
    /// Name or address by which pods reach this machine [default: the one from which it reaches the cluster]
    #[arg(long, help_heading = IN_CLUSTER, value_name = "HOST", requires = "on")]
    address: Option<String>,
}

impl ClusterArgs {
    /// Which mistake there is.
    fn mistake(&self, on: On) -> Option<&'static str> {
        let has_pods = self.image.is_some() || self.agent_set.is_some();
        (on == On::Kubernetes && !has_pods).then_some(
            "--on kubernetes needs --image IMAGE, an image with git and bash for the steps, or \
             --agent-set NAME",
        )
    }

    /// The cluster that is meant, if one is.
    fn settings(self, on: On) -> Option<RunSettings> {
        let Self { image, agent_set, dayfly_image, namespace, context, address } = self;
        let pods = match agent_set {
            Some(name) => RunPods::AgentSet { name },
            None => RunPods::Plain { image: image? },
        };
        let dayfly_image = dayfly_image?;
        (on == On::Kubernetes).then_some(RunSettings { context, namespace, address, pods, dayfly_image })
    }
}

/// Which versions of tools are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Tools {
    /// The version that the step asks for
    #[default]
    Matching,
    /// The nearest version that is installed, with a warning
    Any,
}

/// The variable by which the worker knows that any version of a tool will do.
const TOOLS_VARIABLE: &str = "Dayfly.Tools";

/// The variable by which a worker in a pod knows that no organization is behind its job.
const RUN_VARIABLE: &str = "Dayfly.Run";

/// Runs the pipeline.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    host::protect();
    let json = args.json;
    if args.on == On::Kubernetes && args.keep_work {
        return misused("--keep-work is for jobs on this machine: the folders of a pod go with it", json);
    }
    if let Some(mistake) = args.cluster.mistake(args.on) {
        return misused(mistake, json);
    }
    let read = pipeline::find(args.file.as_deref()).and_then(|file| {
        let config = Config::read(args.config.as_deref(), &file)?;
        Ok((file, config, Values::read(&args.variables_files, &args.variable_groups)?, secrets(&args)?))
    });
    let (file, config, mut values, given_secrets) = match read {
        Ok(read) => read,
        Err(error) => return misused(&format!("{error:#}"), json),
    };
    let mut variables = merged(std::mem::take(&mut values.variables), args.variables);
    if args.tools == Tools::Any {
        variables.push(Pair { name: TOOLS_VARIABLE.to_owned(), value: "any".to_owned() });
    }
    if args.on == On::Kubernetes {
        variables.push(Pair { name: RUN_VARIABLE.to_owned(), value: "kubernetes".to_owned() });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let head = runtime.block_on(pipeline::head(&file));
    let repositories = Arc::new(Repositories::new(args.repositories, file.root.clone()));
    let groups = config.groups_below(&values.groups);
    let pulled = Arc::new(Pulled::read());
    let catalog = Catalog { groups: &groups, tasks: Arc::clone(&pulled) };
    let compiled = pipeline::compile(&file, &head, &args.parameters, &variables, &catalog, &repositories);
    let of_repositories = repositories.take_warnings();
    let Compiled { mut plan, warnings: said } = match compiled {
        Ok(compiled) => compiled,
        Err(diagnostics) => return reject(&diagnostics, &of_repositories, json),
    };
    if let Some(mistake) = repositories.mistakes(&repositories::names(&plan)) {
        return misused(&mistake, json);
    }
    let upstream = Upstream::new(args.pipelines);
    if let Some(mistake) = upstream.mistakes(&plan) {
        return misused(&mistake, json);
    }
    let (group_secrets, unused_groups) = values.of_used_groups(&plan.variable_groups);
    // The plan as JSON is one object, which has no place for them.
    if !(args.list && json) {
        warnings::of_the_pipeline(&said, style(), json)?;
        for sentence in of_repositories.iter().chain(&unused_groups) {
            warnings::tell(sentence, json)?;
        }
    }
    let mut jobs = dayfly_pipelines::orchestration::select_legs(&mut plan, &args.jobs);
    let mut wanted = match dayfly_pipelines::orchestration::select(&plan, &args.stages, &jobs) {
        Ok(wanted) => wanted,
        Err(unknown) => return misused(&unknown.to_string(), json),
    };
    if args.skip_foreign {
        jobs = foreign::own_jobs(&mut plan, &wanted, args.on);
        wanted = match dayfly_pipelines::orchestration::select(&plan, &args.stages, &jobs) {
            Ok(wanted) if !jobs.is_empty() => wanted,
            _ => return misused("`--skip-foreign` leaves no job: all are for other systems", json),
        };
    }
    approvals::insert(&mut plan, &mut wanted, &mut jobs, |name| config.needs_approval(name));
    let no_engine = runtime.block_on(caveats::no_engine(&plan, &wanted, args.on));
    if args.list {
        list::keep(&mut plan, &wanted);
        let listed = Listed {
            plan: &plan,
            repositories: &repositories,
            upstream: &upstream,
            on: args.on,
            pulled: &pulled,
            has_containers: no_engine.is_none(),
        };
        return show_plan(&file, &listed, json);
    }
    for folder in args.log_dir.iter().chain(&args.artifacts_dir) {
        if let Err(error) = keep::prepare(folder) {
            return misused(&format!("{error:#}"), json);
        }
    }
    for sentence in skip::skip(&mut plan, &args.skipped_tasks) {
        warnings::tell(&sentence, json)?;
    }
    if let Some(mistake) = caveats::unknown_on_server(&plan, &wanted) {
        return misused(&mistake, json);
    }
    let refused =
        no_engine.as_ref().and_then(|none| caveats::containers_without_engine(&plan, &wanted, none));
    if let Some(mistake) = refused {
        return misused(&mistake, json);
    }
    let beside = match Beside::of(&config, &plan, &wanted) {
        Ok(beside) => beside,
        Err(error) => return misused(&format!("{error:#}"), json),
    };
    let decider = Decider::new(args.approve, json);
    let checkouts = repositories.checkouts(&plan, &wanted);
    let of_checkouts = repositories.take_warnings().into_iter().chain(checkouts.missing);
    let caveats: Vec<String> = caveats(&plan, &wanted, args.on, decider, &pulled, no_engine.as_ref())
        .into_iter()
        .chain(caveats::missing_secure_files(&plan, &wanted, &config.secure_files()))
        .chain(of_checkouts)
        .chain(upstream.missing(&plan, &wanted))
        .collect();
    if args.strict && !caveats.is_empty() {
        return misused(&format!("nothing was run, as `--strict` asks for: {}", caveats.join("; ")), json);
    }
    for caveat in caveats.into_iter().chain(of_sudo().filter(|_| args.on == On::Local)) {
        warnings::tell(&caveat, json)?;
    }
    names::name_scripts(&mut plan);
    let of_options = args.secrets.iter().filter_map(SecretSource::environment_variable);
    let hidden_environment = of_options.chain(config.environment_variables()).map(str::to_owned).collect();
    let used = tasks(&plan);
    let tasks_folder = pulled.folder_for(used.iter().map(|(task, _)| task));
    let ended = runtime.block_on(engine::run(Order {
        file,
        tasks_folder,
        has_default_name: args.file.is_none(),
        plan: Arc::new(plan),
        variables,
        // The last one of a name counts: what is given by itself.
        secrets: beside
            .group_secrets
            .into_iter()
            .chain(group_secrets)
            .chain(values.secrets)
            .chain(given_secrets)
            .collect(),
        hidden_environment,
        stages: args.stages,
        jobs,
        wanted,
        checkouts: checkouts.found,
        upstream: upstream.folders()?,
        agents: args.agents.map_or_else(|| agents(args.on), usize::from),
        endpoints: beside.endpoints,
        environments: config.environments(),
        secure_files: config.secure_files(),
        decider,
        cluster: args.cluster.settings(args.on),
        log_dir: args.log_dir,
        artifacts_dir: args.artifacts_dir,
        json,
        output: args.output,
        keep_work: args.keep_work,
        verbose: args.verbose,
    }));
    // A user who does not wait for the removal of the work folder need not.
    runtime.shutdown_background();
    let ended = ended?;
    Ok(ExitCode::from(exit_code(ended)))
}

/// What a pipeline takes from `dayfly.toml` when it runs.
struct Beside {
    group_secrets: Vec<(String, SecretString)>,
    endpoints: Vec<ServiceEndpoint>,
}

impl Beside {
    fn of(config: &Config, plan: &Plan, wanted: &[Vec<bool>]) -> anyhow::Result<Self> {
        let is_named = |name: &str| caveats::is_input(plan, wanted, name);
        // Also where an image comes from.
        let is_registry = |name: &str| {
            let mut registries = plan.resources.containers.iter().filter_map(|one| one.endpoint.as_deref());
            registries.any(|registry| registry.eq_ignore_ascii_case(name))
        };
        config.check_secure_files(is_named)?;
        let (of_environments, mut endpoints) =
            config.connections_of_environments(&environments::used(plan, wanted))?;
        let is_cluster = |name: &str| of_environments.iter().any(|known| known.eq_ignore_ascii_case(name));
        let is_needed = |name: &str| is_named(name) || is_registry(name) || is_cluster(name);
        endpoints.extend(config.connections(is_needed)?);
        Ok(Self { group_secrets: config.group_secrets(&plan.variable_groups)?, endpoints })
    }
}

/// The secrets that are given one by one.
fn secrets(args: &RunArgs) -> anyhow::Result<Vec<(String, SecretString)>> {
    args.secrets.iter().map(|source| Ok((source.name.clone(), source.read()?))).collect()
}

/// Variables from files and from the command line, which wins.
fn merged(of_files: Vec<Pair>, given: Vec<Pair>) -> Vec<Pair> {
    let is_given = |name: &str| given.iter().any(|pair| pair.name.eq_ignore_ascii_case(name));
    let mut variables: Vec<_> = of_files.into_iter().filter(|pair| !is_given(&pair.name)).collect();
    variables.extend(given);
    variables
}

/// Says what is wrong with the way the command was used, as an object like that of mistakes in the YAML with
/// `--json`.
fn misused(message: &str, json: bool) -> anyhow::Result<ExitCode> {
    if !json {
        return Ok(output::usage_error(message));
    }
    let diagnostics = [serde_json::json!({ "severity": "error", "message": message })];
    output::write(&format!("{}\n", serde_json::json!({ "diagnostics": diagnostics })))?;
    Ok(ExitCode::from(output::EXIT_USAGE))
}

fn exit_code(ended: Ended) -> u8 {
    match ended {
        Ended::Interrupted => EXIT_CANCELLED,
        Ended::Completed(TaskResult::Succeeded | TaskResult::SucceededWithIssues | TaskResult::Skipped) => 0,
        // Nobody cancelled a run that is cancelled by itself: a job ran longer than it may.
        Ended::Completed(TaskResult::Failed | TaskResult::Abandoned | TaskResult::Canceled) => {
            output::EXIT_FAILED
        }
    }
}

/// How many jobs run at a time unless the user says it.
fn agents(on: On) -> usize {
    match on {
        On::Local => std::thread::available_parallelism().map_or(1, usize::from),
        On::Kubernetes => AGENTS_IN_CLUSTER,
    }
}

/// Says why the pipeline does not compile, after these warnings.
fn reject(diagnostics: &Diagnostics, warnings: &[String], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let mut all = diagnostics.to_json().as_array().cloned().unwrap_or_default();
        let said = warnings.iter();
        all.extend(said.map(|text| serde_json::json!({ "severity": "warning", "message": text })));
        output::write(&format!("{}\n", serde_json::json!({ "diagnostics": all })))?;
    } else {
        for warning in warnings {
            warnings::tell(warning, json)?;
        }
        output::note(diagnostics.render(style()).trim_end());
    }
    Ok(ExitCode::from(output::EXIT_USAGE))
}

fn show_plan(file: &PipelineFile, listed: &Listed<'_>, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::write(&format!("{}\n", list::json(listed.plan)?))?;
    } else {
        output::write(&list::tree(&file.name, listed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn style() -> Style {
    if std::io::stderr().is_terminal() { Style::Colored } else { Style::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whoever_interrupts_a_run_is_told_so() {
        assert_eq!(exit_code(Ended::Interrupted), EXIT_CANCELLED);
        assert_eq!(exit_code(Ended::Completed(TaskResult::Canceled)), output::EXIT_FAILED);
        assert_eq!(exit_code(Ended::Completed(TaskResult::SucceededWithIssues)), 0);
    }
}
