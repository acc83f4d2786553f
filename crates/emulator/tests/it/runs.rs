//! Runs from queue to result, with a worker that speaks HTTP by hand.

use std::time::Duration;

use dayfly_emulator::runs::RunEvent;
use dayfly_protocol::TaskResult;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::git_program::write;
use crate::pipeline::{Job, build, queue, record, register};
use crate::service::{SOON, Service, assert_error, eventually, success};

const TWO_STAGES: &str = "
name: $(Date:yyyyMMdd).$(Rev:r)
trigger: none
parameters:
- name: who
  default: world
variables:
  greeting: hello
stages:
- stage: build
  displayName: Build it
  jobs:
  - job: make
    steps:
    - checkout: self
    - script: echo ${{ parameters.who }}
      name: say
- stage: test
  dependsOn: build
  variables:
    made: $[ stageDependencies.build.make.outputs['say.made'] ]
  jobs:
  - job: check
    displayName: Check it
    strategy:
      matrix:
        one: { leg: '1' }
        two: { leg: '2' }
      maxParallel: 1
    steps:
    - script: echo $(made)
";

async fn completed(service: &Service, id: &serde_json::Value) -> serde_json::Value {
    eventually("the build", async || build(service, id).await["status"] == "completed").await;
    build(service, id).await
}

#[tokio::test]
async fn stages_follow_each_other_and_outputs_reach_later_jobs() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), TWO_STAGES);
    let agent = service.online("agent-1").await;
    let queued = queue(&service, definition, json!({ "templateParameters": { "who": "Ada" } })).await;
    assert_eq!(queued["buildNumber"], "20270115.1");
    assert_eq!(queued["status"], "inProgress");
    assert_eq!(queued["sourceBranch"], "refs/heads/main");
    let id = &queued["id"];

    let job = Job::take(&service, &agent).await;
    assert_eq!(job.variable("greeting"), "hello");
    assert_eq!(job.variable("build.buildNumber"), "20270115.1");
    assert_eq!(job.variable("system.jobIdentifier"), "build.make.__default");
    assert_eq!(job.variable("build.sourceVersion"), queued["sourceVersion"].as_str().unwrap());
    assert_eq!(job.message.steps[1].inputs["script"], "echo Ada");
    let request = service.request(job.message.request_id).await;
    let project = format!("{}/{}", service.emulator.url(), service.project());
    for (owner, page, resource) in [
        ("definition", format!("definition?definitionId={definition}"), format!("Definitions/{definition}")),
        ("owner", format!("results?buildId={id}"), format!("Builds/{id}")),
    ] {
        let links = &request[owner]["_links"];
        assert_eq!(links["web"]["href"], format!("{project}/_build/{page}"));
        assert_eq!(links["self"]["href"], format!("{project}/_apis/build/{resource}"));
    }
    assert_eq!(record(&service, id, "build").await["state"], "inProgress");
    let running = record(&service, id, "build.make.__default").await;
    assert_eq!((&running["state"], &running["workerName"]), (&json!("inProgress"), &json!("agent-1")));
    job.step(&service, "say", "one\ntwo\n", json!({ "made": { "value": "42" } })).await;
    job.complete(&service, "succeeded").await;

    for leg in ["1", "2"] {
        let job = Job::take(&service, &agent).await;
        assert_eq!((job.variable("made"), job.variable("leg")), ("42", leg));
        job.complete(&service, "succeededWithIssues").await;
    }
    let done = completed(&service, id).await;
    assert_eq!(done["result"], "partiallySucceeded");
    let stage = record(&service, id, "test").await;
    assert_eq!((&stage["type"], &stage["result"]), (&json!("Stage"), &json!("succeededWithIssues")));
    let phase = record(&service, id, "test.check").await;
    assert_eq!((&phase["type"], &phase["parentId"]), (&json!("Phase"), &stage["id"]));
    assert_eq!(record(&service, id, "test.check.one").await["parentId"], phase["id"]);
    assert_eq!(queue(&service, definition, json!({})).await["buildNumber"], "20270115.2");
    service.emulator.stop().await;
}

#[tokio::test]
async fn failed_job_skips_what_depends_on_it() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), TWO_STAGES);
    let agent = service.online("agent-1").await;
    let queued = queue(&service, definition, json!({})).await;
    Job::take(&service, &agent).await.complete(&service, "failed").await;
    assert_eq!(completed(&service, &queued["id"]).await["result"], "failed");
    let skipped = record(&service, &queued["id"], "test").await;
    assert_eq!((&skipped["state"], &skipped["result"]), (&json!("completed"), &json!("skipped")));
    service.emulator.stop().await;
}

