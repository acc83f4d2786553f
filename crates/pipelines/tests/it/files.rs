//! Templates in other files of the repository.

use std::{collections::BTreeMap, sync::Arc};

use dayfly_pipelines::{FileError, Files, Inputs, compile};

use crate::compile::{compile_with, outline_of, source};

/// A repository in memory.
struct Repository(BTreeMap<String, String>);

impl Files for Repository {
    fn read(&self, path: &str) -> Result<String, FileError> {
        self.0.get(path).cloned().ok_or(FileError::NotFound)
    }
}

pub(crate) fn inputs(files: &[(&str, &str)]) -> Inputs {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    Inputs {
        files: Arc::new(Repository(files.collect())),
        path: "azure-pipelines.yml".to_owned(),
        ..Inputs::default()
    }
}

pub(crate) fn outline(root: &str, files: &[(&str, &str)]) -> String {
    outline_of(&compile_with(root, &inputs(files)))
}

pub(crate) fn rejected(root: &str, files: &[(&str, &str)]) -> String {
    compile(&source(root), &inputs(files)).expect_err("should not compile").to_string()
}

#[test]
fn a_folder_with_an_at_sign_is_no_repository() {
    let steps = "steps:\n- template: more.yml\n";
    let files = [("ci@v2/steps.yml", steps), ("ci@v2/more.yml", "steps:\n- script: echo found\n")];
    let inputs = Inputs { path: "ci@v2/p.yml".to_owned(), ..inputs(&files) };
    let plan = compile_with("steps:\n- template: steps.yml\n", &inputs);
    assert!(outline_of(&plan).contains("echo found"), "{}", outline_of(&plan));
}

