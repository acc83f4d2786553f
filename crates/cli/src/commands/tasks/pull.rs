//! `dayfly tasks pull`: fetches the packages of an organization's tasks.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use dayfly_client::{Connection, Credential, HttpSettings, describe};
use dayfly_pipelines::plan::TaskReference;
use dayfly_protocol::TaskId;
use dayfly_protocol::task::TaskDefinition;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::output;
use crate::run::tasks::{Pulled, State, short};
use crate::secret_files;

/// Variables with a token: that of Microsoft's own command line, then those of agents.
const TOKEN_VARIABLES: [&str; 3] = ["AZURE_DEVOPS_EXT_PAT", "AZ_PAT", "AZP_TOKEN"];

/// Arguments of `dayfly tasks pull`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dayfly tasks pull --organization https://dev.azure.com/contoso
  dayfly tasks pull --organization https://dev.azure.com/contoso PackerBuild@1 UsePythonVersion

The packages are kept in $XDG_CACHE_HOME/dayfly/tasks (~/.cache/dayfly/tasks). Those that are there are not
fetched again.")]
pub(super) struct PullArgs {
    /// The organization, such as `https://dev.azure.com/contoso`
    #[arg(long, value_name = "URL")]
    organization: Url,
    /// A file with a personal access token that may read agent pools [default: AZURE_DEVOPS_EXT_PAT, AZ_PAT
    /// or AZP_TOKEN; else it is asked for]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Only these tasks, with or without a version [default: all for which Dayfly itself has nothing]
    #[arg(value_name = "TASK[@N]")]
    tasks: Vec<String>,
}

pub(super) fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let folder = Pulled::folder().context("there is no place for tasks: set XDG_CACHE_HOME or HOME")?;
    let token = match token(args.token_file.as_deref())? {
        Ok(token) => token,
        Err(mistake) => return Ok(output::usage_error(mistake)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(pull(args, token, &folder))
}

/// The token; else what is wrong with what was typed.
fn token(file: Option<&Path>) -> anyhow::Result<Result<SecretString, &'static str>> {
    let token = if let Some(file) = file {
        secret_files::read_token(file).with_context(|| format!("cannot read {}", file.display()))?
    } else if let Some(token) = TOKEN_VARIABLES.iter().find_map(|name| std::env::var(name).ok()) {
        SecretString::from(token.trim())
    } else if std::io::stdin().is_terminal() {
        output::note("Personal access token of the organization (it is not shown):");
        let typed = console::Term::stderr().read_secure_line().context("cannot read the token")?;
        SecretString::from(typed.trim())
    } else {
        return Ok(Err("no token: give --token-file or AZURE_DEVOPS_EXT_PAT"));
    };
    Ok(if token.expose_secret().is_empty() { Err("the token is empty") } else { Ok(token) })
}

async fn pull(args: &PullArgs, token: SecretString, folder: &Path) -> anyhow::Result<ExitCode> {
    let credential = Credential::PersonalAccessToken(token);
    let connection = Connection::new(&args.organization, credential, HttpSettings::default())?;
    let definitions = connection.list_tasks().await?;
    let newest = newest(&definitions);
    let wanted = match wanted(&newest, &args.tasks) {
        Ok(wanted) => wanted,
        Err(unknown) => {
            let unknown = unknown.join(", ");
            return Ok(output::usage_error(&format!("{} has no task {unknown}", args.organization)));
        }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let pulled = Pulled::read();
    let (mut fetched, mut failed) = (0, 0);
    for task in wanted.iter().filter(|task| !pulled.has(task)) {
        match fetch(&connection, task, folder).await {
            Ok(()) => {
                fetched += 1;
                output::write(&format!("{} ({})\n", short(task), task.version))?;
            }
            Err(error) => {
                failed += 1;
                output::note(&format!("error: {}: {error:#}", short(task)));
            }
        }
    }
    let there = wanted.len() - fetched - failed;
    output::note(&format!("{fetched} fetched, {there} were here, {failed} failed: {}", folder.display()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(output::EXIT_FAILED) })
}

/// The newest of each major version that can be used.
fn newest(definitions: &[TaskDefinition]) -> Vec<TaskReference> {
    let mut newest = BTreeMap::new();
    for task in definitions.iter().filter(|task| !task.disabled && !task.version.is_test) {
        let version = &task.version;
        let best = newest.entry((task.id.0, version.major)).or_insert(task);
        if (best.version.minor, best.version.patch) < (version.minor, version.patch) {
            *best = task;
        }
    }
    let reference = |task: &TaskDefinition| TaskReference {
        id: task.id.0,
        name: task.name.clone(),
        version: task.version.to_string(),
    };
    newest.into_values().map(reference).collect()
}

/// Those that are named; else all for which there is nothing here. The error: names of no task.
fn wanted(tasks: &[TaskReference], named: &[String]) -> Result<Vec<TaskReference>, Vec<String>> {
    if named.is_empty() {
        let nothing = Pulled::default();
        let is_missing = |task: &&TaskReference| nothing.state(task) == State::Missing;
        return Ok(tasks.iter().filter(is_missing).cloned().collect());
    }
    let is = |task: &TaskReference, name: &str| {
        name.eq_ignore_ascii_case(&task.name) || name.eq_ignore_ascii_case(&short(task))
    };
    let unknown = named.iter().filter(|name| !tasks.iter().any(|task| is(task, name)));
    let unknown: Vec<String> = unknown.map(|name| format!("`{name}`")).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    Ok(tasks.iter().filter(|task| named.iter().any(|name| is(task, name))).cloned().collect())
}

async fn fetch(connection: &Connection, task: &TaskReference, folder: &Path) -> anyhow::Result<()> {
    // Beside the folder, where no run looks for tasks.
    let around = folder.parent().unwrap_or(folder);
    let staging = tempfile::Builder::new().prefix("task-").tempdir_in(around)?;
    let zip = staging.path().join("task.zip");
    let mut file = tokio::fs::File::create(&zip).await?;
    let downloaded = connection.download_task(TaskId(task.id), &task.version, &mut file).await;
    downloaded.map_err(|error| anyhow::anyhow!(describe(&error)))?;
    drop(file);
    let (reference, folder) = (task.clone(), folder.to_owned());
    let keeping = tokio::task::spawn_blocking(move || {
        dayfly_worker::keep_task(&zip, reference.id, &reference.name, &reference.version, &folder)
    });
    Ok(keeping.await??)
}
