//! Bodies of requests: who may send one, how much of them is held, and that their length is told.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::service::{SOON, Service, success};

/// Sends the head of a request, and what there is of a body.
async fn begin(
    service: &Service,
    token: &str,
    method: &str,
    path: &str,
    fields: &str,
    body: &[u8],
) -> TcpStream {
    let url = service.emulator.url();
    let mut connection = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    let head = format!(
        "{method} {}/{path}?api-version=7.1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{fields}\r\n",
        url.path()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body).await.unwrap();
    connection
}

/// The status of the answer.
async fn status(connection: &mut TcpStream) -> String {
    let mut line = [0; 12];
    let read = tokio::time::timeout(SOON, connection.read_exact(&mut line));
    read.await.expect("the answer comes without the rest of the body").unwrap();
    String::from_utf8_lossy(&line[9..]).into_owned()
}

#[tokio::test]
async fn who_may_not_send_a_body_is_answered_before_it_comes() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let (own, foreign) = (service.queue(&[]), service.queue(&[]));
    success(foreign.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
    let attachment = format!("timelines/{0}/records/{0}/attachments/kind/name", foreign.timeline);
    for (token, method, path) in [
        (&own.token, "POST", foreign.path("logs/1")),
        (&own.token, "POST", foreign.path("logs")),
        (&own.token, "PUT", foreign.path(&attachment)),
        (&own.token, "POST", foreign.path("events")),
        (&own.token, "PATCH", foreign.path(&format!("timelines/{}/records", foreign.timeline))),
        (&own.token, "POST", "_apis/distributedtask/pools/1/agents".to_owned()),
        (&own.token, "POST", "_apis/distributedtask/pools/1/sessions".to_owned()),
        (&own.token, "POST", "dayfly/_apis/build/builds".to_owned()),
        (&agent.token, "PATCH", "dayfly/_apis/build/builds".to_owned()),
        (&agent.token, "POST", "dayfly/_apis/pipelines".to_owned()),
        (&agent.token, "PATCH", "_apis/distributedtask/pools/1".to_owned()),
    ] {
        let fields = "Content-Length: 9000000\r\nContent-Type: application/json\r\n";
        let mut connection = begin(&service, token, method, &path, fields, b"{").await;
        assert_eq!(status(&mut connection).await, "403", "{method} {path}");
    }
    service.emulator.stop().await;
}

#[tokio::test]
async fn all_bodies_share_one_room() {
    const ROOM: usize = 1_000_000;
    let service = Service::start_with(|settings| settings.limits.body_bytes = ROOM).await;
    service.online("agent-1").await;
    let job = service.queue(&[]);
    success(job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
    let path = job.path("logs/1");
    let block = || service.bearer(&job.token, Method::POST, &path).body(vec![b'x'; ROOM * 2 / 3]);
    success(block()).await;
    // One that does not come to its end holds what has come of it, unless it is refused itself.
    let fields = format!("Content-Length: {ROOM}\r\n");
    let mut stuck = begin(&service, &job.token, "POST", &path, &fields, &vec![b'x'; ROOM * 2 / 3]).await;
    let refused = async {
        loop {
            let answer = block().send().await.unwrap();
            if !answer.status().is_success() {
                return answer.status().as_str().to_owned();
            }
        }
    };
    // Whichever of the two comes last is refused.
    let refused = async {
        tokio::select! {
            status = refused => status,
            status = status(&mut stuck) => status,
        }
    };
    assert_eq!(tokio::time::timeout(SOON, refused).await.expect("both do not fit"), "503");
    drop(stuck);
    let taken = async { while !block().send().await.unwrap().status().is_success() {} };
    tokio::time::timeout(SOON, taken).await.expect("what the other body held is given back");
    service.emulator.stop().await;
}

#[tokio::test]
async fn the_length_of_a_body_is_told() {
    let service = Service::start().await;
    service.online("agent-1").await;
    let job = service.queue(&[]);
    for (fields, expected) in [("", "411"), ("Content-Length: 0\r\n", "400")] {
        let mut connection = begin(&service, &job.token, "POST", &job.path("logs"), fields, b"").await;
        assert_eq!(status(&mut connection).await, expected, "{fields:?}");
    }
    service.emulator.stop().await;
}
