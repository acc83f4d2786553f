//! The address at which an orchestrator asks whether the program lives and is ready, and Prometheus what it
//! counts. Everything there may be read by everybody who reaches it, so it has no names, addresses or
//! secrets.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What is asked for at that address.
pub(super) trait Vitals: Send + Sync + 'static {
    /// Why the program cannot do its work now; `None` when it can.
    fn not_ready(&self) -> Option<&'static str>;

    /// What it counts, in Prometheus' text format.
    fn text(&self) -> String;
}

/// How many connections are served at a time; more of them wait to be accepted.
const CONNECTIONS: usize = 16;

/// The most bytes and headers of a request's head.
const LONGEST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;

/// How long a request may take to come, and a connection may last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_CONNECTION: Duration = Duration::from_secs(120);

/// The pause when a connection cannot be accepted, such as for want of file descriptors: the system makes
/// nobody wait for that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until it is dropped.
pub(super) struct Health {
    address: SocketAddr,
    server: JoinSet<()>,
}

impl Health {
    /// Listens at `address`.
    pub(super) async fn start(address: SocketAddr, metrics: Arc<dyn Vitals>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; give another address with --listen"))?;
        let address = listener.local_addr().unwrap_or(address);
        let mut server = JoinSet::new();
        server.spawn(serve(listener, metrics));
        Ok(Self { address, server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends, with all connections.
    pub(super) async fn stop(mut self) {
        self.server.shutdown().await;
    }
}

async fn serve(listener: TcpListener, metrics: Arc<dyn Vitals>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        // Closed never.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for health and metrics was not accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        connections.spawn(async move {
            let _place = place;
            connection(stream, &*metrics).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, metrics: &dyn Vitals) {
    let service =
        service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(answer(&request, metrics)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(LONGEST_CONNECTION, serving).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for health and metrics broke"),
    }
}

fn answer(request: &Request<Incoming>, metrics: &dyn Vitals) -> Response<String> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "alive\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match metrics.not_ready() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, metrics.text()),
        (_, "/healthz" | "/readyz" | "/metrics") => {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed here\n".to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
