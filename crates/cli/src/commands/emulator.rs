//! `dayfly emulator`: an Azure DevOps for this machine, until it is told to stop.

mod activity;
mod follow;
mod queue;
mod running;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use dayfly_emulator::Event;
use dayfly_emulator::{Emulator, FaultRule, QueueError, Settings};
use secrecy::SecretString;
use tokio::sync::mpsc;
use url::Url;

use self::activity::Lines;
use self::running::{Registration, Running};
use crate::output;
use crate::run::config::Config;
use crate::secret_files;
use crate::signals::Signals;

/// The longest file with a token or with rules for faults that is read, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// The longest of the times that can be set, in seconds: a year. Longer ones may pass the end of a clock.
const LONGEST_TIME: u64 = 365 * 24 * 3600;

/// The project, when none is named.
const PROJECT: &str = "dayfly";

/// What can be done besides serving.
#[derive(Debug, Subcommand)]
enum Action {
    /// Queue a run of a pipeline on a running emulator, and show it until it is over
    Queue(queue::QueueArgs),
}

/// Arguments of `dayfly emulator`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  \
head -c 24 /dev/urandom | base64 > pat\n  \
dayfly emulator --pat-file pat --pool Default --pipeline app=azure-pipelines.yml\n  \
dayfly emulator queue app                          (in another shell, when an agent is online)\n\n\
The first line of output is the address of the collection: give it to agents and clients.\n\
Exit codes: 0 stopped by SIGINT or SIGTERM; 1 it could not start; 2 bad usage."
)]
pub(crate) struct EmulatorArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Address to listen on; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File with the personal access token that clients must present [default: the emulator makes one and
    /// says where it is]
    #[arg(long, value_name = "FILE")]
    pat_file: Option<PathBuf>,
    /// Print nothing but the address: neither what there is nor what happens
    #[arg(long)]
    quiet: bool,
    /// Address at which clients reach the emulator, if it differs from the one it listens on
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// Name of the organization: the first part of every path
    #[arg(long, value_name = "NAME", default_value = "dayfly")]
    organization: String,
    /// A project; may be given several times
    #[arg(long, value_name = "NAME", default_value = PROJECT)]
    project: Vec<String>,
    /// An agent pool; may be given several times
    #[arg(long, value_name = "NAME", default_value = "Default")]
    pool: Vec<String>,
    /// A pipeline of the first project. Each run gets the repository around the file, with uncommitted
    /// changes; may be given several times
    #[arg(long, value_name = "NAME=FILE", value_parser = named_path)]
    pipeline: Vec<(String, PathBuf)>,
    /// A repository of the first project, served by git from this folder; may be given several times
    #[arg(long, value_name = "NAME=FOLDER", value_parser = named_path)]
    repository: Vec<(String, PathBuf)>,
    /// Folder with one folder for each task that agents may download
    #[arg(long, value_name = "FOLDER")]
    tasks_dir: Option<PathBuf>,
    /// Folder for logs, artifacts and task packages while the emulator runs [default: the system's temporary
    /// folder]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// File with variable groups, service connections and secure files of all projects, like the
    /// `dayfly.toml` of `dayfly run`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many jobs may run at the same time
    #[arg(long, value_name = "NUMBER")]
    parallel_jobs: Option<NonZeroU32>,
    /// How long a session lasts without a poll, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=LONGEST_TIME))]
    session_timeout: u64,
    /// How long a job's agent may stay silent before the job is given up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=LONGEST_TIME))]
    lock_duration: u64,
    /// How long a poll without a message is held, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=LONGEST_TIME))]
    poll_hold: u64,
    /// Send messages to agents in plain text, as the service may
    #[arg(long)]
    plain_messages: bool,
    /// A fault rule, as JSON: {"path":"_apis/**","probability":0.1,"fault":{"kind":"status","status":503}};
    /// may be given several times
    #[arg(long, value_name = "JSON")]
    fault: Vec<String>,
    /// File with a JSON list of fault rules
    #[arg(long, value_name = "FILE")]
    fault_file: Option<PathBuf>,
    /// Seed for faults with a probability: the same seed gives the same sequence
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    fault_seed: u64,
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("write it as NAME=PATH".to_owned()),
    }
}

