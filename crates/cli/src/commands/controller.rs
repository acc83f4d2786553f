//! `dayfly controller`: keeps the virtual agents of every AgentSet online and runs their jobs in pods.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use dayfly_kubernetes::{Config, PodStage, Watcher};
use dayfly_listener::Event;
use tokio_util::sync::CancellationToken;

use super::health::{Health, Vitals};
use super::metrics::Metrics;
use crate::host;
use crate::signals::Signals;

/// Arguments of `dayfly controller`.
#[derive(Debug, Args)]
#[command(after_help = "The cluster is the one of KUBECONFIG, or the one the controller runs in.\n\n\
SIGINT and SIGTERM end the controller; running jobs go on, and the next controller takes them up.")]
pub(crate) struct ControllerArgs {
    /// Serve the AgentSets of this namespace; may be given several times [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Namespace in which the controller keeps its Secrets
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "dayfly")]
    controller_namespace: String,
    /// Dayfly's own image, from which job pods take the program
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// Where job pods reach the controller
    #[arg(long, value_name = "HOST:PORT")]
    channel: String,
    /// Where the controller waits for job pods
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443")]
    channel_listen: SocketAddr,
    /// Serve /healthz, /readyz and /metrics (Prometheus) at this address, such as 0.0.0.0:8080
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Folder for temporary files
    #[arg(long, value_name = "FOLDER", default_value = "/tmp")]
    folder: PathBuf,
    /// Token of the controller's service account by which connections with a workload identity log in
    #[arg(
        long,
        value_name = "FILE",
        env = "AZURE_FEDERATED_TOKEN_FILE",
        default_value = "/var/run/secrets/azure/tokens/azure-identity-token"
    )]
    federated_token_file: PathBuf,
    /// Name of this controller among others
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    name: Option<String>,
}

/// What is told of the controller.
#[derive(Debug, Default)]
struct Told {
    metrics: Arc<Metrics>,
    is_ready: AtomicBool,
}

impl Watcher for Told {
    fn ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    fn event(&self, set: &Arc<str>, event: &Event) {
        self.metrics.note(set, event);
    }

    fn connection(&self, connection: &str, is_ready: Option<bool>) {
        self.metrics.connection(connection, is_ready);
    }

    fn pod_reached(&self, stage: PodStage, took: Duration) {
        self.metrics.pod_reached(stage, took);
    }

    fn failed(&self, kind: &'static str) {
        self.metrics.failed(kind);
    }
}

impl Vitals for Told {
    fn not_ready(&self) -> Option<&'static str> {
        (!self.is_ready.load(Ordering::Relaxed)).then_some("the controller is starting")
    }

    fn text(&self) -> String {
        self.metrics.text()
    }
}

/// Runs the controller until a signal comes.
pub(crate) fn run(args: ControllerArgs) -> anyhow::Result<ExitCode> {
    host::protect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    runtime.block_on(control(args))
}

async fn control(args: ControllerArgs) -> anyhow::Result<ExitCode> {
    let holder = match args.name {
        Some(name) => name,
        None => host::name()?,
    };
    let client = dayfly_kubernetes::connect()
        .await
        .context("no cluster can be reached; set KUBECONFIG, or run the controller in a pod")?;
    let told = Arc::new(Told::default());
    let health = match args.listen {
        Some(address) => Some(Health::start(address, told.clone()).await?),
        None => None,
    };
    let config = Config {
        watch_namespaces: args.namespace,
        namespace: args.controller_namespace,
        channel_listen: args.channel_listen,
        channel: args.channel,
        image: args.image,
        agent_version: dayfly_worker::AGENT_VERSION.to_owned(),
        holder,
        folder: args.folder,
        federated_token_file: args.federated_token_file,
        observer: told.metrics.clone(),
        watcher: told,
    };
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let mut running = std::pin::pin!(dayfly_kubernetes::run(client, config, stop.clone()));
    loop {
        tokio::select! {
            ended = &mut running => {
                ended.map_err(|error| anyhow::anyhow!(dayfly_client::describe(&error)))?;
                if let Some(health) = health {
                    health.stop().await;
                }
                return Ok(ExitCode::SUCCESS);
            }
            () = signals.next() => stop.cancel(),
        }
    }
}
