//! `dayfly tasks`: which tasks run here, and those of an organization fetched for `dayfly run`.

mod list;
mod pull;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Arguments of `dayfly tasks`.
#[derive(Debug, Args)]
pub(crate) struct TasksArgs {
    #[command(subcommand)]
    command: TasksCommand,
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
enum TasksCommand {
    /// Show which tasks are built in, which are on this machine, and which a pipeline misses
    List(list::ListArgs),
    /// Fetch the packages of an organization's tasks, so that `dayfly run` runs them without a network
    Pull(pull::PullArgs),
}

/// Does it.
pub(crate) fn run(args: TasksArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        TasksCommand::List(args) => list::run(&args),
        TasksCommand::Pull(args) => pull::run(&args),
    }
}
