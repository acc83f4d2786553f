//! `dayfly emulator queue NAME`: a run of a pipeline on an emulator that runs in another shell.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use dayfly_client::{Connection, Credential, Error, HttpSettings};
use dayfly_protocol::build::{Build, Pipeline, RunPipelineParameters};
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{BuildId, TaskResult};

use super::follow::Followed;
use super::running::{self, Running};
use super::{PROJECT, read_token};
use crate::output;
use crate::run::inputs::{Pair, SecretSource};
use crate::run::lines::{STRONG, sanitize};
use crate::run::words::{mark, word};
use crate::signals::Signals;

/// The type of the service's error for a file that does not compile.
const DOES_NOT_COMPILE: &str = "PipelineValidationException";
/// The run goes on, but nobody looks any more.
const EXIT_INTERRUPTED: u8 = 130;

/// Arguments of `dayfly emulator queue`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
dayfly emulator queue hello                        queue a run and show it\n  \
dayfly emulator queue hello -p configuration=Release --no-wait\n\n\
The emulator is found by itself if it runs on this machine and as this user.\n\
Exit codes: 0 succeeded (perhaps with issues), or queued with --no-wait; 1 failed or cancelled;\n\
2 bad usage or YAML that does not compile; 130 interrupted (the run goes on).")]
pub(crate) struct QueueArgs {
    /// Name of the pipeline
    name: String,
    /// The value of a parameter; write lists and mappings as YAML
    #[arg(short, long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<Pair>,
    /// A variable of this run; variables in the YAML win
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    variables: Vec<Pair>,
    /// A secret variable, from a file (`NAME=@FILE`) or the environment (`NAME=env`, `NAME=env:VARIABLE`)
    #[arg(long = "secret", value_name = "NAME=@FILE|env")]
    secrets: Vec<SecretSource>,
    /// Queue the run and do not wait for its end
    #[arg(long)]
    no_wait: bool,
    /// Address of the emulator, as it printed it
    #[arg(long, value_name = "URL", requires = "pat_file")]
    url: Option<Url>,
    /// File with the emulator's token
    #[arg(long, value_name = "FILE")]
    pat_file: Option<PathBuf>,
    /// Project of the pipeline [default: the emulator's first one]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Show every line, including those of the worker's own steps
    #[arg(short, long)]
    verbose: bool,
}

/// Where the pipeline is.
struct Target {
    url: Url,
    token: SecretString,
    project: String,
}

/// Queues the run, and shows it.
pub(crate) fn run(args: &QueueArgs) -> anyhow::Result<ExitCode> {
    let prepared = target(args).and_then(|target| Ok((target, parameters(args)?)));
    let (target, parameters) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(output::usage_error(&format!("{error:#}"))),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    runtime.block_on(queue(args, &target, &parameters))
}

/// What was given, or else the emulator that runs here.
fn target(args: &QueueArgs) -> anyhow::Result<Target> {
    let project = |default: &str| args.project.clone().unwrap_or_else(|| default.to_owned());
    if let (Some(url), Some(file)) = (&args.url, &args.pat_file) {
        return Ok(Target { url: url.clone(), token: read_token(file)?, project: project(PROJECT) });
    }
    let Running { url, token_file, project: first, .. } = the_one(running::all(), &args.name)?;
    let token = read_token(args.pat_file.as_deref().unwrap_or(&token_file))?;
    Ok(Target { url, token, project: project(&first) })
}

