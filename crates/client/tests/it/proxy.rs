//! Proxies, given as values and never taken from the environment.

use dayfly_client::{Connection, Credential, HttpSettings};

use crate::server::{POOLS, Server, json, quick};

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
