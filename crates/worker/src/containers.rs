//! The other containers of the pod, in which the steps of this job run.
//!
//! Which one it is for each step says [`dayfly_protocol::containers`], by which the pod was made as well.
//! Services are there under `localhost`, since all containers of a pod share its network.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use dayfly_processes::Ended;
use dayfly_protocol::containers::{Port, StepContainer, container_of, services, step_containers};
use dayfly_protocol::job::{AgentJobRequestMessage, ContainerResource, Step};
use futures::future::try_join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::context::{JobContext, StepContext};
use crate::environment;
use crate::process::{ContainerPlace, Place};
use crate::step_host::{StepHosts, Unreachable};
use crate::steps::expand;

/// How long a service may take until it listens on its ports.
const SERVICE_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How often a service is tried.
const SERVICE_PAUSE: Duration = Duration::from_millis(50);

/// When a wait for a container is told in the log.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Connections to a forwarded port that are open at a time.
const FORWARDED: usize = 1024;

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
    /// The step was stopped meanwhile.
    #[error("The operation was canceled.")]
    Canceled,
}

/// The containers in which steps run.
pub(crate) struct Containers {
    hosts: StepHosts,
    containers: Vec<StepContainer>,
}

impl Containers {
    /// Waits for the containers of this job, which find their sockets in `folder`.
    pub(crate) async fn listen(folder: &Path, message: &AgentJobRequestMessage) -> Result<Self, Error> {
        let containers = step_containers(message)?;
        let names: Vec<String> = containers.iter().map(|container| container.name.clone()).collect();
        Ok(Self { hosts: StepHosts::listen(folder, &names).await?, containers })
    }

    /// Where a step runs; waits for its container.
    pub(crate) async fn place_of(&self, context: &StepContext, step: &Step) -> Result<Place, Error> {
        let Some(name) = container_of(&self.containers, step) else { return Ok(Place::Here) };
        let host = self.hosts.of(name);
        tokio::pin!(host);
        let host = match timeout(TELL_AFTER, &mut host).await {
            Ok(host) => host?,
            Err(_) => {
                context.output(&format!("Waiting for the container '{name}' of the pod.")).await;
                tokio::select! {
                    host = host => host?,
                    () = context.cancel.cancelled() => return Err(Error::Canceled),
                }
            }
        };
        Ok(Place::Container(ContainerPlace::new(host)))
    }

    fn resource(&self, name: &str) -> Option<&ContainerResource> {
        self.containers.iter().find(|container| container.name == name)?.resource.as_ref()
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

/// What a step in `place` finds in its environment before anything of the job's is set.
pub(crate) fn inherited(context: &StepContext, place: &Place) -> BTreeMap<OsString, OsString> {
    let job = &context.job;
    let Place::Container(place) = place else { return job.inherited.clone() };
    let of_image = place.host().environment().iter().map(|(name, value)| (name.clone(), value.clone()));
    let mut values = environment::inherited(of_image, &job.settings.hidden_environment);
    environment::add_proxy(&mut values, &job.settings);
    // Not in the pod, where everybody who may read pods could read it.
    let name = place.host().container();
    let resource = job.containers.as_ref().and_then(|containers| containers.resource(name));
    for (name, value) in resource.iter().flat_map(|resource| &resource.properties.env) {
        values.insert(name.into(), expand(job, value).into());
    }
    values
}

/// Connections that are passed on from the ports which the pipeline gives to services to those they have.
/// They end when this is dropped.
#[derive(Default)]
pub(crate) struct Forwards(Vec<AbortOnDropHandle<()>>);

/// Whether there are services to wait for.
pub(crate) fn has_services(job: &JobContext, message: &AgentJobRequestMessage) -> bool {
    job.containers.is_some() && !message.job_sidecar_containers.is_empty()
}

/// Waits until all services of the job listen, and makes them known.
pub(crate) async fn wait_for_services(
    context: &StepContext,
    message: &AgentJobRequestMessage,
) -> Result<Forwards, Error> {
    let mut forwards = Forwards::default();
    let mut waits = Vec::new();
    for (name, resource) in services(message)? {
        let image = &resource.properties.image;
        context.output(&format!("Service '{name}': {image}")).await;
        for port in resource.properties.ports.iter().filter_map(|text| Port::parse(text)) {
            if port.host != port.container {
                forwards.0.push(forward(name, port).await?);
            }
            // As the official agent does (`ContainerOperationProvider.cs`).
            let variable = format!("agent.services.{name}.ports.{}", port.container);
            context.job.set_variable(&variable, &port.host.to_string());
            waits.push(listens(context, name, image, port.container));
        }
    }
    tokio::select! {
        all = try_join_all(waits) => all.map(|_| forwards),
        () = context.job.cancel.cancelled() => Err(Error::Canceled),
    }
}

async fn listens(context: &StepContext, service: &str, image: &str, port: u16) -> Result<(), Error> {
    let began = Instant::now();
    let mut is_told = false;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        if began.elapsed() > SERVICE_PATIENCE {
            return Err(Error::Silent { service: service.to_owned(), image: image.to_owned(), port });
        }
        if !is_told && began.elapsed() > TELL_AFTER {
            is_told = true;
            context.output(&format!("Waiting until the service '{service}' listens on port {port}.")).await;
        }
        sleep(SERVICE_PAUSE).await;
    }
    context.output(&format!("The service '{service}' listens on port {port}.")).await;
    Ok(())
}

async fn forward(service: &str, port: Port) -> Result<AbortOnDropHandle<()>, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.host))
        .await
        .map_err(|source| Error::Port { service: service.to_owned(), host: port.host, source })?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((mut inbound, _)) = listener.accept(), if connections.len() < FORWARDED => {
                    connections.spawn(async move {
                        if let Ok(mut outbound) =
                            TcpStream::connect((Ipv4Addr::LOCALHOST, port.container)).await
                        {
                            // Whoever ends the connection, both sides notice.
                            let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })))
}
