//! The containers in which the steps of a job run, and the services beside them.
//!
//! Which container it is for each step says [`dayfly_protocol::containers`]. In a pod they are there already,
//! made by the same rule; on a machine they are made here, by Docker or Podman. In both, the first process of
//! each is a step host.

mod create;
mod engine;
mod images;
mod machine;
mod pod;
mod program;
mod ready;
mod remove;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_processes::Ended;
use dayfly_protocol::channel::LostContainer;
use dayfly_protocol::containers::{StepContainer, container_of, step_containers};
use dayfly_protocol::job::{AgentJobRequestMessage, ContainerResource, Step};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::context::StepContext;
use crate::directories::WorkFolder;
use crate::environment;
use crate::process::{ContainerPlace, Place};
use crate::step_host::{StepHosts, Unreachable};
use crate::steps::expand;
use engine::Engine;
pub use engine::NoEngine;
use machine::Machine;
pub(crate) use pod::Forwards;
use pod::SERVICE_PATIENCE;

/// When a wait for a container is told in the log.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Why the containers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The message contradicts itself.
    #[error(transparent)]
    Unknown(#[from] dayfly_protocol::containers::UnknownContainer),
    /// A container is not there.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// A service does not listen.
    #[error(
        "the service '{service}' ({image}) does not listen on port {port} after {} minutes; look at the \
         container's own log",
        SERVICE_PATIENCE.as_secs() / 60
    )]
    Silent { service: String, image: String, port: u16 },
    /// A port that the pipeline maps is taken.
    #[error("port {host} of the service '{service}' cannot be opened: {source}")]
    Port { service: String, host: u16, source: io::Error },
    /// A service says that it does not work.
    #[error("Failed to initialize, {service} service is {health}.")]
    Unhealthy { service: String, health: String },
    /// The machine has no engine.
    #[error(transparent)]
    NoEngine(#[from] NoEngine),
    /// A command of the engine failed.
    #[error("the container '{container}' cannot be started: {reason}{hint}")]
    Start { container: String, reason: engine::Failed, hint: String },
    /// A command for all of them failed.
    #[error(transparent)]
    Engine(engine::Failed),
    /// An image is not had.
    #[error(
        "the image '{image}' of the container '{container}' cannot be pulled: {reason}; if it is only on \
         this machine, say `localImage: true`"
    )]
    Pull { container: String, image: String, reason: engine::Failed },
    /// A container names a service connection that is of no use.
    #[error(transparent)]
    Connection(#[from] dayfly_protocol::registries::UnusableConnection),
    /// A registry's login cannot be had.
    #[error("the service connection '{connection}' cannot be used for a container's image: {reason}")]
    Login { connection: String, reason: String },
    /// What the pipeline says of a container cannot be done.
    #[error("the container '{container}': {reason}")]
    Wrong { container: String, reason: String },
    /// It ended before it could run steps.
    #[error("the container '{container}' ({image}) ended before it could run steps; its log is above{hint}")]
    Ended { container: String, image: String, hint: String },
    /// What containers are given cannot be made.
    #[error("{what} at {} cannot be made", path.display())]
    Folder { what: &'static str, path: PathBuf, source: io::Error },
    /// The step was stopped meanwhile.
    #[error("The operation was canceled.")]
    Canceled,
}

impl From<engine::Failed> for Error {
    fn from(failed: engine::Failed) -> Self {
        match failed {
            engine::Failed::Canceled => Self::Canceled,
            failed => Self::Engine(failed),
        }
    }
}

/// The containers in which steps run.
pub(crate) struct Containers {
    hosts: StepHosts,
    containers: Vec<StepContainer>,
    /// Who makes them; none in a pod, where they are there.
    machine: Option<Machine>,
}

impl Containers {
    /// Waits for the containers of this job's pod, which find their sockets in `folder`.
    pub(crate) async fn of_pod(folder: &Path, message: &AgentJobRequestMessage) -> Result<Self, Error> {
        let containers = step_containers(message)?;
        let names: Vec<String> = containers.iter().map(|container| container.name.clone()).collect();
        Ok(Self { hosts: StepHosts::listen(folder, &names).await?, containers, machine: None })
    }

    /// The containers that this machine is to start for the job; none if it asks for none.
    /// `program`: where this program is.
    pub(crate) async fn of_machine(
        program: Option<PathBuf>,
        message: &AgentJobRequestMessage,
    ) -> Result<Option<Self>, Error> {
        let mut containers = step_containers(message)?;
        containers.retain(|container| container.resource.is_some());
        if containers.is_empty() && message.job_sidecar_containers.is_empty() {
            return Ok(None);
        }
        let machine = Machine::new(program)?;
        let names: Vec<String> = containers.iter().map(|container| container.name.clone()).collect();
        let hosts = StepHosts::listen(machine.folder(), &names).await?;
        Ok(Some(Self { hosts, containers, machine: Some(machine) }))
    }

    /// Where a step runs; waits for its container.
    pub(crate) async fn place_of(&self, context: &StepContext, step: &Step) -> Result<Place, Error> {
        let name = container_of(&self.containers, step);
        // On a machine, the steps of a job that names no container run beside the worker.
        let is_there = |name: &&str| self.containers.iter().any(|container| container.name == *name);
        let Some(name) = name.filter(is_there) else { return Ok(Place::Here) };
        if self.machine.as_ref().is_some_and(|machine| !machine.is_ready(name)) {
            let container = self.resource(name).map_or(name, |resource| &resource.alias).to_owned();
            let reason = "it was not started, so nothing can run in it; \"Initialize containers\" says why";
            return Err(Error::Wrong { container, reason: reason.to_owned() });
        }
        let host = self.hosts.of(name);
        tokio::pin!(host);
        let host = match timeout(TELL_AFTER, &mut host).await {
            Ok(host) => host?,
            Err(_) => {
                context.output(&format!("Waiting for the container '{name}'.")).await;
                tokio::select! {
                    host = host => host?,
                    () = context.cancel.cancelled() => return Err(Error::Canceled),
                }
            }
        };
        Ok(Place::Container(ContainerPlace::new(host)))
    }

    /// Takes in that nothing can run in a container: steps that want it fail.
    pub(crate) fn lose(&self, lost: &LostContainer) {
        self.hosts.lose(&lost.name, &lost.reason);
    }

    fn resource(&self, name: &str) -> Option<&ContainerResource> {
        self.containers.iter().find(|container| container.name == name)?.resource.as_ref()
    }

    /// Whether "Initialize containers" has something to do.
    pub(crate) fn begins(&self, message: &AgentJobRequestMessage) -> bool {
        self.is_made_here() || !message.job_sidecar_containers.is_empty()
    }

    /// Whether the containers are started and stopped by this job.
    pub(crate) fn is_made_here(&self) -> bool {
        self.machine.is_some()
    }

    /// Starts them, or waits for those that others start.
    pub(crate) async fn begin(
        &self,
        context: &StepContext,
        message: &AgentJobRequestMessage,
        work: &WorkFolder,
    ) -> Result<Forwards, Error> {
        let Some(machine) = &self.machine else { return pod::wait_for_services(context, message).await };
        machine.start(context, message, work, &self.hosts, &self.containers).await?;
        Ok(Forwards::default())
    }

    /// Removes those that were started here, with a word in the log.
    pub(crate) async fn end(&self, context: &StepContext) {
        if let Some(machine) = &self.machine {
            machine.stop(Some(context)).await;
        }
    }

    /// Removes those that are left, for a job whose log nobody reads any more.
    pub(crate) async fn abandon(&self) {
        if let Some(machine) = &self.machine {
            machine.stop(None).await;
        }
    }

    /// Kills what steps have left running, and answers whom.
    pub(crate) async fn sweep(&self, lookup_id: &str) -> Vec<Ended> {
        let mut ended = Vec::new();
        for host in self.hosts.connected() {
            ended.extend(host.sweep(lookup_id).await);
        }
        ended
    }
}

/// Which engine containers would be started by, for a process with this environment: `docker` or `podman`.
///
/// # Errors
///
/// Neither is there, or neither can be used.
pub async fn container_engine(environment: Vec<(OsString, OsString)>) -> Result<&'static str, NoEngine> {
    let cancel = CancellationToken::new();
    let engine = Engine::find(&environment.into_iter().collect(), &cancel).await?;
    engine.check(&cancel).await?;
    Ok(engine.kind.name())
}

