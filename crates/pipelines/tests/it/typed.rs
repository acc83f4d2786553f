//! Parameters of the types step, job, stage and their lists: calls of templates within them, their form, and
//! what is checked.

use dayfly_pipelines::compile;
use serde_json::json;

use crate::compile::{compile_with, outline_of, parameters, source};
use crate::files::{inputs, outline, rejected};

/// Everything that a template sees of a value, as JSON.
fn seen(kind: &str, value: &str) -> String {
    let root = format!("steps:\n- template: t.yml\n  parameters:\n    value:\n{}", indented(value));
    let template = format!(
        "parameters:\n- name: value\n  type: {kind}\nsteps:\n- checkout: none\n- script: ${{{{ convertToJson(parameters.value) }}}}\n"
    );
    let compiled = compile_with(&root, &inputs(&[("t.yml", &template)]));
    compiled.plan.stages[0].jobs[0].steps[0].inputs["script"].clone()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

#[test]
fn steps_are_tasks_before_a_template_sees_them() {
    insta::assert_snapshot!(seen(
        "stepList",
        "- script: a
  workingDirectory: w
  displayName: Say a
- bash: b
  env: {X: 1}
- pwsh: c
- powershell: d
- checkout: self
  fetchDepth: 1
- checkout: none
- publish: out
  artifact: drop
- download: current
  artifact: drop
- download: none
- task: Npm@1
  inputs: {command: ci}
  target: host"
    ), @r#"
[
  {
    "task": "CmdLine@2",
    "displayName": "Say a",
    "inputs": {
      "workingDirectory": "w",
      "script": "a"
    }
  },
  {
    "task": "Bash@3",
    "inputs": {
      "targetType": "inline",
      "script": "b"
    },
    "env": {
      "X": "1"
    }
  },
  {
    "task": "PowerShell@2",
    "inputs": {
      "targetType": "inline",
      "pwsh": "true",
      "script": "c"
    }
  },
  {
    "task": "PowerShell@2",
    "inputs": {
      "targetType": "inline",
      "script": "d"
    }
  },
  {
    "task": "6d15af64-176c-496d-b583-fd2ae21d4df4@1",
    "inputs": {
      "fetchDepth": "1",
      "repository": "self"
    }
  },
  {
    "task": "6d15af64-176c-496d-b583-fd2ae21d4df4@1",
    "condition": "false",
    "inputs": {
      "repository": "none"
    }
  },
  {
    "task": "ecdc45f6-832d-4ad9-b52b-ee49e94659be@1",
    "inputs": {
      "artifactName": "drop",
      "path": "out"
    }
  },
  {
    "task": "30f35852-3f7e-4c0c-9a88-e127b4f97211@1",
    "inputs": {
      "artifact": "drop",
      "alias": "current"
    }
  },
  {
    "task": "30f35852-3f7e-4c0c-9a88-e127b4f97211@1",
    "condition": "false",
    "inputs": {
      "alias": "none"
    }
  },
  {
    "task": "Npm@1",
    "target": {
      "container": "host"
    },
    "inputs": {
      "command": "ci"
    }
  }
]
"#);
}

#[test]
fn jobs_and_stages_are_in_their_form_before_a_template_sees_them() {
    insta::assert_snapshot!(seen(
        "stageList",
        "- stage: A
  dependsOn: Z
  pool: mine
  variables: {a: 1}
  jobs:
  - job: j
    dependsOn: ''
    pool: {name: q, demands: git}
    steps:
    - script: x
  - job: s
    pool: server
  - deployment: d
    environment: staging
    strategy:
      runOnce:
        preDeploy: {pool: p, steps: [{bash: before}]}
        deploy:
          steps:
          - script: y
        on: {failure: {steps: [{pwsh: z}]}}
    templateContext: {script: kept}"
    ), @r#"
[
  {
    "stage": "A",
    "dependsOn": [
      "Z"
    ],
    "pool": {
      "name": "mine"
    },
    "variables": [
      {
        "name": "a",
        "value": "1"
      }
    ],
    "jobs": [
      {
        "job": "j",
        "dependsOn": [],
        "pool": {
          "name": "q",
          "demands": [
            "git"
          ]
        },
        "steps": [
          {
            "task": "CmdLine@2",
            "inputs": {
              "script": "x"
            }
          }
        ]
      },
      {
        "job": "s",
        "pool": "server"
      },
      {
        "deployment": "d",
        "environment": {
          "name": "staging"
        },
        "strategy": {
          "runOnce": {
            "preDeploy": {
              "pool": {
                "name": "p"
              },
              "steps": [
                {
                  "task": "Bash@3",
                  "inputs": {
                    "targetType": "inline",
                    "script": "before"
                  }
                }
              ]
            },
            "deploy": {
              "steps": [
                {
                  "task": "CmdLine@2",
                  "inputs": {
                    "script": "y"
                  }
                }
              ]
            },
            "on": {
              "failure": {
                "steps": [
                  {
                    "task": "PowerShell@2",
                    "inputs": {
                      "targetType": "inline",
                      "pwsh": "true",
                      "script": "z"
                    }
                  }
                ]
              }
            }
          }
        },
        "templateContext": {
          "script": "kept"
        }
      }
    ]
  }
]
"#);
    // Whatever is no part of a pipeline is left alone.
    insta::assert_snapshot!(seen("object", "- script: a\n- {environment: b}"), @r#"
[
  {
    "script": "a"
  },
  {
    "environment": "b"
  }
]
"#);
}

#[test]
fn a_guard_finds_scripts_and_a_name() {
    let root = "extends:
  template: guard.yml
  parameters:
    work: [{script: make}, {bash: make}, {task: Npm@1}]
    target: {deployment: d, environment: staging, strategy: {runOnce: {deploy: {steps: [{script: x}]}}}}
";
    let guard = "parameters:
- {name: work, type: stepList}
- {name: target, type: deployment}
jobs:
- job: guarded
  displayName: ${{ parameters.target.environment.name }}
  steps:
  - checkout: none
  - ${{ each one in parameters.work }}:
    - ${{ if in(one.task, 'CmdLine@2', 'Bash@3') }}:
      - pwsh: refused
    - ${{ else }}:
      - ${{ one }}
- ${{ parameters.target }}
";
    insta::assert_snapshot!(outline(root, &[("guard.yml", guard)]), @r#"
stage __default
  job guarded
    PowerShell1 PowerShell@2.279.0 pwsh="true" script="refused" targetType="inline"
    PowerShell2 PowerShell@2.279.0 pwsh="true" script="refused" targetType="inline"
    Npm Npm@1.275.0 
  job d
    hook d
    DownloadPipelineArtifact DownloadPipelineArtifact@2.198.0 buildType="current"
    CmdLine CmdLine@2.279.1 script="x"
"#);
    let root = "parameters:\n- {name: ss, type: stepList, default: [{script: echo hi}]}\nsteps:\n- checkout: none\n\
        - ${{ each s in parameters.ss }}:\n  - bash: echo ${{ s.task }}\n";
    insta::assert_snapshot!(outline(root, &[]), @r#"
stage __default
  job Job
    Bash Bash@3.278.0 script="echo CmdLine@2" targetType="inline"
"#);
    let given = parameters(&[("ss", json!("- pwsh: x\n- checkout: self"))]);
    insta::assert_snapshot!(outline_of(&compile_with(root, &given)), @r#"
stage __default
  job Job
    Bash1 Bash@3.278.0 script="echo PowerShell@2" targetType="inline"
    Bash2 Bash@3.278.0 script="echo 6d15af64-176c-496d-b583-fd2ae21d4df4@1" targetType="inline"
"#);
}

/// `main` hands `value` to a parameter of type `kind`, and the template places it as `placed`.
fn handed(kind: &str, value: &str, placed: &str) -> String {
    let root = format!("extends:\n  template: e.yml\n  parameters:\n    given:\n{}", indented(value));
    let template = format!("parameters:\n- name: given\n  type: {kind}\n{placed}");
    let files = [
        ("e.yml", template.as_str()),
        ("stages.yml", "stages:\n- stage: s\n  jobs:\n  - template: jobs.yml\n"),
        ("jobs.yml", "jobs:\n- job: j\n  steps:\n  - template: steps.yml\n"),
        ("steps.yml", "parameters: {text: default}\nsteps:\n- script: ${{ parameters.text }}\n"),
        ("variables.yml", "variables: {v: from a template}\n"),
    ];
    outline(&root, &files)
}

#[test]
fn calls_within_values_are_placed_at_every_level_and_type() {
    let stages = "stages:\n- ${{ parameters.given }}\n";
    let jobs = "jobs:\n- ${{ parameters.given }}\n";
    let steps = "steps:\n- checkout: none\n- ${{ parameters.given }}\n";
    let all = [
        ("stageList", "- template: stages.yml", stages),
        ("stageList", "- stage: a\n  jobs:\n  - template: jobs.yml", stages),
        ("object", "- stage: a\n  jobs:\n  - template: jobs.yml", stages),
        ("object", "- stage: a\n  jobs:\n  - template: jobs.yml", "stages: ${{ parameters.given }}\n"),
        (
            "stageList",
            "- stage: a\n  variables:\n  - template: variables.yml\n  jobs:\n  - job: b\n    steps:\n    \
             - template: steps.yml\n      parameters: {text: handed}",
            stages,
        ),
        ("stage", "stage: a\njobs:\n- template: jobs.yml", stages),
        ("stage", "template: stages.yml", stages),
        ("jobList", "- template: jobs.yml", jobs),
        ("jobList", "- job: b\n  steps:\n  - template: steps.yml", jobs),
        ("job", "job: b\nsteps:\n- template: steps.yml", jobs),
        (
            "deploymentList",
            "- deployment: d\n  strategy:\n    runOnce:\n      deploy:\n        steps:\n        - template: steps.yml",
            jobs,
        ),
        (
            "deployment",
            "deployment: d\nstrategy:\n  canary:\n    on:\n      success: {steps: [{template: steps.yml}]}\n    \
             deploy: {steps: [{template: steps.yml}]}",
            jobs,
        ),
        ("stepList", "- template: steps.yml", steps),
        ("step", "template: steps.yml", steps),
        (
            "stepList",
            "- ${{ if true }}:\n  - template: steps.yml\n- ${{ each x in split('a,b', ',') }}:\n  - template: steps.yml\n    parameters: {text: '${{ x }}'}",
            steps,
        ),
        (
            "jobList",
            "- job: b\n  ${{ insert }}:\n    steps:\n    - template: steps.yml",
            "jobs:\n- ${{ each job in parameters.given }}:\n  - ${{ each pair in job }}:\n      ${{ pair.key }}: ${{ pair.value }}\n",
        ),
        (
            "object",
            "job: b\nsteps:\n- template: steps.yml",
            "jobs:\n- ${{ each pair in parameters.given }}:\n    ${{ pair.key }}: ${{ pair.value }}\n",
        ),
    ];
    let shown: Vec<String> = all
        .iter()
        .map(|(kind, value, placed)| format!("{kind}\n{value}\n=>\n{}", handed(kind, value, placed)))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
stageList
- template: stages.yml
=>
stage s
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
stageList
- stage: a
  jobs:
  - template: jobs.yml
=>
stage a
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
object
- stage: a
  jobs:
  - template: jobs.yml
=>
stage a
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
object
- stage: a
  jobs:
  - template: jobs.yml
=>
stage a
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
stageList
- stage: a
  variables:
  - template: variables.yml
  jobs:
  - job: b
    steps:
    - template: steps.yml
      parameters: {text: handed}
=>
stage a
  v=from a template
  job b
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="handed"
stage
stage: a
jobs:
- template: jobs.yml
=>
stage a
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
stage
template: stages.yml
=>
stage s
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
jobList
- template: jobs.yml
=>
stage __default
  job j
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
jobList
- job: b
  steps:
  - template: steps.yml
=>
stage __default
  job b
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
job
job: b
steps:
- template: steps.yml
=>
stage __default
  job b
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
deploymentList
- deployment: d
  strategy:
    runOnce:
      deploy:
        steps:
        - template: steps.yml
=>
stage __default
  job d
    hook d
    DownloadPipelineArtifact DownloadPipelineArtifact@2.198.0 buildType="current"
    CmdLine CmdLine@2.279.1 script="default"
deployment
deployment: d
strategy:
  canary:
    on:
      success: {steps: [{template: steps.yml}]}
    deploy: {steps: [{template: steps.yml}]}
=>
stage __default
  job d
    hook d
    DownloadPipelineArtifact DownloadPipelineArtifact@2.198.0 buildType="current"
    CmdLine CmdLine@2.279.1 script="default"
stepList
- template: steps.yml
=>
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="default"
step
template: steps.yml
=>
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="default"
stepList
- ${{ if true }}:
  - template: steps.yml
- ${{ each x in split('a,b', ',') }}:
  - template: steps.yml
    parameters: {text: '${{ x }}'}
=>
stage __default
  job Job
    CmdLine1 CmdLine@2.279.1 script="default"
    CmdLine2 CmdLine@2.279.1 script="a"
    CmdLine3 CmdLine@2.279.1 script="b"
jobList
- job: b
  ${{ insert }}:
    steps:
    - template: steps.yml
=>
stage __default
  job b
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
object
job: b
steps:
- template: steps.yml
=>
stage __default
  job b
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="default"
"#);
}

#[test]
fn calls_in_defaults_and_arguments_of_the_run_are_placed() {
    let root = "parameters:\n- {name: ss, type: stepList, default: [{template: steps.yml}]}\nsteps:\n- checkout: none\n\
        - ${{ parameters.ss }}\n";
    let mut with_files =
        inputs(&[("steps.yml", "steps:\n- script: a\n"), ("more.yml", "steps:\n- script: b\n")]);
    insta::assert_snapshot!(outline_of(&compile_with(root, &with_files)), @r#"
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="a"
"#);
    with_files.parameters = parameters(&[("ss", json!("- template: more.yml"))]).parameters;
    insta::assert_snapshot!(outline_of(&compile_with(root, &with_files)), @r#"
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="b"
"#);
}

#[test]
fn a_call_counts_for_the_file_that_it_is_handed_to() {
    let root = "extends:\n  template: ci/e.yml\n  parameters:\n    given:\n    - template: steps.yml\n    - \
        template: own.yml\n";
    let template =
        "parameters: [{name: given, type: stepList}]\nsteps:\n- checkout: none\n- ${{ parameters.given }}\n";
    let files = [
        ("ci/e.yml", template),
        ("ci/steps.yml", "steps:\n- script: beside the template\n"),
        ("steps.yml", "steps:\n- script: beside the pipeline\n"),
        ("own.yml", "steps:\n- script: only beside the pipeline\n"),
    ];
    let compiled = compile_with(root, &inputs(&files));
    insta::assert_snapshot!(outline_of(&compiled), @r#"
stage __default
  job Job
    CmdLine1 CmdLine@2.279.1 script="beside the template"
    CmdLine2 CmdLine@2.279.1 script="only beside the pipeline"
"#);
    insta::assert_snapshot!(compiled.warnings, @r"
warning: `own.yml` is used here, but Azure Pipelines looks for `ci/own.yml`, beside `ci/e.yml`, which places it
 --> azure-pipelines.yml:6:17
  |
6 |     - template: own.yml
  |                 ^^^^^^^
  |
  = help: write `/own.yml`, which is found from every file
");
    insta::assert_snapshot!(rejected(root, &files[..3]), @r"
error: cannot read the template `ci/own.yml`: there is no such file
 --> azure-pipelines.yml:6:17
  |
6 |     - template: own.yml
  |                 ^^^^^^^
");
}

#[test]
fn values_are_checked_where_they_are_written() {
    let root = "extends:
  template: e.yml
  parameters:
    step: {bash: x, colour: red, condition: nonsense}
    steps:
    - script: good
    - scrpt: bad
    job: {job: j, steps: [{script: x, continueOnError: maybe}]}
    stages:
    - stage: a
      jobs:
      - job: b
        dependson: c
";
    let template = "parameters:
- {name: step, type: step}
- {name: steps, type: stepList}
- {name: job, type: job}
- {name: stages, type: stageList}
stages:
- ${{ parameters.stages }}
- stage: mine
  jobs:
  - ${{ parameters.job }}
  - job: k
    steps:
    - ${{ parameters.step }}
    - ${{ parameters.steps }}
";
    insta::assert_snapshot!(rejected(root, &[("e.yml", template)]), @r"
error: unknown key `colour` in a step
 --> azure-pipelines.yml:4:21
  |
4 |     step: {bash: x, colour: red, condition: nonsense}
  |                     ^^^^^^

error: in the expression: unrecognized value `nonsense` (known here: variables)
 --> azure-pipelines.yml:4:45
  |
4 |     step: {bash: x, colour: red, condition: nonsense}
  |                                             ^^^^^^^^

error: `scrpt` is not a kind of step
 --> azure-pipelines.yml:7:7
  |
7 |     - scrpt: bad
  |       ^^^^^
  |
  = help: did you mean `script`?

error: `continueOnError` must be `true` or `false`, not `maybe`
 --> azure-pipelines.yml:8:56
  |
8 |     job: {job: j, steps: [{script: x, continueOnError: maybe}]}
  |                                                        ^^^^^

error: unknown key `dependson` in a job
  --> azure-pipelines.yml:13:9
   |
13 |         dependson: c
   |         ^^^^^^^^^
   |
   = help: did you mean `dependsOn`?
");
}

#[test]
fn values_of_another_shape_are_refused() {
    let shapes = [
        ("step", "[{script: x}]"),
        ("step", "text"),
        ("stepList", "{script: x}"),
        ("stepList", "[text]"),
        ("job", "[{job: x}]"),
        ("stageList", "none"),
        ("container", "alpine"),
        ("containerList", "[{image: alpine}]"),
    ];
    let told: Vec<String> = shapes
        .iter()
        .map(|(kind, value)| {
            let text =
                format!("parameters:\n- name: p\n  type: {kind}\n  default: {value}\nsteps:\n- script: x\n");
            let diagnostics = compile(&source(&text), &inputs(&[])).expect_err("of another shape");
            let messages = diagnostics.reports().into_iter().map(|report| report.message);
            format!("{kind} {value}: {}", messages.collect::<Vec<_>>().join("; "))
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
step [{script: x}]: the parameter `p` needs a step, not a list
step text: the parameter `p` needs a step, not text
stepList {script: x}: the parameter `p` needs a stepList, not a mapping
stepList [text]: a step must be a mapping, not text
job [{job: x}]: the parameter `p` needs a job, not a list
stageList none: the parameter `p` needs a stageList, not text
container alpine: the parameter `p` needs a container, not text
containerList [{image: alpine}]: this resource needs `container`, the name it is used by
");
    // Nothing is nothing.
    for (kind, value) in [("step", "null"), ("stepList", ""), ("jobList", "[]")] {
        let text =
            format!("parameters:\n- name: p\n  type: {kind}\n  default: {value}\nsteps:\n- script: x\n");
        compile_with(&text, &inputs(&[]));
    }
}

#[test]
fn a_part_may_name_what_its_template_adds() {
    let root = "resources: {repositories: [{repository: tools, type: git, name: tools}]}
extends:
  template: e.yml
  parameters:
    jobs:
    - job: b
      dependsOn: a
      steps: [{checkout: tools}, {script: x, name: s}]
    - job: c
      condition: eq(dependencies.b.outputs['s.x'], '1')
      dependsOn: b
";
    let template = "parameters: [{name: jobs, type: jobList}]\njobs:\n- job: a\n- ${{ parameters.jobs }}\n";
    insta::assert_snapshot!(outline(root, &[("e.yml", template)]), @r#"
stage __default
  job a
    Checkout Checkout@1.0.0 repository="self"
  job b after a
    Checkout Checkout@1.0.0 repository="tools"
    s CmdLine@2.279.1 script="x"
  job c after b
    if eq(dependencies.b.outputs['s.x'], '1')
    Checkout Checkout@1.0.0 repository="self"
"#);
}

#[test]
fn mistakes_in_templates_say_where_they_came_from() {
    let root = "stages:\n- template: a.yml\n- stage: s\n  jobs:\n  - template: jobs.yml\n";
    let files = [
        ("a.yml", "stages:\n- stage: t\n  jobs:\n  - template: jobs.yml\n"),
        ("jobs.yml", "jobs:\n- job: j\n  steps:\n  - template: steps.yml\n"),
        ("steps.yml", "steps:\n- script: ${{ nonsense() }}\n- scrpt: x\n"),
    ];
    insta::assert_snapshot!(rejected(root, &files), @r"
error: in the expression: unrecognized function `nonsense`
 --> steps.yml:2:15
  |
2 | - script: ${{ nonsense() }}
  |               ^^^^^^^^
  |
  = note: included from jobs.yml:4:15
  = note: included from a.yml:4:15
  = note: included from azure-pipelines.yml:2:13

error: `scrpt` is not a kind of step
 --> steps.yml:3:3
  |
3 | - scrpt: x
  |   ^^^^^
  |
  = help: did you mean `script`?
  = note: included from jobs.yml:4:15
  = note: included from a.yml:4:15
  = note: included from azure-pipelines.yml:2:13
");
    let diagnostics = compile(&source(root), &inputs(&files)).expect_err("two mistakes");
    let report = &diagnostics.reports()[0];
    let from: Vec<String> = report.included_from.iter().map(ToString::to_string).collect();
    assert_eq!(from, ["jobs.yml:4:15", "a.yml:4:15", "azure-pipelines.yml:2:13"]);
}

#[test]
fn a_template_that_is_placed_twice_has_its_mistake_told_once() {
    let root = "steps:\n- template: steps.yml\n- template: steps.yml\n";
    let files = [("steps.yml", "steps:\n- checkout: nowhere\n")];
    insta::assert_snapshot!(rejected(root, &files), @r"
error: `nowhere` is not a repository in `resources.repositories`
 --> steps.yml:2:13
  |
2 | - checkout: nowhere
  |             ^^^^^^^
  |
  = help: use `self` for the pipeline's own repository, or name another one in place: `git://project/repo@ref`
  = note: included from azure-pipelines.yml:2:13 and from one more place
");
}