/// The emulator that is meant: the only one, or the only one with such a pipeline.
fn the_one(all: Vec<Running>, pipeline: &str) -> anyhow::Result<Running> {
    let has = |running: &Running| running.pipelines.iter().any(|name| name.eq_ignore_ascii_case(pipeline));
    let (mut having, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(has);
    let candidates = if having.is_empty() { &mut others } else { &mut having };
    match candidates.len() {
        0 => anyhow::bail!(
            "found no running emulator; start one with `dayfly emulator --pipeline {pipeline}=FILE`, \
             or give --url and --pat-file"
        ),
        1 => Ok(candidates.remove(0)),
        _ => {
            let which = |running: &Running| {
                format!("--url {} --pat-file {}", running.url, running.token_file.display())
            };
            let list: Vec<_> = candidates.iter().map(which).collect();
            anyhow::bail!("several emulators are running; choose one:\n  {}", list.join("\n  "))
        }
    }
}

fn parameters(args: &QueueArgs) -> anyhow::Result<RunPipelineParameters> {
    let pair = |pair: &Pair| (pair.name.clone(), pair.value.clone());
    let mut variables: BTreeMap<_, _> = args
        .variables
        .iter()
        .map(|pair| (pair.name.clone(), VariableValue::public(pair.value.clone())))
        .collect();
    for source in &args.secrets {
        variables.insert(source.name.clone(), VariableValue::secret(source.read()?.expose_secret()));
    }
    Ok(RunPipelineParameters { template_parameters: args.parameters.iter().map(pair).collect(), variables })
}

async fn queue(
    args: &QueueArgs,
    target: &Target,
    parameters: &RunPipelineParameters,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let credential = Credential::PersonalAccessToken(target.token.clone());
    let connection = Connection::new(&target.url, credential, HttpSettings::default())?;
    let project = target.project.as_str();
    let pipelines = connection.pipelines(project).await?;
    let Some(pipeline) = pipelines.iter().find(|pipeline| pipeline.name.eq_ignore_ascii_case(&args.name))
    else {
        return Ok(output::usage_error(&unknown(&args.name, project, &pipelines)));
    };
    let id = match connection.start_run(project, pipeline, parameters).await {
        Ok(id) => id,
        Err(Error::Service { answer, .. }) if answer.type_key.as_deref() == Some(DOES_NOT_COMPILE) => {
            return Ok(output::usage_error(answer.message.trim_end()));
        }
        Err(error) => return Err(error.into()),
    };
    let build = connection.build(project, id).await?;
    output::write(&format!(
        "run {STRONG}{}{STRONG:#} of {} queued{}\n",
        sanitize(&build.build_number),
        sanitize(&pipeline.name),
        build.web_page().map(|page| format!(": {}", sanitize(page))).unwrap_or_default()
    ))?;
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let mut followed = Followed::new(&connection, project, id, args.verbose);
    tokio::select! {
        build = followed.follow_to_end() => Ok(ended(&build.with_context(|| lost(id))?)?),
        () = signals.next() => {
            output::note(&format!("interrupted; the run {} goes on", build.build_number));
            Ok(ExitCode::from(EXIT_INTERRUPTED))
        }
    }
}

fn lost(build: BuildId) -> String {
    format!("could not follow the run (build {build}); it goes on if the emulator does")
}

fn unknown(name: &str, project: &str, pipelines: &[Pipeline]) -> String {
    let known: Vec<_> = pipelines.iter().map(|pipeline| format!("`{}`", pipeline.name)).collect();
    match known.is_empty() {
        true => format!(
            "the project `{project}` has no pipelines; start the emulator with --pipeline {name}=FILE"
        ),
        false => format!("the project `{project}` has no pipeline `{name}`; it has {}", known.join(", ")),
    }
}

/// The last line, and the exit code.
fn ended(build: &Build) -> anyhow::Result<ExitCode> {
    let result = match build.result.as_deref() {
        Some("succeeded") => TaskResult::Succeeded,
        Some("partiallySucceeded") => TaskResult::SucceededWithIssues,
        Some("canceled") => TaskResult::Canceled,
        _ => TaskResult::Failed,
    };
    let ((style, mark), word) = (mark(result), word(result));
    let number = sanitize(&build.build_number);
    output::write(&format!(
        "{style}{mark}{style:#} run {STRONG}{number}{STRONG:#} {style}{word}{style:#}\n"
    ))?;
    Ok(if result.is_success() { ExitCode::SUCCESS } else { ExitCode::from(output::EXIT_FAILED) })
}
