//! `${{ }}` in values and keys, and the directives.

use dayfly_pipelines::Inputs;
use serde_json::json;

use crate::compile::{compile_with, outline, outline_of, parameters};

fn with_system(pairs: &[(&str, &str)]) -> Inputs {
    Inputs {
        system: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Inputs::default()
    }
}

#[test]
fn expressions_stand_in_values_and_keys() {
    let text = r"
parameters:
- name: who
  default: world
- name: flag
  type: boolean
  default: false
- name: count
  type: number
  default: 3
variables:
  greeting: hello ${{ parameters.who }}
  twice: ${{ variables.greeting }}, ${{ variables['GREETING'] }}
  ${{ parameters.who }}_key: 1
steps:
- checkout: none
- script: echo '${{ parameters.flag }}' ${{ parameters.count }} ${{ variables.twice }}
  displayName: ${{ format('{0}!', upper(parameters.who)) }}
  condition: ${{ eq(parameters.flag, true) }}
- script: ${{ '${{' }} stays }}
";
    insta::assert_snapshot!(outline(text), @r#"
greeting=hello world
twice=hello world, hello world
world_key=1
stage __default
  job Job
    CmdLine1 "WORLD!" CmdLine@2.279.1 script="echo 'False' 3 hello world, hello world"
    CmdLine2 CmdLine@2.279.1 script="${{ stays }}"
"#);
    let given = parameters(&[("WHO", json!("you")), ("flag", json!("TRUE")), ("count", json!(7))]);
    insta::assert_snapshot!(outline_of(&compile_with(text, &given)), @r#"
greeting=hello you
twice=hello you, hello you
you_key=1
stage __default
  job Job
    CmdLine1 "YOU!" CmdLine@2.279.1 script="echo 'True' 7 hello you, hello you"
    CmdLine2 CmdLine@2.279.1 script="${{ stays }}"
"#);
}

#[test]
fn branches_are_chosen() {
    let text = r"
variables:
- name: kind
  ${{ if eq(variables['Build.Reason'], 'PullRequest') }}:
    value: pr
  ${{ elseif eq(variables['Build.SourceBranchName'], 'main') }}:
    value: main
  ${{ else }}:
    value: other
- ${{ if eq(variables.kind, 'main') }}:
  - name: deploy
    value: true
steps:
- checkout: none
- ${{ if eq(variables.kind, 'pr') }}:
  - script: pull request
- ${{ elseif eq(variables.kind, 'main') }}:
  - script: main branch
  - script: more
- ${{ else }}:
  - script: neither
- ${{ if false }}:
  - script: never
";
    insta::assert_snapshot!(outline(text), @r#"
kind=other
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="neither"
"#);
    insta::assert_snapshot!(outline_of(&compile_with(text, &with_system(&[("Build.Reason", "PullRequest")]))), @r#"
kind=pr
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="pull request"
"#);
    insta::assert_snapshot!(outline_of(&compile_with(text, &with_system(&[("Build.SourceBranchName", "main")]))), @r#"
kind=main
deploy=true
stage __default
  job Job
    CmdLine1 CmdLine@2.279.1 script="main branch"
    CmdLine2 CmdLine@2.279.1 script="more"
"#);
}

#[test]
fn loops_go_over_lists_and_mappings() {
    let text = r"
parameters:
- name: versions
  type: object
  default: [3.9, 3.10]
- name: jobs
  type: object
  default:
    linux:
      image: ubuntu-latest
    windows:
      image: windows-latest
jobs:
- ${{ each job in parameters.jobs }}:
  - job: ${{ job.key }}
    pool:
      vmImage: ${{ job.value.image }}
    variables:
      image: ${{ job.value.image }}
    steps:
    - checkout: none
    - ${{ each version in parameters.versions }}:
      - script: python${{ version }} on ${{ variables.image }}
- ${{ each nothing in parameters.jobs.missing }}:
  - job: ${{ nothing }}
- job: last
  dependsOn:
  - ${{ each job in parameters.jobs }}:
    - ${{ job.key }}
  steps:
  - checkout: none
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job linux
    image=ubuntu-latest
    CmdLine1 CmdLine@2.279.1 script="python3.9 on ubuntu-latest"
    CmdLine2 CmdLine@2.279.1 script="python3.10 on ubuntu-latest"
  job windows
    image=windows-latest
    CmdLine1 CmdLine@2.279.1 script="python3.9 on windows-latest"
    CmdLine2 CmdLine@2.279.1 script="python3.10 on windows-latest"
  job last after linux, windows
"#);
}

#[test]
fn lists_of_steps_are_spliced_and_mappings_merged() {
    let text = r"
parameters:
- name: before
  type: stepList
  default:
  - script: one
    displayName: First
  - bash: two
- name: env
  type: object
  default:
    A: 1
    B: 2
steps:
- checkout: none
- ${{ parameters.before }}
- script: three
  env:
    ${{ insert }}: ${{ parameters.env }}
    C: 3
- ${{ each step in parameters.before }}:
  - ${{ each pair in step }}:
      ${{ if ne(pair.key, 'displayName') }}:
        ${{ pair.key }}: ${{ pair.value }}
    displayName: wrapped
";
    let compiled = compile_with(text, &Inputs::default());
    insta::assert_snapshot!(outline_of(&compiled), @r#"
stage __default
  job Job
    CmdLine1 "First" CmdLine@2.279.1 script="one"
    Bash1 Bash@3.278.0 script="two" targetType="inline"
    CmdLine2 CmdLine@2.279.1 script="three"
    CmdLine3 "wrapped" CmdLine@2.279.1 script="one"
    Bash2 "wrapped" Bash@3.278.0 script="two" targetType="inline"
"#);
    let env = &compiled.plan.stages[0].jobs[0].steps[2].env;
    assert_eq!(
        env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        ["A=1", "B=2", "C=3"]
    );
    let given = parameters(&[("before", json!("- script: from outside")), ("env", json!({"Z": "z"}))]);
    insta::assert_snapshot!(outline_of(&compile_with(text, &given)), @r#"
stage __default
  job Job
    CmdLine1 CmdLine@2.279.1 script="from outside"
    CmdLine2 CmdLine@2.279.1 script="three"
    CmdLine3 "wrapped" CmdLine@2.279.1 script="from outside"
"#);
}

#[test]
fn stage_variables_are_seen_below_and_not_beside() {
    let text = r"
variables:
  where: root
stages:
- stage: A
  displayName: ${{ variables.where }}
  variables:
    where: A
  jobs:
  - job: one
    variables:
      where: one
    steps:
    - script: ${{ variables.where }}
  - job: two
    steps:
    - script: ${{ variables.where }}
- stage: B
  jobs:
  - job: one
    steps:
    - script: ${{ variables.where }}
";
    insta::assert_snapshot!(outline(text), @r#"
where=root
stage A
  where=A
  job one
    where=one
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="one"
  job two
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="A"
stage B after A
  job one
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="root"
"#);
}

#[test]
fn given_variables_are_seen_and_written_ones_win() {
    let text =
        "variables:\n  a: file\nsteps:\n- checkout: none\n- script: ${{ variables.a }} ${{ variables.b }}\n";
    let inputs = Inputs {
        variables: [("a", "given"), ("b", "given")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Inputs::default()
    };
    insta::assert_snapshot!(outline_of(&compile_with(text, &inputs)), @r#"
a=file
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="file given"
"#);
}

#[test]
fn nothing_is_null_and_old_parameters_take_anything() {
    let text = r"
parameters:
- name: nothing
  type: object
  default: null
- name: text
  type: object
  default: 'null'
- name: old
  type: legacyObject
  default: {b: true}
steps:
- checkout: none
- ${{ each x in parameters.nothing }}:
  - script: never
- ${{ if parameters.nothing }}:
  - script: never
- ${{ if parameters.text }}:
  - script: text ${{ parameters.old.b }}
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="text true"
"#);
}
