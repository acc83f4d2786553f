//! The calls of KEDA's scaler, letter by letter (`pkg/scalers/azure_pipelines_scaler.go`), and its reading of
//! the answers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{PAT, Service};

/// `getAzurePipelineRequest`: basic authentication without a user name.
async fn keda_get(service: &Service, path: &str) -> Value {
    let request = service.anonymous(Method::GET, path).basic_auth("", Some(PAT));
    let response = request.send().await.unwrap();
    assert!(response.status().is_success());
    response.json().await.unwrap()
}

/// `stripDeadJobs`: jobs without a result which no agent has received.
fn waiting(answer: &Value) -> Vec<&Value> {
    let is_zero = |time: &Value| time.is_null() || time == "0001-01-01T00:00:00Z";
    answer["value"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|job| job["result"].is_null() && is_zero(&job["receiveTime"]))
        .collect()
}

#[tokio::test]
async fn scaler_finds_the_pool() {
    let service = Service::start().await;
    let by_name = keda_get(&service, "_apis/distributedtask/pools?poolName=Default").await;
    assert_eq!(by_name["value"].as_array().unwrap().len(), 1);
    assert_eq!(by_name["value"][0]["id"], 1);
    let by_id = keda_get(&service, "_apis/distributedtask/pools?poolID=1").await;
    assert!(by_id["value"].is_array());
}

#[tokio::test]
async fn scaler_counts_jobs_that_wait() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let running = service.queue(&[]);
    agent.take_job(&service).await;
    service.register_with("template", json!({ "java": "1" })).await;
    let java = service.queue(&["java", "Agent.Version -gtVersion 4.1.0"]);
    let plain = service.queue(&[]);
    let cancelled = service.queue(&[]);
    service.emulator.cancel_job(cancelled.plan, cancelled.job, std::time::Duration::ZERO).unwrap();
    for query in ["?completedRequestCount=0", "", "?$top=250"] {
        let answer = keda_get(&service, &format!("_apis/distributedtask/pools/1/jobrequests{query}")).await;
        assert_eq!(answer["count"], answer["value"].as_array().unwrap().len());
        let ids: Vec<_> = waiting(&answer).iter().map(|job| &job["requestId"]).cloned().collect();
        assert_eq!(ids, [json!(java.request), json!(plain.request)], "{query}");
        let has_finished = answer["value"].as_array().unwrap().iter().any(|job| !job["result"].is_null());
        assert_eq!(has_finished, query != "?completedRequestCount=0", "{query}");
        let job = waiting(&answer)[0];
        // `getCanAgentDemandFulfilJob` leaves the version out.
        assert_eq!(job["demands"], json!(["java", "Agent.Version -gtVersion 4.1.0"]));
        // `getCanAgentParentFulfilJob` looks for the template among the agents that match.
        assert_eq!(job["matchedAgents"].as_array().unwrap().len(), 1);
        assert_eq!(job["matchedAgents"][0]["name"], "template");
        assert_eq!(job["poolId"], 1);
        assert_eq!(job["data"]["ParallelismTag"], "Private");
        // Go's decoder wants RFC 3339 times, and numbers where it has numbers.
        assert!(job["queueTime"].as_str().unwrap().ends_with('Z'));
        assert!(job["requestId"].is_i64());
    }
    running.complete(&service, "succeeded").await;
}

#[tokio::test]
async fn list_is_given_in_parts() {
    let service = Service::start().await;
    service.register("offline").await;
    let jobs: Vec<_> = (0..5).map(|_| service.queue(&[]).request).collect();
    let mut token = None;
    let mut seen = Vec::new();
    loop {
        let more = token.map(|token: String| format!("&continuationToken={token}")).unwrap_or_default();
        let path = format!("_apis/distributedtask/pools/1/jobrequests?$top=2{more}");
        let response = service.admin(Method::GET, &path).send().await.unwrap();
        token =
            response.headers().get("x-ms-continuationtoken").map(|value| value.to_str().unwrap().to_owned());
        let answer: Value = response.json().await.unwrap();
        seen.extend(answer["value"].as_array().unwrap().iter().map(|job| job["requestId"].clone()));
        if token.is_none() {
            break;
        }
    }
    assert_eq!(json!(seen), json!(jobs));
}

#[tokio::test]
async fn list_is_filtered_by_agent_plan_and_job() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let (one, two) = (service.queue(&[]), service.queue(&[]));
    let ids = async |query: String| {
        let answer = service.get(&format!("_apis/distributedtask/pools/1/jobrequests?{query}")).await;
        answer["value"].as_array().unwrap().iter().map(|job| job["requestId"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(format!("agentId={}", agent.id)).await, [json!(one.request)]);
    assert_eq!(ids(format!("agentIds={},77", agent.id)).await, [json!(one.request)]);
    assert_eq!(ids(format!("planId={}&jobId={}", two.plan, two.job)).await, [json!(two.request)]);
    assert!(ids("agentId=77".to_owned()).await.is_empty());
}

#[tokio::test]
async fn long_lists_of_matching_agents_are_replaced_by_a_flag() {
    let service = Service::start().await;
    for number in 0..101 {
        service.register(&format!("agent-{number}")).await;
    }
    let job = service.queue(&[]);
    let shown = service.request(job.request).await;
    assert_eq!(shown["matchesAllAgentsInPool"], true);
    assert!(shown.get("matchedAgents").is_none());
}
