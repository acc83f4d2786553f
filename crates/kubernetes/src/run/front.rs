//! Ends TLS in front of the run's service, which speaks plain HTTP on loopback.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// How many connections there may be; more have to wait.
const CONNECTIONS: usize = 4096;

/// How long the first words of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Pause after a connection that could not be taken, as when there are too many open files.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The front. All its connections end when it is dropped.
#[derive(Debug)]
pub(super) struct Front(#[expect(dead_code, reason = "it serves until it is dropped")] AbortOnDropHandle<()>);

impl Front {
    /// Passes what comes at `listener` on to `behind`, which speaks HTTP/1.1 and HTTP/2 with prior knowledge.
    pub(super) fn start(listener: TcpListener, mut server: ServerConfig, behind: SocketAddr) -> Self {
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Self(AbortOnDropHandle::new(tokio::spawn(serve(listener, acceptor, behind))))
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    if let Err(error) = pass(stream, acceptor, behind).await {
                        tracing::debug!(%error, "a connection of a pod to the service broke");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::info!(%error, "could not take a connection of a pod to the service");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn pass(stream: TcpStream, acceptor: TlsAcceptor, behind: SocketAddr) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let mut service = TcpStream::connect(behind).await?;
    service.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut service).await.map(drop)
}
