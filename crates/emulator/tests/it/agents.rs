//! Pools and agents.

use std::sync::Arc;

use dayfly_protocol::crypto::AgentKey;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::service::{Agent, Service, assert_error, eventually, registration, shared_key, success};

const AGENTS: &str = "_apis/distributedtask/pools/1/agents";

#[tokio::test]
async fn pools_are_found_by_name_and_number() {
    let service = Service::start_with(|settings| settings.pools.push("Linux".to_owned())).await;
    let pools = "_apis/distributedtask/pools";
    assert_eq!(service.get(pools).await["count"], 2);
    let found = service
        .get(&format!("{pools}?poolName=linux&properties=&poolType=automation&actionFilter=use"))
        .await;
    assert_eq!(found["value"][0]["id"], 2);
    assert_eq!(service.get(&format!("{pools}?poolIds=2,7")).await["count"], 1);
    assert_eq!(service.get(&format!("{pools}?poolName=none")).await["count"], 0);
    assert_eq!(service.get(&format!("{pools}?poolType=deployment")).await["count"], 0);
    assert_eq!(service.get(&format!("{pools}/2")).await["name"], "Linux");
    let unknown = service.admin(Method::GET, &format!("{pools}/9")).send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "TaskAgentPoolNotFoundException").await;
}

