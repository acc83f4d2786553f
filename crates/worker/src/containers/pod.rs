//! Services of a pod: they are there under `localhost`, since all containers of a pod share its network.

use std::net::Ipv4Addr;
use std::time::Duration;

use dayfly_protocol::containers::{Port, services};
use dayfly_protocol::job::AgentJobRequestMessage;
use futures::future::try_join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{Error, TELL_AFTER};
use crate::context::StepContext;

/// How long a service may take until it listens on its ports.
pub(super) const SERVICE_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How often a service is tried.
const SERVICE_PAUSE: Duration = Duration::from_millis(50);

/// Connections to a forwarded port that are open at a time.
const FORWARDED: usize = 1024;

/// Connections that are passed on from the ports which the pipeline gives to services to those they have.
/// They end when this is dropped.
#[derive(Default)]
pub(crate) struct Forwards(Vec<AbortOnDropHandle<()>>);

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
