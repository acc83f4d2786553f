//! `resources:`.

use dayfly_pipelines::{Inputs, compile};
use serde_json::json;

use crate::compile::{compile_with, source};

fn warnings(text: &str) -> String {
    compile_with(text, &Inputs::default()).warnings.to_string()
}

#[test]
fn keys_that_nobody_knows_are_warned_of() {
    insta::assert_snapshot!(warnings(
        "resources:
  repositories:
  - repository: tools
    type: git
    name: tools
    branch: main
    enpoint: x
  containers:
  - container: db
    image: mysql:8
    restart: always
    imgae: mysql
steps: []
"
    ), @r"
warning: `branch` has no effect in a repository resource
 --> azure-pipelines.yml:6:5
  |
6 |     branch: main
  |     ^^^^^^

warning: `enpoint` has no effect in a repository resource
 --> azure-pipelines.yml:7:5
  |
7 |     enpoint: x
  |     ^^^^^^^
  |
  = help: did you mean `endpoint`?

warning: `restart` has no effect in a container resource
  --> azure-pipelines.yml:11:5
   |
11 |     restart: always
   |     ^^^^^^^

warning: `imgae` has no effect in a container resource
  --> azure-pipelines.yml:12:5
   |
12 |     imgae: mysql
   |     ^^^^^
   |
   = help: did you mean `image`?
");
}

#[test]
fn keys_of_a_pool_that_look_like_known_ones_are_warned_of() {
    insta::assert_snapshot!(warnings(
        "jobs:
- job: A
  pool: {vmIMage: windows-2022, demand: npm}
- job: B
  pool: {name: managed, image: ubuntu, os: linux, hostArchitecture: arm64}
"
    ), @r"
warning: `vmIMage` has no effect in a pool
 --> azure-pipelines.yml:3:10
  |
3 |   pool: {vmIMage: windows-2022, demand: npm}
  |          ^^^^^^^
  |
  = help: did you mean `vmImage`?

warning: `demand` has no effect in a pool
 --> azure-pipelines.yml:3:33
  |
3 |   pool: {vmIMage: windows-2022, demand: npm}
  |                                 ^^^^^^
  |
  = help: did you mean `demands`?
");
}

#[test]
fn lines_with_windows_ends_are_shown_without_them() {
    let warnings = warnings("pool:\r\n  vmimage: ubuntu-latest\r\nsteps: []\r\n");
    assert!(warnings.contains("2 |   vmimage: ubuntu-latest\n"), "{warnings}");
    let warnings = self::warnings("pool:\r\n  vmimage:\r\nsteps: []\r\n");
    assert!(!warnings.contains(['\r', '␍']), "{warnings}");
}

#[test]
fn checkout_options_stand_in_a_mapping_or_beside_the_name() {
    let compiled = compile_with(
        "resources:
  repositories:
  - repository: self
    checkoutOptions: {fetchDepth: 1, lfs: true}
    clean: true
  - repository: old
    type: tfsversioncontrol
    name: $/project
    mappings: [{map: $/project/main}]
steps: []
",
        &Inputs::default(),
    );
    let resources = &compiled.plan.resources.repositories;
    assert_eq!(json!(resources[0].checkout), json!({"clean": "true", "fetchDepth": "1", "lfs": "true"}));
    assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
    let wrong =
        "resources: {repositories: [{repository: self, checkoutOptions: {fetchDeph: 1}}]}\nsteps: []\n";
    let diagnostics = compile(&source(wrong), &Inputs::default()).expect_err("a closed mapping");
    insta::assert_snapshot!(diagnostics, @r"
error: unknown key `fetchDeph` in checkoutOptions
 --> azure-pipelines.yml:1:65
  |
1 | resources: {repositories: [{repository: self, checkoutOptions: {fetchDeph: 1}}]}
  |                                                                 ^^^^^^^^^
  |
  = help: did you mean `fetchDepth`?
");
}

#[test]
fn a_repository_needs_a_name_when_it_is_used() {
    let text = "resources: {repositories: [{repository: tools, type: git}]}\nsteps:\n";
    compile_with(&format!("{text}- checkout: self\n"), &Inputs::default());
    let diagnostics =
        compile(&source(&format!("{text}- checkout: tools\n")), &Inputs::default()).expect_err("it is used");
    insta::assert_snapshot!(diagnostics, @r"
error: the repository resource `tools` has no `name`
 --> azure-pipelines.yml:3:13
  |
3 | - checkout: tools
  |             ^^^^^
  |
  = help: write `name: repo` or `name: project/repo` there
");
}
