//! The token endpoint.

use std::time::Duration;

use dayfly_protocol::crypto::{AgentKey, Claims};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::service::{Agent, Service};

/// Checks that no token was given, and returns the description.
async fn refused(response: Response) -> String {
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.headers().contains_key("content-length"), "clients read no error without it");
    let body: Value = response.json().await.unwrap();
    assert!(body["error"].is_string());
    body["error_description"].as_str().unwrap().to_owned()
}

async fn ask(service: &Service, agent: &Agent, claims: &Claims) -> Response {
    let token = claims.sign(&agent.key).unwrap();
    agent.ask_for_token(service, token.expose_secret()).await
}

fn claims(agent: &Agent, now: Timestamp) -> Claims {
    Claims::new(agent.client_id, agent.authorization_url.clone(), now)
}

#[tokio::test]
async fn good_assertion_gives_a_token_that_works_until_it_expires() {
    let service = Service::start().await;
    let mut agent = service.register("agent-1").await;
    let response = ask(&service, &agent, &claims(&agent, service.clock.now())).await;
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["expires_in"], 3000);
    agent.token = answer["access_token"].as_str().unwrap().to_owned();
    let data = async || {
        let request = service.bearer(&agent.token, Method::GET, "_apis/connectionData");
        request.send().await.unwrap().status()
    };
    assert_eq!(data().await, StatusCode::OK);
    service.clock.advance(Duration::from_secs(3000));
    assert_eq!(data().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn assertion_is_good_once() {
    let service = Service::start().await;
    let agent = service.register("agent-1").await;
    let assertion = agent.assertion(service.clock.now());
    assert_eq!(agent.ask_for_token(&service, &assertion).await.status(), StatusCode::OK);
    let text = refused(agent.ask_for_token(&service, &assertion).await).await;
    assert!(text.contains("used before"), "{text}");
}

#[tokio::test]
async fn clock_that_is_off_is_told_with_the_time_of_the_server() {
    let service = Service::start().await;
    let agent = service.register("agent-1").await;
    let now = service.clock.now();
    for (off, expected) in [(-601, "has expired"), (301, "is not yet valid")] {
        let then = now.checked_add(SignedDuration::from_secs(off)).unwrap();
        let text = refused(ask(&service, &agent, &claims(&agent, then)).await).await;
        assert!(text.contains(expected) && text.contains("Current server time is"), "{text}");
    }
    for off in [-599, 299] {
        let then = now.checked_add(SignedDuration::from_secs(off)).unwrap();
        assert_eq!(ask(&service, &agent, &claims(&agent, then)).await.status(), StatusCode::OK, "{off} s");
    }
}

#[tokio::test]
async fn wrong_key_audience_subject_and_form_are_refused() {
    let service = Service::start().await;
    let agent = service.register("agent-1").await;
    let now = service.clock.now();
    let forged = claims(&agent, now).sign(&AgentKey::generate().unwrap()).unwrap();
    refused(agent.ask_for_token(&service, forged.expose_secret()).await).await;

    let audience = Claims { audience: "https://elsewhere.example/token".to_owned(), ..claims(&agent, now) };
    let text = refused(ask(&service, &agent, &audience).await).await;
    assert!(text.contains("elsewhere"), "{text}");
    let issuer = Claims { issuer: "somebody".to_owned(), ..claims(&agent, now) };
    refused(ask(&service, &agent, &issuer).await).await;
    let unknown = Claims::new(uuid::Uuid::new_v4(), agent.authorization_url.clone(), now);
    let text = refused(ask(&service, &agent, &unknown).await).await;
    assert!(text.contains("not registered"), "{text}");

    refused(agent.ask_for_token(&service, "no token").await).await;
    let form = [("grant_type", "password")];
    refused(service.http.post(&agent.authorization_url).form(&form).send().await.unwrap()).await;
}

#[tokio::test]
async fn public_url_is_what_agents_are_told() {
    let service = Service::start_with(|settings| {
        settings.public_url = Some("https://devops.example:8443/ignored".parse().unwrap());
    })
    .await;
    assert_eq!(service.emulator.url().as_str(), "https://devops.example:8443/dayfly");
    service.emulator.stop().await;
}
