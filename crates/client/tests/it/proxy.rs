//! Proxies, given as values and never taken from the environment.

use std::sync::{Arc, Mutex};

use dayfly_client::{Connection, Credential, Error, HttpSettings};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::server::{POOLS, Server, application, json, quick};
use crate::tls::SecureServer;

/// A proxy that makes tunnels: keeps the heads of the requests for them, and refuses those without this
/// login.
struct Tunnels {
    address: std::net::SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnels {
    async fn start(login: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tunnels.spawn(tunnel(stream, login, seen.clone()));
            }
        });
        Tunnels { address, heads, task }
    }
}

async fn tunnel(stream: TcpStream, login: &'static str, heads: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).await.unwrap() > 0, "the head of the request is cut short");
    }
    heads.lock().unwrap().push(head.clone());
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap();
    if !head.to_ascii_lowercase().contains(&format!("proxy-authorization: {login}").to_ascii_lowercase()) {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        return;
    }
    let mut server = TcpStream::connect(target).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.ok();
}

fn through(proxy: &Server, no_proxy: Option<&str>) -> HttpSettings {
    let mut settings = quick();
    settings.proxy.http = Some(format!("http://user:pass@{}", proxy.address));
    settings.proxy.no_proxy = no_proxy.map(Into::into);
    settings
}

#[tokio::test]
async fn requests_go_through_the_proxy_with_its_own_login() {
    let proxy = Server::start(|_, _| json(200, POOLS)).await;
    // The name exists nowhere: only the proxy can answer.
    let url = "http://organization.invalid/dayfly".parse().unwrap();
    let connection =
        Connection::new(&url, Credential::Bearer("token".into()), through(&proxy, None)).unwrap();
    connection.find_pool("Default").await.unwrap();
    let seen = &proxy.seen()[0];
    assert_eq!(seen.uri.host(), Some("organization.invalid"));
    assert_eq!(seen.header("proxy-authorization"), "Basic dXNlcjpwYXNz");
    assert_eq!(seen.header("authorization"), "Bearer token");
}

#[tokio::test]
async fn hosts_of_the_exceptions_are_reached_directly() {
    let proxy = Server::start(|_, _| json(500, "")).await;
    let server = Server::start(|_, _| json(200, POOLS)).await;
    let settings = through(&proxy, Some("example.com,127.0.0.1"));
    let connection = Connection::new(&server.url(), Credential::Bearer("token".into()), settings).unwrap();
    connection.find_pool("Default").await.unwrap();
    assert_eq!(proxy.seen().len(), 0);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_ends_at_the_service() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let application = application(seen.clone(), |_, _| async { json(200, POOLS) });
    let server = SecureServer::start(seen.clone(), application).await;
    let tunnels = Tunnels::start("Basic dXNlcjpwYXNz").await;
    let mut settings = server.trusting();
    settings.proxy.https = Some(format!("http://user:pass@{}", tunnels.address));
    server.connect(settings.clone()).find_pool("Default").await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    let heads = tunnels.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("CONNECT localhost:"), "{}", heads[0]);
    assert!(!heads[0].contains("Bearer"), "the credential is for the service only");

    // A login that the proxy does not take: told without showing it.
    settings.proxy.https = Some(format!("http://user:hunter2@{}", tunnels.address));
    let error = server.connect(settings).find_pool("Default").await.unwrap_err();
    assert!(matches!(error, Error::Connection { sent: false, .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
    let text = error.to_string();
    let expected =
        format!("the proxy http://{} does not let us through to https://localhost:", tunnels.address);
    assert!(text.contains(&expected) && !text.contains("hunter2"), "{text}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for (url, host) in [
        ("http://organization.invalid/o", "http://organization.invalid"),
        ("https://organization.invalid/o", "https://organization.invalid"),
    ] {
        let mut settings = quick();
        settings.proxy.http = Some(format!("http://user:hunter2@{address}"));
        settings.proxy.https = settings.proxy.http.clone();
        let connection =
            Connection::new(&url.parse().unwrap(), Credential::Bearer("token".into()), settings).unwrap();
        let text = connection.find_pool("Default").await.unwrap_err().to_string();
        let expected =
            format!("cannot reach the proxy http://{address} on the way to {host}: connection refused");
        assert!(text.ends_with(&expected), "{text}");
    }
}
