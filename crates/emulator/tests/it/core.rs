//! A job's way through the service.

use dayfly_protocol::TaskResult;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::service::{Service, assert_error, success};

#[tokio::test]
async fn job_goes_from_the_queue_through_an_agent_to_its_result() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    let message = agent.take_job(&service).await;
    assert_eq!(message.kind, "PipelineAgentJobRequest");
    assert!(message.is_encrypted);
    assert_eq!(message.body["jobId"], json!(job.job));
    assert_eq!(message.body["requestId"], json!(job.request));
    let running = service.request(job.request).await;
    assert_eq!(running["reservedAgent"]["name"], "agent-1");
    assert!(running["receiveTime"].is_string() && running["lockedUntil"].is_string());
    assert!(running.get("result").is_none());

    assert!(job.complete(&service, "succeededWithIssues").await.status().is_success());
    let finished = service.request(job.request).await;
    assert_eq!(finished["result"], "succeededWithIssues");
    assert!(finished["finishTime"].is_string());
    let timeline = success(service.bearer(
        &job.token,
        Method::GET,
        &job.path(&format!("timelines/{}?includeRecords=true", job.timeline)),
    ))
    .await;
    assert_eq!(timeline["records"][0]["result"], "succeededWithIssues");
    assert_eq!(timeline["records"][0]["state"], "completed");

    let second = job.complete(&service, "failed").await;
    assert_error(second, StatusCode::CONFLICT, "TaskOrchestrationPlanTerminatedException").await;
    assert_eq!(service.emulator.statistics().refused_completions, 1);
    assert_eq!(service.request(job.request).await["result"], "succeededWithIssues");
    assert_eq!(TaskResult::from_name("succeededWithIssues"), Some(TaskResult::SucceededWithIssues));
    service.emulator.stop().await;
}
