//! Rate limits.

use std::time::Duration;

use crate::server::{POOLS, Server, json, json_with};

#[tokio::test]
async fn delays_are_surfaced_to_whoever_wants_to_tell_them() {
    let server = Server::start(|_, _| {
        let headers = [
            ("x-ratelimit-resource", "TSTUs"),
            ("x-ratelimit-delay", "2.5"),
            ("x-ratelimit-limit", "200"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1800000000"),
        ];
        json_with(200, &headers, POOLS)
    })
    .await;
    let connection = server.with_pat();
    let mut throttling = connection.throttling();
    connection.find_pool("Default").await.unwrap();
    connection.clone().find_pool("Default").await.unwrap();
    let report = throttling.borrow_and_update().clone();
    assert_eq!((report.answers, report.total_delay), (2, Duration::from_secs(5)));
    assert_eq!((report.resource.as_deref(), report.reset), (Some("TSTUs"), Some(1_800_000_000)));
}

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
