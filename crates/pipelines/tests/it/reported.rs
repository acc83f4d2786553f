//! Pipelines of public reports about templates and parameters, with what the service makes of them.

use crate::files::{outline, rejected};

/// MicrosoftDocs/azure-devops-docs#1857: lists of dependencies handed to a template of phases.
#[test]
fn dependencies_are_handed_to_a_template_of_phases() {
    let root = "phases:\n- template: phases.yml\n  parameters:\n    after: [Unit_Test, User_Test]\n";
    let template = "parameters:
  after: []
phases:
- phase: Unit_Test
  queue: 'Redacted'
  steps: [{script: pod update}]
- phase: User_Test
  queue: {name: Redacted}
  steps: [{script: pod update}]
- phase: Release
  dependsOn: ${{ parameters.after }}
  condition: succeededOrFailed()
  steps: [{script: release}]
";
    insta::assert_snapshot!(outline(root, &[("phases.yml", template)]), @r#"
stage __default
  job Unit_Test
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="pod update"
  job User_Test
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="pod update"
  job Release after Unit_Test, User_Test
    if succeededOrFailed()
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="release"
"#);
}

/// ChristopherHX/runner.server#633 and #629: two loops with one name of their variable, and a loop within a
/// list of texts.
#[test]
fn loops_may_use_a_name_again() {
    let root = "parameters:
- name: builds
  type: object
  default: [{platform: win32, kind: Debug}]
jobs:
- job: Initialization
- job: Buildwin32_Debug
- job: x
  variables:
    ${{ each build in parameters.builds }}:
      Config_${{ build.platform }}: ${{ build.platform }}_${{ build.kind }}
  dependsOn:
  - Initialization
  - ${{ each build in parameters.builds }}:
    - Build${{ build.platform }}_${{ build.kind }}
";
    insta::assert_snapshot!(outline(root, &[]), @r#"
stage __default
  job Initialization
    Checkout Checkout@1.0.0 repository="self"
  job Buildwin32_Debug
    Checkout Checkout@1.0.0 repository="self"
  job x after Initialization, Buildwin32_Debug
    Config_win32=win32_Debug
    Checkout Checkout@1.0.0 repository="self"
"#);
}

/// microsoft/azure-pipelines-yaml#317: a loop in a matrix that gives one key twice.
#[test]
fn a_key_that_a_loop_gives_twice_is_told() {
    let root = "jobs:\n- template: t.yml\n  parameters: {environments: [{name: first}, {name: second}]}\n";
    let template = "parameters: {environments: []}\njobs:\n- job: test\n  strategy:\n    matrix:\n      \
        ${{ each env in parameters.environments }}:\n        path: /foo\n";
    insta::assert_snapshot!(rejected(root, &[("t.yml", template)]), @r"
error: the key `path` appears twice after the expressions are expanded
 --> t.yml:7:9
  |
7 |         path: /foo
  |         ^^^^
  |
  = note: included from azure-pipelines.yml:2:13

error: a leg of the matrix must be a mapping, not text
 --> t.yml:7:15
  |
7 |         path: /foo
  |               ^^^^
  |
  = note: included from azure-pipelines.yml:2:13
");
}

/// microsoft/azure-pipelines-yaml#499, and the page on `extends`: a guard that makes scripts a mistake.
#[test]
fn a_guard_refuses_scripts_by_a_wrong_key() {
    let root = "extends:
  template: start.yml
  parameters:
    steps:
    - bash: echo passes
    - script: echo is refused
";
    let template = "parameters:
- {name: steps, type: stepList, default: []}
jobs:
- job: secure
  steps:
  - ${{ each step in parameters.steps }}:
    - ${{ each pair in step }}:
        ${{ if ne(pair.value, 'CmdLine@2') }}:
          ${{ pair.key }}: ${{ pair.value }}
        ${{ if eq(pair.value, 'CmdLine@2') }}:
          '${{ pair.value }}': error
";
    insta::assert_snapshot!(rejected(root, &[("start.yml", template)]), @r"
error: `CmdLine@2` is not a kind of step
  --> start.yml:11:11
   |
11 |           '${{ pair.value }}': error
   |           ^^^^^^^^^^^^^^^^^^^
   |
   = help: a step starts with `script`, `bash`, `pwsh`, `checkout`, `task`, `publish` or `download`
   = note: included from azure-pipelines.yml:2:13
");
}

/// microsoftgraph/MSGraph-SDK-Code-Generator#1443: a condition in a list without its dash.
#[test]
fn a_condition_in_a_list_without_its_dash_is_told() {
    let root = "steps:\n- script: a\n${{ if true }}:\n- script: b\n- script: c\n";
    insta::assert_snapshot!(rejected(root, &[]), @r"
error: this gives a list, which does not fit with what is beside it
 --> azure-pipelines.yml:3:1
  |
3 | ${{ if true }}:
  | ^^^^^^^^^^^^^^
");
    let root = "steps:\n  - script: a\n  ${{ if true }}:\n    - script: b\n";
    insta::assert_snapshot!(rejected(root, &[]), @r"
error: not valid YAML: line 3 stands in the list of line 2, but does not start with `- `
 --> azure-pipelines.yml:3:3
  |
3 |   ${{ if true }}:
  |   ^^^^^^^^^^^^^^^
  |
  = help: start it with `- `, or indent it with 4 spaces
");
}
