//! Sessions and messages.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::service::{Service, assert_error, eventually, success};

#[tokio::test]
async fn second_session_of_an_agent_is_a_conflict_until_the_first_ends() {
    let service = Service::start().await;
    let mut agent = service.online("agent-1").await;
    let conflict = agent.try_session(&service).await;
    let message = assert_error(conflict, StatusCode::CONFLICT, "TaskAgentSessionConflictException").await;
    assert!(message.contains("test"), "the message names the owner: {message}");
    let path = format!("sessions/{}", agent.session);
    assert_eq!(
        agent.call(&service, Method::DELETE, &path).send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    let gone = agent.call(&service, Method::DELETE, &path).send().await.unwrap();
    assert_error(gone, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
    agent.open_session(&service).await;
}

#[tokio::test]
async fn session_without_polls_expires_and_its_job_goes_to_another_agent() {
    let service = Service::start().await;
    let lost = service.online("lost").await;
    let job = service.queue(&[]);
    let message = lost.message(&service, None).await;
    assert_eq!(message.body["jobId"], json!(job.job));
    let other = service.online("other").await;
    service.clock.advance(Duration::from_secs(299));
    let poll = tokio::spawn(other.poll(&service, None).send());
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    service.clock.advance(Duration::from_secs(1));
    let response = poll.await.unwrap().unwrap();
    let taken = other.open(&response.bytes().await.unwrap());
    assert_eq!(taken.body["jobId"], json!(job.job));
    assert_eq!(service.emulator.statistics().sessions, 1);
    let expired = lost.poll(&service, None).send().await.unwrap();
    assert_error(expired, StatusCode::FORBIDDEN, "TaskAgentSessionExpiredException").await;
    let refused = lost.renew(&service, job.request).await;
    assert_error(refused, StatusCode::NOT_FOUND, "TaskAgentJobNotFoundException").await;
}

#[tokio::test]
async fn open_poll_keeps_a_session_alive() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let poll = tokio::spawn(agent.poll(&service, None).send());
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    service.clock.advance(Duration::from_secs(200));
    let job = service.queue(&[]);
    let response = poll.await.unwrap().unwrap();
    assert_eq!(agent.open(&response.bytes().await.unwrap()).body["jobId"], json!(job.job));
    service.clock.advance(Duration::from_secs(200));
    assert_eq!(agent.message(&service, None).await.body["jobId"], json!(job.job));
}

#[tokio::test]
async fn empty_poll_is_held_and_then_accepted_without_a_body() {
    let service = Service::start_with(|settings| settings.poll_hold = Duration::from_millis(50)).await;
    let agent = service.online("agent-1").await;
    let response = agent.poll(&service, None).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert!(response.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn message_comes_to_every_poll_until_it_is_deleted() {
    let service = Service::start_with(|settings| settings.poll_hold = Duration::from_millis(50)).await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    let first = agent.message(&service, None).await;
    let again = agent.message(&service, None).await;
    assert_eq!((first.id, &first.body), (again.id, &again.body));
    assert!(service.request(job.request).await.get("receiveTime").is_none(), "fetching is not receiving");
    let seen = agent.poll(&service, Some(first.id)).send().await.unwrap();
    assert_eq!(seen.status(), StatusCode::ACCEPTED, "nothing is after the last message");
    assert_eq!(agent.delete_message(&service, first.id).await, StatusCode::NO_CONTENT);
    assert!(service.request(job.request).await["receiveTime"].is_string(), "deleting is receiving");
    assert_eq!(agent.poll(&service, None).send().await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(
        agent.delete_message(&service, first.id).await,
        StatusCode::NO_CONTENT,
        "deleting twice is fine"
    );
}

#[tokio::test]
async fn both_polls_of_a_session_get_the_message() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let message_loop = tokio::spawn(agent.poll(&service, Some(0)).send());
    let keep_alive = tokio::spawn(agent.poll(&service, None).send());
    eventually("both polls", async || service.emulator.statistics().open_polls == 2).await;
    let job = service.queue(&[]);
    for poll in [message_loop, keep_alive] {
        let response = poll.await.unwrap().unwrap();
        assert_eq!(agent.open(&response.bytes().await.unwrap()).body["jobId"], json!(job.job));
    }
}

#[tokio::test]
async fn message_numbers_grow_over_the_sessions_of_an_agent() {
    let service = Service::start().await;
    let mut agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    let first = agent.message(&service, None).await;
    assert_eq!(service.emulator.lose_sessions(), 1);
    agent.open_session(&service).await;
    let second = agent.message(&service, Some(first.id)).await;
    assert!(second.id > first.id, "else an agent which saw the first would never get the second");
    assert_eq!(second.body["jobId"], json!(job.job));
}

#[tokio::test]
async fn bodies_are_plain_when_encryption_is_off() {
    let service = Service::start_with(|settings| settings.encrypt_messages = false).await;
    let agent = service.online("agent-1").await;
    assert!(agent.session_key.is_none());
    let job = service.queue(&[]);
    let message = agent.message(&service, None).await;
    assert!(!message.is_encrypted);
    assert_eq!(message.body["jobId"], json!(job.job));
}

#[tokio::test]
async fn each_session_has_its_own_key() {
    let service = Service::start().await;
    let mut agent = service.online("agent-1").await;
    service.queue(&[]);
    let former_key = agent.session_key.clone();
    service.emulator.lose_sessions();
    agent.open_session(&service).await;
    assert!(agent.session_key.is_some() && agent.session_key != former_key);
    agent.message(&service, None).await;
}

#[tokio::test]
async fn opening_a_session_replaces_the_capabilities() {
    let service = Service::start().await;
    let mut agent = service.register_with("agent-1", json!({ "registered": "1" })).await;
    agent.log_in(&service).await;
    let body = json!({
        "ownerName": "test", "agent": { "id": agent.id, "name": "agent-1", "version": "4.300.0" },
        "systemCapabilities": { "brought": "2" },
    });
    success(agent.call(&service, Method::POST, "sessions").json(&body)).await;
    let path = format!("_apis/distributedtask/pools/1/agents/{}?includeCapabilities=true", agent.id);
    let shown = service.get(&path).await;
    assert_eq!(shown["systemCapabilities"], json!({ "brought": "2" }));
    assert_eq!((&shown["version"], &shown["status"]), (&json!("4.300.0"), &json!("online")));
}

#[tokio::test]
async fn refresh_is_sent_to_one_agent_or_to_all() {
    let service = Service::start().await;
    let (one, two) = (service.online("one").await, service.online("two").await);
    let path = format!("_apis/distributedtask/pools/1/messages?agentId={}", one.id);
    assert!(
        service
            .admin(Method::POST, &path)
            .header("content-length", "0")
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let message = one.message(&service, None).await;
    assert_eq!((message.kind.as_str(), &message.body["agentId"]), ("AgentRefresh", &json!(one.id)));
    let all = service.admin(Method::POST, "_apis/distributedtask/pools/1/messages");
    assert!(all.json(&json!({ "targetVersion": "9.9.9" })).send().await.unwrap().status().is_success());
    assert_eq!(two.message(&service, None).await.body["targetVersion"], "9.9.9");
}

#[tokio::test]
async fn bad_polls_are_refused() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let no_session = agent.call(&service, Method::GET, "messages").send().await.unwrap();
    assert_error(no_session, StatusCode::BAD_REQUEST, "ArgumentNullException").await;
    let no_guid = agent.call(&service, Method::GET, "messages?sessionId=x").send().await.unwrap();
    assert_error(no_guid, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
}

#[tokio::test]
async fn stopping_answers_held_polls() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let poll = tokio::spawn(agent.poll(&service, None).send());
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    let Service { emulator, .. } = service;
    tokio::time::timeout(crate::service::SOON, emulator.stop())
        .await
        .expect("stopping does not wait for polls");
    assert_eq!(poll.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
}
