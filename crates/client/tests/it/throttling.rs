//! Rate limits.

use std::time::Duration;

use crate::server::{POOLS, Server, json, json_with};

#[tokio::test]
async fn an_answer_that_asks_for_a_pause_holds_back_the_next_call() {
    let server = Server::start(|_, number| match number {
        0 => json_with(200, &[("retry-after", "1")], POOLS),
        _ => json(200, POOLS),
    })
    .await;
    let connection = server.with_pat();
    connection.find_pool("Default").await.unwrap();
    connection.find_pool("Default").await.unwrap();
    let seen = server.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(900), "{:?}", seen[1].at - seen[0].at);
}