#[tokio::test]
async fn pools_are_made_changed_and_deleted() {
    let service = Service::start().await;
    let pools = "_apis/distributedtask/pools";
    let made =
        success(service.admin(Method::POST, pools).json(&json!({ "name": "Extra", "autoUpdate": false })))
            .await;
    assert_eq!((&made["id"], &made["autoUpdate"]), (&json!(2), &json!(false)));
    let clash = service.admin(Method::POST, pools).json(&json!({ "name": "EXTRA" })).send().await.unwrap();
    assert_error(clash, StatusCode::CONFLICT, "TaskAgentPoolExistsException").await;
    let empty = service.admin(Method::POST, pools).json(&json!({})).send().await.unwrap();
    assert_error(empty, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    let path = format!("{pools}/2");
    let renamed = success(service.admin(Method::PATCH, &path).json(&json!({ "name": "More" }))).await;
    assert_eq!((&renamed["name"], &renamed["autoUpdate"]), (&json!("More"), &json!(false)));
    assert_eq!(service.admin(Method::DELETE, &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    service.register("agent-1").await;
    let used = service.admin(Method::DELETE, &format!("{pools}/1")).send().await.unwrap();
    assert_error(used, StatusCode::CONFLICT, "DeploymentPoolInUseException").await;
}

#[tokio::test]
async fn registration_gives_a_client_and_where_to_log_in() {
    let service = Service::start().await;
    let key = shared_key();
    let body = registration("agent-1", &key, json!({ "Agent.OS": "Linux" }));
    let answer = success(service.admin(Method::POST, AGENTS).json(&body)).await;
    assert!(answer["id"].as_i64().unwrap() > 0);
    assert_eq!(answer["authorization"]["publicKey"], body["authorization"]["publicKey"]);
    assert!(answer["authorization"]["clientId"].is_string());
    let url = answer["authorization"]["authorizationUrl"].as_str().unwrap();
    assert!(url.starts_with(service.emulator.url().as_str()), "{url} is absolute");
    assert_eq!(answer["status"], "offline");
    assert_eq!(answer["enabled"], true);
    assert_eq!(answer["systemCapabilities"]["Agent.OS"], "Linux");
}

#[tokio::test]
async fn name_is_unique_without_regard_to_case() {
    let service = Service::start().await;
    service.register("Agent-1").await;
    let key = shared_key();
    let clash = service.admin(Method::POST, AGENTS).json(&registration("agent-1", &key, json!({})));
    assert_error(clash.send().await.unwrap(), StatusCode::CONFLICT, "TaskAgentExistsException").await;
    let other = service.register("agent-2").await;
    let rename =
        service.admin(Method::PATCH, &format!("{AGENTS}/{}", other.id)).json(&json!({ "name": "AGENT-1" }));
    assert_error(rename.send().await.unwrap(), StatusCode::CONFLICT, "TaskAgentExistsException").await;
}

#[tokio::test]
async fn bad_registrations_are_refused() {
    let service = Service::start().await;
    let key = shared_key();
    let good = registration("agent-1", &key, json!({}));
    let mut short_key = good.clone();
    short_key["authorization"]["publicKey"]["modulus"] = json!("AQAB");
    let mut bad_name = good.clone();
    bad_name["name"] = json!("a/b");
    for body in [short_key, bad_name] {
        let response = service.admin(Method::POST, AGENTS).json(&body).send().await.unwrap();
        assert_error(response, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    }
    let response = service.admin(Method::POST, AGENTS).body("{\"name\":").send().await.unwrap();
    assert_error(response, StatusCode::BAD_REQUEST, "VssPropertyValidationException").await;
}

/// Scalers register agents that stand for those they would start: capabilities, and no key.
#[tokio::test]
async fn an_agent_without_a_key_is_a_template_that_holds_no_session() {
    let service = Service::start().await;
    let body = json!({ "name": "template", "version": "3.0.0", "systemCapabilities": { "java": "21" } });
    let answer = success(service.admin(Method::POST, AGENTS).json(&body)).await;
    assert_eq!((&answer["status"], &answer["name"]), (&json!("offline"), &json!("template")));
    assert_eq!(answer["authorization"].get("publicKey"), None, "{answer}");
    let again = service.admin(Method::POST, AGENTS).json(&body).send().await.unwrap();
    assert_error(again, StatusCode::CONFLICT, "TaskAgentExistsException").await;

    let session = json!({ "ownerName": "me", "agent": { "id": answer["id"], "name": "template" } });
    let sessions = "_apis/distributedtask/pools/1/sessions";
    let refused = service.admin(Method::POST, sessions).json(&session).send().await.unwrap();
    let message = assert_error(refused, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    assert!(message.contains("without a public key"), "{message}");

    // A job which it could run waits for an agent like it; another one fails as it always did.
    service.try_queue(&["java"]).unwrap();
    assert!(service.try_queue(&["ruby"]).is_err());
    // With a key it becomes an agent like any other, under its number.
    let key = shared_key();
    let mut body = registration("template", &key, json!({ "java": "21" }));
    body["id"] = answer["id"].clone();
    let path = format!("{AGENTS}/{}", answer["id"]);
    let replaced = success(service.admin(Method::PUT, &path).json(&body)).await;
    let mut agent = Agent::from_registration(&replaced, key, json!({ "java": "21" }));
    agent.log_in(&service).await;
    agent.open_session(&service).await;
    assert_eq!(service.get(&path).await["status"], "online");
}

#[tokio::test]
async fn lists_are_filtered_and_show_what_is_asked_for() {
    let service = Service::start().await;
    service.register_with("linux", json!({ "Agent.OS": "Linux", "java": "/usr/bin/java" })).await;
    service.register_with("mac", json!({ "Agent.OS": "Darwin" })).await;
    let names = async |query: &str| {
        let list = service.get(&format!("{AGENTS}?{query}")).await;
        let names =
            list["value"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["linux", "mac"]);
    assert_eq!(names("agentName=MAC").await, ["mac"]);
    assert_eq!(names("agentName=none").await, [""; 0]);
    assert_eq!(names("demands=java").await, ["linux"]);
    assert_eq!(names("demands=Agent.OS%20-equals%20darwin").await, ["mac"]);
    let plain = service.get(&format!("{AGENTS}?includeCapabilities=false")).await;
    assert!(plain["value"][0].get("systemCapabilities").is_none());
    let full = service.get(&format!("{AGENTS}?includeCapabilities=true")).await;
    assert_eq!(full["value"][1]["systemCapabilities"]["Agent.OS"], "Darwin");
}

#[tokio::test]
async fn agent_shows_its_requests_when_asked() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let path = format!("{AGENTS}/{}?includeAssignedRequest=true&includeLastCompletedRequest=true", agent.id);
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    let busy = service.get(&path).await;
    assert_eq!(busy["assignedRequest"]["requestId"], json!(job.request));
    assert_eq!(busy["status"], "online");
    job.complete(&service, "failed").await;
    let idle = service.get(&path).await;
    assert!(idle.get("assignedRequest").is_none());
    assert_eq!(idle["lastCompletedRequest"]["result"], "failed");
}

#[tokio::test]
async fn replacing_keeps_number_and_user_capabilities_and_changes_the_key() {
    let service = Service::start().await;
    let former = service.online("agent-1").await;
    let path = format!("{AGENTS}/{}", former.id);
    let capabilities =
        service.admin(Method::PUT, &format!("{path}/userCapabilities")).json(&json!({ "rack": "7" }));
    assert_eq!(success(capabilities).await["userCapabilities"]["rack"], "7");

    let key = AgentKey::generate().unwrap();
    let body = registration("agent-1", &key, json!({ "new": "1" }));
    let answer = success(service.admin(Method::PUT, &path).json(&body)).await;
    assert_eq!(answer["id"], former.id);
    assert_eq!(answer["userCapabilities"]["rack"], "7");
    assert_eq!(answer["systemCapabilities"], json!({ "new": "1" }));
    assert_eq!(service.emulator.statistics().sessions, 0, "the session of the former one ended");

    let poll = former.poll(&service, None).send().await.unwrap();
    assert_eq!(poll.status(), StatusCode::UNAUTHORIZED, "its token ended");
    let refused = former.ask_for_token(&service, &former.assertion(service.clock.now())).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "its key is no longer good");
    let mut agent = Agent::from_registration(&answer, Arc::new(key), json!({}));
    agent.log_in(&service).await;
    agent.open_session(&service).await;
}

#[tokio::test]
async fn patch_changes_only_what_it_names() {
    let service = Service::start().await;
    let agent = service.register_with("agent-1", json!({ "a": "1" })).await;
    let path = format!("{AGENTS}/{}", agent.id);
    let body = json!({ "id": agent.id, "enabled": false });
    let answer = success(service.admin(Method::PATCH, &path).json(&body)).await;
    assert_eq!(answer["enabled"], false);
    assert_eq!(answer["name"], "agent-1");
    assert_eq!(answer["version"], "4.250.1");
    assert_eq!(answer["systemCapabilities"], json!({ "a": "1" }));
}

#[tokio::test]
async fn deleting_ends_the_session_and_is_told_to_the_agent() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let path = format!("{AGENTS}/{}", agent.id);
    let held = tokio::spawn(agent.poll(&service, None).send());
    eventually("the poll", async || service.emulator.statistics().open_polls == 1).await;
    assert_eq!(service.admin(Method::DELETE, &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let held = held.await.unwrap().unwrap();
    assert!(held.status().is_client_error(), "the held poll ends");
    let poll = agent.poll(&service, None).send().await.unwrap();
    assert_error(poll, StatusCode::NOT_FOUND, "TaskAgentNotFoundException").await;
    let session = agent.try_session(&service).await;
    assert_error(session, StatusCode::NOT_FOUND, "TaskAgentNotFoundException").await;
    let token = agent.ask_for_token(&service, &agent.assertion(service.clock.now())).await;
    assert_eq!(token.status(), StatusCode::BAD_REQUEST);
    let gone = service.admin(Method::DELETE, &path).send().await.unwrap();
    assert_error(gone, StatusCode::NOT_FOUND, "TaskAgentNotFoundException").await;
}

#[tokio::test]
async fn running_job_forbids_deleting_and_a_waiting_message_does_not() {
    let service = Service::start().await;
    let busy = service.online("busy").await;
    let job = service.queue(&[]);
    busy.take_job(&service).await;
    let path = format!("{AGENTS}/{}", busy.id);
    let refused = service.admin(Method::DELETE, &path).send().await.unwrap();
    assert_error(refused, StatusCode::CONFLICT, "TaskAgentJobStillRunningException").await;
    job.complete(&service, "succeeded").await;
    assert_eq!(service.admin(Method::DELETE, &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);

    let first = service.online("first").await;
    let waiting = service.queue(&[]);
    assert_eq!(service.request(waiting.request).await["reservedAgent"]["name"], "first");
    let second = service.online("second").await;
    let path = format!("{AGENTS}/{}", first.id);
    assert_eq!(service.admin(Method::DELETE, &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(second.take_job(&service).await.body["jobId"], json!(waiting.job));
}

#[tokio::test]
async fn what_an_agent_says_of_itself_is_bounded() {
    let service = Service::start().await;
    let mut agent = service.register("agent-1").await;
    agent.log_in(&service).await;
    let long = "x".repeat(2_049);
    let registration = registration("agent-2", &agent.key, json!({}));
    for name in ["version", "osDescription", "provisioningState"] {
        let mut registration = registration.clone();
        registration[name] = json!(long);
        let post = service.admin(Method::POST, "_apis/distributedtask/pools/1/agents").json(&registration);
        assert_error(post.send().await.unwrap(), StatusCode::BAD_REQUEST, "InvalidArgumentValueException")
            .await;
    }
    for (owner, version) in [(long.as_str(), "4.1.0"), ("me", long.as_str())] {
        let session = json!({ "ownerName": owner, "agent": { "id": agent.id, "version": version } });
        let post = agent.call(&service, Method::POST, "sessions").json(&session).send().await.unwrap();
        assert_error(post, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    }
}
