//! Servers of the tests: they answer by a function and keep what they were asked.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dayfly_client::{Connection, Credential, HttpSettings, RetryPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// Longest that a test waits for what must happen.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) at: std::time::Instant,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that answers each request by a function of it and of how many came before.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The application behind a server.
pub(crate) fn application<F, R>(seen: Arc<Mutex<Vec<Seen>>>, answer: F) -> Router
where
    F: Fn(Seen, usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    Router::new().fallback(move |request: Request| {
        let (answer, seen) = (answer.clone(), seen.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
            let request = Seen {
                method: parts.method,
                uri: parts.uri,
                headers: parts.headers,
                body,
                at: std::time::Instant::now(),
            };
            let has_length =
                ["content-length", "transfer-encoding"].iter().any(|name| !request.header(name).is_empty());
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push(request.clone());
                seen.len() - 1
            };
            // As HTTP/1.1 servers do: none of our calls may leave its length open.
            if matches!(request.method, Method::POST | Method::PUT | Method::PATCH) && !has_length {
                return StatusCode::LENGTH_REQUIRED.into_response();
            }
            answer(request, number).await
        }
    })
}

impl Server {
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen, usize) -> Response + Clone + Send + Sync + 'static,
    {
        Self::start_async(move |seen, number| std::future::ready(answer(&seen, number))).await
    }

    pub(crate) async fn start_async<F, R>(answer: F) -> Self
    where
        F: Fn(Seen, usize) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let application = application(seen.clone(), answer);
        let task = tokio::spawn(async move { axum::serve(listener, application).await.unwrap() });
        Server { address, seen, task }
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}/dayfly", self.address).parse().unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connect(&self, credential: Credential) -> Connection {
        Connection::new(&self.url(), credential, quick()).unwrap()
    }

    pub(crate) fn with_pat(&self) -> Connection {
        self.connect(Credential::PersonalAccessToken("secret".into()))
    }
}

/// A server below HTTP: each connection's first request is read up to its end, then answered with these
/// bytes, then the connection is closed.
pub(crate) struct RawServer {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawServer {
    pub(crate) async fn start(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = {
                    let mut counter = counter.lock().unwrap();
                    *counter += 1;
                    *counter - 1
                };
                read_request(&mut stream).await;
                let answer = answer(number);
                stream.write_all(&answer).await.unwrap();
                stream.shutdown().await.ok();
            }
        });
        RawServer { address, connections, task }
    }

    pub(crate) fn connect(&self) -> Connection {
        let url = format!("http://{}/dayfly", self.address).parse().unwrap();
        Connection::new(&url, Credential::Bearer("token".into()), quick()).unwrap()
    }
}

/// Reads a request's head, and as much body as it announces.
async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= end + 4 + length {
                return;
            }
        }
        assert!(count > 0, "the client closed before its request was complete");
    }
}

/// Settings with short pauses, so that repetitions cost no time.
pub(crate) fn quick() -> HttpSettings {
    HttpSettings {
        retry: RetryPolicy {
            attempts: 4,
            first_pause: Duration::from_millis(2),
            longest_pause: Duration::from_millis(10),
        },
        ..HttpSettings::default()
    }
}

/// An answer in JSON.
pub(crate) fn json(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "application/json; charset=utf-8")], body.to_owned()).into_response()
}

/// An answer in JSON with further headers.
pub(crate) fn json_with(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let mut response = json(status, body);
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

/// The answer to `find_pool("Default")`.
pub(crate) const POOLS: &str = r#"{"count":1,"value":[{"id":3,"name":"Default"}]}"#;

/// Gives the outcome of a future that must end within the bound.
pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it must end within the bound")
}

/// Waits until a condition holds, within the bound.
pub(crate) async fn wait_until(mut holds: impl FnMut() -> bool) {
    bounded(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
