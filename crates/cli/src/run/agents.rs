//! The virtual agents of a run, with a worker process for each job, or a pod.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::SecretString;

use dayfly_client::{Connection, Credential, HttpSettings};
use dayfly_emulator::Emulator;
use dayfly_listener::{
    AgentSet, Agents, CONNECTING_AGENTS, Config, Description, EventStream, Executor, InMemory, OnExisting,
    ProcessExecutor,
};
use dayfly_processes::orphans::Adopt;
use dayfly_protocol::channel::{Caches, WorkerSettings};

use super::cluster::Cluster;
use super::engine::{Order, POOL, WORK, snapshot_in};

/// The version the agents give themselves: demands for a minimum version are met.
const AGENT_VERSION: &str = "4.999.0";

/// The agents of a run, and all that happens to them.
pub(super) struct RunAgents {
    pub(super) set: AgentSet,
    pub(super) events: EventStream,
}

/// Registers the agents; they come online in the background.
pub(super) async fn start(
    emulator: &Emulator,
    pat: SecretString,
    order: &Order,
    folder: &Path,
    cluster: Option<&Cluster>,
) -> anyhow::Result<RunAgents> {
    let server_url = emulator.url().clone();
    let http = match cluster {
        // The emulator speaks HTTP/2, so that all agents share a few connections.
        None => HttpSettings { plain_http2: true, ..HttpSettings::default() },
        Some(cluster) => HttpSettings { ca_files: vec![cluster.ca_file.clone()], ..HttpSettings::default() },
    };
    let connection = Connection::new(&server_url, Credential::PersonalAccessToken(pat), http)?;
    let machine_name = crate::host::name()?;
    let (kind, operating_system) = match cluster {
        None => ("local", std::env::consts::OS),
        Some(_) => ("pod", "Linux (Kubernetes)"),
    };
    let (executor, worker): (Arc<dyn Executor>, _) = match cluster {
        None => (Arc::new(processes()?), local_worker(order, folder)?),
        Some(cluster) => (cluster.executor(), WorkerSettings::default()),
    };
    let config = Config {
        server_url: server_url.clone(),
        agents: Agents::Managed {
            connection,
            pool: POOL.to_owned(),
            names: (1..=order.agents).map(|number| Arc::from(format!("{kind}-{number}"))).collect(),
            key: None,
            on_existing: OnExisting::Refuse,
            remove_at_end: false,
        },
        description: Description {
            version: AGENT_VERSION.to_owned(),
            operating_system: operating_system.to_owned(),
            owner_name: machine_name.clone(),
            capabilities: Arc::new(BTreeMap::new()),
        },
        worker: WorkerSettings {
            machine_name,
            server_url: Some(server_url),
            service_ends_with_listener: true,
            ..worker
        },
        once: false,
        connecting: CONNECTING_AGENTS,
        store: Arc::new(InMemory::default()),
        registrations: Arc::new(InMemory::default()),
    };
    let (set, events) = AgentSet::start(config, executor).await?;
    Ok(RunAgents { set, events })
}

/// Workers on this machine.
fn processes() -> anyhow::Result<ProcessExecutor> {
    let program = std::env::current_exe().context("could not find Dayfly's own program file")?;
    crate::host::adopt_orphans(Adopt::OtherSessions);
    Ok(ProcessExecutor::new(
        program,
        vec![OsString::from("worker")],
        around_proxies(std::env::vars_os().collect()),
    ))
}

/// What workers on this machine must know.
fn local_worker(order: &Order, folder: &Path) -> anyhow::Result<WorkerSettings> {
    let work_directory = folder.join(WORK);
    std::fs::create_dir_all(&work_directory)
        .with_context(|| format!("could not make the work folder {}", work_directory.display()))?;
    Ok(WorkerSettings {
        work_directory,
        home_directory: folder.to_owned(),
        keep_work: order.keep_work,
        folder_per_job: true,
        // Whoever presses Ctrl-C expects what a terminal does.
        signal_groups: true,
        hidden_environment: order.hidden_environment.clone(),
        self_repository: Some(snapshot_in(folder)),
        caches: crate::host::cache_folder("caches")
            .map(|folder| Caches { folder, pipeline: Some(order.file.path.to_string_lossy().into_owned()) }),
        ..WorkerSettings::default()
    })
}

/// The environment in which workers, and the git of their steps, reach the emulator without a proxy: it is on
/// this machine, where no proxy of a network leads.
fn around_proxies(mut environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    const HERE: &str = "127.0.0.1,localhost";
    let find = |name: &str| {
        let found = environment.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.clone())
    };
    let mut excepted = find("no_proxy").or_else(|| find("NO_PROXY")).unwrap_or_default();
    if !excepted.is_empty() {
        excepted.push(",");
    }
    excepted.push(HERE);
    environment.retain(|(name, _)| name != "no_proxy" && name != "NO_PROXY");
    for name in ["no_proxy", "NO_PROXY"] {
        environment.push((name.into(), excepted.clone()));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_from_proxies_are_kept() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let here = "127.0.0.1,localhost";
        assert_eq!(
            around_proxies(pairs(&[("A", "b")])),
            pairs(&[("A", "b"), ("no_proxy", here), ("NO_PROXY", here)])
        );
        let both = format!("corp.example,{here}");
        assert_eq!(
            around_proxies(pairs(&[("NO_PROXY", "corp.example"), ("no_proxy", "")])),
            pairs(&[("no_proxy", &both), ("NO_PROXY", &both)])
        );
    }
}
