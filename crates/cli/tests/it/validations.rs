//! Jobs that need no agent in `dayfly run`, and who decides on their validations.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::project::{Ended, Project};

const PIPELINE: &str = "
jobs:
- job: build
  steps:
  - checkout: none
  - script: echo built
- job: approval
  dependsOn: build
  pool: server
  steps:
  - { task: Delay@1, inputs: { delayForMinutes: 0 } }
  - task: ManualValidation@1
    inputs:
      instructions: |
        Look at $(Build.BuildNumber).
        Then decide.
- job: release
  dependsOn: approval
  steps:
  - checkout: none
  - script: echo released
";

#[test]
fn validations_are_approved_beforehand_or_rejected_where_nobody_can_be_asked() {
    let project = Project::with_pipeline(PIPELINE);
    let ended = project.run(&["--approve"], 0);
    for text in ["Look at 2", "Then decide.", "The validation was approved: by `--approve`", "released"] {
        assert!(ended.stdout.contains(text), "{text}: {ended:?}");
    }
    assert!(!ended.stderr.contains("warning"), "{ended:?}");

    let ended = project.run(&[], 1);
    assert!(ended.stderr.contains("`approval` will fail: there is no terminal to ask on"), "{ended:?}");
    let told = "The validation was rejected: there is no terminal to ask on; run again with `--approve`";
    assert!(ended.stdout.contains(told), "{ended:?}");
    assert!(ended.stdout.contains("release skipped"), "{ended:?}");
    project.run(&["--strict"], 2);

    let list = project.run(&["--list"], 0);
    assert!(!list.stdout.contains("cannot run here"), "{list:?}");
}

/// What a run with a terminal shows when these answers are typed, one for each question.
fn with_terminal(project: &Project, answers: &[&str]) -> (Ended, String) {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = project.command(&["run"]);
    let side = || Stdio::from(terminal.slave.try_clone().unwrap());
    let child = command.stdin(side()).stderr(side()).spawn().unwrap();
    drop((command, terminal.slave));
    let (mut terminal, mut shown, mut answers) = (File::from(terminal.master), String::new(), answers.iter());
    let mut questions = 0;
    let mut bytes = [0; 1024];
    // Reading fails when nobody has the other side any longer.
    while let Ok(count @ 1..) = terminal.read(&mut bytes) {
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if shown.matches("Type `approve`").count() > questions {
            questions += 1;
            writeln!(terminal, "{}", answers.next().expect("a question too many")).unwrap();
        }
    }
    assert_eq!(answers.next(), None, "a question too few: {shown}");
    (Ended::from(child.wait_with_output().unwrap()), shown)
}

#[test]
fn whoever_sits_at_the_terminal_is_asked() {
    let project = Project::with_pipeline(PIPELINE);
    let (ended, shown) = with_terminal(&project, &["perhaps", "approve"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(shown.contains("approval waits for your validation"), "{shown}");
    assert!(shown.contains("Then decide."), "{shown}");
    assert!(ended.stdout.contains("released"), "{ended:?}");

    let (ended, _) = with_terminal(&project, &["reject too early"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("The validation was rejected: too early"), "{ended:?}");
}

#[test]
fn tasks_are_where_they_run() {
    let project = Project::with_pipeline(
        "jobs:
- job: server
  pool: server
  steps:
  - script: echo
- job: agent
  steps:
  - task: Delay@1
",
    );
    let ended = project.run(&[], 2);
    for text in [
        "`CmdLine` runs on an agent, and a job of `pool: server` has none",
        "azure-pipelines.yml:5:5",
        "`Delay` does not run on an agent, only in a job of `pool: server`",
        "azure-pipelines.yml:8:5",
    ] {
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
    }

    let project = Project::with_pipeline(
        "jobs:
- job: server
  pool: server
  steps:
  - { task: Delay@1 }
  - { task: AzureFunction@1 }
- job: agent
  steps: [ { checkout: none }, { script: echo ran } ]
",
    );
    let ended = project.run(&[], 2);
    let told = "Dayfly cannot run `AzureFunction@1` (azure-pipelines.yml:6): in jobs of `pool: server`";
    assert!(ended.stderr.contains(told), "{ended:?}");
    project.run(&["--skip-task", "AzureFunction"], 0);
    project.run(&["--job", "agent"], 0);
}

#[test]
fn what_deploys_to_an_environment_with_an_approval_waits_for_it() {
    let project = Project::with_pipeline(
        "stages:
- stage: build
  jobs: [ { job: compile, steps: [ { checkout: none }, { script: echo built } ] } ]
- stage: ship
  jobs:
  - job: approval
    steps: [ { checkout: none }, { script: echo of the pipeline itself } ]
  - deployment: web
    dependsOn: approval
    environment: Prod
    strategy: { runOnce: { deploy: { steps: [ { script: echo 'shipped to $(Environment.Name) $(Environment.Id)' } ] } } }
  - job: tell
    dependsOn: web
    condition: always()
    steps: [ { checkout: none }, { script: echo 'told of it' } ]
- stage: staging
  dependsOn: build
  jobs:
  - deployment: try
    environment: staging
    strategy: { runOnce: { deploy: { steps: [ { script: echo tried } ] } } }
",
    );
    project.write("dayfly.toml", "[environments.prod]\napproval = true\n[environments.staging]\n");
    let (ended, shown) = with_terminal(&project, &["approve"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(shown.contains("Approval of Prod waits for your validation"), "{shown}");
    for text in ["of the pipeline itself", "shipped to Prod 1", "told of it", "tried"] {
        assert!(ended.stdout.contains(text), "{text}: {ended:?}");
    }

    // Nothing of the stage runs without it, and nothing else waits for it.
    let ended = project.run(&[], 1);
    assert!(ended.stderr.contains("`Approval_2` will fail: there is no terminal to ask on"), "{ended:?}");
    for text in ["of the pipeline itself", "shipped", "told of it"] {
        assert!(!ended.stdout.contains(text), "{text}: {ended:?}");
    }
    assert!(ended.stdout.contains("tried"), "{ended:?}");
    let ended = project.run(&["--job", "web"], 1);
    assert!(!ended.stdout.contains("shipped"), "{ended:?}");
    let ended = project.run(&["--job", "web", "--approve"], 0);
    assert!(ended.stdout.contains("shipped to Prod 1"), "{ended:?}");
    project.run(&["--stage", "staging"], 0);

    // Which environment it will be is not known beforehand.
    project.write(
        "azure-pipelines.yml",
        "variables: { where: prod }
jobs:
- deployment: web
  environment: $(where)
  strategy: { runOnce: { deploy: { steps: [ { script: echo 'shipped to $(Environment.Name)' } ] } } }
",
    );
    let ended = project.run(&[], 1);
    assert!(!ended.stdout.contains("shipped"), "{ended:?}");
}
