//! `dayfly tasks list`: what there is for the tasks of a pipeline, or for all that are known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use dayfly_pipelines::{BuiltinTasks, Compiled, TaskCatalog as _};

use crate::output;
use crate::run::caveats::tasks;
use crate::run::pipeline;
use crate::run::repositories::Repositories;
use crate::run::tasks::{Pulled, State, short};

/// Arguments of `dayfly tasks list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dayfly tasks list                        all that are built in, stand in, or were pulled
  dayfly tasks list azure-pipelines.yml    those of a pipeline, with where it has them first")]
pub(super) struct ListArgs {
    /// The pipeline; without it, all tasks that run here are listed
    file: Option<PathBuf>,
}

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let pulled = Arc::new(Pulled::read());
    let Some(file) = &args.file else {
        output::write(&table(&of_this_machine(&pulled)))?;
        return Ok(ExitCode::SUCCESS);
    };
    let file = pipeline::find(Some(file))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let head = runtime.block_on(pipeline::head(&file));
    let repositories = Arc::new(Repositories::new(Vec::new(), file.root.clone()));
    let catalog = pipeline::Catalog { groups: &BTreeMap::new(), tasks: Arc::clone(&pulled) };
    let plan = match pipeline::compile(&file, &head, &[], &[], &catalog, &repositories) {
        Ok(Compiled { plan, .. }) => plan,
        Err(diagnostics) => return Ok(output::usage_error(&diagnostics.to_string())),
    };
    let mut rows = BTreeSet::new();
    for (task, place) in tasks(&plan) {
        rows.insert((pulled.state(&task), format!("{}{place}", short(&task))));
    }
    let is_missing = rows.iter().any(|(state, _)| *state == State::Missing);
    output::write(&table(&rows))?;
    if is_missing {
        output::hint(
            "`dayfly tasks pull --organization URL NAME@N` fetches a task; `--skip-task` leaves it out",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// All tasks for which there is something.
fn of_this_machine(pulled: &Pulled) -> BTreeSet<(State, String)> {
    let known = BuiltinTasks.names().into_iter();
    let newest = known.filter_map(|name| BuiltinTasks.resolve(&name, BuiltinTasks.newest(&name)?));
    let all = newest.chain(pulled.tasks().cloned());
    let rows = all.map(|task| (pulled.state(&task), short(&task)));
    rows.filter(|(state, _)| *state != State::Missing).collect()
}

fn table(rows: &BTreeSet<(State, String)>) -> String {
    rows.iter().map(|(state, task)| format!("{:<10} {task}\n", word(*state))).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::BuiltIn => "built in",
        State::Pulled => "pulled",
        State::StandsIn => "stands in",
        State::LeftOut => "left out",
        State::Missing => "missing",
    }
}
