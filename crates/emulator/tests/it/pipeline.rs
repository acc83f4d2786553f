//! Pipelines of the tests, and a worker which does by hand what its job is said to do.

use std::path::Path;

use dayfly_protocol::job::AgentJobRequestMessage;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::git_program::{repository, write};
use crate::service::{Agent, QueuedJob, Service, success};

/// A repository with this pipeline, registered as `test`.
pub(crate) fn register(service: &Service, folder: &Path, yaml: &str) -> i32 {
    repository(folder);
    write(folder, "azure-pipelines.yml", yaml);
    service.emulator.add_pipeline("dayfly", "test", folder.join("azure-pipelines.yml")).unwrap()
}

/// Queues a build by REST; gives it.
pub(crate) async fn queue(service: &Service, definition: i32, more: Value) -> Value {
    let mut body = json!({ "definition": { "id": definition } });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    success(service.admin(Method::POST, "dayfly/_apis/build/builds").json(&body)).await
}

/// The build now.
pub(crate) async fn build(service: &Service, id: &Value) -> Value {
    service.get(&format!("dayfly/_apis/build/builds/{id}")).await
}

/// The records of a build by identifier or name.
pub(crate) async fn record(service: &Service, id: &Value, name: &str) -> Value {
    let timeline = service.get(&format!("dayfly/_apis/build/builds/{id}/timeline")).await;
    let records = timeline["records"].as_array().unwrap().clone();
    let found = records.into_iter().find(|record| record["identifier"] == name || record["name"] == name);
    found.unwrap_or_else(|| panic!("no record {name} in {timeline:#}"))
}

/// A job that an agent has taken.
pub(crate) struct Job {
    pub(crate) message: AgentJobRequestMessage,
    pub(crate) own: QueuedJob,
}

impl Job {
    /// Takes the agent's next job.
    pub(crate) async fn take(service: &Service, agent: &Agent) -> Self {
        let taken = agent.take_job(service).await;
        assert_eq!(taken.kind, "PipelineAgentJobRequest");
        let message: AgentJobRequestMessage = serde_json::from_value(taken.body).unwrap();
        let own = QueuedJob {
            plan: message.plan.plan_id,
            job: message.job_id,
            timeline: message.timeline.id,
            request: message.request_id,
            token: message.resources.system_connection().unwrap().access_token().unwrap().to_owned(),
        };
        Self { message, own }
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        let found = self.message.variables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .and_then(|(_, variable)| variable.value.as_deref())
            .unwrap_or_else(|| panic!("no variable {name}"))
    }

    /// A request with the job's own token.
    pub(crate) fn call(&self, service: &Service, method: Method, path: &str) -> RequestBuilder {
        service.bearer(&self.own.token, method, path)
    }

    /// Reports a step with a log of these lines and output variables.
    pub(crate) async fn step(&self, service: &Service, name: &str, lines: &str, variables: Value) -> Value {
        let id = uuid::Uuid::new_v4();
        let log = json!({ "path": format!("logs\\{id}") });
        let log = success(self.own.call(service, Method::POST, "logs").json(&log)).await;
        let append = format!("logs/{}", log["id"]);
        success(self.own.call(service, Method::POST, &append).body(lines.to_owned())).await;
        let record = json!({
            "id": id, "parentId": self.own.job, "type": "Task", "name": name, "refName": name,
            "state": "completed", "result": "succeeded", "order": 1, "log": { "id": log["id"] },
            "variables": variables,
        });
        let records = format!("timelines/{}/records", self.own.timeline);
        let body = json!({ "count": 1, "value": [record] });
        success(self.own.call(service, Method::PATCH, &records).json(&body)).await;
        let feed = format!("{records}/{}/feed", self.own.job);
        let body = json!({ "count": 1, "value": ["a line"], "stepId": id, "startLine": 1 });
        success(self.own.call(service, Method::POST, &feed).json(&body)).await;
        log["id"].clone()
    }

    /// Ends the job.
    pub(crate) async fn complete(&self, service: &Service, result: &str) {
        assert!(self.own.complete(service, result).await.status().is_success());
    }
}
