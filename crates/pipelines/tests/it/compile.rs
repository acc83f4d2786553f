//! Text in, plan or job message out.

use std::collections::BTreeMap;

use dayfly_pipelines::{Compiled, Inputs, Source, compile};
use serde_json::Value;

pub(crate) fn source(text: &str) -> Source {
    Source { name: "azure-pipelines.yml".to_owned(), text: text.to_owned() }
}

/// Compiles what has to compile.
pub(crate) fn compiled(text: &str) -> Compiled {
    compile_with(text, &Inputs::default())
}

pub(crate) fn compile_with(text: &str, inputs: &Inputs) -> Compiled {
    match compile(&source(text), inputs) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("should compile:\n{diagnostics}"),
    }
}

pub(crate) fn parameters(pairs: &[(&str, Value)]) -> Inputs {
    Inputs {
        parameters: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
        ..Inputs::default()
    }
}

#[test]
fn steps_alone_are_one_job_of_one_stage() {
    let plan = compiled("steps:\n- script: echo hello\n").plan;
    let [stage] = plan.stages.as_slice() else { panic!("one stage") };
    let [job] = stage.jobs.as_slice() else { panic!("one job") };
    assert_eq!(
        (stage.name.as_str(), job.name.as_str(), job.display_name.as_str()),
        ("__default", "Job", "Job")
    );
    let steps: Vec<_> = job.steps.iter().map(|step| (step.name.as_str(), step.task.name.as_str())).collect();
    assert_eq!(steps, [("Checkout", "Checkout"), ("CmdLine", "CmdLine")]);
    insta::assert_json_snapshot!(job.steps[1].inputs, @r#"
{
  "script": "echo hello"
}
"#);
}

/// The plan as a tree of lines.
pub(crate) fn outline(text: &str) -> String {
    outline_of(&compiled(text))
}

pub(crate) fn outline_of(compiled: &Compiled) -> String {
    let mut lines = Vec::new();
    for variable in &compiled.plan.variables {
        lines.push(format!("{}={}", variable.name, variable.value));
    }
    for stage in &compiled.plan.stages {
        lines.push(format!("stage {}{}", stage.name, after(&stage.depends_on)));
        lines.extend(stage.condition.iter().map(|condition| format!("  if {condition}")));
        lines
            .extend(stage.variables.iter().map(|variable| format!("  {}={}", variable.name, variable.value)));
        for job in &stage.jobs {
            lines.push(format!("  job {}{}", job.name, after(&job.depends_on)));
            lines.extend(job.condition.iter().map(|condition| format!("    if {condition}")));
            lines.extend(
                job.variables.iter().map(|variable| format!("    {}={}", variable.name, variable.value)),
            );
            lines.extend(job.steps.iter().map(step));
            for hook in job.deployment.iter().flat_map(|deployment| &deployment.hooks) {
                lines.push(format!("    hook {}", hook.job_name));
                lines.extend(hook.steps.iter().map(step));
            }
        }
    }
    lines.join("\n")
}

fn after(depends_on: &[String]) -> String {
    if depends_on.is_empty() { String::new() } else { format!(" after {}", depends_on.join(", ")) }
}

fn step(step: &dayfly_pipelines::plan::Step) -> String {
    let inputs: Vec<String> = step.inputs.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let name = step.display_name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    format!("    {}{name} {}@{} {}", step.name, step.task.name, step.task.version, inputs.join(" "))
}

#[test]
fn every_shortcut_is_a_task() {
    let text = r"
resources:
  repositories:
  - repository: tools
    type: git
    name: shared/tools
  pipelines:
  - pipeline: upstream
    source: Upstream
jobs:
- job: all
  steps:
  - checkout: self
    fetchDepth: 1
    submodules: recursive
  - checkout: tools
    path: t
  - script: |
      echo one
      echo two
    workingDirectory: $(Build.SourcesDirectory)/x
    failOnStderr: true
  - bash: echo b
  - pwsh: echo p
    errorActionPreference: continue
  - powershell: echo w
    ignoreLASTEXITCODE: true
  - task: CopyFiles@2
    displayName: Copy
    inputs:
      Contents: '**'
  - publish: out
    artifact: drop
  - upload: out
    artifact: old
  - download: current
    artifact: drop
  - download: upstream
    patterns: '*.zip'
  - download: none
  - downloadBuild: b
    artifact: a
  - getPackage: p
    path: x
  - reviewApp: r
  - script: never
    enabled: false
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job all
    Checkout1 Checkout@1.0.0 fetchDepth="1" repository="self" submodules="recursive"
    Checkout2 Checkout@1.0.0 path="t" repository="tools"
    CmdLine CmdLine@2.279.1 failOnStderr="true" script="echo one\necho two\n" workingDirectory="$(Build.SourcesDirectory)/x"
    Bash Bash@3.278.0 script="echo b" targetType="inline"
    PowerShell1 PowerShell@2.279.0 errorActionPreference="continue" pwsh="true" script="echo p" targetType="inline"
    PowerShell2 PowerShell@2.279.0 ignoreLASTEXITCODE="true" script="echo w" targetType="inline"
    CopyFiles "Copy" CopyFiles@2.276.0 Contents="**"
    PublishPipelineArtifact1 PublishPipelineArtifact@1.242.0 artifact="drop" path="out"
    PublishPipelineArtifact2 PublishPipelineArtifact@1.242.0 artifact="old" path="out"
    DownloadPipelineArtifact1 DownloadPipelineArtifact@2.198.0 artifact="drop" buildType="current" path="$(Pipeline.Workspace)/drop"
    DownloadPipelineArtifact2 DownloadPipelineArtifact@2.198.0 alias="upstream" buildType="specific" path="$(Pipeline.Workspace)/upstream" patterns="*.zip"
    DownloadBuildArtifacts DownloadBuildArtifacts@0.275.3 artifact="a" definition="b"
    DownloadPackage DownloadPackage@1.275.0 definition="p" path="x"
    ReviewApp ReviewApp@0.275.0 resourceName="r"
"#);
}

#[test]
fn steps_are_named_after_their_tasks() {
    let text = r"
steps:
- checkout: none
- script: a
- script: b
- script: c
  name: CmdLine1
- bash: d
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job Job
    CmdLine2 CmdLine@2.279.1 script="a"
    CmdLine3 CmdLine@2.279.1 script="b"
    CmdLine1 CmdLine@2.279.1 script="c"
    Bash Bash@3.278.0 script="d" targetType="inline"
"#);
}

#[test]
fn values_stay_as_they_are_written() {
    let text = r#"
variables:
  version: 3.10
  mode: 0644
  empty:
  yes_: yes
  quoted: "a\tb"
  folded: >-
    one
    two
  nothing: ~
steps:
- checkout: none
"#;
    insta::assert_snapshot!(outline(text), @r"
version=3.10
mode=0644
empty=
yes_=yes
quoted=a	b
folded=one two
nothing=~
stage __default
  job Job
");
}

#[test]
fn stages_follow_one_another_unless_they_say_otherwise() {
    let text = r"
pool: build-pool
stages:
- stage: A
  jobs:
  - job: one
    pool:
      vmImage: ubuntu-latest
      demands:
      - npm
      - Agent.OS -equals Linux
  - job: two
    dependsOn: one
    condition: and(succeeded(), eq(variables['x'], 'y'))
    variables:
    - name: x
      value: y
      readonly: true
- stage: B
  variables:
    z: $[ counter('a', 5) ]
  jobs:
  - job:
  - job:
- stage: C
  dependsOn: []
  trigger: manual
  jobs:
  - job: x
    steps:
    - script: x
- stage:
  dependsOn: [A, C]
  condition: always()
  jobs:
  - deployment: ship
    environment: prod.web
    strategy:
      runOnce:
        preDeploy:
          steps:
          - script: pre
        deploy:
          steps:
          - script: go
        on:
          failure:
            steps:
            - script: undo
";
    let compiled = compiled(text);
    insta::assert_snapshot!(outline_of(&compiled), @r#"
stage A
  job one
    Checkout Checkout@1.0.0 repository="self"
  job two after one
    if and(succeeded(), eq(variables['x'], 'y'))
    x=y
    Checkout Checkout@1.0.0 repository="self"
stage B after A
  z=$[ counter('a', 5) ]
  job Job1
    Checkout Checkout@1.0.0 repository="self"
  job Job2
    Checkout Checkout@1.0.0 repository="self"
stage C
  job x
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="x"
stage Stage1 after A, C
  if always()
  job ship
    hook preDeploy_web
    CmdLine CmdLine@2.279.1 script="pre"
    hook Deploy_web
    DownloadPipelineArtifact DownloadPipelineArtifact@2.198.0 buildType="current"
    CmdLine CmdLine@2.279.1 script="go"
"#);
    let stages = &compiled.plan.stages;
    assert_eq!(stages[0].jobs[0].pool.demands, ["npm", "Agent.OS -equals Linux"]);
    assert_eq!(stages[0].jobs[0].pool.name, None, "a job's own pool replaces the pipeline's");
    assert_eq!(stages[1].jobs[0].pool.name.as_deref(), Some("build-pool"));
    assert!(stages[2].manual && !stages[1].manual);
    assert!(stages[0].jobs[1].variables[0].read_only);
}

#[test]
fn root_keys_of_a_job_belong_to_the_only_job() {
    let text = r"
name: $(Build.DefinitionName)-$(Rev:r)
trigger: [main, releases/*]
pr:
  branches:
    exclude: [wip/*]
  drafts: false
schedules:
- cron: 0 3 * * *
  displayName: nightly
  branches:
    include: [main]
  always: true
lockBehavior: sequential
continueOnError: true
timeoutInMinutes: 5
strategy:
  maxParallel: 2
  matrix:
    a:
      v: 1
    b:
      v: 2
container: ubuntu:22.04
services:
  db: postgres:16
workspace:
  clean: all
steps:
- script: x
  target:
    container: host
    commands: restricted
    settableVariables: [a]
  env:
    A: $(a)
  retryCountOnTaskFailure: 3
  timeoutInMinutes: 2
  continueOnError: true
  condition: failed()
  name: s
";
    insta::assert_json_snapshot!(compiled(text).plan, @r#"
{
  "name": "$(Build.DefinitionName)-$(Rev:r)",
  "appendCommitMessageToRunName": true,
  "lockBehavior": "sequential",
  "trigger": {
    "kind": "filters",
    "batch": false,
    "branches": {
      "include": [
        "main",
        "releases/*"
      ],
      "exclude": []
    },
    "paths": {
      "include": [],
      "exclude": []
    },
    "tags": {
      "include": [],
      "exclude": []
    }
  },
  "pullRequest": {
    "kind": "filters",
    "autoCancel": true,
    "drafts": false,
    "branches": {
      "include": [],
      "exclude": [
        "wip/*"
      ]
    },
    "paths": {
      "include": [],
      "exclude": []
    }
  },
  "schedules": [
    {
      "cron": "0 3 * * *",
      "displayName": "nightly",
      "branches": {
        "include": [
          "main"
        ],
        "exclude": []
      },
      "batch": false,
      "always": true
    }
  ],
  "parameters": [],
  "variables": [],
  "variableGroups": [],
  "resources": {
    "repositories": [],
    "containers": [],
    "pipelines": [],
    "others": []
  },
  "stages": [
    {
      "name": "__default",
      "displayName": "__default",
      "dependsOn": [],
      "condition": null,
      "variables": [],
      "manual": false,
      "skippable": true,
      "lockBehavior": null,
      "jobs": [
        {
          "name": "Job",
          "displayName": "Job",
          "dependsOn": [],
          "condition": null,
          "continueOnError": true,
          "timeoutInMinutes": 5,
          "cancelTimeoutInMinutes": 5,
          "variables": [],
          "strategy": {
            "kind": "matrix",
            "legs": [
              {
                "name": "a",
                "variables": [
                  {
                    "name": "v",
                    "value": "1",
                    "readonly": false
                  }
                ]
              },
              {
                "name": "b",
                "variables": [
                  {
                    "name": "v",
                    "value": "2",
                    "readonly": false
                  }
                ]
              }
            ],
            "maxParallel": 2
          },
          "pool": {
            "name": null,
            "vmImage": null,
            "server": false
          },
          "container": {
            "kind": "text",
            "value": "ubuntu:22.04"
          },
          "services": [
            {
              "name": "db",
              "container": {
                "kind": "text",
                "value": "postgres:16"
              }
            }
          ],
          "workspaceClean": "all",
          "usesRepositories": [],
          "usesPools": [],
          "steps": [
            {
              "name": "Checkout",
              "displayName": null,
              "task": {
                "id": "6d15af64-176c-496d-b583-fd2ae21d4df4",
                "name": "Checkout",
                "version": "1.0.0"
              },
              "inputs": {
                "repository": "self"
              },
              "condition": null,
              "continueOnError": false,
              "timeoutInMinutes": 0,
              "retryCountOnTaskFailure": 0,
              "target": null
            },
            {
              "name": "s",
              "displayName": null,
              "task": {
                "id": "d9bafed4-0b18-4f58-968d-86655b4d2ce9",
                "name": "CmdLine",
                "version": "2.279.1"
              },
              "inputs": {
                "script": "x"
              },
              "env": {
                "A": "$(a)"
              },
              "condition": "failed()",
              "continueOnError": true,
              "timeoutInMinutes": 2,
              "retryCountOnTaskFailure": 3,
              "target": {
                "container": "host",
                "restricted": true,
                "settableVariables": [
                  "a"
                ]
              }
            }
          ],
          "deployment": null
        }
      ]
    }
  ]
}
"#);
}

#[test]
fn variable_groups_are_warned_of_once() {
    let text =
        "variables:\n- group: secrets\n- group: secrets\n- name: a\n  value: 1\nsteps:\n- checkout: none\n";
    let compiled = compiled(text);
    assert_eq!(compiled.plan.variable_groups, ["secrets"]);
    insta::assert_snapshot!(compiled.warnings, @r"
warning: the variable group `secrets` is kept in Azure DevOps, so its variables are not set here
 --> azure-pipelines.yml:2:10
  |
2 | - group: secrets
  |          ^^^^^^^
  |
  = help: pass its values when you start the run: `dayfly run --variable-group secrets=@FILE`, or one by one as variables and secrets
");
}

#[test]
fn values_of_a_variable_group_take_its_place() {
    let text = "variables:
- {name: before, value: file}
- group: Prod
- {name: after, value: file}
steps:
- script: echo ${{ coalesce(variables.host, 'not seen here') }}
";
    let values = ["before", "after", "host"].map(|name| (name.to_owned(), "group".to_owned()));
    let inputs = Inputs { variable_groups: [("prod".to_owned(), values.into())].into(), ..Inputs::default() };
    let with_values = compile_with(text, &inputs);
    assert!(with_values.warnings.is_empty());
    let mut found: Vec<_> = with_values
        .plan
        .variables
        .iter()
        .map(|variable| (variable.name.as_str(), variable.value.as_str()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("after", "file"), ("before", "group"), ("host", "group")], "the later one wins");
    assert_eq!(
        with_values.plan.stages[0].jobs[0].steps.last().unwrap().inputs["script"],
        "echo not seen here"
    );

    let without = compiled(text);
    assert_eq!(
        without.warnings.reports()[0].message,
        "the variable group `Prod` is kept in Azure DevOps, so its variables are not set here"
    );
}
