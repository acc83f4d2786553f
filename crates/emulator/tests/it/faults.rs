//! Faults on request.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::service::{Service, assert_error, eventually, success};

const POOLS: &str = "_apis/distributedtask/pools";

/// Adds a rule by the administration.
async fn add(service: &Service, rule: Value) {
    success(service.dayfly(Method::POST, "faults").json(&rule)).await;
}

#[tokio::test]
async fn status_is_answered_as_often_as_the_rule_says() {
    let service = Service::start().await;
    add(
        &service,
        json!({
            "method": "GET", "path": "_apis/*/pools", "count": 2,
            "fault": { "kind": "status", "status": 503, "typeKey": "VssServiceUnavailableException" },
        }),
    )
    .await;
    for _ in 0..2 {
        let response = service.admin(Method::GET, POOLS).send().await.unwrap();
        assert_error(response, StatusCode::SERVICE_UNAVAILABLE, "VssServiceUnavailableException").await;
    }
    assert_eq!(service.get(POOLS).await["count"], 1);
    let rules = success(service.dayfly(Method::GET, "faults")).await;
    assert_eq!(rules["value"][0]["struck"], 2);
    assert_eq!(rules["value"][0]["matched"], 3);
    let id = &rules["value"][0]["id"];
    assert!(
        service.dayfly(Method::DELETE, &format!("faults/{id}")).send().await.unwrap().status().is_success()
    );
    assert_eq!(success(service.dayfly(Method::GET, "faults")).await["count"], 0);
}

#[tokio::test]
async fn throttled_request_has_the_headers_of_the_service() {
    let service = Service::start().await;
    add(&service, json!({ "path": "**", "count": 1, "fault": { "kind": "throttle", "retryAfter": 7 } }))
        .await;
    let response = service.admin(Method::GET, POOLS).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(response.headers()["x-ratelimit-remaining"], "0");
    assert_error(response, StatusCode::TOO_MANY_REQUESTS, "RequestBlockedException").await;
}

#[tokio::test]
async fn lost_session_is_told_to_its_agent() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let poll = tokio::spawn(agent.poll(&service, None).send());
    eventually("the session", async || service.emulator.statistics().sessions == 1).await;
    add(&service, json!({ "path": "**/messages", "count": 1, "fault": { "kind": "expireSession" } })).await;
    let struck = agent.poll(&service, None).send().await.unwrap();
    assert_error(struck, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
    let held = poll.await.unwrap().unwrap();
    assert_error(held, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
}
