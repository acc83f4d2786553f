//! The life of a job request: assignment, lock, cancellation, timeout, result.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use dayfly_emulator::StateError;
use dayfly_emulator::{CompletionReason, Event, JobChange};
use dayfly_protocol::TaskResult;
use dayfly_protocol::timeline::VariableValue;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::service::{Service, assert_error, eventually, success};

/// The issues of a job's record.
async fn issues(service: &Service, job: &crate::service::QueuedJob) -> String {
    let timeline = service.get(&job.path(&format!("timelines/{}?includeRecords=true", job.timeline))).await;
    timeline["records"][0]["issues"].to_string()
}

#[tokio::test]
async fn renewing_prolongs_the_lock_and_a_lost_lock_abandons_the_job_once() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    service.clock.advance(Duration::from_secs(599));
    let renewed: Value = agent.renew(&service, job.request).await.json().await.unwrap();
    assert_eq!(renewed["requestId"], json!(job.request));
    let until: jiff::Timestamp = renewed["lockedUntil"].as_str().unwrap().parse().unwrap();
    assert_eq!(until.duration_since(service.clock.now()).as_secs(), 600);

    service.clock.advance(Duration::from_secs(599));
    assert!(service.request(job.request).await.get("result").is_none(), "it was renewed");
    service.clock.advance(Duration::from_secs(1));
    eventually("the end of the lock", async || service.request(job.request).await["result"] == "abandoned")
        .await;
    let text = issues(&service, &job).await;
    assert!(text.contains("We stopped hearing from agent agent-1"), "{text}");

    let late = agent.renew(&service, job.request).await;
    assert_error(late, StatusCode::FORBIDDEN, "TaskAgentJobTokenExpiredException").await;
    let result = job.complete(&service, "succeeded").await;
    assert_error(result, StatusCode::CONFLICT, "TaskOrchestrationPlanTerminatedException").await;
    assert_eq!(service.request(job.request).await["result"], "abandoned");
}

#[tokio::test]
async fn listener_finishes_a_request_by_patch_once() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    let finish = || {
        agent.call(&service, Method::PATCH, &format!("jobrequests/{}?lockToken=0", job.request)).json(
            &json!({ "requestId": job.request, "finishTime": "2026-01-01T00:00:00Z", "result": "failed" }),
        )
    };
    assert_eq!(success(finish()).await["result"], "failed");
    assert_error(finish().send().await.unwrap(), StatusCode::NOT_FOUND, "TaskAgentJobNotFoundException")
        .await;
    let late = job.complete(&service, "succeeded").await;
    assert_error(late, StatusCode::CONFLICT, "TaskOrchestrationPlanTerminatedException").await;
    assert_eq!(service.emulator.statistics().refused_completions, 2);
    assert_eq!(service.request(job.request).await["result"], "failed");
}

#[tokio::test]
async fn request_is_given_up_by_delete() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    let path = format!("jobrequests/{}?lockToken=0&result=canceled", job.request);
    let deleted = agent.call(&service, Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(service.request(job.request).await["result"], "canceled");
    let wrong = agent.call(&service, Method::DELETE, "jobrequests/1?result=fine").send().await.unwrap();
    assert_error(wrong, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
}

#[tokio::test]
async fn only_the_reserved_agent_may_renew() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    let other = service.online("agent-2").await;
    agent.take_job(&service).await;
    let refused = other.renew(&service, job.request).await;
    assert_error(refused, StatusCode::NOT_FOUND, "TaskAgentJobNotFoundException").await;
    let unknown = agent.renew(&service, dayfly_protocol::RequestId(job.request.0 + 1)).await;
    assert_error(unknown, StatusCode::NOT_FOUND, "TaskAgentJobNotFoundException").await;
}

#[tokio::test]
async fn queued_job_is_cancelled_at_once_and_a_running_one_is_told() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let running = service.queue(&[]);
    agent.take_job(&service).await;
    let waiting = service.queue(&[]);
    let five_minutes = Duration::from_secs(300);
    service.emulator.cancel_job(waiting.plan, waiting.job, five_minutes).unwrap();
    assert_eq!(service.request(waiting.request).await["result"], "canceled");

    service.emulator.cancel_job(running.plan, running.job, five_minutes).unwrap();
    let message = agent.message(&service, None).await;
    assert_eq!(message.kind, "JobCancellation");
    assert_eq!(message.body, json!({ "jobId": running.job, "timeout": "00:05:00" }));
    running.complete(&service, "canceled").await;
    let again = service.emulator.cancel_job(running.plan, running.job, five_minutes);
    assert!(matches!(again, Err(StateError::JobCompleted { .. })));
}

