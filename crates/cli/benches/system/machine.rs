//! An emulator, agents and workers for one benchmark, and the numbers of this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use secrecy::SecretString;
use url::Url;

use dayfly_client::{Connection, Credential, HttpSettings};
use dayfly_emulator::runs::{RunRepository, RunRequest};
use dayfly_emulator::{Emulator, Settings};
use dayfly_listener::{AgentSet, Agents, Config, Description, InMemory, OnExisting, ProcessExecutor};
use dayfly_pipelines::{Inputs, Plan, Source};
use dayfly_protocol::channel::WorkerSettings;

/// The token of every benchmark's emulator.
pub(crate) const PAT: &str = "benchmark";
/// The binary.
const DAYFLY: &str = env!("CARGO_BIN_EXE_dayfly");

pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    // Nobody can be told when standard output is gone.
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

pub(crate) async fn emulator(folder: &Path) -> anyhow::Result<Emulator> {
    let mut settings = Settings::new(SecretString::from(PAT));
    settings.data_folder = Some(folder.to_owned());
    Ok(Emulator::start(settings).await?)
}

/// Agents with real worker processes.
pub(crate) async fn agents(url: &Url, count: usize, folder: &Path) -> anyhow::Result<AgentSet> {
    let connection = Connection::new(
        url,
        Credential::PersonalAccessToken(SecretString::from(PAT)),
        // As with the service itself, where HTTP/2 is negotiated with TLS.
        HttpSettings { plain_http2: true, ..HttpSettings::default() },
    )?;
    let config = Config {
        server_url: url.clone(),
        agents: Agents::Managed {
            connection,
            pool: "Default".to_owned(),
            names: (1..=count).map(|number| Arc::from(format!("bench-{number}"))).collect(),
            key: None,
            on_existing: OnExisting::Refuse,
            remove_at_end: false,
        },
        description: Description {
            version: "4.999.0".to_owned(),
            operating_system: "Linux".to_owned(),
            owner_name: "bench".to_owned(),
            capabilities: Arc::new(BTreeMap::new()),
        },
        worker: WorkerSettings {
            work_directory: folder.join("work"),
            home_directory: folder.to_owned(),
            machine_name: "bench".to_owned(),
            server_url: Some(url.clone()),
            ..WorkerSettings::default()
        },
        once: false,
        connecting: 64,
        store: Arc::new(InMemory::default()),
        registrations: Arc::new(InMemory::default()),
    };
    let executor =
        ProcessExecutor::new(DAYFLY, vec![OsString::from("worker")], std::env::vars_os().collect());
    let (set, _) = AgentSet::start(config, Arc::new(executor)).await?;
    let online = set.wait_online(count).await;
    anyhow::ensure!(online == count, "only {online} of {count} agents came online");
    Ok(set)
}

pub(crate) fn plan(yaml: &str) -> anyhow::Result<Arc<Plan>> {
    let source = Source { name: "bench.yml".to_owned(), text: yaml.to_owned() };
    let compiled = dayfly_pipelines::compile(&source, &Inputs::default());
    Ok(Arc::new(compiled.map_err(|diagnostics| anyhow::anyhow!("{diagnostics}"))?.plan))
}

/// A run of `plan` with an empty repository, which no benchmark checks out.
pub(crate) fn request(plan: &Arc<Plan>, folder: &Path) -> RunRequest {
    let repository = RunRepository {
        name: "bench".to_owned(),
        directory: folder.to_owned(),
        reference: "refs/heads/main".to_owned(),
        commit: "0".repeat(40),
        author: "bench".to_owned(),
        message: "bench".to_owned(),
        is_temporary: false,
    };
    RunRequest::new("dayfly", "bench", Arc::clone(plan), repository)
}

/// The moment a step printed by `echo "at $EPOCHREALTIME"`.
pub(crate) fn moment(line: &str) -> Option<Duration> {
    Some(Duration::from_secs_f64(line.strip_prefix("at ")?.replace(',', ".").parse().ok()?))
}

/// Now, as [`moment`] counts.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How long starting bash on a file and waiting for it takes, the median of many.
pub(crate) fn bare_process(folder: &Path) -> anyhow::Result<Duration> {
    let script = folder.join("bare.sh");
    std::fs::write(&script, "echo \"at $EPOCHREALTIME\"\n")?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let status = Command::new("bash")
            .arg(&script)
            .stdout(Stdio::null())
            .status()
            .context("bash does not start")?;
        anyhow::ensure!(status.success(), "bash failed");
        samples.push(begun.elapsed());
    }
    Ok(crate::percentile(&mut samples, 0.5))
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// Processor time a process has used.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold blanks.
    let rest = stat.rsplit_once(')').context("no name")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}
