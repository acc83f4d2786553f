//! The virtual agents of a run, with a worker process for each job.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::SecretString;

use dayfly_client::{Connection, Credential, HttpSettings};
use dayfly_emulator::Emulator;
use dayfly_listener::{
    AgentSet, Agents, CONNECTING_AGENTS, Config, Description, OnExisting, ProcessExecutor, Timings,
};
use dayfly_protocol::channel::WorkerSettings;

use super::engine::{Order, POOL};

/// The version the agents give themselves: demands for a minimum version are met.
const AGENT_VERSION: &str = "4.999.0";

/// Registers the agents; they come online in the background.
pub(super) async fn start(
    emulator: &Emulator,
    pat: SecretString,
    order: &Order,
    folder: &Path,
) -> anyhow::Result<AgentSet> {
    let server_url = emulator.url().clone();
    // The emulator speaks HTTP/2, so that all agents share a few connections.
    let http = HttpSettings { plain_http2: true, ..HttpSettings::default() };
    let connection = Connection::new(&server_url, Credential::PersonalAccessToken(pat), http)?;
    let machine_name = crate::host::name()?;
    let program = std::env::current_exe().context("the program's own file cannot be found")?;
    let work_directory = folder.join("work");
    std::fs::create_dir_all(&work_directory)?;
    let config = Config {
        server_url: server_url.clone(),
        agents: Agents::Managed {
            connection,
            pool: POOL.to_owned(),
            names: (1..=order.agents).map(|number| Arc::from(format!("local-{number}"))).collect(),
            key: None,
            on_existing: OnExisting::Refuse,
            remove_at_end: false,
        },
        description: Description {
            version: AGENT_VERSION.to_owned(),
            operating_system: std::env::consts::OS.to_owned(),
            owner_name: machine_name.clone(),
            capabilities: Arc::new(BTreeMap::new()),
        },
        worker: WorkerSettings {
            work_directory,
            home_directory: folder.to_owned(),
            machine_name,
            server_url: Some(server_url),
            keep_work: order.keep_work,
            hidden_environment: order.hidden_environment.clone(),
            ..WorkerSettings::default()
        },
        once: false,
        timings: Timings::default(),
        connecting: CONNECTING_AGENTS,
    };
    let executor =
        ProcessExecutor::new(program, vec![OsString::from("worker")], std::env::vars_os().collect());
    Ok(AgentSet::start(config, Arc::new(executor)).await?)
}
