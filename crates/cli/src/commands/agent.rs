//! `dayfly agent`: an agent for a VM, a container or a plain Deployment. It listens for itself and runs each
//! job in a worker process.

mod capabilities;
mod config_sh;
mod kept;
mod proxy;
mod settings;
mod starting;
mod teller;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use dayfly_client::{AgentCredential, Connection, Credential, ErrorKind, HttpSettings, describe};
use dayfly_listener::{
    Agents, CONNECTING_AGENTS, Config, Description, DetachedExecutor, Error as SetError, Event, Executor,
    ExistingAgent, InMemory, JobStore, NextEvent, OnDisk, ProcessExecutor, RegistrationStore, Stopper,
    Summary,
};
use dayfly_processes::orphans::Adopt;
use dayfly_protocol::{
    agent_files::{self, AgentCredentials, AgentSettings},
    channel::{Caches, WorkerSettings},
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use self::{
    capabilities::Machine,
    config_sh::ConfigShArgs,
    settings::{Identity, Mistake, NewAgent, Settings, Surroundings, TOKEN_VARIABLES},
    teller::Teller,
};
use super::{health::Health, metrics::Metrics};
use crate::args::LogFormat;
use crate::host;
use crate::output;
use crate::signals::Signals;

/// The longest of an agent's three files that is read, in bytes.
const LONGEST_AGENT_FILE: u64 = 1024 * 1024;

/// The longest time a job can be given to end, in seconds: 30 days, more than any job takes. Longer ones may
/// pass the end of a clock.
const LONGEST_STOP: u64 = 30 * 24 * 3600;

/// Arguments of `dayfly agent`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
dayfly agent --url https://dev.azure.com/ORGANIZATION --pool NAME --token-file FILE\n  \
dayfly agent --url https://dev.azure.com/ORGANIZATION --pool NAME --token-file FILE --once\n\n\
Exit codes: 0 the agent ended as it should (stopped, --once done whatever the job's result, login revoked); \
1 it could not run or not go on; 2 bad usage.\n\
A first SIGINT or SIGTERM cancels the running job properly and ends the agent, a second one kills the job.")]
pub(crate) struct AgentArgs {
    /// Address of the organization or collection [variables: AZ_URL, AZP_URL]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with the token (scope: agent pools, read and manage); it may also come by AZ_PAT or AZP_TOKEN
    /// [variable: AZP_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token itself. Everybody on the machine can read it there: better use a file or a variable
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file", hide = true)]
    token: Option<String>,
    /// How to log in, as config.sh takes it: only `pat` is supported
    #[arg(long, value_name = "KIND", hide = true)]
    auth: Option<String>,
    #[command(flatten)]
    config_sh: ConfigShArgs,
    /// Agent pool [variables: AZ_AGENT_POOL, AZP_POOL] [default: Default]
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Name of the agent [variables: AZ_AGENT_NAME, AZP_AGENT_NAME] [default: the host's name]
    #[arg(long, value_name = "NAME", alias = "agent")]
    name: Option<String>,
    /// Folder of jobs [variable: AZP_WORK] [default: _work]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// Run as an agent that was registered before: the folder with its .agent, .credentials and
    /// .credentials_rsaparams
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["url", "token_file", "pool", "name", "replace", "keep"])]
    agent_dir: Option<PathBuf>,
    /// Folder that keeps the agent's registration, its session and its running jobs: killed and started again
    /// with it, the agent goes on with them, without a token
    #[arg(long, value_name = "FOLDER", conflicts_with = "agent_dir")]
    state_dir: Option<PathBuf>,
    /// End after one job
    #[arg(long, aliases = ["runOnce", "runonce", "run-once"])]
    once: bool,
    /// Take over an agent of the same name even while it is online; one that is offline is taken over anyway
    #[arg(long)]
    replace: bool,
    /// Leave the agent in its pool at the end
    #[arg(long)]
    keep: bool,
    /// A capability to add, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    capability: Vec<String>,
    /// File with more certificate authorities (PEM); may be given several times
    #[arg(long, value_name = "FILE", alias = "sslcacert")]
    ca_file: Vec<PathBuf>,
    /// How long a job may take to end once the agent is told to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=LONGEST_STOP))]
    stop_within: u64,
    /// Upon a first signal let the running job finish instead of cancelling it
    #[arg(long)]
    finish_on_signal: bool,
    /// Serve /healthz, /readyz and /metrics (Prometheus) at this address, such as 127.0.0.1:9090 [variable:
    /// DAYFLY_AGENT_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Run as root [variable: AGENT_ALLOW_RUNASROOT]
    #[arg(long)]
    allow_root: bool,
}

/// Runs the agent to its end.
pub(crate) fn run(args: &AgentArgs, format: LogFormat) -> anyhow::Result<ExitCode> {
    let teller = Teller(format);
    // Steps run as the same user, and could otherwise read the token from /proc/<us>/environ.
    host::protect();
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let folder = std::env::current_dir().context("the current folder cannot be found")?;
    let host_name = host::name()?;
    let surroundings = Surroundings {
        environment: &environment,
        folder: &folder,
        host_name: &host_name,
        is_root: nix::unistd::geteuid().is_root(),
    };
    let settings = match Settings::resolve(args, surroundings) {
        Ok(settings) => settings,
        Err(mistake) => return Ok(teller.usage_error(&mistake.to_string())),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    match runtime.block_on(listen(settings, &environment, &host_name, teller)) {
        Ok(code) => Ok(code),
        Err(error) => Ok(teller.failure(&error)),
    }
}

async fn listen(
    settings: Settings,
    environment: &BTreeMap<String, String>,
    host_name: &str,
    teller: Teller,
) -> anyhow::Result<ExitCode> {
    for warning in &settings.warnings {
        teller.advice(warning);
    }
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::default());
    let health = match settings.listen {
        Some(address) => Some(Health::start(address, metrics.clone()).await?),
        None => None,
    };
    if let Some(health) = &health {
        teller.serving(health.address())?;
    }
    let prepared = match prepare(&settings, environment, host_name, &metrics).await? {
        Ok(prepared) => prepared,
        Err(mistake) => return Ok(teller.usage_error(&mistake.to_string())),
    };
    std::fs::create_dir_all(&prepared.work).with_context(|| {
        format!("could not create the work folder {}; choose another with --work", prepared.work.display())
    })?;
    let token = prepared.token.as_ref();
    let description = description(&settings, token, &prepared.name, &prepared.home, environment, host_name);
    let worker = WorkerSettings {
        work_directory: prepared.work.clone(),
        home_directory: prepared.home.clone(),
        ca_files: settings.ca_files.clone(),
        hidden_environment: TOKEN_VARIABLES.map(str::to_owned).to_vec(),
        caches: host::cache_folder("caches").map(|folder| Caches { folder, pipeline: None }),
        ..WorkerSettings::default()
    };
    host::adopt_orphans(Adopt::OtherSessions);
    let executor = executor(&prepared, settings.given_proxy.as_ref())?;
    let (store, registrations): (Arc<dyn JobStore>, Arc<dyn RegistrationStore>) = match prepared.state {
        Some(state) => (state.clone(), state),
        None => (Arc::new(InMemory::default()), Arc::new(InMemory::default())),
    };
    let config = Config {
        server_url: prepared.url,
        agents: prepared.agents,
        description,
        worker,
        once: settings.once,
        connecting: CONNECTING_AGENTS,
        store,
        registrations,
    };
    let started = starting::start(config, executor, &mut signals, &metrics, teller).await;
    let Some((set, mut events)) = started.map_err(|error| not_started(&error, &settings))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let stopper = set.stopper();
    let set_name: Arc<str> = Arc::default();
    let mut ending = std::pin::pin!(set.wait());
    let (mut signals_seen, mut has_job) = (0, false);
    let summary = loop {
        tokio::select! {
            biased;
            event = events.next() => {
                if let NextEvent::Event(event) = &event {
                    metrics.note(&set_name, event);
                    has_job = match event {
                        Event::JobAccepted { .. } | Event::JobResumed { .. } => true,
                        Event::JobFinished { .. } => false,
                        _ => has_job,
                    };
                }
                teller.event(event)?;
            }
            () = signals.next() => {
                signals_seen += 1;
                metrics.stopping();
                stop(&stopper, &settings, signals_seen, has_job, teller);
            }
            summary = &mut ending => break summary,
        }
    };
    loop {
        match events.next().await {
            NextEvent::Closed => break,
            event => teller.event(event)?,
        }
    }
    if let Some(health) = health {
        health.stop().await;
    }
    Ok(exit_code(&summary))
}

/// Why the agent could not be started, on one line, with what to do about it.
fn not_started(error: &SetError, settings: &Settings) -> anyhow::Error {
    let refused = match error {
        SetError::FindPool(source) | SetError::Connect { source, .. } => {
            matches!(source.kind(), ErrorKind::Unauthorized | ErrorKind::Forbidden)
        }
        _ => false,
    };
    // Nothing at all answers where the pools should be.
    let is_elsewhere = matches!(error, SetError::FindPool(source) if source.kind() == ErrorKind::NotFound);
    match &settings.identity {
        Identity::New(NewAgent { url, token_origin, .. }) if refused => anyhow::anyhow!(
            "{url} refuses the token of {token_origin}: it is wrong, has expired, or lacks the scope Agent \
             Pools (read & manage): {}",
            describe(error)
        ),
        _ if is_elsewhere => anyhow::anyhow!(
            "{}; check that the address is the organization's or the collection's, for example \
             https://dev.azure.com/my-organization",
            describe(error)
        ),
        _ => anyhow::anyhow!(describe(error)),
    }
}

fn stop(stopper: &Stopper, settings: &Settings, signals_seen: u32, has_job: bool, teller: Teller) {
    let note = match (signals_seen, settings.finish_on_signal) {
        (1, true) => {
            stopper.drain();
            "the running job may finish; a second signal cancels it."
        }
        (1, false) | (2, true) => {
            stopper.stop(settings.stop_within);
            "the running job is cancelled; another signal kills it."
        }
        _ => {
            stopper.stop(std::time::Duration::ZERO);
            "the running job is killed."
        }
    };
    if has_job {
        teller.stopping(&format!("Exiting: {note}"));
    } else if signals_seen == 1 {
        teller.stopping("Exiting...");
    }
}

/// What the identity comes to.
struct Prepared {
    url: Url,
    agents: Agents,
    name: String,
    work: PathBuf,
    home: PathBuf,
    /// To keep it from the worker.
    token: Option<SecretString>,
    /// What outlives this process.
    state: Option<Arc<OnDisk>>,
}

/// How workers are run: ones that outlive this process, if what they need for that does.
fn executor(prepared: &Prepared, proxy: Option<&SecretString>) -> anyhow::Result<Arc<dyn Executor>> {
    let program = std::env::current_exe().context("the program's own file cannot be found")?;
    let (arguments, environment) =
        (vec!["worker".into()], worker_environment(prepared.token.as_ref(), proxy));
    Ok(match &prepared.state {
        None => Arc::new(ProcessExecutor::new(program, arguments, environment)),
        Some(state) => {
            let folder = state.folder();
            let executor = DetachedExecutor::new(program, arguments, environment, folder);
            Arc::new(executor.with_context(|| {
                format!("no socket can be made in {}; name another --state-dir", folder.display())
            })?)
        }
    })
}

async fn prepare(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
    host_name: &str,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Result<Prepared, Mistake>> {
    let http = HttpSettings {
        ca_files: settings.ca_files.clone(),
        proxy: settings.proxy.clone(),
        observer: Some(metrics.clone()),
        ..HttpSettings::default()
    };
    match &settings.identity {
        Identity::New(new) => prepare_new(new, settings, http).map(Ok),
        Identity::Registered { folder } => prepare_registered(folder, settings, http).map(Ok),
        Identity::Kept { folder, new } => {
            let kept = kept::Kept { folder, new: new.as_ref(), settings, http };
            kept.prepare(|name, home| {
                let token = new.as_ref().ok().map(|new| &new.token);
                description(settings, token, name, home, environment, host_name)
            })
            .await
        }
    }
}

fn prepare_new(new: &NewAgent, settings: &Settings, http: HttpSettings) -> anyhow::Result<Prepared> {
    let connection = Connection::new(&new.url, Credential::PersonalAccessToken(new.token.clone()), http)?;
    let work = settings.work.clone().unwrap_or_default();
    Ok(Prepared {
        url: new.url.clone(),
        agents: Agents::Managed {
            connection,
            pool: new.pool.clone(),
            names: vec![Arc::from(new.name.as_str())],
            key: None,
            on_existing: new.on_existing(),
            remove_at_end: !new.keep,
        },
        name: new.name.clone(),
        home: work.parent().unwrap_or(&work).to_owned(),
        work,
        token: Some(new.token.clone()),
        state: None,
    })
}

fn prepare_registered(folder: &Path, settings: &Settings, http: HttpSettings) -> anyhow::Result<Prepared> {
    let own = AgentSettings::parse(&read_file(folder, agent_files::AGENT_FILE)?)?;
    let credentials = AgentCredentials::parse(&read_file(folder, agent_files::CREDENTIALS_FILE)?)?;
    let key = agent_files::parse_agent_key(&read_file(folder, agent_files::RSA_PARAMETERS_FILE)?)?;
    let url = own.server().context("the agent's file .agent has no address")?;
    let credential = AgentCredential::from_files(&credentials, Arc::new(key));
    let connection = Connection::new(&url, Credential::Agent(credential.clone()), http)?;
    let name = Arc::from(own.agent_name.as_str());
    let agent = ExistingAgent { id: own.agent_id, name, credential, session: None };
    Ok(Prepared {
        url,
        agents: Agents::Registered {
            connection,
            pool: own.pool_id,
            pool_name: own.pool_name,
            agents: vec![agent],
        },
        name: own.agent_name,
        work: settings.work.clone().unwrap_or_else(|| folder.join(own.work_folder)),
        home: folder.to_owned(),
        token: None,
        state: None,
    })
}

fn read_file(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let file = folder.join(name);
    let read = || -> std::io::Result<Vec<u8>> {
        if std::fs::metadata(&file)?.len() > LONGEST_AGENT_FILE {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is too long"));
        }
        std::fs::read(&file)
    };
    read().with_context(|| {
        format!(
            "{} cannot be read; is {} the folder of a registered agent?",
            file.display(),
            folder.display()
        )
    })
}

fn description(
    settings: &Settings,
    token: Option<&SecretString>,
    agent_name: &str,
    home: &Path,
    environment: &BTreeMap<String, String>,
    host_name: &str,
) -> Description {
    // Jobs may demand a newer agent than the one we pass for.
    let version =
        environment.get("DAYFLY_AGENT_VERSION").map_or(dayfly_worker::AGENT_VERSION, String::as_str);
    let secrets: Vec<&str> = token.iter().map(|token| token.expose_secret()).collect();
    let capabilities = capabilities::scan(&Machine {
        environment,
        hidden: &TOKEN_VARIABLES,
        secrets: &secrets,
        agent_name,
        agent_version: version,
        computer_name: host_name,
        home_directory: home,
        extra: &settings.capabilities,
    });
    Description {
        version: version.to_owned(),
        operating_system: operating_system(),
        owner_name: host_name.to_owned(),
        capabilities: Arc::new(capabilities),
    }
}

/// Such as `Linux 6.8.0-31-generic #31-Ubuntu SMP`.
fn operating_system() -> String {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    match nix::sys::utsname::uname() {
        Ok(name) => format!("{} {} {}", text(name.sysname()), text(name.release()), text(name.version())),
        Err(_) => std::env::consts::OS.to_owned(),
    }
}

/// Where the proxy of a worker is.
const PROXY_VARIABLES: [&str; 2] = ["http_proxy", "https_proxy"];

/// Everything but what holds the token, under whatever name, and with the proxy that was given by other
/// means.
fn worker_environment(
    token: Option<&SecretString>,
    proxy: Option<&SecretString>,
) -> Vec<(OsString, OsString)> {
    let holds_token =
        |value: &OsString| token.is_some_and(|token| value.to_string_lossy().contains(token.expose_secret()));
    std::env::vars_os()
        .filter(|(name, value)| {
            !name.to_str().is_some_and(|name| {
                TOKEN_VARIABLES.contains(&name)
                    || proxy::PASSWORD_VARIABLES.contains(&name)
                    || (proxy.is_some()
                        && PROXY_VARIABLES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy)))
            }) && !holds_token(value)
        })
        // Workers, and the programs of steps, find a proxy there.
        .chain(
            proxy
                .into_iter()
                .flat_map(|proxy| PROXY_VARIABLES.map(|name| (name.into(), proxy.expose_secret().into()))),
        )
        .collect()
}

/// See the help text.
fn exit_code(summary: &Summary) -> ExitCode {
    if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(output::EXIT_FAILED) }
}