#[tokio::test]
async fn run_that_skips_every_stage_is_refused() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), TWO_STAGES);
    service.online("agent-1").await;
    let path = format!("dayfly/_apis/pipelines/{definition}/runs");
    let skip = |stages: serde_json::Value| {
        service.admin(Method::POST, &path).json(&json!({ "stagesToSkip": stages }))
    };
    let refused = skip(json!(["build", "TEST"])).send().await.unwrap();
    let message = assert_error(refused, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    assert!(message.contains("every stage"), "{message}");
    success(skip(json!(["test"]))).await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn cancelled_build_tells_its_job_and_starts_no_other() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), TWO_STAGES);
    let agent = service.online("agent-1").await;
    let queued = queue(&service, definition, json!({})).await;
    let job = Job::take(&service, &agent).await;
    let path = format!("dayfly/_apis/build/builds/{}", queued["id"]);
    let cancelling =
        success(service.admin(Method::PATCH, &path).json(&json!({ "status": "cancelling" }))).await;
    assert_eq!(cancelling["status"], "cancelling");
    let message = agent.message(&service, None).await;
    assert_eq!(message.kind, "JobCancellation");
    assert_eq!(message.body["jobId"], json!(job.message.job_id));
    job.complete(&service, "canceled").await;
    assert_eq!(completed(&service, &queued["id"]).await["result"], "canceled");
    // A build that waits for an agent ends at once.
    let second = queue(&service, definition, json!({})).await;
    let path = format!("dayfly/_apis/build/builds/{}", second["id"]);
    service.admin(Method::PATCH, &path).json(&json!({ "status": "Cancelling" })).send().await.unwrap();
    assert_eq!(completed(&service, &second["id"]).await["result"], "canceled");
    service.emulator.stop().await;
}

#[tokio::test]
async fn job_that_runs_too_long_is_cancelled_with_its_own_time_to_end() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
jobs:
- job: slow
  timeoutInMinutes: 3
  cancelTimeoutInMinutes: 2
  steps:
  - script: sleep 1000
";
    let definition = register(&service, folder.path(), yaml);
    let agent = service.online("agent-1").await;
    let queued = queue(&service, definition, json!({})).await;
    let job = Job::take(&service, &agent).await;
    service.clock.advance(Duration::from_secs(3 * 60));
    let message = agent.message(&service, None).await;
    assert_eq!((message.kind.as_str(), &message.body["timeout"]), ("JobCancellation", &json!("00:02:00")));
    job.complete(&service, "canceled").await;
    assert_eq!(completed(&service, &queued["id"]).await["result"], "canceled");
    let record = record(&service, &queued["id"], "slow.__default").await;
    assert!(
        record["issues"][0]["message"].as_str().unwrap().contains("maximum time of 3 minutes"),
        "{record}"
    );
    service.emulator.stop().await;
}

#[tokio::test]
async fn job_without_a_possible_agent_fails_with_the_reason() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
jobs:
- job: picky
  continueOnError: true
  pool: { name: Default, demands: [ java ] }
  steps: [ { script: 'true' } ]
- job: lost
  dependsOn: []
  pool: nowhere
  steps: [ { script: 'true' } ]
";
    let definition = register(&service, folder.path(), yaml);
    service.online("agent-1").await;
    let queued = queue(&service, definition, json!({})).await;
    let done = completed(&service, &queued["id"]).await;
    assert_eq!(done["result"], "failed");
    let picky = record(&service, &queued["id"], "picky.__default").await;
    assert_eq!(picky["result"], "succeededWithIssues");
    assert!(picky["issues"][0]["message"].as_str().unwrap().contains("java"), "{picky}");
    let lost = record(&service, &queued["id"], "lost.__default").await;
    assert!(lost["issues"][0]["message"].as_str().unwrap().contains("`nowhere`"), "{lost}");
    service.emulator.stop().await;
}