/// Runs the emulator until it is told to stop.
pub(crate) fn run(args: &EmulatorArgs) -> anyhow::Result<ExitCode> {
    if let Some(Action::Queue(args)) = &args.action {
        return queue::run(args);
    }
    let made = match args.pat_file {
        Some(_) => None,
        None => Some(make_token()?),
    };
    // Deleted at the end.
    let made = made.as_ref().map(tempfile::NamedTempFile::path);
    let settings = match settings(args, made) {
        Ok(settings) => settings,
        Err(error) => return Ok(output::usage_error(&format!("{error:#}"))),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    runtime.block_on(serve(args, settings, made))
}

async fn serve(args: &EmulatorArgs, settings: Settings, made: Option<&Path>) -> anyhow::Result<ExitCode> {
    // Before the address is told: whoever reads it may send a signal at once.
    let mut signals = Signals::new()?;
    let emulator = Emulator::start(settings).await.context("could not start the emulator")?;
    let pipelines = match register(args, &emulator).await {
        Ok(pipelines) => pipelines,
        Err(error) => {
            emulator.stop().await;
            return Err(error);
        }
    };
    let _registration = announce(args, &emulator, made);
    // From before the first agent can come.
    let events = (!args.quiet).then(|| emulator.events());
    output::write(&format!("{}\n", emulator.url()))?;
    if !args.quiet {
        introduce(args, made);
    }
    if !args.listen.ip().is_loopback() {
        output::note("note: other machines can reach the emulator, and its traffic is not encrypted");
    }
    match events {
        None => signals.next().await,
        Some(events) => {
            let mut lines = Lines::new();
            tokio::select! {
                () = signals.next() => {}
                () = tell(args, &emulator, &pipelines, events, &mut lines) => {}
            }
            emulator.stop().await;
            lines.close();
            return Ok(ExitCode::SUCCESS);
        }
    }
    emulator.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Says what is wrong with the pipelines, and then what happens.
async fn tell(
    args: &EmulatorArgs,
    emulator: &Emulator,
    pipelines: &[i32],
    events: mpsc::Receiver<Event>,
    lines: &mut Lines,
) {
    for pipeline in pipelines {
        if let Err(error) = emulator.check_pipeline(first_project(args), *pipeline).await {
            lines.say(complaint(&error));
        }
    }
    activity::tell(events, lines).await;
}

/// What is wrong with a pipeline, and what to do.
fn complaint(error: &QueueError) -> String {
    let mut text = format!("warning: {}", error.to_string().trim_end());
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    for cause in causes {
        text.push_str(&format!(": {cause}"));
    }
    text.push_str("\nhint: the file is read again whenever a run is queued, so just mend it");
    text
}

/// Makes the emulator known to commands in other shells; that it cannot be is no reason not to serve.
fn announce(args: &EmulatorArgs, emulator: &Emulator, made: Option<&Path>) -> Option<Registration> {
    let token_file = std::fs::canonicalize(made.or(args.pat_file.as_deref())?).ok()?;
    let registration = Registration::new(&Running {
        url: emulator.url().clone(),
        token_file,
        project: first_project(args).to_owned(),
        pipelines: args.pipeline.iter().map(|(name, _)| name.clone()).collect(),
    });
    match registration {
        Ok(registration) => Some(registration),
        Err(error) => {
            tracing::info!(error = format!("{error:#}"), "`dayfly emulator queue` will need --url");
            None
        }
    }
}

fn first_project(args: &EmulatorArgs) -> &str {
    args.project.first().map_or(PROJECT, String::as_str)
}

/// Says what there is and what can be done with it.
fn introduce(args: &EmulatorArgs, made: Option<&Path>) {
    if let Some(token) = made.or(args.pat_file.as_deref()) {
        output::note(&format!("token:     in {}", token.display()));
    }
    output::note(&format!("pools:     {}", args.pool.join(", ")));
    let pipelines: Vec<String> =
        args.pipeline.iter().map(|(name, file)| format!("{name} ({})", file.display())).collect();
    match pipelines.is_empty() {
        true => output::note("pipelines: none; add some with --pipeline NAME=FILE"),
        false => output::note(&format!("pipelines: {}", pipelines.join(", "))),
    }
    if let Some((name, _)) = args.pipeline.first() {
        output::note(&format!("to run:    dayfly emulator queue {name}"));
    }
}

/// A file with a new token, which only this user can read.
fn make_token() -> anyhow::Result<tempfile::NamedTempFile> {
    let make = || {
        let mut file = tempfile::Builder::new().prefix("dayfly-emulator-token-").tempfile()?;
        std::io::Write::write_all(&mut file, uuid::Uuid::new_v4().simple().to_string().as_bytes())?;
        std::io::Result::Ok(file)
    };
    make().context("could not write a file with a token; give one with --pat-file")
}

/// Makes the repositories and pipelines that were asked for, in the first project; gives the numbers of the
/// pipelines.
async fn register(args: &EmulatorArgs, emulator: &Emulator) -> anyhow::Result<Vec<i32>> {
    let project = first_project(args);
    for (name, folder) in &args.repository {
        let folder = std::fs::canonicalize(folder).with_context(|| {
            format!("cannot find the folder `{}` of the repository `{name}`", folder.display())
        })?;
        emulator
            .add_repository(project, name, &folder)
            .await
            .with_context(|| format!("cannot serve the repository `{name}`"))?;
    }
    let mut pipelines = Vec::new();
    for (name, file) in &args.pipeline {
        let file = std::fs::canonicalize(file)
            .with_context(|| format!("cannot find the file `{}` of the pipeline `{name}`", file.display()))?;
        let id = emulator.add_pipeline(project, name, file);
        pipelines.push(id.with_context(|| format!("cannot add the pipeline `{name}`"))?);
    }
    Ok(pipelines)
}

/// The settings, with the token that was given or else the one that was made.
fn settings(args: &EmulatorArgs, made: Option<&Path>) -> anyhow::Result<Settings> {
    let file = made.or(args.pat_file.as_deref()).context("no token: give --pat-file")?;
    let mut settings = Settings::new(read_token(file)?);
    settings.listen = args.listen;
    settings.public_url.clone_from(&args.public_url);
    settings.organization.clone_from(&args.organization);
    settings.projects.clone_from(&args.project);
    settings.pools.clone_from(&args.pool);
    settings.parallel_jobs = args.parallel_jobs;
    settings.encrypt_messages = !args.plain_messages;
    settings.poll_hold = Duration::from_secs(args.poll_hold);
    settings.session_timeout = Duration::from_secs(args.session_timeout);
    settings.lock_duration = Duration::from_secs(args.lock_duration);
    settings.tasks_folder.clone_from(&args.tasks_dir);
    settings.data_folder.clone_from(&args.data_dir);
    if let Some(path) = &args.config {
        settings.library = Config::at(path)?.library()?;
    }
    settings.faults = faults(args)?;
    settings.fault_seed = args.fault_seed;
    Ok(settings)
}

fn faults(args: &EmulatorArgs) -> anyhow::Result<Vec<FaultRule>> {
    let mut rules: Vec<FaultRule> = match &args.fault_file {
        Some(path) => serde_json::from_str(&read(path)?)
            .with_context(|| format!("`{}` is not a list of fault rules", path.display()))?,
        None => Vec::new(),
    };
    for text in &args.fault {
        rules.push(serde_json::from_str(text).with_context(|| format!("`{text}` is not a fault rule"))?);
    }
    Ok(rules)
}

/// The token is the file's only line.
fn read_token(path: &Path) -> anyhow::Result<SecretString> {
    let token =
        secret_files::read_token(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let text = secrecy::ExposeSecret::expose_secret(&token);
    let is_plain = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic());
    anyhow::ensure!(is_plain, "`{}` must contain one token without spaces, and nothing else", path.display());
    Ok(token)
}

fn read(path: &Path) -> anyhow::Result<String> {
    secret_files::read(path, LONGEST_FILE).with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EmulatorArgs,
    }

    fn parse(token: &str, more: &[&str]) -> anyhow::Result<Settings> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), token).unwrap();
        let path = file.path().to_str().unwrap();
        let line = Line::try_parse_from(["emulator", "--pat-file", path].iter().chain(more))?;
        settings(&line.args, None)
    }

    #[test]
    fn arguments_become_settings() {
        let rule = r#"{"path":"_apis/**","count":2,"fault":{"kind":"status","status":503}}"#;
        let settings =
            parse("secret\n", &["--pool", "a", "--pool", "b", "--parallel-jobs", "3", "--fault", rule])
                .unwrap();
        assert_eq!(settings.pat.expose_secret(), "secret");
        assert_eq!(settings.pools, ["a", "b"]);
        assert_eq!(settings.parallel_jobs.map(NonZeroU32::get), Some(3));
        assert_eq!(settings.faults[0].count, Some(2));
        assert!(settings.listen.ip().is_loopback());
    }

    #[test]
    fn mistakes_are_told() {
        for (token, more, expected) in [
            ("", &[][..], "one token"),
            ("two words", &[], "one token"),
            ("x", &["--fault", "{}"], "not a fault rule"),
            ("x", &["--pipeline", "name"], "NAME=PATH"),
            ("x", &["--parallel-jobs", "0"], "0"),
            ("x", &["--poll-hold", "18446744073709551615"], "not in"),
            ("x", &["--lock-duration", "0"], "not in"),
        ] {
            let error = format!("{:#}", parse(token, more).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
