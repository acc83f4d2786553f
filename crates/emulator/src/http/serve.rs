//! The listening socket: HTTP/1.1 and HTTP/2 with prior knowledge on one port, with bounds, and a stop which
//! ends what is under way.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::connections::{Connection, Connections};
use crate::settings::Limits;

/// How long accepting pauses after the system refused a connection, as when it has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests. Implemented by the application.
pub(crate) trait Answer: Clone + Send + Sync + 'static {
    /// Answers one request which came by `connection`.
    fn answer(
        &self,
        request: Request<Body>,
        connection: Connection,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves until `stop`, then lets requests under way end for at most [`Limits::stop_timeout`].
pub(crate) async fn serve<A: Answer>(
    listener: TcpListener,
    answer: A,
    connections: Connections,
    stop: CancellationToken,
    limits: Limits,
) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let server =
        Server { answer, connections: connections.clone(), stop: stop.clone(), tasks: tasks.clone(), limits };
    loop {
        let Some(place) = stop.run_until_cancelled(Arc::clone(&places).acquire_owned()).await else { break };
        let Ok(place) = place else { break };
        match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let server = server.clone();
                tasks.spawn(async move {
                    server.connection(stream, peer).await;
                    drop(place);
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "could not accept a connection");
                if stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await.is_none() {
                    break;
                }
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(server.limits.stop_timeout, tasks.wait()).await.is_err() {
        connections.cut(None);
        tasks.wait().await;
    }
}

#[derive(Clone)]
struct Server<A> {
    answer: A,
    connections: Connections,
    stop: CancellationToken,
    tasks: TaskTracker,
    limits: Limits,
}

impl<A: Answer> Server<A> {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let connection = self.connections.add();
        self.serve(stream, peer, &connection).await;
        self.connections.remove(&connection);
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, connection: &Connection) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "could not set TCP_NODELAY");
        }
        let cut = connection.token();
        let (answer, connection) = (self.answer.clone(), connection.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (answer, connection) = (answer.clone(), connection.clone());
            async move { Ok::<_, Infallible>(answer.answer(request.map(Body::new), connection).await) }
        });
        let mut builder = auto::Builder::new(Tracked { tasks: self.tasks.clone(), cut: cut.clone() });
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle_timeout)
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_per_connection)
            .keep_alive_interval(self.limits.idle_timeout / 3);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let served = tokio::select! {
            biased;
            () = cut.cancelled() => return,
            served = serving.as_mut() => served,
            () = self.stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    () = cut.cancelled() => return,
                    served = serving => served,
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

/// Runs the streams of HTTP/2 connections, counted and cut with their connection.
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            cut.run_until_cancelled(future).await;
        });
    }
}