#[tokio::test]
async fn builds_are_listed_tagged_renumbered_and_their_logs_read() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { script: echo } ]");
    let agent = service.online("agent-1").await;
    let queued = queue(&service, definition, json!({ "parameters": "{\"given\":\"yes\"}" })).await;
    let job = Job::take(&service, &agent).await;
    assert_eq!(job.variable("given"), "yes");
    let log = job
        .step(&service, "say", "one\ntwo\nthree\n", json!({ "x": { "value": "s", "isSecret": true } }))
        .await;
    let path = format!("dayfly/_apis/build/builds/{}", queued["id"]);
    // What `build.updatebuildnumber` and `build.addbuildtag` do.
    let number = json!({ "buildNumber": "release 7" });
    success(job.call(&service, Method::PATCH, &path).json(&number)).await;
    let tag = job.call(&service, Method::PUT, &format!("{path}/tags/good"));
    success(tag.header("content-length", "0")).await;
    let refused =
        job.call(&service, Method::PATCH, &path).json(&json!({ "status": "cancelling" })).send().await;
    assert_error(refused.unwrap(), StatusCode::FORBIDDEN, "AccessDeniedException").await;
    job.complete(&service, "succeeded").await;
    let done = completed(&service, &queued["id"]).await;
    assert_eq!((&done["buildNumber"], &done["tags"]), (&json!("release 7"), &json!(["good"])));

    let lines = service.get(&format!("{path}/logs/{log}?startLine=2&endLine=3")).await;
    // A plain GET asks for anything: text.
    assert_eq!(lines, serde_json::Value::Null);
    let request = service
        .admin(Method::GET, &format!("{path}/logs/{log}?startLine=2"))
        .header("accept", "application/json");
    assert_eq!(success(request).await["value"], json!(["two", "three"]));
    let text =
        service.admin(Method::GET, &format!("{path}/logs/{log}")).send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "one\ntwo\nthree\n");
    assert_eq!(service.get(&format!("{path}/logs")).await["value"][0]["lineCount"], 3);
    let step = record(&service, &queued["id"], "say").await;
    assert_eq!(step["variables"]["x"]["value"], serde_json::Value::Null);
    assert_eq!(step["log"]["id"], log);

    let list =
        async |query: &str| service.get(&format!("dayfly/_apis/build/builds?{query}")).await["count"].clone();
    assert_eq!(list("statusFilter=completed&resultFilter=succeeded&tagFilters=good").await, 1);
    assert_eq!(list("statusFilter=inProgress").await, 0);
    assert_eq!(list("definitions=99").await, 0);
    let missing = service.admin(Method::GET, "dayfly/_apis/build/builds/99").send().await.unwrap();
    assert_error(missing, StatusCode::NOT_FOUND, "BuildNotFoundException").await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn pipelines_have_runs_and_previews() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let pipeline = register(&service, folder.path(), TWO_STAGES);
    let agent = service.online("agent-1").await;
    let path = format!("dayfly/_apis/pipelines/{pipeline}");
    assert_eq!(service.get("dayfly/_apis/pipelines").await["value"][0]["name"], "test");
    let body = json!({ "stagesToSkip": ["test"], "variables": { "token": { "value": "s3cret", "isSecret": true } } });
    let run = success(service.admin(Method::POST, &format!("{path}/runs")).json(&body)).await;
    assert_eq!((&run["state"], &run["pipeline"]["id"]), (&json!("inProgress"), &json!(pipeline)));
    let job = Job::take(&service, &agent).await;
    assert!(job.message.variables["token"].is_secret);
    job.complete(&service, "succeeded").await;
    let run_path = format!("{path}/runs/{}", run["id"]);
    eventually("the run", async || service.get(&run_path).await["state"] == "completed").await;
    assert_eq!(service.get(&run_path).await["result"], "succeeded");
    assert_eq!(service.get(&format!("{path}/runs")).await["count"], 1);

    let preview = json!({ "previewRun": true, "yamlOverride": "steps: [ { script: other } ]" });
    let shown = success(service.admin(Method::POST, &format!("{path}/preview")).json(&preview)).await;
    assert!(shown["finalYaml"].as_str().unwrap().contains("other"));
    let wrong = json!({ "previewRun": true, "yamlOverride": "steps: [ { skript: other } ]" });
    let refused = service.admin(Method::POST, &format!("{path}/preview")).json(&wrong).send().await.unwrap();
    let message = assert_error(refused, StatusCode::BAD_REQUEST, "PipelineValidationException").await;
    assert!(message.contains("skript") && message.contains("azure-pipelines.yml"), "{message}");
    service.emulator.stop().await;
}

