//! Jobs of `pool: server`, which need no agent.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::any;
use dayfly_emulator::runs::{RunRepository, RunRequest};
use dayfly_pipelines::{Inputs, Source};
use dayfly_protocol::BuildId;
use dayfly_protocol::job::{EndpointAuthorization, ServiceEndpoint};
use dayfly_protocol::timeline::VariableValue;
use http::{HeaderMap, StatusCode, Uri};
use reqwest::Method;
use serde_json::{Value, json};

use crate::git_program::repository;
use crate::pipeline::{build, queue, record, register};
use crate::service::{Service, eventually, success};

const MINUTE: Duration = Duration::from_secs(60);

async fn completed(service: &Service, id: &Value) -> Value {
    eventually("the build", async || build(service, id).await["status"] == "completed").await;
    build(service, id).await["result"].clone()
}

/// The validations that wait, as soon as there is one.
async fn validation(service: &Service) -> Value {
    let list = async || success(service.dayfly(Method::GET, "validations")).await;
    eventually("a validation", async || list().await["count"] == 1).await;
    list().await["value"][0].clone()
}

async fn answer(service: &Service, id: &Value, verdict: Value) -> StatusCode {
    let path = format!("validations/{}", id.as_str().unwrap());
    service.dayfly(Method::POST, &path).json(&verdict).send().await.unwrap().status()
}

async fn log(service: &Service, id: &Value, step: &str) -> String {
    let number = record(service, id, step).await["log"]["id"].clone();
    let path = format!("dayfly/_apis/build/builds/{id}/logs/{number}");
    service.admin(Method::GET, &path).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_delay_lasts_as_long_as_the_clock_says() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
variables: { minutes: 5 }
jobs:
- job: wait
  pool: server
  steps:
  - task: Delay@1
    inputs: { delayForMinutes: $(minutes) }
  - task: Delay@1
    displayName: Never
    condition: eq(variables.minutes, 6)
- job: after
  dependsOn: wait
  condition: succeeded()
  pool: server
  steps: [ { task: Delay@1, displayName: At once } ]
";
    let definition = register(&service, folder.path(), yaml);
    let queued = queue(&service, definition, json!({})).await;
    let id = &queued["id"];
    eventually("the wait", async || record(&service, id, "Delay").await["state"] == "inProgress").await;
    assert_eq!(record(&service, id, "wait.__default").await["state"], "inProgress");
    eventually("the end", async || {
        service.clock.advance(MINUTE);
        build(&service, id).await["status"] == "completed"
    })
    .await;
    assert_eq!(build(&service, id).await["result"], "succeeded");
    let waited = record(&service, id, "Delay").await;
    let time = |member: &str| waited[member].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("finishTime").duration_since(time("startTime")).as_secs() >= 5 * 60, "{waited}");
    assert_eq!(waited["task"]["name"], "Delay");
    assert!(log(&service, id, "Delay").await.contains("Waits for 5 minutes"));
    assert_eq!(record(&service, id, "Never").await["result"], "skipped");
    assert_eq!(record(&service, id, "At once").await["result"], "succeeded");
    service.emulator.stop().await;
}

const VALIDATION: &str = "
jobs:
- job: approval
  pool: server
  timeoutInMinutes: 30
  steps:
  - task: ManualValidation@0
    timeoutInMinutes: MINUTES
    inputs:
      notifyUsers: somebody@example.com
      instructions: Look at $(Build.BuildNumber)
      onTimeout: ONTIMEOUT
- job: after
  dependsOn: approval
  pool: server
  steps: [ { task: Delay@1, displayName: At once } ]
";

/// A run that waits for a validation, and the validation.
async fn waiting(service: &Service, folder: &Path, minutes: &str, on_timeout: &str) -> (Value, Value) {
    let yaml = VALIDATION.replace("MINUTES", minutes).replace("ONTIMEOUT", on_timeout);
    let definition = register(service, folder, &yaml);
    let id = queue(service, definition, json!({})).await["id"].clone();
    (id, validation(service).await)
}

