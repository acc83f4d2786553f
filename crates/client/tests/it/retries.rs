//! What is sent again, and what is not.

use std::time::Duration;

use dayfly_client::{Connection, Credential, Error, ErrorKind};
use dayfly_protocol::agent::TaskAgent;
use dayfly_protocol::{PoolId, RequestId};

use crate::server::{POOLS, RawServer, Server, json, json_with, quick};

#[tokio::test]
async fn a_service_in_trouble_is_asked_again() {
    let server = Server::start(|_, number| match number {
        0 => json(503, ""),
        1 => json(502, "<html>bad gateway</html>"),
        2 => json(500, ""),
        _ => json(200, POOLS),
    })
    .await;
    server.with_pat().find_pool("Default").await.unwrap();
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_error_is_told() {
    let server = Server::start(|_, _| json(503, r#"{"message":"The service is being updated."}"#)).await;
    let error = server.with_pat().find_pool("Default").await.unwrap_err();
    assert_eq!(server.seen().len(), 4);
    assert_eq!(
        error.to_string(),
        "cannot find the agent pool \"Default\": the service answered 503: The service is being updated."
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let server = Server::start(|_, number| match number {
        0 => json_with(429, &[("retry-after", "1")], ""),
        _ => json(200, POOLS),
    })
    .await;
    server.with_pat().find_pool("Default").await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_long_retry_after_is_the_callers_to_wait_for() {
    let server = Server::start(|_, _| json_with(429, &[("retry-after", "600")], "")).await;
    let error = server.with_pat().find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled { after: Some(Duration::from_secs(600)) });
    assert_eq!(error.retry_after(), Some(Duration::from_secs(600)));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_offline_organization_is_not_asked_again() {
    let server = Server::start(|_, _| json_with(503, &[("x-vss-hostofflineerror", "offline")], "")).await;
    assert!(server.with_pat().find_pool("Default").await.is_err());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_not_sent_again() {
    let agent = TaskAgent { name: "a".into(), ..TaskAgent::default() };
    let server = Server::start(|_, _| json(500, "")).await;
    assert!(server.with_pat().create_agent(PoolId(3), &agent).await.is_err());
    assert_eq!(server.seen().len(), 1);
    let server = Server::start(|_, number| match number {
        0 => json(503, ""),
        _ => json(200, r#"{"id":7,"name":"a"}"#),
    })
    .await;
    assert_eq!(server.with_pat().create_agent(PoolId(3), &agent).await.unwrap().id.0, 7);
}

#[tokio::test]
async fn renewals_are_tried_once_since_the_lease_has_its_own_loop() {
    let server = Server::start(|_, _| json(503, "")).await;
    let error = server.with_pat().renew_job_request(PoolId(3), RequestId(12)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_dropped_connection_is_made_again() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{POOLS}",
        POOLS.len()
    );
    let server = RawServer::start(move |number| match number {
        // Nothing at all, half a head, half a body.
        0 => Vec::new(),
        1 => answer.as_bytes()[..30].to_vec(),
        2 => answer.as_bytes()[..answer.len() - 10].to_vec(),
        _ => answer.clone().into_bytes(),
    })
    .await;
    server.connect().find_pool("Default").await.unwrap();
    assert_eq!(*server.connections.lock().unwrap(), 4);
}

#[tokio::test]
async fn a_document_cut_short_is_asked_for_again() {
    let server = Server::start(|_, number| match number {
        0 => json(200, &POOLS[..POOLS.len() - 3]),
        _ => json(200, POOLS),
    })
    .await;
    server.with_pat().find_pool("Default").await.unwrap();
    assert_eq!(server.seen().len(), 2);
    // A renewal is not repeated here, but its error says that it may be.
    let server = Server::start(|_, _| json(200, r#"{"requestId":12"#)).await;
    let error = server.with_pat().renew_job_request(PoolId(3), RequestId(12)).await.unwrap_err();
    assert!(matches!(&error, Error::Body { source, .. } if source.is_truncated()), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_document_of_another_form_names_the_field() {
    let server = Server::start(|_, _| json(200, r#"{"count":1,"value":[{"id":"secret"}]}"#)).await;
    let error = server.with_pat().find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "value[0].id: expected i32, found a string");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/x").parse().unwrap();
    drop(listener);
    let connection = Connection::new(&url, Credential::Bearer("token".into()), quick()).unwrap();
    let error = connection.find_pool("Default").await.unwrap_err();
    assert!(matches!(error, Error::Connection { sent: false, .. }), "{error:?}");
    let expected =
        format!("cannot find the agent pool \"Default\": cannot reach http://{address}: connection refused");
    assert_eq!(dayfly_client::describe(&error), expected, "on one line");
}