/// Where the image of a container says that its own Node is.
pub(crate) fn node_of_image(context: &StepContext, place: &Place) -> Option<PathBuf> {
    let Place::Container(place) = place else { return None };
    context.job.containers.as_ref()?.machine.as_ref()?.node(place.host().container())
}

/// What a step in `place` finds in its environment before anything of the job's is set.
pub(crate) fn inherited(context: &StepContext, place: &Place) -> BTreeMap<OsString, OsString> {
    let job = &context.job;
    let Place::Container(place) = place else { return job.inherited.clone() };
    let of_image = place.host().environment().iter().map(|(name, value)| (name.clone(), value.clone()));
    let mut values = environment::inherited(of_image, &job.settings.hidden_environment);
    environment::add_proxy(&mut values, &job.settings);
    let Some(containers) = &job.containers else { return values };
    // Not in the pod, where everybody who may read pods could read it.
    let resource = containers.resource(place.host().container());
    for (name, value) in resource.iter().flat_map(|resource| &resource.properties.env) {
        // Without a value Docker takes that of the machine (`DockerCommandManager.cs`).
        match job.inherited.get(OsStr::new(name)).filter(|_| value.is_empty() && containers.is_made_here()) {
            Some(value) => values.insert(name.into(), value.clone()),
            None => values.insert(name.into(), expand(job, value).into()),
        };
    }
    values
}
