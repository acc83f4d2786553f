//! What can be typed. What it means is decided by each command.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Runs Azure Pipelines jobs, as an agent and on a laptop.
#[derive(Debug, Parser)]
#[command(name = "dayfly", version, about, propagate_version = true, disable_help_subcommand = true)]
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
        env = "DAYFLY_LOG",
        value_name = "FILTER",
        default_value = "warn",
        hide_env_values = true
    )]
    pub(crate) log: String,
    /// How Dayfly's own log is written
    #[arg(long, global = true, env = "DAYFLY_LOG_FORMAT", hide_env_values = true, value_enum, default_value_t = LogFormat::Text)]
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
    /// Run a pipeline on this machine
    Run(commands::run::RunArgs),
    /// Run as an agent of a pool: wait for jobs and run them here
    Agent(commands::agent::AgentArgs),
    /// Serve an Azure DevOps on this machine: for agents, clients and tests
    Emulator(commands::emulator::EmulatorArgs),
    /// Evaluate an expression of a pipeline
    Eval(commands::eval::EvalArgs),
    /// Run one job for a listener, which speaks over standard input and output
    #[command(hide = true)]
    Worker,
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
}
