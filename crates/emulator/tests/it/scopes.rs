//! Each kind of token can do what it should, and nothing else.

use dayfly_emulator::{AccessToken, Scope};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::service::{Service, assert_error};

/// Which of a list of calls a token may make: `y`, or `-` when it is denied.
async fn allowed(service: &Service, token: &str, calls: &[(Method, String)]) -> String {
    let mut letters = String::new();
    for (method, path) in calls {
        let request = service.bearer(token, method.clone(), path).json(&json!({}));
        let response = request.send().await.unwrap();
        letters.push(match response.status() {
            StatusCode::FORBIDDEN => {
                let body: serde_json::Value = response.json().await.unwrap();
                // A typed error of the thing itself is no denial.
                if body["typeKey"] == "AccessDeniedException" { '-' } else { 'y' }
            }
            StatusCode::UNAUTHORIZED => panic!("{path}: the token should be known"),
            _ => 'y',
        });
    }
    letters
}

#[tokio::test]
async fn tokens_are_limited_to_their_purpose() {
    let service = Service::start_with(|settings| {
        for (token, scopes) in [
            ("pools-read", vec![Scope::AgentPoolsRead]),
            ("pools-manage", vec![Scope::AgentPoolsManage]),
            ("build-read", vec![Scope::BuildRead]),
            ("nothing", vec![]),
        ] {
            settings.tokens.push(AccessToken { token: token.into(), scopes });
        }
    })
    .await;
    let agent = service.online("agent-1").await;
    let other = service.online("agent-2").await;
    let own = service.queue(&[]);
    let foreign = service.queue(&[]);
    let pool = "_apis/distributedtask/pools/1";
    let calls: Vec<(Method, String)> = [
        (Method::GET, pool.to_owned()),
        (Method::GET, format!("{pool}/agents")),
        (Method::POST, format!("{pool}/agents")),
        (Method::PATCH, format!("{pool}/agents/{}", other.id)),
        (Method::GET, format!("{pool}/jobrequests")),
        (Method::DELETE, format!("{pool}/messages/99?sessionId={}", agent.session)),
        (Method::DELETE, format!("{pool}/messages/99?sessionId={}", other.session)),
        (Method::GET, "dayfly/_apis/distributedtask/queues".to_owned()),
        (Method::GET, own.path("timelines")),
        (Method::POST, own.path("timelines")),
        (Method::POST, own.path("logs")),
        (Method::POST, foreign.path("logs")),
        (Method::GET, "_apis/projects/dayfly".to_owned()),
    ]
    .into();
    for (token, expected) in [
        (crate::service::PAT, "yyyyyyyyyyyyy"),
        ("pools-read", "yy--y--y-----"),
        ("pools-manage", "yyyyyyyy-----"),
        ("build-read", "-------yy---y"),
        ("nothing", "-------------"),
        (agent.token.as_str(), "yy--yy-------"),
        (own.token.as_str(), "--------yyy-y"),
    ] {
        assert_eq!(allowed(&service, token, &calls).await, expected, "{token}");
    }
}

#[tokio::test]
async fn job_may_end_only_itself() {
    let service = Service::start().await;
    service.online("agent-1").await;
    let (own, foreign) = (service.queue(&[]), service.queue(&[]));
    let event = json!({ "name": "JobCompleted", "jobId": foreign.job, "result": "succeeded" });
    let request = service.bearer(&own.token, Method::POST, &foreign.path("events"));
    let response = request.json(&event).send().await.unwrap();
    assert_error(response, StatusCode::FORBIDDEN, "AccessDeniedException").await;
    assert!(service.request(foreign.request).await.get("result").is_none());
}

#[tokio::test]
async fn agents_of_another_pool_see_nothing_here() {
    let service = Service::start_with(|settings| settings.pools.push("Other".to_owned())).await;
    let agent = service.online("agent-1").await;
    let listed = service.bearer(&agent.token, Method::GET, "_apis/distributedtask/pools");
    assert_eq!(crate::service::success(listed).await["count"], 1);
    for path in ["", "/agents", "/jobrequests"] {
        let path = format!("_apis/distributedtask/pools/2{path}");
        let response = service.bearer(&agent.token, Method::GET, &path).send().await.unwrap();
        assert_error(response, StatusCode::FORBIDDEN, "AccessDeniedException").await;
    }
}

#[tokio::test]
async fn administration_is_for_people_with_all_rights() {
    let service = Service::start_with(|settings| {
        let token = AccessToken { token: "manage".into(), scopes: vec![Scope::AgentPoolsManage] };
        settings.tokens.push(token);
    })
    .await;
    let agent = service.online("agent-1").await;
    let mut url = service.emulator.url().clone();
    url.set_path("_dayfly/faults");
    for token in ["manage", &agent.token] {
        let response = service.http.get(url.clone()).bearer_auth(token).send().await.unwrap();
        assert_error(response, StatusCode::FORBIDDEN, "AccessDeniedException").await;
    }
    let anonymous = service.http.get(url).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
}
