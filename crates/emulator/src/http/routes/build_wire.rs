//! Builds, definitions, pipelines and runs as the REST interface shows them (`BuildHttpClient`,
//! `PipelinesHttpClient`).

use dayfly_protocol::artifact::BuildArtifact;
use dayfly_protocol::logs::TaskLog;
use dayfly_protocol::timeline::Timeline;
use dayfly_protocol::{DateTime, LogId, ProjectId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::App;
use crate::state::State;
use crate::state::definitions::Definition;
use crate::state::repositories::Repository;
use crate::state::runs::{Run, container_of, person_id};

/// Makes the JSON for one project; knows the addresses.
pub(crate) struct Wire<'a> {
    state: &'a State,
    /// Address of the organization, without a slash at its end.
    base: String,
    project: ProjectId,
    project_name: String,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(app: &App, state: &'a State, project: ProjectId) -> Self {
        let found = state.projects.all().iter().find(|other| other.id == project);
        let project_name = found.map(|project| project.name.clone()).unwrap_or_default();
        Self { state, base: app.base_url(), project, project_name }
    }

    fn api(&self, path: &str) -> String {
        format!("{}/{}/_apis/{path}", self.base, self.project)
    }

    fn project(&self) -> Value {
        json!({
            "id": self.project, "name": self.project_name, "state": "wellFormed", "visibility": "private",
            "url": format!("{}/_apis/projects/{}", self.base, self.project),
        })
    }

    /// The page of a run for people.
    pub(crate) fn web(&self, run: &Run) -> String {
        format!("{}?buildId={}", self.below_project(&["_build", "results"]), run.id)
    }

    /// The address of a log.
    pub(crate) fn log_url(&self, run: &Run, log: LogId) -> String {
        self.api(&format!("build/builds/{}/logs/{log}", run.id))
    }

    /// An address below the project's name, whose parts may hold any letters.
    fn below_project(&self, parts: &[&str]) -> String {
        let mut url = self.base.clone();
        for part in std::iter::once(&self.project_name.as_str()).chain(parts) {
            url.push('/');
            let encoded = url::form_urlencoded::byte_serialize(part.as_bytes());
            url.extend(encoded.map(|piece| piece.replace('+', "%20")));
        }
        url
    }

    /// A build.
    pub(crate) fn build(&self, run: &Run) -> Value {
        let url = self.api(&format!("build/builds/{}", run.id));
        let definition = self.state.definitions.get(self.project, run.definition);
        let person = self.person(&run.requested_for);
        let mut build = json!({
            "_links": {
                "self": { "href": url },
                "web": { "href": self.web(run) },
                "timeline": { "href": format!("{url}/Timeline") },
            },
            "id": run.id,
            "uri": format!("vstfs:///Build/Build/{}", run.id),
            "url": url,
            "buildNumber": run.number,
            "status": run.status.wire(),
            "queueTime": time(run.queue_time),
            "lastChangedDate": time(run.changed_on),
            "reason": run.reason.wire(),
            "priority": "normal",
            "project": self.project(),
            "requestedFor": person,
            "requestedBy": person,
            "lastChangedBy": person,
            "keepForever": false,
            "retainedByRelease": false,
            "triggerInfo": {},
            "tags": run.tags,
            "properties": {},
            "validationResults": [],
            "plans": [{ "planId": run.plan_id }],
            "orchestrationPlan": { "planId": run.plan_id },
            "logs": { "id": 0, "type": "Container", "url": format!("{url}/logs") },
            "templateParameters": run.parameters,
        });
        if let Ok(definition) = definition {
            build["definition"] = self.definition_reference(definition);
        }
        if let Ok(pool) = self.state.pools.get(run.pool) {
            let id = self.state.queue_id(self.project, run.pool);
            build["queue"] = json!({
                "id": id, "name": pool.name, "pool": { "id": pool.id, "name": pool.name, "isHosted": false },
            });
        }
        build["sourceBranch"] = json!(run.repository.reference);
        build["sourceVersion"] = json!(run.repository.commit);
        build["repository"] = self.build_repository(&run.repository.name);
        let optional = [
            ("startTime", run.start_time.map(time)),
            ("finishTime", run.finish_time.map(time)),
            ("result", run.wire_result().map(|result| json!(result))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                build[name] = value;
            }
        }
        build
    }

    fn person(&self, name: &str) -> Value {
        let id = person_id(name);
        json!({
            "displayName": name,
            "id": id,
            "uniqueName": name,
            "descriptor": format!("msa.{id}"),
            "url": "",
        })
    }

    fn build_repository(&self, name: &str) -> Value {
        let found = self.state.repositories.find(self.project, name);
        let (id, branch) = match found {
            Ok(repository) => (repository.id.to_string(), repository.default_branch.clone()),
            Err(_) => (name.to_owned(), String::new()),
        };
        json!({
            "id": id, "name": name, "type": "TfsGit", "defaultBranch": branch, "clean": null,
            "checkoutSubmodules": false, "url": self.clone_url(name),
        })
    }

    /// Where git fetches a repository.
    fn clone_url(&self, name: &str) -> String {
        self.below_project(&["_git", name])
    }

    /// A definition as builds refer to it.
    pub(crate) fn definition_reference(&self, definition: &Definition) -> Value {
        let url = self.api(&format!("build/Definitions/{}", definition.id));
        json!({
            "id": definition.id, "name": definition.name, "path": "\\", "type": "build",
            "queueStatus": "enabled",
            "revision": 1, "url": url, "uri": format!("vstfs:///Build/Definition/{}", definition.id),
            "project": self.project(), "createdDate": time(definition.created),
        })
    }

    /// A definition with all we know of it.
    pub(crate) fn definition(&self, definition: &Definition) -> Value {
        let mut whole = self.definition_reference(definition);
        whole["process"] = json!({ "type": 2, "yamlFilename": definition.yaml_path() });
        whole["quality"] = json!("definition");
        whole["jobAuthorizationScope"] = json!("project");
        if let Some(name) = definition.repository() {
            whole["repository"] = self.build_repository(name);
        }
        if let Some(pool) = self.state.pools.iter().next() {
            let id = self.state.queue_id(self.project, pool.id);
            whole["queue"] =
                json!({ "id": id, "name": pool.name, "pool": { "id": pool.id, "name": pool.name } });
        }
        whole
    }

    /// A pipeline, which is a definition by its newer name.
    pub(crate) fn pipeline(&self, definition: &Definition) -> Value {
        let url = self.api(&format!("pipelines/{}", definition.id));
        let web = format!("{}?definitionId={}", self.below_project(&["_build"]), definition.id);
        json!({
            "_links": { "self": { "href": url }, "web": { "href": web } },
            "id": definition.id, "name": definition.name, "folder": "\\", "revision": 1, "url": url,
            "configuration": { "type": "yaml", "path": definition.yaml_path() },
        })
    }

    /// A run, which is a build by its newer name.
    pub(crate) fn run(&self, run: &Run) -> Value {
        let url = self.api(&format!("pipelines/{}/runs/{}", run.definition, run.id));
        let mut wire = json!({
            "_links": { "self": { "href": url }, "web": { "href": self.web(run) } },
            "id": run.id,
            "name": run.number,
            "url": url,
            "createdDate": time(run.queue_time),
            "templateParameters": run.parameters,
            "state": match run.status {
                crate::state::runs::RunStatus::Completed => "completed",
                crate::state::runs::RunStatus::Cancelling => "canceling",
                _ => "inProgress",
            },
        });
        if let Ok(definition) = self.state.definitions.get(self.project, run.definition) {
            wire["pipeline"] = self.pipeline(definition);
        }
        wire["resources"] = json!({ "repositories": { "self": {
            "refName": run.repository.reference,
            "version": run.repository.commit,
            "repository": { "type": "azureReposGit", "fullName": run.repository.name },
        } } });
        if let Some(finished) = run.finish_time {
            wire["finishedDate"] = time(finished);
        }
        // Runs know no partial success: it is a success (`PipelinesHttpClient`, `RunResult`).
        if let Some(result) = run.wire_result() {
            wire["result"] = json!(if result == "partiallySucceeded" { "succeeded" } else { result });
        }
        wire
    }

    /// The timeline of a build; its records' logs carry their addresses.
    pub(crate) fn timeline(&self, run: &Run, timeline: Timeline) -> Value {
        let url = self.api(&format!("build/builds/{}", run.id));
        let mut wire = json!(timeline);
        wire["url"] = json!(format!("{url}/Timeline/{}", timeline.id));
        wire["lastChangedOn"] = time(run.changed_on);
        for record in wire["records"].as_array_mut().into_iter().flatten() {
            if let Some(id) = record["log"]["id"].as_i64() {
                record["log"] = json!({ "id": id, "type": "Container", "url": format!("{url}/logs/{id}") });
            }
            for name in ["previousAttempts", "issues"] {
                if record.get(name).is_none() {
                    record[name] = json!([]);
                }
            }
            for secret in record["variables"].as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
                if secret["isSecret"] == json!(true) {
                    secret["value"] = Value::Null;
                }
            }
        }
        wire
    }

    /// A log of a build.
    pub(crate) fn log(&self, run: &Run, log: &TaskLog) -> Value {
        json!({
            "id": log.id, "type": "Container", "lineCount": log.line_count, "createdOn": log.created_on,
            "lastChangedOn": log.last_changed_on,
            "url": self.log_url(run, log.id),
        })
    }

    /// A log of a run.
    pub(crate) fn run_log(&self, run: &Run, log: &TaskLog) -> Value {
        let url = self.api(&format!("pipelines/{}/runs/{}/logs/{}", run.definition, run.id, log.id));
        let mut wire = self.log(run, log);
        wire["signedContent"] = json!({ "url": format!("{}/content", url), "signatureExpires": null });
        wire["url"] = json!(url);
        wire
    }

    /// An artifact, with the addresses of its files and of a zip of them.
    pub(crate) fn artifact(&self, run: &Run, artifact: &BuildArtifact) -> Value {
        let mut name = String::new();
        name.extend(url::form_urlencoded::byte_serialize(artifact.name.as_bytes()));
        let url = self.api(&format!("build/builds/{}/artifacts?artifactName={name}", run.id));
        let mut wire = json!(artifact);
        wire["resource"]["url"] = json!(url);
        if container_of(artifact).is_some() {
            wire["resource"]["downloadUrl"] = json!(format!("{url}&api-version=7.1&%24format=zip"));
        }
        wire
    }

    /// A repository of the git API.
    pub(crate) fn repository(&self, repository: &Repository) -> Value {
        let url = self.api(&format!("git/repositories/{}", repository.id));
        json!({
            "id": repository.id, "name": repository.name, "url": url, "project": self.project(),
            "defaultBranch": repository.default_branch, "size": 0, "isDisabled": false,
            "remoteUrl": self.clone_url(&repository.name), "webUrl": self.clone_url(&repository.name),
        })
    }
}

fn time(at: Timestamp) -> Value {
    json!(DateTime(at))
}