#[tokio::test]
async fn a_validation_waits_for_its_answer() {
    for (approved, result, after) in [(true, "succeeded", "succeeded"), (false, "failed", "skipped")] {
        let service = Service::start().await;
        let folder = tempfile::tempdir().unwrap();
        let (id, asked) = waiting(&service, folder.path(), "0", "reject").await;
        assert_eq!((&asked["buildId"], &asked["job"]), (&id, &json!("approval.__default")));
        assert_eq!(asked["instructions"], "Look at 20270115.1");
        let verdict = json!({ "approved": approved, "comment": "I looked" });
        assert_eq!(answer(&service, &asked["id"], verdict.clone()).await, StatusCode::NO_CONTENT);
        assert_eq!(answer(&service, &asked["id"], verdict).await, StatusCode::NOT_FOUND);
        assert_eq!(completed(&service, &id).await, result);
        assert!(log(&service, &id, "ManualValidation").await.contains("I looked"));
        assert_eq!(record(&service, &id, "after").await["result"], after);
        service.emulator.stop().await;
    }
}

#[tokio::test]
async fn a_validation_that_nobody_answers_ends_as_it_says() {
    // Whose time is over first, and what comes of it.
    for (minutes, on_timeout, result) in
        [("10", "reject", "failed"), ("10", "resume", "succeeded"), ("0", "resume", "canceled")]
    {
        let service = Service::start().await;
        let folder = tempfile::tempdir().unwrap();
        let (id, asked) = waiting(&service, folder.path(), minutes, on_timeout).await;
        let limit = if minutes == "0" { 30 } else { 10 };
        service.clock.advance(limit * MINUTE);
        assert_eq!(completed(&service, &id).await, result, "{minutes} {on_timeout}");
        let verdict = json!({ "approved": true });
        assert_eq!(answer(&service, &asked["id"], verdict).await, StatusCode::NOT_FOUND);
        service.emulator.stop().await;
    }
}

#[tokio::test]
async fn a_job_that_runs_too_long_says_so_and_a_cancelled_one_ends_at_once() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (id, _) = waiting(&service, folder.path(), "0", "reject").await;
    service.clock.advance(30 * MINUTE);
    assert_eq!(completed(&service, &id).await, "canceled");
    let job = record(&service, &id, "approval.__default").await;
    let message = job["issues"][0]["message"].as_str().unwrap();
    assert!(message.contains("longer than the maximum time of 30 minutes"), "{message}");

    let definition = queue(&service, 1, json!({})).await["id"].clone();
    validation(&service).await;
    let build = serde_json::from_value::<BuildId>(definition.clone()).unwrap();
    service.emulator.cancel_run(build).unwrap();
    assert_eq!(completed(&service, &definition).await, "canceled");
    assert_eq!(success(service.dayfly(Method::GET, "validations")).await["count"], 0);
    service.emulator.stop().await;
}

#[tokio::test]
async fn wrong_inputs_fail_the_step_and_say_why() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
jobs:
- job: wrong
  pool: server
  steps:
  - { task: Delay@1, displayName: Long, inputs: { delayForMinutes: soon } }
  - { task: ManualValidation@1, displayName: Odd, inputs: { onTimeout: wait }, condition: failed() }
  - { task: AzureFunction@1, displayName: Foreign, condition: always() }
  - { task: InvokeRESTAPI@1, displayName: Nowhere, condition: always(), inputs: { serviceConnection: api } }
  - task: InvokeRESTAPI@1
    displayName: Callback
    condition: always()
    inputs: { serviceConnection: api, waitForCompletion: perhaps }
";
    let definition = register(&service, folder.path(), yaml);
    let id = queue(&service, definition, json!({})).await["id"].clone();
    assert_eq!(completed(&service, &id).await, "failed");
    for (step, reason) in [
        ("Long", "`delayForMinutes` is `soon`"),
        ("Odd", "has to be `reject` or `resume`"),
        ("Foreign", "Dayfly cannot run the task `AzureFunction`"),
        ("Nowhere", "the service connection `api` is not known here"),
        ("Callback", "`waitForCompletion` is `perhaps`"),
    ] {
        let record = record(&service, &id, step).await;
        let message = record["issues"][0]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
    service.emulator.stop().await;
}