#[test]
fn lists_of_every_kind_come_from_templates() {
    let root = r"
variables:
- template: ci/variables.yml
  parameters: {level: debug}
- name: own
  value: ${{ variables.fromTemplate }}
stages:
- template: ci/stages.yml
  parameters:
    name: Build
    steps:
    - script: echo from the root
    - template: more.yml
- stage: Last
  jobs:
  - template: /ci/jobs.yml@self
    parameters: {count: 2}
";
    let files = [
        (
            "ci/variables.yml",
            "parameters:\n- name: level\nvariables:\n  fromTemplate: ${{ parameters.level }}\n",
        ),
        (
            "ci/stages.yml",
            r"
parameters:
- name: name
  type: string
- name: steps
  type: stepList
  default: []
stages:
- stage: ${{ parameters.name }}
  variables:
    local: ${{ variables.own }}
  jobs:
  - job: one
    steps:
    - checkout: none
    - ${{ parameters.steps }}
    - template: sub/steps.yml
      parameters:
        text: ${{ variables.local }}
",
        ),
        (
            "ci/sub/steps.yml",
            "parameters: {text: ''}\nsteps:\n- script: ${{ parameters.text }}\n- template: ../more.yml\n",
        ),
        ("ci/more.yml", "steps:\n- bash: more\n"),
        (
            "ci/jobs.yml",
            r"
parameters:
- name: count
  type: number
  values: [1, 2]
jobs:
- ${{ if eq(parameters.count, 2) }}:
  - job: second
    steps: [{checkout: none}]
- deployment: ship
  environment: prod
  strategy:
    runOnce:
      deploy:
        steps:
        - template: more.yml
",
        ),
    ];
    insta::assert_snapshot!(outline(root, &files), @r#"
fromTemplate=debug
own=debug
stage Build
  local=debug
  job one
    CmdLine1 CmdLine@2.279.1 script="echo from the root"
    Bash1 Bash@3.278.0 script="more" targetType="inline"
    CmdLine2 CmdLine@2.279.1 script="debug"
    Bash2 Bash@3.278.0 script="more" targetType="inline"
stage Last after Build
  job second
  job ship
    hook ship
    DownloadPipelineArtifact DownloadPipelineArtifact@2.198.0 buildType="current"
    Bash Bash@3.278.0 script="more" targetType="inline"
"#);
}

#[test]
fn a_pipeline_extends_a_template() {
    let root = r"
trigger: none
parameters:
- name: who
  default: world
resources:
  repositories:
  - {repository: tools, type: git, name: tools}
extends:
  template: base/pipeline.yml
  parameters:
    jobs:
    - job: mine
      steps:
      - checkout: tools
      - script: hello ${{ parameters.who }}
";
    let files = [
        (
            "base/pipeline.yml",
            "parameters:\n- name: jobs\n  type: jobList\nextends:\n  template: stages.yml\n  parameters: {jobs: '${{ parameters.jobs }}'}\n",
        ),
        (
            "base/stages.yml",
            r"
parameters:
- name: jobs
  type: jobList
resources:
  repositories:
  - {repository: more, type: git, name: more}
variables:
  given: by template
stages:
- stage: Only
  jobs:
  - ${{ each job in parameters.jobs }}:
    - job: ${{ job.job }}
      steps:
      - script: first
      - ${{ job.steps }}
",
        ),
    ];
    let compiled = compile_with(root, &inputs(&files));
    insta::assert_snapshot!(outline_of(&compiled), @r#"
given=by template
stage Only
  job mine
    CmdLine1 CmdLine@2.279.1 script="first"
    Checkout Checkout@1.0.0 repository="tools"
    CmdLine2 CmdLine@2.279.1 script="hello world"
"#);
    let aliases: Vec<&str> =
        compiled.plan.resources.repositories.iter().map(|one| one.alias.as_str()).collect();
    assert_eq!(aliases, ["tools", "more"]);
}

#[test]
fn a_template_does_not_see_the_loops_around_it() {
    let root = "steps:\n- ${{ each x in split('a b', ' ') }}:\n  - template: t.yml\n    parameters: {x: \
        '${{ x }}'}\n";
    insta::assert_snapshot!(outline(root, &[("t.yml", "steps:\n- script: ${{ parameters.x }}\n")]), @r#"
stage __default
  job Job
    Checkout Checkout@1.0.0 repository="self"
    CmdLine1 CmdLine@2.279.1 script="a"
    CmdLine2 CmdLine@2.279.1 script="b"
"#);
    insta::assert_snapshot!(rejected(root, &[("t.yml", "steps:\n- script: ${{ x }}\n")]), @r"
error: in the expression: unrecognized value `x` (known here: parameters, variables, pipeline, resources)
 --> t.yml:2:15
  |
2 | - script: ${{ x }}
  |               ^
  |
  = note: included from azure-pipelines.yml:3:15
");
}

#[test]
fn mistakes_of_calls_and_templates_are_told_where_they_are() {
    let root = r"
steps:
- template: missing.yml
- template: ../out.yml
- template: other.yml@tools
- template: good.yml
  parameter: {}
- template: good.yml
  parameters: {nubmer: 1}
- template: good.yml
  parameters: {number: x}
- template: jobs.yml
- template: bad.yml
- template: broken.yml
- template: itself.yml
";
    let files = [
        (
            "good.yml",
            "parameters:\n- name: number\n  type: number\nsteps:\n- script: ${{ parameters.number }}\n",
        ),
        ("jobs.yml", "jobs:\n- job: a\n"),
        ("bad.yml", "steps:\n- scrpt: x\n"),
        ("broken.yml", "steps: [\n"),
        ("itself.yml", "steps: []\n"),
    ];
    insta::assert_snapshot!(rejected(root, &files), @r"
error: cannot read the template `missing.yml`: there is no such file
 --> azure-pipelines.yml:3:13
  |
3 | - template: missing.yml
  |             ^^^^^^^^^^^

error: cannot read the template `../out.yml`: the path leaves the repository
 --> azure-pipelines.yml:4:13
  |
4 | - template: ../out.yml
  |             ^^^^^^^^^^

error: cannot read the template `other.yml@tools`: `resources.repositories` of the pipeline declares no repository `tools`
 --> azure-pipelines.yml:5:13
  |
5 | - template: other.yml@tools
  |             ^^^^^^^^^^^^^^^

error: the parameter `number` of this template needs a value
 --> azure-pipelines.yml:6:13
  |
6 | - template: good.yml
  |             ^^^^^^^^
  |
  = help: pass it under `parameters:`

error: unknown key `parameter` in a template reference
 --> azure-pipelines.yml:7:3
  |
7 |   parameter: {}
  |   ^^^^^^^^^
  |
  = help: known keys: `template`, `parameters`

error: the parameter `number` of this template needs a value
 --> azure-pipelines.yml:8:13
  |
8 | - template: good.yml
  |             ^^^^^^^^
  |
  = help: pass it under `parameters:`

error: the template has no parameter `nubmer`
 --> azure-pipelines.yml:9:16
  |
9 |   parameters: {nubmer: 1}
  |                ^^^^^^
  |
  = help: did you mean `number`?

error: `x` is not a number, which the parameter `number` needs
  --> azure-pipelines.yml:11:24
   |
11 |   parameters: {number: x}
   |                        ^

error: this template has no `steps`
  --> azure-pipelines.yml:12:13
   |
12 | - template: jobs.yml
   |             ^^^^^^^^
   |
   = help: in this place a template must be a list of steps

error: `scrpt` is not a kind of step
 --> bad.yml:2:3
  |
2 | - scrpt: x
  |   ^^^^^
  |
  = help: did you mean `script`?
  = note: included from azure-pipelines.yml:13:13

error: not valid YAML: unclosed bracket '['
 --> broken.yml:1:8
  |
1 | steps: [
  |        ^
");
}

#[test]
fn a_template_that_places_itself_is_found() {
    let files = [("a.yml", "steps:\n- template: b.yml\n"), ("b.yml", "steps:\n- template: a.yml\n")];
    insta::assert_snapshot!(rejected("steps:\n- template: a.yml\n", &files), @r"
error: templates are nested deeper than 50 levels
 --> b.yml:2:13
  |
2 | - template: a.yml
  |             ^^^^^
  |
  = help: does a template include itself?
  = note: included from a.yml:2:13
  = note: included from b.yml:2:13
  = note: included from azure-pipelines.yml:2:13
");
    let files = [("a.yml", "extends: {template: a.yml}\n")];
    insta::assert_snapshot!(rejected("extends: {template: a.yml}\n", &files), @r"
error: templates are nested deeper than 50 levels
 --> a.yml:1:21
  |
1 | extends: {template: a.yml}
  |                     ^^^^^
  |
  = help: does a template include itself?
  = note: included from a.yml:1:21
  = note: included from azure-pipelines.yml:1:21
");
}

#[test]
fn extending_and_giving_the_same_is_a_mistake() {
    let files = [("a.yml", "variables: {a: 1}\nsteps: []\n")];
    insta::assert_snapshot!(rejected("variables: {b: 1}\nextends: {template: a.yml}\n", &files), @r"
error: `variables` is already set by the template that this pipeline extends
 --> azure-pipelines.yml:1:1
  |
1 | variables: {b: 1}
  | ^^^^^^^^^
");
    insta::assert_snapshot!(rejected("extends: {parameters: {a: 1}}\n", &files), @r"
error: `extends` needs `template`, the file to extend
 --> azure-pipelines.yml:1:10
  |
1 | extends: {parameters: {a: 1}}
  |          ^^^^^^^^^^^^^^^^^^
");
}

#[test]
fn a_template_that_is_extended_has_no_pool_of_its_own() {
    let files = [("a.yml", "pool: {vmImage: ubuntu-latest}\nname: mine\nsteps:\n- script: x\n")];
    insta::assert_snapshot!(rejected("extends: {template: a.yml}\n", &files), @r"
error: a template that is extended cannot have `pool`
 --> a.yml:1:1
  |
1 | pool: {vmImage: ubuntu-latest}
  | ^^^^
  |
  = help: it can have `extends`, `stages`, `jobs`, `steps`, `phases`, `parameters`, `resources`, `trigger`, `variables`
  = note: included from azure-pipelines.yml:1:21

error: a template that is extended cannot have `name`
 --> a.yml:2:1
  |
2 | name: mine
  | ^^^^
  |
  = help: it can have `extends`, `stages`, `jobs`, `steps`, `phases`, `parameters`, `resources`, `trigger`, `variables`
  = note: included from azure-pipelines.yml:1:21
");
}