#[tokio::test]
async fn assigned_job_that_nobody_received_is_cancelled_with_its_message() {
    let service = Service::start_with(|settings| settings.poll_hold = Duration::from_millis(50)).await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    service.emulator.cancel_job(job.plan, job.job, Duration::from_secs(300)).unwrap();
    assert_eq!(service.request(job.request).await["result"], "canceled");
    assert_eq!(agent.poll(&service, None).send().await.unwrap().status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn cancelled_job_that_does_not_end_is_ended() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    service.emulator.cancel_job(job.plan, job.job, Duration::from_secs(60)).unwrap();
    service.clock.advance(Duration::from_secs(179));
    assert!(service.request(job.request).await.get("result").is_none());
    service.clock.advance(Duration::from_secs(1));
    eventually("the end", async || service.request(job.request).await["result"] == "canceled").await;
    let next = service.queue(&[]);
    assert_eq!(service.request(next.request).await["reservedAgent"]["name"], "agent-1", "the agent is free");
}

#[tokio::test]
async fn agent_that_comes_back_is_told_again_of_the_cancellation() {
    let service = Service::start().await;
    let mut agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    service.emulator.lose_sessions();
    service.emulator.cancel_job(job.plan, job.job, Duration::from_secs(60)).unwrap();
    agent.open_session(&service).await;
    assert_eq!(agent.message(&service, None).await.kind, "JobCancellation");
}

#[tokio::test]
async fn job_that_runs_too_long_is_cancelled() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue_with(|job| job.timeout = Some(Duration::from_secs(120))).unwrap();
    service.clock.advance(Duration::from_secs(100));
    agent.take_job(&service).await;
    service.clock.advance(Duration::from_secs(120));
    let message = agent.message(&service, None).await;
    assert_eq!(message.kind, "JobCancellation");
    let text = issues(&service, &job).await;
    assert!(text.contains("ran longer than the maximum time of 2 minutes"), "{text}");
}

#[tokio::test]
async fn pace_of_console_lines_reaches_the_agent() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    service.emulator.set_feed_pace(job.plan, job.job, Duration::from_millis(1500)).unwrap();
    let message = agent.message(&service, None).await;
    assert_eq!(message.kind, "JobMetadataUpdate");
    assert_eq!(message.body, json!({ "jobId": job.job, "postLinesFrequencyMillis": 1500 }));
}

#[tokio::test]
async fn demands_choose_the_agent() {
    let service = Service::start().await;
    let mut names = BTreeMap::new();
    for (name, capabilities) in [
        ("plain", json!({ "Agent.OS": "Linux" })),
        ("java", json!({ "Agent.OS": "Linux", "java": "/usr/bin/java" })),
        ("mac", json!({ "Agent.OS": "Darwin", "java": "/usr/bin/java" })),
    ] {
        let mut agent = service.register_with(name, capabilities).await;
        agent.log_in(&service).await;
        agent.open_session(&service).await;
        names.insert(name, agent);
    }
    for (demands, expected) in [
        (&["java", "Agent.OS -equals DARWIN"][..], "mac"),
        (&["JAVA"], "java"),
        (&["Agent.Version -gtVersion 4.0.0"], "plain"),
    ] {
        let job = service.queue(demands);
        assert_eq!(service.request(job.request).await["reservedAgent"]["name"], expected, "{demands:?}");
    }
}

#[tokio::test]
async fn job_which_no_registered_agent_could_run_is_refused() {
    let service = Service::start().await;
    let none = service.try_queue(&[]).map(|job| job.request);
    let none = none.expect_err("an empty pool runs nothing");
    assert!(matches!(none, StateError::NoAgentMatches { .. }), "{none}");
    assert!(
        none.to_string().ends_with("agent pool `Default` has no agents; register one before queueing a job"),
        "{none}"
    );
    service.register_with("offline", json!({ "java": "1" })).await;
    let error = service.try_queue(&["python"]).map(|job| job.request).unwrap_err();
    assert!(error.to_string().contains("python"), "{error}");
    let queued = service.queue(&["java"]);
    let shown = service.request(queued.request).await;
    assert_eq!(shown["matchedAgents"][0]["name"], "offline", "an offline agent is enough to wait");
    assert!(shown.get("reservedAgent").is_none());
}

#[tokio::test]
async fn disabled_and_offline_agents_get_nothing() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let path = format!("_apis/distributedtask/pools/1/agents/{}", agent.id);
    success(service.admin(Method::PATCH, &path).json(&json!({ "enabled": false }))).await;
    let job = service.queue(&[]);
    assert!(service.request(job.request).await.get("reservedAgent").is_none());
    success(service.admin(Method::PATCH, &path).json(&json!({ "enabled": true }))).await;
    assert_eq!(agent.take_job(&service).await.body["jobId"], json!(job.job));
}

