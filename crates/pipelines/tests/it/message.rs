//! Job messages.

use std::collections::BTreeMap;

use dayfly_pipelines::{
    RunContext, RunInputs, message,
    message::{BuildContext, MessageError, RepositoryContext},
};
use dayfly_protocol::{
    PlanId, ProjectId, TimelineId,
    job::{AgentJobRequestMessage, ServiceEndpoint},
    json,
    plan::{TaskOrchestrationOwner, TaskOrchestrationPlanReference},
    timeline::VariableValue,
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::orchestrate::Run;

fn context() -> RunContext {
    let owner =
        |id, name: &str| Some(TaskOrchestrationOwner { id, name: name.to_owned(), links: BTreeMap::new() });
    RunContext {
        plan: TaskOrchestrationPlanReference {
            scope_identifier: ProjectId(Uuid::from_u128(1)),
            plan_type: "Build".to_owned(),
            version: 9,
            plan_id: PlanId(Uuid::from_u128(2)),
            plan_group: Some("Build:1:7".to_owned()),
            artifact_uri: Some("vstfs:///Build/Build/7".to_owned()),
            definition: owner(3, "hello"),
            owner: owner(7, "20261124.1"),
        },
        timeline: TimelineId(Uuid::from_u128(4)),
        collection_url: "http://127.0.0.1:8080/dayfly/".parse().expect("an address"),
        collection_id: Uuid::from_u128(5),
        project: ProjectId(Uuid::from_u128(1)),
        project_name: "demo".to_owned(),
        build: BuildContext {
            id: 7,
            number: "20261124.1".to_owned(),
            reason: "Manual".to_owned(),
            definition_id: 3,
            definition_name: "hello".to_owned(),
            definition_version: 1,
            requested_for: "Ada".to_owned(),
            requested_for_id: Uuid::from_u128(6),
            requested_for_email: "ada@example.com".to_owned(),
            container_id: 8,
        },
        repositories: vec![RepositoryContext {
            alias: "self".to_owned(),
            id: "repo-id".to_owned(),
            repository_type: "Git".to_owned(),
            name: "hello".to_owned(),
            url: "http://127.0.0.1:8080/dayfly/demo/_git/hello".parse().expect("an address"),
            reference: "refs/heads/feature/x".to_owned(),
            version: "0123456789012345678901234567890123456789".to_owned(),
            default_branch: "refs/heads/main".to_owned(),
            author: "Ada".to_owned(),
            message: "Say hello\n\nbody".to_owned(),
            checkout: BTreeMap::from([("fetchDepth".to_owned(), "1".to_owned())]),
        }],
        pipelines: Vec::new(),
        environments: Vec::new(),
        secure_files: Vec::new(),
        endpoints: ["Api", "other"].map(connection).into(),
        start_time: "2026-11-24 20:55:00+00:00".to_owned(),
    }
}

fn connection(name: &str) -> ServiceEndpoint {
    let id = Some(Uuid::from_u128(name.len() as u128));
    ServiceEndpoint { id, name: Some(name.to_owned()), ..ServiceEndpoint::default() }
}

#[test]
fn a_job_gets_the_service_connections_that_its_steps_name_by_their_ids() {
    let text = "
variables: { name: api }
steps:
- task: Kubernetes@1
  inputs: { kubernetesServiceEndpoint: $(name), arguments: api }
- script: echo other connections
";
    let message = sent(text, "Job.__default").unwrap();
    let names = message.resources.endpoints.iter().map(|endpoint| endpoint.name.as_deref().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["SystemVssConnection", "Api"]);
    let inputs = &message.steps[1].inputs;
    assert_eq!(inputs["kubernetesServiceEndpoint"], Uuid::from_u128(3).to_string());
    assert_eq!(inputs["arguments"], "api");
}

fn sent(text: &str, identifier: &str) -> Result<AgentJobRequestMessage, MessageError> {
    let context = context();
    let mut variables = context.variables();
    variables.insert("password".to_owned(), VariableValue::secret("hunter22"));
    variables.insert("Build.BuildId".to_owned(), VariableValue::public("not this"));
    let mut run = Run::with(text, RunInputs { variables, ..RunInputs::default() });
    run.advance();
    message(run.job(identifier), &context, &SecretString::from("a.b"))
}

#[test]
fn the_whole_message() {
    let text = r"
resources:
  containers:
  - container: db
    image: postgres:16
    ports: ['5432:5432']
    env: {A: b}
variables:
- name: color
  value: red
  readonly: true
- name: Build.Reason
  value: mine
stages:
- stage: Build
  displayName: Build it
  jobs:
  - job: test
    displayName: Test it
    strategy:
      matrix:
        linux: {os: Linux}
    container: alpine:3
    services:
      db: db
    workspace: {clean: outputs}
    steps:
    - checkout: self
    - script: echo $(color)
      name: say
      displayName: Say $(color)
      condition: always()
      env: {TOKEN: $(System.AccessToken)}
      retryCountOnTaskFailure: 2
      timeoutInMinutes: 3
      continueOnError: true
    - bash: echo
      target:
        container: db
        commands: restricted
        settableVariables: none
";
    let message = sent(text, "Build.test.linux").expect("all repositories are there");
    let text = json::to_string(&message).expect("a message is JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("our own JSON");
    insta::assert_json_snapshot!(value, @r#"
{
  "jobContainer": "alpine:3",
  "jobDisplayName": "Test it linux",
  "jobId": "b08a78d6-c9ce-53c1-53b1-9a5d436f78f6",
  "jobName": "linux",
  "jobSidecarContainers": {
    "db": "db"
  },
  "mask": [
    {
      "type": "regex",
      "value": "a\\.b"
    }
  ],
  "messageType": "PipelineAgentJobRequest",
  "plan": {
    "artifactUri": "vstfs:///Build/Build/7",
    "definition": {
      "id": 3,
      "name": "hello"
    },
    "owner": {
      "id": 7,
      "name": "20261124.1"
    },
    "planGroup": "Build:1:7",
    "planId": "00000000-0000-0000-0000-000000000002",
    "planType": "Build",
    "scopeIdentifier": "00000000-0000-0000-0000-000000000001",
    "version": 9
  },
  "requestId": 0,
  "resources": {
    "containers": [
      {
        "alias": "alpine:3",
        "properties": {
          "image": "alpine:3"
        }
      },
      {
        "alias": "db",
        "properties": {
          "env": {
            "A": "b"
          },
          "image": "postgres:16",
          "ports": [
            "5432:5432"
          ]
        }
      }
    ],
    "endpoints": [
      {
        "authorization": {
          "parameters": {
            "AccessToken": "a.b"
          },
          "scheme": "OAuth"
        },
        "data": {
          "ServerId": "00000000-0000-0000-0000-000000000005",
          "ServerName": "127.0.0.1"
        },
        "name": "SystemVssConnection",
        "url": "http://127.0.0.1:8080/dayfly/"
      }
    ],
    "repositories": [
      {
        "alias": "self",
        "endpoint": {
          "name": "SystemVssConnection"
        },
        "properties": {
          "checkoutOptions": {
            "fetchDepth": "1"
          },
          "defaultBranch": "refs/heads/main",
          "id": "repo-id",
          "name": "hello",
          "ref": "refs/heads/feature/x",
          "type": "Git",
          "url": "http://127.0.0.1:8080/dayfly/demo/_git/hello",
          "version": "0123456789012345678901234567890123456789",
          "versionInfo": {
            "author": "Ada",
            "message": "Say hello\n\nbody"
          }
        }
      }
    ],
    "secureFiles": []
  },
  "steps": [
    {
      "condition": "succeeded()",
      "continueOnError": false,
      "displayName": "Checkout hello@feature/x to s",
      "enabled": true,
      "environment": {},
      "id": "f0c865e2-0999-5511-138f-96b0127967f4",
      "inputs": {
        "repository": "self"
      },
      "name": "Checkout",
      "reference": {
        "id": "6d15af64-176c-496d-b583-fd2ae21d4df4",
        "name": "Checkout",
        "version": "1.0.0"
      },
      "retryCountOnTaskFailure": 0,
      "timeoutInMinutes": 0,
      "type": "task"
    },
    {
      "condition": "always()",
      "continueOnError": true,
      "displayName": "Say $(color)",
      "enabled": true,
      "environment": {
        "TOKEN": "$(System.AccessToken)"
      },
      "id": "e94a989d-ccee-5cc3-16c3-e1773a41b701",
      "inputs": {
        "script": "echo $(color)"
      },
      "name": "say",
      "reference": {
        "id": "d9bafed4-0b18-4f58-968d-86655b4d2ce9",
        "name": "CmdLine",
        "version": "2.279.1"
      },
      "retryCountOnTaskFailure": 2,
      "timeoutInMinutes": 3,
      "type": "task"
    },
    {
      "condition": "succeeded()",
      "continueOnError": false,
      "displayName": "Bash",
      "enabled": true,
      "environment": {},
      "id": "962c2805-e819-5f6a-b8eb-ecee0b35f534",
      "inputs": {
        "script": "echo",
        "targetType": "inline"
      },
      "name": "Bash",
      "reference": {
        "id": "6c731c3c-3c68-459a-a5c9-bde6e6595b5b",
        "name": "Bash",
        "version": "3.278.0"
      },
      "retryCountOnTaskFailure": 0,
      "target": {
        "commands": "restricted",
        "settableVariables": {
          "allowed": []
        },
        "target": "db"
      },
      "timeoutInMinutes": 0,
      "type": "task"
    }
  ],
  "timeline": {
    "changeId": 0,
    "id": "00000000-0000-0000-0000-000000000004"
  },
  "variables": {
    "AGENT_USE_FETCH_FILTER_IN_CHECKOUT_TASK": {
      "isReadOnly": true,
      "value": "true"
    },
    "ENABLE_ISSUE_SOURCE_VALIDATION": {
      "isReadOnly": true,
      "value": "true"
    },
    "System.JobPositionInPhase": {
      "isReadOnly": true,
      "value": "1"
    },
    "System.TotalJobsInPhase": {
      "isReadOnly": true,
      "value": "1"
    },
    "agent.disablelogplugin.TestFilePublisherPlugin": {
      "isReadOnly": true,
      "value": "true"
    },
    "agent.disablelogplugin.TestResultLogPlugin": {
      "isReadOnly": true,
      "value": "true"
    },
    "agent.readOnlyVariables": {
      "isReadOnly": true,
      "value": "true"
    },
    "agent.retainDefaultEncoding": {
      "isReadOnly": true,
      "value": "false"
    },
    "agent.taskRestrictionsEnforcementMode": {
      "isReadOnly": true,
      "value": "Enabled"
    },
    "agent.useWorkspaceId": {
      "isReadOnly": true,
      "value": "true"
    },
    "build.buildId": {
      "isReadOnly": true,
      "value": "7"
    },
    "build.buildNumber": {
      "isReadOnly": true,
      "value": "20261124.1"
    },
    "build.buildUri": {
      "isReadOnly": true,
      "value": "vstfs:///Build/Build/7"
    },
    "build.containerId": {
      "isReadOnly": true,
      "value": "8"
    },
    "build.definitionName": {
      "isReadOnly": true,
      "value": "hello"
    },
    "build.definitionVersion": {
      "isReadOnly": true,
      "value": "1"
    },
    "build.queuedBy": {
      "isReadOnly": true,
      "value": "Ada"
    },
    "build.queuedById": {
      "isReadOnly": true,
      "value": "00000000-0000-0000-0000-000000000006"
    },
    "build.reason": {
      "isReadOnly": true,
      "value": "Manual"
    },
    "build.repository.id": {
      "isReadOnly": true,
      "value": "repo-id"
    },
    "build.repository.name": {
      "isReadOnly": true,
      "value": "hello"
    },
    "build.repository.provider": {
      "isReadOnly": true,
      "value": "TfsGit"
    },
    "build.repository.uri": {
      "isReadOnly": true,
      "value": "http://127.0.0.1:8080/dayfly/demo/_git/hello"
    },
    "build.requestedFor": {
      "isReadOnly": true,
      "value": "Ada"
    },
    "build.requestedForEmail": {
      "isReadOnly": true,
      "value": "ada@example.com"
    },
    "build.requestedForId": {
      "isReadOnly": true,
      "value": "00000000-0000-0000-0000-000000000006"
    },
    "build.sourceBranch": {
      "isReadOnly": true,
      "value": "refs/heads/feature/x"
    },
    "build.sourceBranchName": {
      "isReadOnly": true,
      "value": "x"
    },
    "build.sourceVersion": {
      "isReadOnly": true,
      "value": "0123456789012345678901234567890123456789"
    },
    "build.sourceVersionAuthor": {
      "isReadOnly": true,
      "value": "Ada"
    },
    "build.sourceVersionMessage": {
      "isReadOnly": true,
      "value": "Say hello"
    },
    "color": {
      "isReadOnly": true,
      "value": "red"
    },
    "os": {
      "value": "Linux"
    },
    "password": {
      "isSecret": true,
      "value": "hunter22"
    },
    "system": {
      "isReadOnly": true,
      "value": "build"
    },
    "system.accessToken": {
      "isReadOnly": true,
      "isSecret": true,
      "value": "a.b"
    },
    "system.collectionId": {
      "isReadOnly": true,
      "value": "00000000-0000-0000-0000-000000000005"
    },
    "system.collectionUri": {
      "isReadOnly": true,
      "value": "http://127.0.0.1:8080/dayfly/"
    },
    "system.culture": {
      "isReadOnly": true,
      "value": "en-US"
    },
    "system.definitionId": {
      "isReadOnly": true,
      "value": "3"
    },
    "system.definitionName": {
      "isReadOnly": true,
      "value": "hello"
    },
    "system.enableAccessToken": {
      "isReadOnly": true,
      "value": "SecretVariable"
    },
    "system.hosttype": {
      "isReadOnly": true,
      "value": "build"
    },
    "system.isScheduled": {
      "isReadOnly": true,
      "value": "False"
    },
    "system.jobAttempt": {
      "isReadOnly": true,
      "value": "1"
    },
    "system.jobDisplayName": {
      "isReadOnly": true,
      "value": "Test it linux"
    },
    "system.jobId": {
      "isReadOnly": true,
      "value": "b08a78d6-c9ce-53c1-53b1-9a5d436f78f6"
    },
    "system.jobIdentifier": {
      "isReadOnly": true,
      "value": "Build.test.linux"
    },
    "system.jobName": {
      "isReadOnly": true,
      "value": "linux"
    },
    "system.jobParallelismTag": {
      "isReadOnly": true,
      "value": "Private"
    },
    "system.jobTimeout": {
      "isReadOnly": true,
      "value": "60"
    },
    "system.phaseAttempt": {
      "isReadOnly": true,
      "value": "1"
    },
    "system.phaseDisplayName": {
      "isReadOnly": true,
      "value": "Test it"
    },
    "system.phaseId": {
      "isReadOnly": true,
      "value": "76e099f0-4207-5532-7a0d-7898a0b409c1"
    },
    "system.phaseName": {
      "isReadOnly": true,
      "value": "test"
    },
    "system.pipelineStartTime": {
      "isReadOnly": true,
      "value": "2026-11-24 20:55:00+00:00"
    },
    "system.planId": {
      "isReadOnly": true,
      "value": "00000000-0000-0000-0000-000000000002"
    },
    "system.servertype": {
      "isReadOnly": true,
      "value": "Hosted"
    },
    "system.stageAttempt": {
      "isReadOnly": true,
      "value": "1"
    },
    "system.stageDisplayName": {
      "isReadOnly": true,
      "value": "Build it"
    },
    "system.stageId": {
      "isReadOnly": true,
      "value": "6884a131-87da-5381-61f3-d7acc3b91d76"
    },
    "system.stageName": {
      "isReadOnly": true,
      "value": "Build"
    },
    "system.taskDefinitionsUri": {
      "isReadOnly": true,
      "value": "http://127.0.0.1:8080/dayfly/"
    },
    "system.teamFoundationCollectionUri": {
      "isReadOnly": true,
      "value": "http://127.0.0.1:8080/dayfly/"
    },
    "system.teamProject": {
      "isReadOnly": true,
      "value": "demo"
    },
    "system.teamProjectId": {
      "isReadOnly": true,
      "value": "00000000-0000-0000-0000-000000000001"
    },
    "system.timelineId": {
      "isReadOnly": true,
      "value": "00000000-0000-0000-0000-000000000004"
    }
  },
  "workspace": {
    "clean": "outputs"
  }
}
"#);
    let back: AgentJobRequestMessage = json::from_str(&text).expect("the message reads back");
    assert_eq!(back, message);
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let text =
        "resources:\n  repositories:\n  - repository: tools\n    name: tools\nsteps:\n- checkout: tools\n";
    let error = sent(text, "Job.__default").expect_err("there is no such repository");
    assert_eq!(error.to_string(), "the job `Job` uses the repository `tools`, which is not available here");
}

#[test]
fn the_token_shows_in_no_debug_text() {
    let message = sent("steps: []\n", "Job.__default").expect("all repositories are there");
    let text = format!("{message:?}");
    assert!(!text.contains("a.b") && !text.contains("hunter22"), "{text}");
}
