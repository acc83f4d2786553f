//! Downloads.

use axum::response::{IntoResponse, Response};
use dayfly_client::{Error, ErrorKind};
use dayfly_protocol::TaskId;
use uuid::Uuid;

use crate::server::{RawServer, Server, json};

const TASK: TaskId = TaskId(Uuid::from_u128(7));

fn zip(content: &[u8]) -> Response {
    ([("content-type", "application/zip")], content.to_vec()).into_response()
}

#[tokio::test]
async fn a_task_is_streamed_into_a_writer() {
    let server = Server::start(|_, number| match number {
        0 => json(503, ""),
        _ => zip(&vec![7; 300_000]),
    })
    .await;
    let mut sink = Vec::new();
    let size = server.with_pat().download_task(TASK, "2.279.1", &mut sink).await.unwrap();
    assert_eq!((size, sink.len()), (300_000, 300_000));
    let seen = &server.seen()[1];
    assert_eq!(
        seen.uri.path(),
        "/dayfly/_apis/distributedtask/tasks/00000000-0000-0000-0000-000000000007/2.279.1"
    );
    assert_eq!(seen.header("accept"), "application/zip;api-version=5.1-preview.1");
}

#[tokio::test]
async fn a_redirection_is_followed_without_the_credential() {
    let store = Server::start(|_, _| zip(b"content")).await;
    let target = format!("http://{}/blob?sig=x", store.address);
    let server = Server::start(move |_, _| {
        let mut response = json(302, "");
        response.headers_mut().insert("location", target.parse().unwrap());
        response
    })
    .await;
    let mut sink = Vec::new();
    server.with_pat().download_task(TASK, "1.0.0", &mut sink).await.unwrap();
    assert_eq!(sink, b"content");
    assert!(!store.seen()[0].headers.contains_key("authorization"));
    assert!(server.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_sign_in_page_is_not_downloaded() {
    let server = Server::start(|_, _| {
        let mut response = json(302, "");
        let target = "https://spsprodweu1.vssps.visualstudio.com/_signin?realm=dev.azure.com";
        response.headers_mut().insert("location", target.parse().unwrap());
        response
    })
    .await;
    let mut sink = Vec::new();
    let error = server.with_pat().download_task(TASK, "1.0.0", &mut sink).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!((sink.len(), server.seen().len()), (0, 1));
}

#[tokio::test]
async fn redirections_in_a_circle_end() {
    let server = Server::start(|seen, _| {
        let mut response = json(302, "");
        response.headers_mut().insert("location", seen.uri.to_string().parse().unwrap());
        response
    })
    .await;
    let error = server.with_pat().download_task(TASK, "1.0.0", &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn a_download_cut_short_is_an_error_and_is_not_begun_again() {
    let server =
        RawServer::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it".to_vec()).await;
    let mut sink = Vec::new();
    let error = server.connect().download_task(TASK, "1.0.0", &mut sink).await.unwrap_err();
    assert!(matches!(error, Error::Connection { sent: true, .. }), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(*server.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_missing_task_is_told_in_the_services_words() {
    let server = Server::start(|_, _| {
        json(404, r#"{"message":"No task 7.","typeKey":"TaskDefinitionNotFoundException"}"#)
    })
    .await;
    let error = server.with_pat().download_task(TASK, "1.0.0", &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("No task 7."), "{error}");
}