#[tokio::test]
async fn jobs_go_out_in_the_order_of_the_queue() {
    let service = Service::start().await;
    service.register("offline").await;
    let jobs: Vec<_> = (0..5).map(|_| service.queue(&[])).collect();
    let agent = service.online("agent-1").await;
    for job in &jobs {
        assert_eq!(agent.take_job(&service).await.body["jobId"], json!(job.job));
        job.complete(&service, "succeeded").await;
    }
}

#[tokio::test]
async fn job_of_a_lost_agent_keeps_its_place_in_the_queue() {
    let service = Service::start().await;
    let lost = service.online("agent-1").await;
    let first = service.queue(&[]);
    let second = service.queue(&[]);
    lost.message(&service, None).await;
    service.emulator.lose_sessions();
    let agent = service.online("agent-2").await;
    assert_eq!(agent.take_job(&service).await.body["jobId"], json!(first.job));
    first.complete(&service, "succeeded").await;
    assert_eq!(agent.take_job(&service).await.body["jobId"], json!(second.job));
}

#[tokio::test]
async fn number_of_running_jobs_is_limited() {
    let service = Service::start_with(|settings| settings.parallel_jobs = NonZeroU32::new(1)).await;
    let one = service.online("one").await;
    service.online("two").await;
    let (first, second) = (service.queue(&[]), service.queue(&[]));
    assert_eq!(service.emulator.statistics().assigned_requests, 1);
    one.take_job(&service).await;
    assert!(service.request(second.request).await.get("assignTime").is_none());
    first.complete(&service, "succeeded").await;
    assert!(service.request(second.request).await["assignTime"].is_string());
}

#[tokio::test]
async fn signals_tell_the_life_of_a_job_with_its_outputs() {
    let service = Service::start().await;
    let mut events = service.emulator.events();
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    let step = json!({
        "count": 1,
        "value": [{
            "id": uuid::Uuid::new_v4(), "parentId": job.job, "type": "Task", "refName": "version",
            "variables": { "number": { "value": "1.2" }, "key": { "value": "s", "isSecret": true } },
        }],
    });
    let path = job.path(&format!("timelines/{}/records", job.timeline));
    success(service.bearer(&job.token, Method::PATCH, &path).json(&step)).await;
    job.complete(&service, "succeeded").await;
    let mut changes = Vec::new();
    while changes.len() < 4 {
        let event = tokio::time::timeout(crate::service::SOON, events.recv()).await.unwrap().unwrap();
        let Event::JobChanged(signal) = event else { continue };
        assert_eq!((signal.plan, signal.job, signal.request), (job.plan, job.job, job.request));
        changes.push(signal.change);
    }
    let [JobChange::Queued, JobChange::Assigned { agent: assigned }, JobChange::Started { .. }, end] =
        &changes[..]
    else {
        panic!("unexpected life: {changes:?}");
    };
    assert_eq!(assigned, "agent-1");
    let JobChange::Completed { result, outputs, agent, reason } = end else { panic!("no end: {end:?}") };
    assert_eq!((*result, *reason), (TaskResult::Succeeded, CompletionReason::Event));
    assert_eq!(agent.as_deref(), Some("agent-1"));
    assert_eq!(outputs["version.number"], VariableValue::public("1.2"));
    assert!(outputs["version.key"].is_secret);
}

#[tokio::test]
async fn one_job_is_queued_once_in_its_plan() {
    let service = Service::start().await;
    service.online("agent-1").await;
    let mut copy = None;
    service.queue_with(|job| copy = Some(job.clone())).unwrap();
    let again = service.emulator.queue_job(copy.unwrap());
    assert!(matches!(again, Err(StateError::JobExists { .. })));
}

#[tokio::test]
async fn unfinished_requests_are_bounded_and_finished_ones_forgotten() {
    let service = Service::start_with(|settings| {
        settings.limits.unfinished_requests = 3;
        settings.limits.finished_requests = 2;
        settings.limits.finished_plans = 2;
    })
    .await;
    service.register("offline").await;
    let jobs: Vec<_> = (0..3).map(|_| service.queue(&[])).collect();
    let refused = service.try_queue(&[]).map(|job| job.request);
    assert!(matches!(refused, Err(StateError::LimitReached { limit: 3, .. })));
    for job in &jobs {
        service.emulator.cancel_job(job.plan, job.job, Duration::ZERO).unwrap();
    }
    let list = service.get("_apis/distributedtask/pools/1/jobrequests?completedRequestCount=100").await;
    assert_eq!(list["count"], 2);
    let path = format!("_apis/distributedtask/pools/1/jobrequests/{}", jobs[0].request);
    let forgotten = service.admin(Method::GET, &path).send().await.unwrap();
    assert_error(forgotten, StatusCode::NOT_FOUND, "TaskAgentJobNotFoundException").await;
    // The plan of the job that was refused has no job, so it is not done; the others are bounded.
    assert_eq!(service.emulator.statistics().plans, 3);
}
