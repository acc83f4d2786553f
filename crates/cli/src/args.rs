//! What can be typed. What it means is decided by each command.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Above the options of every command, which so come last.
const LOG: &str = "Dayfly's own log";

const EXAMPLES: &str = "\
Examples:
  dayfly run                         run azure-pipelines.yml here
  dayfly run --list                  show what it would do
  dayfly logs --failed               show the logs of the steps that failed in the last run
  dayfly agent --url https://dev.azure.com/ORGANIZATION --pool NAME --token-file FILE
  dayfly COMMAND --help              more, with examples";

/// Runs Azure Pipelines jobs, as an agent and on a laptop.
#[derive(Debug, Parser)]
#[command(name = "dayfly", version, about, propagate_version = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Dayfly's own log on standard error: `error`, `warn`, `info`, `debug`, `trace`, or per part as in
    /// `dayfly_listener=debug`
    #[arg(
        long,
        global = true,
        help_heading = LOG,
        env = "DAYFLY_LOG",
        value_name = "FILTER",
        default_value = "warn",
        hide_env_values = true
    )]
    pub(crate) log: String,
    /// How Dayfly's own log is written; with `agent`, also what it says of itself
    #[arg(long, global = true, help_heading = LOG, value_name = "FORMAT", env = "DAYFLY_LOG_FORMAT", hide_env_values = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// The form of Dayfly's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline on this machine, or in pods of a cluster
    Run(Box<commands::run::RunArgs>),
    /// Show the logs of recent runs on this machine
    Logs(commands::logs::LogsArgs),
    /// Run as an agent of a pool: wait for jobs and run them here
    Agent(Box<commands::agent::AgentArgs>),
    /// Run the jobs of agent pools in Kubernetes, each in a pod of its own
    Controller(commands::controller::ControllerArgs),
    /// Print Dayfly's custom resource definitions, for `kubectl apply -f -`
    Crds,
    /// Say whether the connections and agent sets of a cluster work
    Check(commands::check::CheckArgs),
    /// Serve an Azure DevOps on this machine: for agents, clients and tests
    Emulator(Box<commands::emulator::EmulatorArgs>),
    /// Show which tasks run here, and fetch those of an organization
    Tasks(commands::tasks::TasksArgs),
    /// Evaluate an expression of a pipeline
    Eval(commands::eval::EvalArgs),
    /// Run one job for a listener
    #[command(hide = true)]
    Worker(commands::worker::WorkerArgs),
    /// Start a worker's steps in another container
    #[command(hide = true)]
    StepHost(commands::step_host::StepHostArgs),
    /// Copy this program to where another container finds it
    #[command(hide = true)]
    Deliver(commands::deliver::DeliverArgs),
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
}

/// What was typed. Help and mistakes end the process.
pub(crate) fn parse() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| suggested(error).exit())
}

/// An unknown command with what was most likely meant. Clap finds letters that are wrong or missing, not
/// those that changed places in a word as short as `run`.
fn suggested(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    if error.kind() != ErrorKind::InvalidSubcommand || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let typed = typed.clone();
    if Path::new(&typed).is_file() {
        let tip = format!("to run a pipeline, use 'dayfly run {typed}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        return error;
    }
    let command = Arguments::command();
    let names =
        command.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    let near = names.map(|name| (strsim::osa_distance(&typed, name), name)).min();
    if let Some((1..=2, name)) = near {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name.to_owned()]));
    }
    error
}
