//! Files with mistakes, and what is said about them.

use dayfly_pipelines::{Inputs, Style, compile};
use proptest::prelude::*;
use serde_json::json;

use crate::compile::{parameters, source};

fn rejected(text: &str) -> String {
    rejected_with(text, &Inputs::default())
}

fn rejected_with(text: &str, inputs: &Inputs) -> String {
    match compile(&source(text), inputs) {
        Ok(compiled) => panic!("should not compile: {:?}", compiled.plan),
        Err(diagnostics) => diagnostics.to_string(),
    }
}

/// Only what is wrong and where, one line for each.
fn lines(text: &str) -> String {
    match compile(&source(text), &Inputs::default()) {
        Ok(compiled) => panic!("should not compile: {:?}", compiled.plan),
        Err(diagnostics) => {
            let reports = diagnostics.reports();
            let line = |report: &dayfly_pipelines::Report| {
                let help: Vec<String> = report.help.iter().map(|help| format!(" [{help}]")).collect();
                format!(
                    "{}:{} {}{}",
                    report.location.line,
                    report.location.column,
                    report.message,
                    help.join("")
                )
            };
            reports.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = "\
stages:
- stage: Build
  dependson: []
  jobs:
  - job: one
    timeoutInMinutes: soon
    steps:
    - scrpt: echo
    - task: NoSuchTask@1
    - script: echo
      condition: eq(variables.x 'y')
- stage: Test
  dependsOn: Bulid
  jobs: []
";
    insta::assert_snapshot!(rejected(text), @r"
error: unknown key `dependson` in a stage
 --> azure-pipelines.yml:3:3
  |
3 |   dependson: []
  |   ^^^^^^^^^
  |
  = help: did you mean `dependsOn`?

error: `timeoutInMinutes` must be a whole number, not `soon`
 --> azure-pipelines.yml:6:23
  |
6 |     timeoutInMinutes: soon
  |                       ^^^^

error: `scrpt` is not a kind of step
 --> azure-pipelines.yml:8:7
  |
8 |     - scrpt: echo
  |       ^^^^^
  |
  = help: did you mean `script`?

error: there is no task `NoSuchTask` here
 --> azure-pipelines.yml:9:13
  |
9 |     - task: NoSuchTask@1
  |             ^^^^^^^^^^^^
  |
  = help: tasks come from Azure DevOps: make this one available, or use a script

error: in the expression: unexpected symbol `'y'`
  --> azure-pipelines.yml:11:33
   |
11 |       condition: eq(variables.x 'y')
   |                                 ^^^

error: there is no stage `Bulid` to depend on
  --> azure-pipelines.yml:13:14
   |
13 |   dependsOn: Bulid
   |              ^^^^^
   |
   = help: did you mean `Build`?

error: the list of jobs is empty
  --> azure-pipelines.yml:14:9
   |
14 |   jobs: []
   |         ^^
");
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text.trim_end() }
}

/// A file a paragraph: its text, and what is said about it.
fn table(texts: &[&str]) -> String {
    let paragraphs =
        texts.iter().map(|text| format!("{}\n=> {}", shown(text), lines(text).replace('\n', "\n=> ")));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn yaml_that_is_none() {
    insta::assert_snapshot!(table(&[
        "",
        "steps:\n- script: 'open\n",
        "steps:\n\t- script: x\n",
        "a: b: c\n",
        "steps: [a, b\n",
        "just text\n",
        "- a\n- b\n",
        "steps: &x\n- script: a\nname: *x\n",
        "steps: !!seq []\n",
        "? [a, b]\n: c\nsteps: []\n",
        "steps: []\nsteps: []\n",
        "steps: []\n---\nsteps: []\n",
    ]), @r"
(nothing)
=> 1:1 the file is empty [a pipeline starts with `steps:`, `jobs:` or `stages:`]

steps:
- script: 'open
=> 2:11 not valid YAML: unclosed quote

steps:
	- script: x
=> 2:2 not valid YAML: a tab in the indentation [indent YAML with spaces, not with tabs]

a: b: c
=> 1:4 not valid YAML: there is a second `: ` in this line [put the whole value in quotes]

steps: [a, b
=> 1:8 not valid YAML: unclosed bracket '['

just text
=> 1:1 the pipeline must be a mapping, not text

- a
- b
=> 1:1 the pipeline must be a mapping, not a list

steps: &x
- script: a
name: *x
=> 2:3 YAML anchors (`&name`) are not supported by Azure Pipelines [write the value out, or use a parameter or a variable]
=> 3:7 YAML aliases (`*name`) are not supported by Azure Pipelines [write the value out, or use a parameter or a variable]

steps: !!seq []
=> 1:14 YAML tags (`!name`) are not supported by Azure Pipelines

? [a, b]
: c
steps: []
=> 1:3 a key must be text, not a list

steps: []
steps: []
=> 2:1 the key `steps` appears twice [the first one is on line 1; keep only one]

steps: []
---
steps: []
=> 2:1 a pipeline is a single YAML document, but a second one starts here
");
}

#[test]
fn indentation_is_told_in_plain_words() {
    insta::assert_snapshot!(table(&[
        "steps:\n- script: a\n    displayName: b\n",
        "steps:\n- script: a\n  displayName: b\n   env: c\n",
        "steps:\n  - script: a\n - script: b\n",
        "steps:\n - script: a\n  - script: b\n",
        "variables:\n  a: 1\n # a comment\n b: 2\nsteps: []\n",
        "jobs:\n- job: a\n  steps:\n  - script: x\n script: y\n",
        "steps:\n- script: a: b\n",
        "steps:\n- script: |\n    a\n  b\n  displayName: x\n",
        "steps:\n-script: a\n",
        "steps:\n- script: a\nname:x\n",
        "steps:\n- script: `x`\n",
        "steps:\n- script: \"a\\qb\"\n",
        "steps:\n- script: *x\n",
    ]), @r#"
steps:
- script: a
    displayName: b
=> 3:5 not valid YAML: line 3 is indented deeper than line 2, where its mapping began [indent it with 2 spaces, like line 2]

steps:
- script: a
  displayName: b
   env: c
=> 4:4 not valid YAML: line 4 is indented deeper than line 3, where its mapping began [indent it with 2 spaces, like line 3]

steps:
  - script: a
 - script: b
=> 3:2 not valid YAML: line 3 is indented with 1 space, which matches no line above it [indent it with 0 or 2 spaces]

steps:
 - script: a
  - script: b
=> 3:3 not valid YAML: line 3 is indented with 2 spaces, which matches no line above it [indent it with 0 or 1 spaces]

variables:
  a: 1
 # a comment
 b: 2
steps: []
=> 4:2 not valid YAML: line 4 is indented with 1 space, which matches no line above it [indent it with 0 or 2 spaces]

jobs:
- job: a
  steps:
  - script: x
 script: y
=> 5:2 not valid YAML: line 5 is indented with 1 space, which matches no line above it [indent it with 2 or 4 spaces]

steps:
- script: a: b
=> 2:11 not valid YAML: there is a second `: ` in this line [put the whole value in quotes]

steps:
- script: |
    a
  b
  displayName: x
=> 4:3 not valid YAML: line 4 has no `:`, so it is not a key [write `key: value`; if it continues the value above, indent it deeper than line 3]

steps:
-script: a
=> 2:1 unknown key `-script` in the pipeline [put a space after the `-`]

steps:
- script: a
name:x
=> 3:1 not valid YAML: a space is missing after `name:`

steps:
- script: `x`
=> 2:11 not valid YAML: a value cannot begin with a backtick [put it in quotes]

steps:
- script: "a\qb"
=> 2:11 not valid YAML: a backslash in double quotes begins an escape, and this one does not exist [write `\\` for a backslash, or use single quotes]

steps:
- script: *x
=> 2:11 not valid YAML: a value that begins with `*` is a YAML alias, which Azure Pipelines does not support [put it in quotes]
"#);
}

#[test]
fn a_workflow_of_github_actions_is_recognized() {
    insta::assert_snapshot!(table(&[
        "on: push\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n    - run: echo ${{ github.sha }}\n",
        "jobs:\n  build:\n    uses: ./.github/workflows/x.yml\n",
    ]), @r"
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
    - run: echo ${{ github.sha }}
=> 1:1 this looks like a GitHub Actions workflow, not an Azure pipeline [Dayfly runs Azure Pipelines: there, `jobs:` is a list whose entries start with `- job: name`]

jobs:
  build:
    uses: ./.github/workflows/x.yml
=> 2:3 this looks like a GitHub Actions workflow, not an Azure pipeline [Dayfly runs Azure Pipelines: there, `jobs:` is a list whose entries start with `- job: name`]
");
}

#[test]
fn shapes_of_pipelines() {
    insta::assert_snapshot!(table(&[
        "name: x\n",
        "jobs: []\nsteps: []\n",
        "steps: {}\n",
        "steps: text\n",
        "jobs: []\n",
        "stages: []\n",
        "stages:\n- stage: A\n",
        "stages:\n- job: A\n",
        "jobs:\n- script: x\n",
        "jobs:\n- jbo: x\n",
        "steps:\n- x\n",
        "steps:\n- {}\n",
        "steps:\n- displayName: x\n  script: y\n",
        "steps:\n- bash: x\n  script: y\n",
        "extends:\n  template: x.yml\n",
        "steps:\n- template: a.yml\n",
        "jobs:\n- template: a.yml\n",
        "stages:\n- template: a.yml\n",
        "variables:\n- template: a.yml\nsteps: []\n",
        "stepz: []\n",
    ]), @r"
name: x
=> 1:1 the pipeline does nothing: it has no `stages`, `jobs` or `steps`

jobs: []
steps: []
=> 1:7 the list of jobs is empty
=> 2:1 `jobs` and `steps` cannot be used together [a pipeline has either `stages`, `jobs` or `steps`]

steps: {}
=> 1:8 steps must be a list, not a mapping [start each entry with `- `]

steps: text
=> 1:8 steps must be a list, not text [start each entry with `- `]

jobs: []
=> 1:7 the list of jobs is empty

stages: []
=> 1:9 the list of stages is empty

stages:
- stage: A
=> 2:10 the stage has no `jobs`

stages:
- job: A
=> 2:3 `job` is not a stage: a stage starts with `stage` [jobs go under the `jobs:` of a stage]

jobs:
- script: x
=> 2:3 `script` is not a job: a job starts with `job` or `deployment` [steps go under the `steps:` of a job]

jobs:
- jbo: x
=> 2:3 `jbo` is not a job: a job starts with `job` or `deployment` [did you mean `job`?]

steps:
- x
=> 2:3 a step must be a mapping, not text

steps:
- {}
=> 2:3 the step is empty

steps:
- displayName: x
  script: y
=> 3:3 `script` must be the first key of a step [move it before `displayName`]

steps:
- bash: x
  script: y
=> 3:3 `script` cannot be used together with `bash` in a step

extends:
  template: x.yml
=> 2:13 cannot read the template `x.yml`: files of the repository are not available here

steps:
- template: a.yml
=> 2:13 cannot read the template `a.yml`: files of the repository are not available here

jobs:
- template: a.yml
=> 2:13 cannot read the template `a.yml`: files of the repository are not available here

stages:
- template: a.yml
=> 2:13 cannot read the template `a.yml`: files of the repository are not available here

variables:
- template: a.yml
steps: []
=> 2:13 cannot read the template `a.yml`: files of the repository are not available here

stepz: []
=> 1:1 the pipeline does nothing: it has no `stages`, `jobs` or `steps`
=> 1:1 unknown key `stepz` in the pipeline [did you mean `steps`?]
");
}

#[test]
fn graphs() {
    insta::assert_snapshot!(table(&[
        "jobs:\n- job: a\n  dependsOn: b\n- job: b\n  dependsOn: [c]\n- job: c\n  dependsOn: a\n",
        "jobs:\n- job: a\n  dependsOn: a\n",
        "jobs:\n- job: a\n  dependsOn: missing\n",
        "jobs:\n- job: build\n- job: test\n  dependsOn: [biuld]\n",
        "jobs:\n- job: a\n- job: A\n",
        "jobs:\n- job: a-b\n- job: 1st\n",
        "stages:\n- stage: A\n  dependsOn: B\n  jobs: [{job: x}]\n- stage: B\n  jobs: [{job: x}]\n",
        "steps:\n- script: x\n  name: a\n- script: y\n  name: A\n",
        "steps:\n- script: x\n  name: a.b\n",
    ]), @r"
jobs:
- job: a
  dependsOn: b
- job: b
  dependsOn: [c]
- job: c
  dependsOn: a
=> 3:14 the jobs depend on each other in a circle: `a` -> `b` -> `c` -> `a`

jobs:
- job: a
  dependsOn: a
=> 3:14 the job `a` depends on itself

jobs:
- job: a
  dependsOn: missing
=> 3:14 there is no job `missing` to depend on

jobs:
- job: build
- job: test
  dependsOn: [biuld]
=> 4:15 there is no job `biuld` to depend on [did you mean `build`?]

jobs:
- job: a
- job: A
=> 3:8 two jobs are called `A` [the first one is on line 2; case does not matter in names]

jobs:
- job: a-b
- job: 1st
=> 2:8 `a-b` is not a valid name for a job [use letters, digits and `_`; start with a letter or `_`; at most 100 characters]
=> 3:8 `1st` is not a valid name for a job [use letters, digits and `_`; start with a letter or `_`; at most 100 characters]

stages:
- stage: A
  dependsOn: B
  jobs: [{job: x}]
- stage: B
  jobs: [{job: x}]
=> 3:14 the stages depend on each other in a circle: `A` -> `B` -> `A`

steps:
- script: x
  name: a
- script: y
  name: A
=> 5:9 two steps of this job are called `A` [step names must be unique in a job: outputs are found by them]

steps:
- script: x
  name: a.b
=> 3:9 `a.b` is not a valid name for a step [use letters, digits and `_`; start with a letter or `_`; at most 100 characters]
");
}

#[test]
fn values() {
    insta::assert_snapshot!(table(&[
        "steps:\n- script: x\n  continueOnError: maybe\n  timeoutInMinutes: -1\n  retryCountOnTaskFailure: 11\n",
        "steps:\n- script: [a]\n",
        "steps:\n- script: x\n  env: [a]\n",
        "steps:\n- script: x\n  target: nowhere\n",
        "steps:\n- checkout: other\n",
        "steps:\n- task: CmdLine\n",
        "steps:\n- task: CmdLine@x\n",
        "steps:\n- task: CmdLine@9\n",
        "steps:\n- task: CmdLin@2\n",
        "pool:\n  demands: a equals b\nsteps: []\n",
        "jobs:\n- job: a\n  workspace:\n    clean: some\n  cancelTimeoutInMinutes: 0\n",
        "jobs:\n- job: a\n  strategy:\n    matrix: {}\n",
        "jobs:\n- job: a\n  strategy:\n    parallel: 300\n",
        "jobs:\n- job: a\n  strategy:\n    parallel: 2\n    matrix:\n      x: {}\n",
        "jobs:\n- job: a\n  strategy:\n    runOnce: {}\n",
        "jobs:\n- deployment: a\n  steps: []\n",
        "jobs:\n- deployment: a\n  strategy:\n    rolling:\n      deploy:\n        steps: []\n",
        "jobs:\n- deployment: deploy\n  strategy:\n    runOnce:\n      preDeploy: {}\n",
        "jobs:\n- deployment: a\n  strategy:\n    canary:\n      increments: [10, 10, x]\n      deploy:\n        steps: []\n",
        "trigger:\n  branch: [a]\npr: {draft: false}\nschedules:\n- cron: daily\nsteps: []\n",
        "resources:\n  repositories:\n  - repository: a\n    type: gitt\n    name: x\n  - repository: A\n    name: y\n  containers:\n  - container: c\nsteps: []\n",
        "variables:\n- name: a\n- value: b\n- nmae: c\n  value: d\nsteps: []\n",
        "lockBehavior: never\nsteps: []\n",
    ]), @r"
steps:
- script: x
  continueOnError: maybe
  timeoutInMinutes: -1
  retryCountOnTaskFailure: 11
=> 3:20 `continueOnError` must be `true` or `false`, not `maybe`
=> 4:21 `timeoutInMinutes` must be a whole number, not `-1`
=> 5:28 a step can be retried at most 10 times

steps:
- script: [a]
=> 2:11 the script must be text, not a list

steps:
- script: x
  env: [a]
=> 3:8 env must be a mapping, not a list

steps:
- script: x
  target: nowhere
=> 3:11 `nowhere` is not a container in `resources.containers`

steps:
- checkout: other
=> 2:13 `other` is not a repository in `resources.repositories` [use `self` for the pipeline's own repository, or name another one in place: `git://project/repo@ref`]

steps:
- task: CmdLine
=> 2:9 the task `CmdLine` needs a version [put the major version after the name, for example `CmdLine@2`]

steps:
- task: CmdLine@x
=> 2:9 `x` is not a task version

steps:
- task: CmdLine@9
=> 2:9 the task `CmdLine` has no version 9 here [the newest known version is `CmdLine@2`]

steps:
- task: CmdLin@2
=> 2:9 there is no task `CmdLin` here [did you mean `CmdLine@2`?]

pool:
  demands: a equals b
steps: []
=> 2:12 `a equals b` is not a demand [write `name`, or `name -equals value`]

jobs:
- job: a
  workspace:
    clean: some
  cancelTimeoutInMinutes: 0
=> 4:12 `clean` must be `outputs`, `resources` or `all`, not `some`
=> 5:27 `cancelTimeoutInMinutes` must be a number from 1 to 35790

jobs:
- job: a
  strategy:
    matrix: {}
=> 4:13 the matrix has no legs

jobs:
- job: a
  strategy:
    parallel: 300
=> 4:15 `parallel` must be a number from 1 to 256

jobs:
- job: a
  strategy:
    parallel: 2
    matrix:
      x: {}
=> 4:5 `matrix` and `parallel` cannot be combined

jobs:
- job: a
  strategy:
    runOnce: {}
=> 4:5 `runOnce` is a strategy for deployment jobs [write `- deployment: name` instead of `- job: name`]

jobs:
- deployment: a
  steps: []
=> 3:3 a deployment job cannot have `steps` of its own [put them under `strategy: runOnce: deploy: steps:`]

jobs:
- deployment: a
  strategy:
    rolling:
      deploy:
        steps: []
=> 4:5 the strategy `rolling` is not supported: it needs the virtual machines of an environment [use `runOnce`, or `canary`]

jobs:
- deployment: deploy
  strategy:
    runOnce:
      preDeploy: {}
=> 4:5 `runOnce` needs the hook `deploy`
=> 5:18 a hook needs `steps`

jobs:
- deployment: a
  strategy:
    canary:
      increments: [10, 10, x]
      deploy:
        steps: []
=> 5:24 `10` is not a valid increment: use different numbers from 1 to 100
=> 5:28 `x` is not a valid increment: use different numbers from 1 to 100

trigger:
  branch: [a]
pr: {draft: false}
schedules:
- cron: daily
steps: []
=> 2:3 unknown key `branch` in trigger [did you mean `batch`?]
=> 3:6 unknown key `draft` in pr [did you mean `drafts`?]
=> 5:9 `daily` is not a cron schedule: it needs five fields [minute, hour, day of the month, month, day of the week; for example `0 3 * * 1-5`]

resources:
  repositories:
  - repository: a
    type: gitt
    name: x
  - repository: A
    name: y
  containers:
  - container: c
steps: []
=> 3:5 unknown repository type `gitt` [did you mean `git`?]
=> 3:5 two repository resources are called `A`
=> 9:5 a container resource needs `image`

variables:
- name: a
- value: b
- nmae: c
  value: d
steps: []
=> 2:3 the variable `a` has no `value`
=> 3:3 a variable in a list needs `name` and `value` [write `- name: x` and `value: y`, or use a mapping: `x: y`]
=> 4:3 unknown key `nmae` in a variable [did you mean `name`?]
=> 4:3 a variable in a list needs `name` and `value` [write `- name: x` and `value: y`, or use a mapping: `x: y`]

lockBehavior: never
steps: []
=> 1:15 `lockBehavior` must be `sequential` or `runLatest`, not `never`
");
}

#[test]
fn expressions() {
    insta::assert_snapshot!(table(&[
        "steps:\n- script: x\n  condition: succeded()\n",
        "steps:\n- script: x\n  condition: and(succeeded(), eq(dependencies.a.result, 'x'))\n",
        "jobs:\n- job: a\n  condition: $[ eq(1, 1) ]\n",
        "variables:\n  a: $[ eq(1, ]\nsteps: []\n",
        "steps:\n- script: ${{ parameterz.x }}\n",
        "steps:\n- script: |\n    first\n    second ${{ eq(1 }}\n    third\n",
        "steps:\n- script: ${{ open\n",
        "steps:\n- ${{ if eq(1, 1) }}:\n  - script: a\n- script: b\n- ${{ else }}:\n  - script: c\n",
        "steps:\n- ${{ if false }}:\n  - script: ${{ nonsense(1) }} ${{ eq(1 }}\n",
        "steps:\n- ${{ if false }}:\n  - script: x\n- ${{ else }}\n",
        "steps:\n- ${{ each in x }}:\n  - script: a\n",
        "steps:\n- ${{ each x in 5 }}:\n  - script: a\n",
        "steps:\n- ${{ each x in split('a', ' ') }}:\n  - script: ${{ y }}\n",
        "steps:\n- script: a ${{ variables }}\n",
        "steps:\n- script: x\n  ${{ if true }}:\n    script: y\n",
        "steps:\n- ${{ else if true }}:\n  - script: x\n",
        "trigger:\n- ${{ parameters.x }}\nsteps: []\n",
        "parameters:\n- name: a\n  default: ${{ variables.x }}\nsteps: []\n",
    ]), @r"
steps:
- script: x
  condition: succeded()
=> 3:14 in the expression: unrecognized function `succeded`

steps:
- script: x
  condition: and(succeeded(), eq(dependencies.a.result, 'x'))
=> 3:34 in the expression: unrecognized value `dependencies` (known here: variables)

jobs:
- job: a
  condition: $[ eq(1, 1) ]
=> 3:14 in the expression: unrecognized value `$` [write a condition without `$[ ]`]

variables:
  a: $[ eq(1, ]
steps: []
=> 2:9 in the expression: `eq` is not closed: `)` is missing

steps:
- script: ${{ parameterz.x }}
=> 2:15 in the expression: unrecognized value `parameterz` (known here: parameters, variables, pipeline, resources)

steps:
- script: |
    first
    second ${{ eq(1 }}
    third
=> 4:16 in the expression: `eq` is not closed: `)` is missing

steps:
- script: ${{ open
=> 2:11 in the expression: the expression is not closed: `}}` is missing

steps:
- ${{ if eq(1, 1) }}:
  - script: a
- script: b
- ${{ else }}:
  - script: c
=> 5:3 `elseif` and `else` must come right after an `if`

steps:
- ${{ if false }}:
  - script: ${{ nonsense(1) }} ${{ eq(1 }}
=> 3:36 in the expression: `eq` is not closed: `)` is missing

steps:
- ${{ if false }}:
  - script: x
- ${{ else }}
=> 4:7 in the expression: unrecognized value `else` (known here: parameters, variables, pipeline, resources) [write `else` as a key, with a colon: `- ${{ else ... }}:`]

steps:
- ${{ each in x }}:
  - script: a
=> 2:3 write a loop as `${{ each item in list }}`

steps:
- ${{ each x in 5 }}:
  - script: a
=> 2:3 `each` needs a list or a mapping, and this is neither

steps:
- ${{ each x in split('a', ' ') }}:
  - script: ${{ y }}
=> 3:17 in the expression: unrecognized value `y` (known here: parameters, variables, pipeline, resources, x)

steps:
- script: a ${{ variables }}
=> 2:13 a mapping cannot be part of a text [use `convertToJson`, or `join` for a list]

steps:
- script: x
  ${{ if true }}:
    script: y
=> 4:5 the key `script` appears twice after the expressions are expanded

steps:
- ${{ else if true }}:
  - script: x
=> 2:3 `else` takes nothing after it [for another condition, write `elseif`]

trigger:
- ${{ parameters.x }}
steps: []
=> 2:3 template expressions are not allowed in `trigger`

parameters:
- name: a
  default: ${{ variables.x }}
steps: []
=> 3:12 template expressions are not allowed in the declaration of parameters
");
}

#[test]
fn parameters_and_their_arguments() {
    insta::assert_snapshot!(table(&[
        "parameters:\n- name: a\nsteps: []\n",
        "parameters:\n- name: a\n  type: strnig\n  default: x\nsteps: []\n",
        "parameters:\n- name: a\n  type: number\n  default: x\nsteps: []\n",
        "parameters:\n- name: a\n  type: boolean\n  default: [x]\nsteps: []\n",
        "parameters:\n- name: a\n  type: boolean\n  default: yes\nsteps: []\n",
        "parameters:\n- name: a\n  default: c\n  values: [a, b]\nsteps: []\n",
        "parameters:\n- name: a\n  default: 1\n- name: A\n  default: 2\nsteps: []\n",
        "parameters:\n- type: string\nsteps: []\n",
    ]), @r"
parameters:
- name: a
steps: []
=> 2:9 the parameter `a` needs a value [pass one with `-p a=VALUE`, or give it a `default:`]

parameters:
- name: a
  type: strnig
  default: x
steps: []
=> 3:9 unknown parameter type `strnig` [did you mean `string`?]

parameters:
- name: a
  type: number
  default: x
steps: []
=> 4:12 `x` is not a number, which the parameter `a` needs

parameters:
- name: a
  type: boolean
  default: [x]
steps: []
=> 4:12 the parameter `a` needs a boolean, not a list

parameters:
- name: a
  type: boolean
  default: yes
steps: []
=> 4:12 `yes` is not a boolean, which the parameter `a` needs

parameters:
- name: a
  default: c
  values: [a, b]
steps: []
=> 3:12 `c` is not one of the allowed values of the parameter `a` [allowed: `a`, `b`]

parameters:
- name: a
  default: 1
- name: A
  default: 2
steps: []
=> 4:9 two parameters are called `A`

parameters:
- type: string
steps: []
=> 2:3 a parameter needs `name`
");
    let text = "parameters:\n- name: count\n  type: number\n  default: 1\n- name: list\n  type: object\n  \
        default: []\nsteps: []\n";
    let given = parameters(&[
        ("count", json!("many")),
        ("list", json!("[a, b")),
        ("cuont", json!(1)),
        ("other", json!(1)),
    ]);
    insta::assert_snapshot!(rejected_with(text, &given), @r"
error: the pipeline has no parameter `cuont`
 --> azure-pipelines.yml:2:3
  |
2 | - name: count
  |   ^^^^^^^^^^^
  |
  = help: did you mean `count`?

error: the pipeline has no parameter `other`
 --> azure-pipelines.yml:2:3
  |
2 | - name: count
  |   ^^^^^^^^^^^
  |
  = help: its parameters are `count`, `list`

error: `many` is not a number, which the parameter `count` needs
 --> parameter count:1:1
  |
1 | many
  | ^^^^

error: not valid YAML: unclosed bracket '['
 --> parameter list:1:1
  |
1 | [a, b
  | ^
");
}

#[test]
fn only_so_many_are_told() {
    let text = format!("steps:\n{}", "- scrpt: x\n".repeat(300));
    let rendered = rejected(&text);
    assert_eq!(rendered.matches("error:").count(), 100);
    assert!(rendered.ends_with("\nand 200 more\n"), "{rendered}");
}

#[test]
fn loops_without_end_are_stopped() {
    let mut text =
        String::from("parameters:\n- name: l\n  type: object\n  default: [1,2,3,4,5,6,7,8,9,10]\nsteps:\n");
    for depth in 0..8 {
        let indent = "  ".repeat(depth);
        text.push_str(&format!("{indent}- ${{{{ each x{depth} in parameters.l }}}}:\n"));
    }
    text.push_str(&format!("{}- script: x\n", "  ".repeat(8)));
    insta::assert_snapshot!(lines(&text), @r"14:19 the template expressions make this pipeline too large [at most 250000 values and 20 MiB of text]");
}

#[test]
fn reports_are_data_and_colours_are_on_demand() {
    let diagnostics =
        compile(&source("steps:\n- scrpt: ü\n"), &Inputs::default()).expect_err("there is no `scrpt`");
    insta::assert_json_snapshot!(diagnostics.to_json(), @r#"
[
  {
    "column": 3,
    "endColumn": 8,
    "endLine": 2,
    "file": "azure-pipelines.yml",
    "help": [
      "did you mean `script`?"
    ],
    "line": 2,
    "message": "`scrpt` is not a kind of step",
    "severity": "error"
  }
]
"#);
    assert!(diagnostics.render(Style::Colored).contains("\u{1b}["));
    assert_eq!(diagnostics.error_count(), 1);
}

#[test]
fn steps_stand_where_their_task_runs() {
    let text = "\
jobs:
- job: server
  pool: server
  steps:
  - task: ManualValidation@1
  - task: SomebodysOwn@1
  - checkout: self
  - pwsh: x
- job: agent
  steps:
  - task: InvokeRESTAPI@1
- deployment: d
  environment: e
  pool: server
  strategy:
    runOnce:
      deploy: { steps: [ { task: Delay@1 } ] }
      preDeploy: { pool: q, steps: [ { task: Delay@1 } ] }
";
    let inputs = Inputs { tasks: std::sync::Arc::new(dayfly_pipelines::AnyTasks), ..Inputs::default() };
    insta::assert_snapshot!(rejected_with(text, &inputs), @r"
error: `Checkout` runs on an agent, and a job of `pool: server` has none
 --> azure-pipelines.yml:7:5
  |
7 |   - checkout: self
  |     ^^^^^^^^^^^^^^
  |
  = help: put the step into another job; only tasks that the service runs itself go here

error: `PowerShell` runs on an agent, and a job of `pool: server` has none
 --> azure-pipelines.yml:8:5
  |
8 |   - pwsh: x
  |     ^^^^^^^
  |
  = help: put the step into another job; only tasks that the service runs itself go here

error: `InvokeRESTAPI` does not run on an agent, only in a job of `pool: server`
  --> azure-pipelines.yml:11:5
   |
11 |   - task: InvokeRESTAPI@1
   |     ^^^^^^^^^^^^^^^^^^^^^
   |
   = help: put the step into a job of its own with `pool: server`

error: `Delay` does not run on an agent, only in a job of `pool: server`
  --> azure-pipelines.yml:18:38
   |
18 |       preDeploy: { pool: q, steps: [ { task: Delay@1 } ] }
   |                                      ^^^^^^^^^^^^^^^
   |
   = help: put the step into a job of its own with `pool: server`
");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn text_that_is_nearly_a_pipeline_is_taken_without_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..24),
    ) {
        let text = pieces.concat();
        let _ = compile(&source(&text), &Inputs::default()).map_err(|diagnostics| diagnostics.to_string());
    }
}

/// Parts of pipelines, to be put together in any way.
const PIECES: &[&str] = &[
    "steps:",
    "jobs:",
    "stages:",
    "\n",
    "\n- ",
    "\n  ",
    "\n    ",
    "\n  - ",
    "script: x",
    "job: a",
    "stage: b",
    "dependsOn: ",
    "a",
    "b",
    "[",
    "]",
    "{",
    "}",
    ",",
    ": ",
    "'",
    "\"",
    "${{ if ",
    "${{ else }}:",
    "${{ each x in ",
    "variables",
    "parameters",
    " }}",
    "}}:",
    "${{",
    "$[ ",
    " ]",
    "condition: ",
    "eq(",
    ")",
    "|\n",
    ">-\n",
    "ü",
    "\t",
    "# c",
    "strategy:",
    "matrix:",
    "parallel: 2",
    "deployment: d",
    "runOnce:",
    "deploy:",
    "pool: ",
    "name: ",
    "value: ",
    "- name: v\n",
    "  type: object\n",
    "  default: ",
    "template: t",
    "\r\n",
    "${{ insert }}: ",
    "task: CmdLine@2",
    "inputs:",
    "checkout: none",
    "&a ",
    "*a",
    "!!x ",
    "\u{feff}",
    "---\n",
    "x.*",
    "[0]",
];