/// What a server was asked: method and path, headers, body.
type Asked = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// A server that answers every path as its first part says: `ok` or `bad`.
async fn server() -> (String, Asked) {
    async fn respond(
        State(asked): State<Asked>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, &'static str) {
        let request = (format!("{method} {uri}"), headers, String::from_utf8_lossy(&body).into_owned());
        asked.lock().unwrap().push(request);
        match uri.path().starts_with("/ok") {
            true => (StatusCode::OK, r#"{"status": "done", "token": "hunter2-and-more"}"#),
            false => (StatusCode::INTERNAL_SERVER_ERROR, "broken"),
        }
    }
    let asked = Asked::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(any(respond)).with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

fn generic(name: &str, url: &str) -> ServiceEndpoint {
    let parameters = [("username", "ada"), ("password", "hunter2-and-more")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    ServiceEndpoint {
        id: Some(uuid::Uuid::new_v4()),
        name: Some(name.to_owned()),
        endpoint_type: Some("generic".to_owned()),
        url: Some(url.parse().unwrap()),
        authorization: Some(EndpointAuthorization { scheme: "UsernamePassword".to_owned(), parameters }),
        ..ServiceEndpoint::default()
    }
}

/// Runs a pipeline with a service connection and a secret variable.
async fn run(service: &Service, folder: &Path, yaml: &str, endpoint: ServiceEndpoint) -> Value {
    repository(folder);
    let source = Source { name: "azure-pipelines.yml".to_owned(), text: yaml.to_owned() };
    let plan = dayfly_pipelines::compile(&source, &Inputs::default()).unwrap().plan;
    let repository = RunRepository::at("test", folder, None).await.unwrap();
    let mut request = RunRequest::new("dayfly", "test", Arc::new(plan), repository);
    request.endpoints = vec![endpoint];
    request.variables.insert("key".to_owned(), VariableValue::secret("s3cret-key"));
    json!(service.emulator.queue_run(request).await.unwrap())
}

#[tokio::test]
async fn a_rest_api_is_called_as_the_step_says() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (url, asked) = server().await;
    let yaml = "
jobs:
- job: call
  pool: server
  steps:
  - task: InvokeRESTAPI@1
    displayName: Good
    inputs:
      serviceConnection: API
      method: PUT
      urlSuffix: /ok/1?x=2
      headers: '{\"X-Key\": \"$(key)\", \"X-Plan\": \"$(system.planId)\"}'
      body: '{\"number\": \"$(Build.BuildNumber)\"}'
      successCriteria: eq(root['status'], 'DONE')
  - task: InvokeRESTAPI@1
    displayName: Unmet
    inputs: { serviceConnection: api, method: GET, urlSuffix: /ok, successCriteria: 'eq(root.status, 1)' }
  - task: InvokeRESTAPI@1
    displayName: Bad
    condition: failed()
    continueOnError: true
    inputs: { serviceConnection: api, urlSuffix: /bad }
  - task: InvokeRESTAPI@1
    displayName: Odd
    condition: failed()
    inputs: { serviceConnection: api, successCriteria: 'eq(jsonpath(1), 2)' }
";
    let id = run(&service, folder.path(), yaml, generic("api", &url)).await;
    assert_eq!(completed(&service, &id).await, "failed");
    let requests = std::mem::take(&mut *asked.lock().unwrap());
    let lines: Vec<_> = requests.iter().map(|(line, _, _)| line.as_str()).collect();
    assert_eq!(lines, ["PUT /ok/1?x=2", "GET /ok", "POST /bad"]);
    let (_, headers, body) = &requests[0];
    assert_eq!(headers["x-key"], "s3cret-key");
    assert_eq!(headers["authorization"], "Basic YWRhOmh1bnRlcjItYW5kLW1vcmU=");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-plan"].len(), 36);
    assert_eq!(body, r#"{"number": "20270115.1"}"#);
    for (step, result, message) in [
        ("Good", "succeeded", None),
        ("Unmet", "failed", Some("the answer does not meet the success criteria `eq(root.status, 1)`")),
        ("Bad", "succeededWithIssues", Some("was answered with 500 Internal Server Error")),
        ("Odd", "failed", Some("`successCriteria` is `eq(jsonpath(1), 2)`, which is not valid here")),
    ] {
        let record = record(&service, &id, step).await;
        assert_eq!(record["result"], result, "{record}");
        let said = record["issues"][0]["message"].as_str();
        assert!(message.is_none_or(|text| said.is_some_and(|said| said.contains(text))), "{said:?}");
    }
    let log = log(&service, &id, "Good").await;
    assert!(log.contains("Response code: 200 OK") && log.contains(r#""token": "***""#), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    service.emulator.stop().await;
}

const CALLBACK: &str = "
jobs:
- job: call
  pool: server
  timeoutInMinutes: 30
  steps:
  - task: InvokeRESTAPI@1
    displayName: Wait
    inputs: { serviceConnection: api, urlSuffix: /ANSWER, waitForCompletion: 'true', successCriteria: 'eq(1, 2)' }
";

/// A run whose step waits for a callback, and what the server was sent for it.
async fn called(service: &Service, folder: &Path, server: &(String, Asked)) -> (Value, HeaderMap) {
    let id = run(service, folder, &CALLBACK.replace("ANSWER", "ok"), generic("api", &server.0)).await;
    eventually("the call", async || !server.1.lock().unwrap().is_empty()).await;
    let (_, headers, body) = server.1.lock().unwrap().remove(0);
    assert_eq!(body, "");
    (id, headers)
}

/// Posts an event as the headers of the call allow.
async fn post_event(service: &Service, headers: &HeaderMap, name: &str, more: Value) -> StatusCode {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mut event = json!({ "name": name, "jobId": text("JobId"), "taskId": text("TaskInstanceId") });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (base, project) = (text("PlanUrl"), text("ProjectId"));
    let plan = format!("hubs/{}/plans/{}", text("HubName"), text("PlanId"));
    let url = format!("{base}{project}/_apis/distributedtask/{plan}/events?api-version=7.1");
    let request = service.http.post(url).basic_auth("", Some(text("AuthToken"))).json(&event);
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_call_may_wait_for_the_event_that_ends_it() {
    let server = server().await;
    for (result, of_build) in [
        (json!({ "result": "succeeded" }), "succeeded"),
        (json!({}), "succeeded"),
        (json!({ "result": "succeededWithIssues" }), "partiallySucceeded"),
        (json!({ "result": "failed" }), "failed"),
    ] {
        let service = Service::start().await;
        let folder = tempfile::tempdir().unwrap();
        let (id, headers) = called(&service, folder.path(), &server).await;
        assert_eq!(headers["authorization"], "Basic YWRhOmh1bnRlcjItYW5kLW1vcmU=");
        assert_eq!(headers["TimelineId"].len(), 36);
        for (name, more, status) in [
            ("TaskStarted", json!({}), StatusCode::NO_CONTENT),
            ("TaskCompleted", json!({ "taskId": uuid::Uuid::new_v4() }), StatusCode::NOT_FOUND),
            ("TaskCompleted", json!({ "taskId": null }), StatusCode::BAD_REQUEST),
            ("TaskCompleted", json!({ "jobId": uuid::Uuid::new_v4() }), StatusCode::FORBIDDEN),
        ] {
            assert_eq!(post_event(&service, &headers, name, more).await, status, "{name}");
        }
        assert_eq!(build(&service, &id).await["status"], "inProgress");
        assert_eq!(
            post_event(&service, &headers, "TaskCompleted", result.clone()).await,
            StatusCode::NO_CONTENT
        );
        assert_eq!(completed(&service, &id).await, of_build, "{result}");
        let again = post_event(&service, &headers, "TaskCompleted", json!({})).await;
        assert!(again.is_client_error(), "{again}");
        let log = log(&service, &id, "Wait").await;
        assert!(log.contains("Waits for a callback") && !log.contains("hunter2"), "{log}");
        service.emulator.stop().await;
    }
}

#[tokio::test]
async fn a_callback_that_never_comes_ends_with_the_jobs_time() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = server().await;
    let (id, headers) = called(&service, folder.path(), &server).await;
    service.clock.advance(30 * MINUTE);
    assert_eq!(completed(&service, &id).await, "canceled");
    assert!(post_event(&service, &headers, "TaskCompleted", json!({})).await.is_client_error());

    // Who does not even take the call is not waited for.
    let yaml = CALLBACK.replace("ANSWER", "bad");
    let folder = tempfile::tempdir().unwrap();
    let id = run(&service, folder.path(), &yaml, generic("api", &server.0)).await;
    assert_eq!(completed(&service, &id).await, "failed");
    service.emulator.stop().await;
}