#[tokio::test]
async fn templates_are_read_from_the_repository() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "steps/greet.yml", "steps: [ { script: 'echo from the template' } ]");
    let definition = register(&service, folder.path(), "steps: [ { template: steps/greet.yml } ]");
    let agent = service.online("agent-1").await;
    queue(&service, definition, json!({})).await;
    let job = Job::take(&service, &agent).await;
    assert!(
        job.message
            .steps
            .iter()
            .any(|step| step.inputs.get("script").is_some_and(|text| text.contains("template")))
    );
    write(folder.path(), "azure-pipelines.yml", "steps: [ { template: steps/missing.yml } ]");
    let body = json!({ "definition": { "id": definition } });
    let refused = service.admin(Method::POST, "dayfly/_apis/build/builds").json(&body).send().await.unwrap();
    let message = assert_error(refused, StatusCode::BAD_REQUEST, "PipelineValidationException").await;
    assert!(message.contains("steps/missing.yml") && message.contains("no such file"), "{message}");
    write(folder.path(), "steps/missing.yml", &"# x\n".repeat(3 << 20));
    let refused = service.admin(Method::POST, "dayfly/_apis/build/builds").json(&body).send().await.unwrap();
    let message = assert_error(refused, StatusCode::BAD_REQUEST, "PipelineValidationException").await;
    assert!(message.contains("larger than 8 MiB"), "{message}");
    service.emulator.stop().await;
}

#[tokio::test]
async fn events_of_a_run_come_in_order() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { script: echo } ]");
    let agent = service.online("agent-1").await;
    let mut events = service.emulator.run_events();
    let queued = queue(&service, definition, json!({})).await;
    let job = Job::take(&service, &agent).await;
    job.step(&service, "say", "a line\n", json!({})).await;
    job.complete(&service, "succeeded").await;
    let mut told = Vec::new();
    loop {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        told.push(match &event {
            RunEvent::RunStarted { .. } => "run",
            RunEvent::StageStarted { .. } => "stage",
            RunEvent::JobQueued { .. } => "queued",
            RunEvent::JobStarted { agent, .. } if agent == "agent-1" => "started",
            RunEvent::Record { record, .. } if record.record_type.as_deref() == Some("Task") => "step",
            RunEvent::Record { .. } => continue,
            RunEvent::Lines { lines, .. } if lines[..] == ["a line"] => "lines",
            RunEvent::JobCompleted { result: TaskResult::Succeeded, started: Some(_), .. } => "job done",
            RunEvent::StageCompleted { result: TaskResult::Succeeded, .. } => "stage done",
            RunEvent::RunCompleted { build, result: TaskResult::Succeeded, .. } => {
                assert_eq!(json!(build), queued["id"]);
                break;
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, ["run", "stage", "queued", "started", "step", "lines", "job done", "stage done"]);
    let build = serde_json::from_value(queued["id"].clone()).unwrap();
    let logs = service.emulator.run_logs(build).unwrap();
    assert_eq!(logs[0].step.as_ref().unwrap().1, "say");
    assert_eq!(std::fs::read_to_string(&logs[0].file).unwrap(), "a line\n");
    service.emulator.stop().await;
}

#[tokio::test]
async fn finished_builds_are_forgotten_beyond_the_bound() {
    let service = Service::start_with(|settings| settings.limits.finished_plans = 2).await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { script: echo } ]");
    let agent = service.online("agent-1").await;
    for _ in 0..4 {
        let queued = queue(&service, definition, json!({})).await;
        Job::take(&service, &agent).await.complete(&service, "succeeded").await;
        completed(&service, &queued["id"]).await;
    }
    let left = service.get("dayfly/_apis/build/builds").await;
    let ids: Vec<_> = left["value"].as_array().unwrap().iter().map(|build| build["id"].clone()).collect();
    assert_eq!(ids, [json!(4), json!(3)]);
    eventually("the plans", async || service.emulator.statistics().plans == 2).await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn what_fails_before_it_has_jobs_says_why() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
jobs:
- job: legs
  strategy:
    matrix: $[ 'no matrix' ]
  steps: [ { script: echo } ]
- job: after
  dependsOn: legs
  steps: [ { script: echo } ]
";
    let definition = register(&service, folder.path(), yaml);
    service.online("agent-1").await;
    let mut events = service.emulator.run_events();
    let queued = queue(&service, definition, json!({})).await;
    assert_eq!(completed(&service, &queued["id"]).await["result"], "failed");
    let mut reasons = Vec::new();
    while let Some(event) = tokio::time::timeout(SOON, events.next()).await.unwrap() {
        match event {
            RunEvent::JobCompleted { job, result, reason, .. } => {
                reasons.push((job.identifier, result, reason.unwrap_or_default()));
            }
            RunEvent::RunCompleted { .. } => break,
            _ => {}
        }
    }
    assert_eq!((reasons[0].0.as_str(), reasons[0].1), ("legs", TaskResult::Failed));
    assert!(reasons[0].2.contains("matrix"), "{reasons:?}");
    assert_eq!((reasons[1].0.as_str(), reasons[1].1), ("after.__default", TaskResult::Skipped));
    assert!(reasons[1].2.contains("succeed"), "{reasons:?}");
    service.emulator.stop().await;
}
