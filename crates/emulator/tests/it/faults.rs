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
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    add(&service, json!({ "path": "**/messages", "count": 1, "fault": { "kind": "expireSession" } })).await;
    let struck = agent.poll(&service, None).send().await.unwrap();
    assert_error(struck, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
    let held = poll.await.unwrap().unwrap();
    assert_error(held, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
}

#[tokio::test]
async fn session_is_kept_though_it_seems_to_have_expired() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    add(&service, json!({ "path": "**/messages", "count": 1, "fault": { "kind": "keepSession" } })).await;
    let struck = agent.poll(&service, None).send().await.unwrap();
    let message = assert_error(struck, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
    assert!(message.contains(&agent.session.to_string()), "{message}");
    let conflict = agent.try_session(&service).await;
    assert_error(conflict, StatusCode::CONFLICT, "TaskAgentSessionConflictException").await;
    let path = format!("sessions/{}", agent.session);
    let deleted = agent.call(&service, Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn session_is_refused_as_if_another_process_held_it() {
    let service = Service::start().await;
    let mut agent = service.register("agent-1").await;
    agent.log_in(&service).await;
    add(&service, json!({ "path": "**/sessions", "count": 1, "fault": { "kind": "refuseSession" } })).await;
    let refused = agent.try_session(&service).await;
    assert_error(refused, StatusCode::CONFLICT, "TaskAgentSessionConflictException").await;
    assert_eq!(service.emulator.statistics().sessions, 0);
    agent.open_session(&service).await;
}

#[tokio::test]
async fn connection_is_dropped_before_or_after_the_request_is_handled() {
    let service = Service::start().await;
    for (kind, handled) in [("dropBefore", false), ("dropAfter", true)] {
        add(&service, json!({ "method": "POST", "path": POOLS, "count": 1, "fault": { "kind": kind } }))
            .await;
        let body = json!({ "name": kind });
        assert!(service.admin(Method::POST, POOLS).json(&body).send().await.is_err(), "{kind}");
        let found = service.get(&format!("{POOLS}?poolName={kind}")).await;
        assert_eq!(found["count"], u64::from(handled), "{kind}");
    }
}

#[tokio::test]
async fn dropped_connection_of_http2_fails_all_its_streams() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let pool = format!("{}/_apis/distributedtask/pools/1", service.emulator.url());
    let poll = http.get(format!("{pool}/messages?sessionId={}", agent.session)).bearer_auth(&agent.token);
    let poll = tokio::spawn(poll.send());
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    add(&service, json!({ "path": "**/agents", "count": 1, "fault": { "kind": "dropBefore" } })).await;
    assert!(http.get(format!("{pool}/agents")).bearer_auth(&agent.token).send().await.is_err());
    assert!(poll.await.unwrap().is_err());
    eventually("the end of the poll", async || service.emulator.statistics().open_polls == 0).await;
}

#[tokio::test]
async fn answer_is_cut_short() {
    let service = Service::start().await;
    add(&service, json!({ "path": POOLS, "count": 1, "fault": { "kind": "truncate", "bytes": 10 } })).await;
    let response = service.admin(Method::GET, POOLS).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn html_is_answered_where_json_should_be() {
    let service = Service::start().await;
    let fault =
        json!({ "kind": "body", "status": 203, "contentType": "text/html", "body": "<html>Sign in</html>" });
    add(&service, json!({ "path": "**", "count": 1, "fault": fault })).await;
    let response = service.admin(Method::GET, POOLS).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NON_AUTHORITATIVE_INFORMATION);
    assert_eq!(response.headers()["content-type"], "text/html");
    assert_eq!(response.text().await.unwrap(), "<html>Sign in</html>");
}

#[tokio::test]
async fn expired_token_is_refused_and_a_new_one_works() {
    let service = Service::start().await;
    let mut agent = service.online("agent-1").await;
    add(&service, json!({ "path": "**/messages", "count": 1, "fault": { "kind": "expireToken" } })).await;
    for _ in 0..2 {
        let refused = agent.poll(&service, None).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "the token stays expired");
    }
    agent.log_in(&service).await;
    service.queue(&[]);
    agent.message(&service, None).await;
}

#[tokio::test]
async fn slow_answer_carries_the_rate_limit_headers() {
    let service = Service::start().await;
    let rules = json!([
        { "path": POOLS, "fault": { "kind": "slow", "delay": 1.5 } },
        { "path": POOLS, "fault": { "kind": "latency", "milliseconds": 5, "jitter": 5 } },
    ]);
    add(&service, rules).await;
    let response = service.admin(Method::GET, POOLS).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-ratelimit-delay"], "1.5");
    assert_eq!(response.headers()["retry-after"], "2");
    assert!(response.headers().contains_key("x-ratelimit-reset"));
}

#[tokio::test]
async fn skewed_clock_refuses_assertions() {
    let service = Service::start().await;
    let agent = service.register("agent-1").await;
    let path = "_apis/oauth2/token";
    add(&service, json!({ "path": path, "count": 1, "fault": { "kind": "clockSkew", "seconds": 3600 } }))
        .await;
    let now = service.clock.now();
    let refused = agent.ask_for_token(&service, &agent.assertion(now)).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let body: Value = refused.json().await.unwrap();
    let text = body["error_description"].as_str().unwrap();
    assert!(text.contains("has expired. Current server time is"), "{text}");
    assert_eq!(agent.ask_for_token(&service, &agent.assertion(now)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn all_sessions_are_lost_on_request() {
    let service = Service::start().await;
    service.online("agent-1").await;
    service.online("agent-2").await;
    let lost = success(service.dayfly(Method::DELETE, "sessions")).await;
    assert_eq!(lost["sessions"], 2);
    assert_eq!(success(service.dayfly(Method::GET, "statistics")).await["sessions"], 0);
}

#[tokio::test]
async fn bad_rules_are_refused_by_the_administration() {
    let service = Service::start().await;
    for rule in [
        json!({ "path": "a[", "fault": { "kind": "dropAfter" } }),
        json!({ "path": "a", "probability": 2, "fault": { "kind": "dropAfter" } }),
        json!({ "path": "a", "fault": { "kind": "status", "status": 1 } }),
    ] {
        let response = service.dayfly(Method::POST, "faults").json(&rule).send().await.unwrap();
        assert_error(response, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    }
    let unknown = json!({ "path": "a", "fault": { "kind": "meteor" } });
    let response = service.dayfly(Method::POST, "faults").json(&unknown).send().await.unwrap();
    assert_error(response, StatusCode::BAD_REQUEST, "VssPropertyValidationException").await;
    let absent = service.dayfly(Method::DELETE, "faults/77").send().await.unwrap();
    assert_error(absent, StatusCode::NOT_FOUND, "DataNotFoundException").await;
}

#[tokio::test]
async fn all_connections_are_cut_on_request() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let poll = tokio::spawn(agent.poll(&service, None).send());
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    let cut = success(service.dayfly(Method::DELETE, "connections")).await;
    assert!(cut["connections"].as_u64().unwrap() >= 1);
    assert!(poll.await.unwrap().is_err());
    eventually("the end of the poll", async || service.emulator.statistics().open_polls == 0).await;
    let poll = tokio::spawn(agent.poll(&service, None).send());
    eventually("the next poll", async || service.emulator.statistics().open_polls == 1).await;
    assert!(service.emulator.cut_connections() >= 1);
    assert!(poll.await.unwrap().is_err());
}
