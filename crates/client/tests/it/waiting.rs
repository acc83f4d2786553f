//! Deadlines, cancellation and long polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dayfly_client::{Connection, Credential, Error, ErrorKind};
use dayfly_protocol::{MessageId, PoolId, SessionId};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::server::{POOLS, Server, bounded, json, quick, wait_until};

const SESSION: SessionId = SessionId(Uuid::from_u128(9));

/// Counts the requests that a server is at work on; one whose client has gone is dropped by the server and
/// not counted any more.
#[derive(Clone, Default)]
struct Open(Arc<AtomicUsize>);

impl Open {
    fn enter(&self) -> OpenGuard {
        self.0.fetch_add(1, Ordering::SeqCst);
        OpenGuard(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct OpenGuard(Open);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server that never answers.
async fn silent(open: Open) -> Server {
    Server::start_async(move |_, _| {
        let open = open.clone();
        async move {
            let _guard = open.enter();
            std::future::pending().await
        }
    })
    .await
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let open = Open::default();
    let server = silent(open.clone()).await;
    let connection = server.with_pat().with_deadline(Duration::from_millis(50));
    let error = bounded(connection.find_pool("Default")).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(
        error.to_string().starts_with("cannot find the agent pool \"Default\": no answer within"),
        "{error}"
    );
    wait_until(|| open.count() == 0).await;
}

#[tokio::test]
async fn repetitions_end_at_the_deadline_with_the_services_error() {
    let server = Server::start(|_, _| json(503, "")).await;
    let mut settings = quick();
    settings.retry.attempts = u32::MAX;
    settings.call_deadline = Duration::from_secs(1);
    let connection = Connection::new(&server.url(), Credential::Bearer("token".into()), settings).unwrap();
    let error = bounded(connection.find_pool("Default")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(server.seen().len() > 1);
}

#[tokio::test]
async fn a_dropped_call_is_closed_at_once() {
    let open = Open::default();
    let server = silent(open.clone()).await;
    let connection = server.with_pat();
    let call = tokio::spawn(async move { connection.find_pool("Default").await.map(drop) });
    wait_until(|| open.count() == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    wait_until(|| open.count() == 0).await;
}

#[tokio::test]
async fn a_dropped_poll_is_closed_at_once() {
    let open = Open::default();
    let server = silent(open.clone()).await;
    let connection = server.with_pat();
    let poll = tokio::spawn(async move { connection.next_message(PoolId(3), SESSION, None).await.map(drop) });
    wait_until(|| open.count() == 1).await;
    poll.abort();
    assert!(poll.await.unwrap_err().is_cancelled());
    wait_until(|| open.count() == 0).await;
}

#[tokio::test]
async fn a_poll_gives_a_message_or_nothing() {
    let server = Server::start(|_, number| match number {
        0 => json(202, ""),
        1 => json(204, ""),
        _ => json(200, r#"{"MessageId":5,"messageType":"JobCancellation","iv":null,"body":"{}"}"#),
    })
    .await;
    let connection = server.with_pat();
    assert_eq!(connection.next_message(PoolId(3), SESSION, None).await.unwrap(), None);
    assert_eq!(connection.next_message(PoolId(3), SESSION, Some(MessageId(4))).await.unwrap(), None);
    let message = connection.next_message(PoolId(3), SESSION, Some(MessageId(4))).await.unwrap().unwrap();
    assert_eq!((message.message_id, message.body.as_str()), (MessageId(5), "{}"));
    let seen = server.seen();
    let path = "/dayfly/_apis/distributedtask/pools/3/messages";
    let session = "sessionId=00000000-0000-0000-0000-000000000009";
    assert_eq!(seen[0].uri.to_string(), format!("{path}?{session}"));
    assert_eq!(seen[1].uri.to_string(), format!("{path}?{session}&lastMessageId=4"));
}

#[tokio::test]
async fn a_failed_poll_is_not_repeated_and_an_expired_session_is_recognised() {
    let server = Server::start(|_, number| match number {
        0 => json(503, ""),
        _ => json(403, r#"{"message":"gone","typeKey":"TaskAgentSessionExpiredException"}"#),
    })
    .await;
    let connection = server.with_pat();
    let poll = || connection.next_message(PoolId(3), SESSION, None);
    assert_eq!(poll().await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(poll().await.unwrap_err().kind(), ErrorKind::SessionExpired);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_poll_the_service_forgot_ends_by_itself() {
    let open = Open::default();
    let server = silent(open.clone()).await;
    let mut settings = quick();
    settings.poll_timeout = Duration::from_millis(50);
    let connection = Connection::new(&server.url(), Credential::Bearer("token".into()), settings).unwrap();
    let error = bounded(connection.next_message(PoolId(3), SESSION, None)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
}

/// What never stops coming, and never comes to anything.
#[tokio::test]
async fn a_poll_whose_answer_drips_ends_by_itself() {
    let sent = Arc::new(AtomicUsize::new(0));
    let drops = sent.clone();
    let server = Server::start_async(move |_, _| {
        let drops = drops.clone();
        async move {
            let drip = futures::stream::unfold((), move |()| {
                drops.fetch_add(1, Ordering::SeqCst);
                async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
                }
            });
            Response::builder()
                .header("content-type", "application/json")
                .body(Body::from_stream(drip))
                .unwrap()
        }
    })
    .await;
    let mut settings = quick();
    settings.poll_timeout = Duration::from_millis(200);
    let connection = Connection::new(&server.url(), Credential::Bearer("token".into()), settings).unwrap();
    let error = bounded(connection.next_message(PoolId(3), SESSION, None)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!(sent.load(Ordering::SeqCst) > 1, "the answer had begun");
    assert_eq!(server.seen().len(), 1, "a poll is not repeated");
}

#[tokio::test]
async fn calls_pass_while_many_polls_wait() {
    const POLLS: usize = 150;
    let barrier = Arc::new(Barrier::new(POLLS + 1));
    let waiting = barrier.clone();
    let server = Server::start_async(move |seen, _| {
        let waiting = waiting.clone();
        async move {
            if seen.uri.path().ends_with("/messages") {
                waiting.wait().await;
                return json(202, "");
            }
            json(200, POOLS)
        }
    })
    .await;
    let connection = server.with_pat();
    let polls: Vec<_> = (0..POLLS)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.next_message(PoolId(3), SESSION, None).await })
        })
        .collect();
    wait_until(|| server.seen().len() == POLLS).await;
    bounded(connection.find_pool("Default")).await.unwrap();
    bounded(barrier.wait()).await;
    for poll in polls {
        assert_eq!(bounded(poll).await.unwrap().unwrap(), None);
    }
}
