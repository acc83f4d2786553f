//! `dayfly run`, from the outside.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::project::{Ended, Project};

pub(crate) fn assert_has(ended: &Ended, text: &str) {
    assert!(ended.stdout.contains(text), "no `{text}` in\n{}\n--- stderr\n{}", ended.stdout, ended.stderr);
}

pub(crate) fn assert_has_not(ended: &Ended, text: &str) {
    assert!(
        !ended.stdout.contains(text) && !ended.stderr.contains(text),
        "`{text}` in\n{}\n{}",
        ended.stdout,
        ended.stderr
    );
}

#[test]
fn the_first_example_runs_as_the_readme_says() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/azure-pipelines.yml");
    let project = Project::with_pipeline(&std::fs::read_to_string(example).unwrap());
    let ended = project.run(&["--parameter", "greeting=Hi"], 0);
    for text in [
        "Hi from Azure Pipelines, in English",
        "Hi from Azure Pipelines, in French",
        "The repository has 1 files",
        "succeeded in",
    ] {
        assert_has(&ended, text);
    }
    assert_has_not(&ended, "rather large\n");
    assert_has_not(&ended, "\x1b[");
}

#[test]
fn templates_of_the_repository_are_put_in_place() {
    let project = Project::with_pipeline("jobs:\n- template: ci/jobs.yml\n  parameters: {who: template}\n");
    let jobs = "parameters:\n- name: who\njobs:\n- job: a\n  steps:\n  - checkout: none\n  - template: steps.yml\n    parameters: {text: '${{ parameters.who }}'}\n";
    project.write("ci/jobs.yml", jobs);
    project.write(
        "ci/steps.yml",
        "parameters: {text: ''}\nsteps:\n- script: echo from a ${{ parameters.text }}\n",
    );
    assert_has(&project.run(&[], 0), "from a template");
    project.write("ci/steps.yml", "steps:\n- scrpt: x\n");
    let ended = project.run(&[], 2);
    assert!(ended.stderr.contains("ci/steps.yml:2:3"), "{}", ended.stderr);
}

#[test]
fn dayflys_own_pipeline_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let project = Project::with_pipeline(&std::fs::read_to_string(root.join("azure-pipelines.yml")).unwrap());
    assert_has(&project.run(&["--list"], 0), "Lint and test");
}

#[test]
fn a_failing_step_fails_the_run_and_later_steps_are_skipped() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: echo before; exit 3
  displayName: Break
- script: echo after
- script: echo tidying up
  condition: always()
",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "before");
    assert_has(&ended, "error: Bash exited with code '3'.");
    assert_has(&ended, "tidying up");
    assert_has_not(&ended, "after\n");
    assert_has(&ended, "failed in");
}

#[test]
fn a_failure_that_is_allowed_leaves_the_run_succeeded_with_issues() {
    let project =
        Project::with_pipeline("steps:\n- checkout: none\n- script: exit 1\n  continueOnError: true\n");
    assert_has(&project.run(&[], 0), "succeeded with issues in");
}

#[test]
fn hooks_of_a_deployment_are_told_apart() {
    let project = Project::with_pipeline(
        "jobs:
- deployment: d
  environment: production
  strategy:
    runOnce:
      preDeploy: { steps: [{ bash: echo first, displayName: Prepare }] }
      deploy: { steps: [{ bash: echo second, displayName: Do it }] }
",
    );
    let ended = project.run(&[], 0);
    assert_has(&ended, "d preDeploy │ ▸ Prepare\n");
    assert_has(&ended, "d deploy    │ ▸ Do it\n");
}

#[test]
fn a_job_that_cannot_be_made_says_why() {
    let project = Project::with_pipeline(
        "resources:
  repositories:
  - {repository: tools, type: git, name: elsewhere}
steps:
- checkout: tools
",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "uses the repository `tools`, which is not available here");
    let ended = project.run(&["--json"], 1);
    assert_has(&ended, "uses the repository `tools`");
}

#[test]
fn mistakes_in_the_yaml_are_shown_at_their_place() {
    let project = Project::with_pipeline("steps:\n- script: echo hello\n  displayNaem: Hello\n");
    let ended = project.run(&[], 2);
    assert!(ended.stderr.contains("azure-pipelines.yml:3:3"), "{}", ended.stderr);
    assert!(ended.stderr.contains("displayNaem") && ended.stderr.contains('^'), "{}", ended.stderr);
    assert!(ended.stdout.is_empty());
}

#[test]
fn a_file_that_is_not_there_is_bad_usage() {
    let project = Project::with_pipeline("steps: []");
    let ended = project.run(&["nowhere.yml"], 2);
    assert!(ended.stderr.contains("nowhere.yml"), "{}", ended.stderr);
}

#[test]
fn values_that_the_pipeline_does_not_know_are_bad_usage() {
    let project = Project::with_pipeline(
        "parameters:\n- name: a\n  type: number\n  default: 1\nsteps:\n- script: echo ${{ parameters.a }}\n",
    );
    for arguments in [
        ["--parameter", "b=1"],
        ["--parameter", "a=x"],
        ["--parameter", "a"],
        ["--stage", "nowhere"],
        ["--job", "x"],
    ] {
        let ended = project.run(&arguments, 2);
        assert!(!ended.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn secrets_are_masked_and_reach_only_the_steps_that_ask() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    echo \"mapped: $MAPPED\"
    echo \"halves: ${MAPPED:0:4} ${MAPPED:4}\"
    echo \"inherited: [$TOKEN] [$DAYFLY_TEST_TOKEN]\"
    env | grep -c hunter2-is | sed 's/^/places: /'
  env:
    MAPPED: $(token)
",
    );
    project.write("secret", "hunter2-is-secret\n");
    let mut command =
        project.command(&["run", "--secret", "token=env:DAYFLY_TEST_TOKEN", "--secret", "other=@secret"]);
    let ended = Ended::from(command.env("DAYFLY_TEST_TOKEN", "hunter2-is-secret").output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_has(&ended, "mapped: ***");
    assert_has(&ended, "halves: hunt er2-is-secret");
    assert_has(&ended, "inherited: [] []");
    assert_has(&ended, "places: 1");
    assert_has_not(&ended, "hunter2-is-secret");
}

#[test]
fn a_proxy_of_the_network_is_no_hindrance() {
    let project = Project::with_pipeline("steps:\n- script: echo past the $http_proxy\n");
    project.git(&["init", "--quiet"]);
    let mut command = project.command(&["run"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"] {
        // Nothing listens there.
        command.env(name, "http://127.0.0.1:9");
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_has(&ended, "past the http://127.0.0.1:9");
}

#[test]
fn checkout_gets_the_work_tree_as_it_is_and_leaves_it_alone() {
    let project = Project::with_pipeline(
        "steps:
- checkout: self
- bash: |
    cat committed untracked
    ls ignored 2>/dev/null || echo 'nothing ignored'
    git log --format=%s | tail -1
    echo changed by the job > committed
",
    );
    project.write("committed", "as committed\n");
    project.write(".gitignore", "ignored\n");
    project.git(&["init", "-q"]);
    project.git(&["add", "."]);
    project.git(&["commit", "-qm", "The first commit"]);
    project.write("committed", "as changed\n");
    project.write("untracked", "as untracked\n");
    project.write("ignored", "as ignored\n");
    project.git(&["add", "untracked"]);
    let before = (project.git(&["status", "--porcelain"]), project.git(&["for-each-ref"]));

    let ended = project.run(&["--verbose"], 0);
    for text in ["as changed", "as untracked", "nothing ignored", "The first commit", "-> origin/main"] {
        assert_has(&ended, text);
    }
    // Git says so when it sends objects: they were there.
    assert_has_not(&ended, "Enumerating objects");
    assert_eq!((project.git(&["status", "--porcelain"]), project.git(&["for-each-ref"])), before);
    assert_eq!(project.read("committed"), "as changed\n");
}

#[test]
fn the_plan_is_printed_as_a_tree() {
    let project = Project::with_pipeline(
        "stages:
- stage: build
  displayName: Build it
  jobs:
  - job: compile
    strategy:
      matrix:
        debug: { mode: debug }
        release: { mode: release }
    steps:
    - script: make $(mode)
      displayName: Compile
- stage: publish
  condition: succeeded()
  jobs:
  - job: upload
    steps:
    - checkout: none
    - bash: ./upload
",
    );
    insta::assert_snapshot!(project.run(&["--list"], 0).stdout);
    let json: serde_json::Value =
        serde_json::from_str(&project.run(&["--list", "--json"], 0).stdout).unwrap();
    assert_eq!(json["stages"][0]["name"], "build");
}

#[test]
fn events_are_one_json_object_a_line() {
    let project =
        Project::with_pipeline("steps:\n- checkout: none\n- script: echo hello\n  displayName: Say hello\n");
    let ended = project.run(&["--json"], 0);
    let events: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"runStarted"), Some(&"runCompleted")));
    assert_eq!(events.last().unwrap()["result"], "succeeded");
    assert!(events.iter().all(|event| event["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
    let step =
        events.iter().find(|event| event["event"] == "stepStarted" && event["step"] == "Say hello").unwrap();
    let line = events.iter().find(|event| event["event"] == "line" && event["line"] == "hello").unwrap();
    assert_eq!((&line["job"], &line["number"]), (&step["job"], &step["number"]));
}

#[test]
fn logs_and_artifacts_are_kept_where_asked() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    mkdir out && echo content > out/file
    echo \"##vso[artifact.upload artifactname=drop]$PWD/out\"
  displayName: Make
- bash: echo second > other && echo \"##vso[artifact.upload artifactname=drop]$PWD/other\"
  workingDirectory: $(Agent.TempDirectory)
",
    );
    project.run(&["--log-dir", "logs", "--artifacts-dir", "artifacts"], 0);
    assert_eq!(project.read("artifacts/drop/file"), "content\n");
    assert_eq!(project.read("artifacts/drop/other"), "second\n");
    let logs = walk(&project.path().join("logs"));
    let made = logs.iter().find(|path| path.contains("Make")).unwrap_or_else(|| panic!("{logs:?}"));
    let text = std::fs::read_to_string(made).unwrap();
    assert!(
        text.contains("##[section]Starting: Make") && text.contains("##[section]Finishing: Make"),
        "{text}"
    );
}

#[test]
fn folders_that_cannot_be_used_are_told_before_the_run() {
    let project = Project::with_pipeline("steps:\n- checkout: none\n- script: echo ran\n");
    for option in ["--log-dir", "--artifacts-dir"] {
        let ended = project.run(&[option, "azure-pipelines.yml/logs"], 2);
        assert!(ended.stderr.contains("cannot write to the folder `azure-pipelines.yml/logs`"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

fn walk(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files
}

#[test]
fn only_the_jobs_asked_for_run() {
    let project = Project::with_pipeline(
        "jobs:
- job: first
  steps: [{ checkout: none }, { script: echo from first }]
- job: second
  dependsOn: first
  steps: [{ checkout: none }, { script: echo from second }]
",
    );
    let ended = project.run(&["--job", "second"], 0);
    assert_has(&ended, "from second");
    assert_has_not(&ended, "from first");
}

const LONG: &str = "steps:
- checkout: none
- bash: |
    echo started
    sleep 300
- bash: echo tidied up
  condition: always()
";

/// Starts the long pipeline and returns once its step runs.
fn start_long(project: &Project) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child = project.command(&["run"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.contains("started") {
            return (child, lines);
        }
        line.clear();
    }
    panic!("the step never started: {:?}", child.wait_with_output());
}

fn interrupt(child: &std::process::Child) {
    signal(child, Signal::SIGINT);
}

fn signal(child: &std::process::Child, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

#[test]
fn an_interrupt_or_a_closed_terminal_cancels_the_run_properly() {
    for sent in [Signal::SIGINT, Signal::SIGHUP] {
        let project = Project::with_pipeline(LONG);
        let (mut child, lines) = start_long(&project);
        signal(&child, sent);
        let rest: Vec<String> = lines.lines().map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{sent}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("tidied up")), "{sent}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("cancelled in")), "{sent}: {rest:?}");
    }
}

#[test]
fn a_run_that_shall_outlive_its_terminal_does() {
    let project =
        Project::with_pipeline("steps:\n- checkout: none\n- bash: kill -HUP $RUN && echo still here\n");
    // As `nohup` does it. The shell becomes the run, so its number is the run's.
    let run = format!("trap '' HUP; export RUN=$$; exec {} run", env!("CARGO_BIN_EXE_dayfly"));
    let ended =
        std::process::Command::new("sh").args(["-c", &run]).current_dir(project.path()).output().unwrap();
    let ended = Ended::from(ended);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_has(&ended, "still here");
}

#[test]
fn a_second_interrupt_kills() {
    let project = Project::with_pipeline(&LONG.replace("echo started", "trap '' INT TERM; echo started"));
    let (mut child, mut lines) = start_long(&project);
    interrupt(&child);
    // What comes at once after the first does not count, so it is sent until it does.
    let code = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None => interrupt(&child),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(code, Some(130));
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {}
    assert!(!line.contains("tidied up"), "{line}");
}

#[test]
fn a_signal_that_comes_twice_at_once_counts_once() {
    let project = Project::with_pipeline(LONG);
    let (child, lines) = start_long(&project);
    // As `timeout` sends it, to the program and to its group.
    signal(&child, Signal::SIGTERM);
    signal(&child, Signal::SIGTERM);
    let rest: Vec<String> = lines.lines().map(Result::unwrap).collect();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert!(rest.iter().any(|line| line.contains("tidied up")), "{rest:?}");
    assert_eq!((ended.code, ended.stderr.matches("cancelling").count()), (Some(130), 1), "{ended:?}");
    assert_has_not(&ended, "killing");
}

#[test]
fn an_interrupt_reaches_what_a_step_has_started_and_each_process_once() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    trap 'echo shell was told' INT
    bash -c 'trap \"echo child tidies up; exit 0\" INT; echo started; while :; do sleep 0.1; done'
    echo after the child
",
    );
    let (mut child, lines) = start_long(&project);
    interrupt(&child);
    let rest: Vec<String> = lines.lines().map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    for said in ["child tidies up", "shell was told"] {
        let times = rest.iter().filter(|line| line.trim() == said).count();
        assert_eq!(times, 1, "{said}: {rest:?}");
    }
}

#[test]
fn jobs_for_other_systems_are_left_out_on_request() {
    let project = Project::with_pipeline(
        "variables:
  image: ubuntu-latest
stages:
- stage: Build
  jobs:
  - job: Compile
    pool:
      vmImage: $(image)
    strategy:
      matrix:
        linux: {}
        windows: { image: windows-latest }
    steps:
    - checkout: none
    - script: echo compiled for $(image)
  - job: Apple
    pool: { vmImage: macOS-latest }
    steps:
    - checkout: none
    - script: exit 1
- stage: Ship
  dependsOn: Build
  jobs:
  - job: Upload
    steps:
    - checkout: none
    - script: echo shipped
",
    );
    let list = project.run(&["--list", "--skip-foreign"], 0).stdout;
    assert!(list.contains("matrix: linux") && list.contains("Upload"), "{list}");
    assert!(!list.contains("windows") && !list.contains("Apple"), "{list}");
    let ended = project.run(&["--skip-foreign"], 0);
    assert_has(&ended, "compiled for ubuntu-latest");
    assert_has(&ended, "shipped");
    assert_has_not(&ended, "windows-latest");
    assert_has_not(&ended, "Apple");
    assert_eq!(ended.stderr.matches("warning:").count(), 0, "{}", ended.stderr);
    let ended = project.run(&["--skip-foreign", "--job", "Apple"], 2);
    assert!(ended.stderr.contains("`--skip-foreign` leaves no job"), "{}", ended.stderr);
}

#[test]
fn what_this_machine_does_not_do_is_said_before_the_run() {
    let project = Project::with_pipeline(
        "variables:
  image: ubuntu-latest
stages:
- stage: Build
  jobs:
  - job: Compile
    pool: { vmImage: $(image) }
    strategy:
      matrix:
        linux: {}
        apple: { image: macOS-99 }
        windows: { image: windows-latest }
    steps:
    - checkout: none
    - task: PackerBuild@1
      condition: false
    - task: VSTest@2
      condition: false
- stage: Ship
  jobs:
  - job: Upload
    steps:
    - checkout: none
    - script: echo shipped
",
    );
    let list = project.run(&["--list"], 0).stdout;
    assert!(list.contains("PackerBuild@1  if false, cannot run here"), "{list}");
    assert!(list.contains("for macOS-99 and windows-latest, but runs here"), "{list}");
    let ended = project.run(&[], 0);
    assert_eq!(ended.stderr.matches("warning:").count(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("`windows-latest` will run on this"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(
            "cannot run `PackerBuild@1` (azure-pipelines.yml:15), `VSTest@2` (azure-pipelines.yml:17):"
        ),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("ubuntu"), "{}", ended.stderr);
    // What is not chosen is neither listed nor warned of.
    let chosen = project.run(&["--list", "--stage", "ship"], 0).stdout;
    assert!(chosen.contains("Upload") && !chosen.contains("Compile"), "{chosen}");
    let leg = project.run(&["--list", "--json", "--job", "Compile.linux"], 0).stdout;
    let json: serde_json::Value = serde_json::from_str(&leg).unwrap();
    assert_eq!(json["stages"].as_array().unwrap().len(), 1);
    let ended = project.run(&["--stage", "Ship"], 0);
    assert!(!ended.stderr.contains("warning:"), "{}", ended.stderr);
}

#[test]
fn files_without_stages_and_folders_are_called_what_they_are() {
    let project = Project::with_pipeline("steps:\n- script: echo x\n");
    let ended = project.run(&["--stage", "Build"], 2);
    assert!(ended.stderr.contains("no stage `Build`; it has no stages"), "{}", ended.stderr);
    let ended = project.run(&["."], 2);
    assert!(ended.stderr.contains("`.` is a folder"), "{}", ended.stderr);
}

#[test]
fn template_expressions_know_the_branch() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- ${{ if eq(variables['Build.SourceBranch'], 'refs/heads/feature/x') }}:
  - script: echo on the feature branch $(Build.SourceBranchName)
- ${{ else }}:
  - script: echo elsewhere
",
    );
    project.git(&["init", "-q"]);
    project.git(&["checkout", "-qb", "feature/x"]);
    assert_has(&project.run(&[], 0), "on the feature branch x");
}

#[test]
fn template_expressions_and_steps_agree_on_the_predefined_variables() {
    let names = [
        "Build.SourceBranch",
        "Build.SourceBranchName",
        "Build.SourceVersion",
        "Build.Reason",
        "Build.Repository.Name",
        "Build.DefinitionName",
        "System.TeamProject",
    ];
    let steps = names.map(|name| {
        let early = format!("early='${{{{ variables['{name}'] }}}}'");
        format!("- script: |\n    {early}; [ -n \"$early\" ] && echo \"{name}: $early\" && [ \"$early\" = '$({name})' ]\n")
    });
    let project = Project::with_pipeline(&format!("steps:\n- checkout: none\n{}", steps.concat()));
    project.git(&["init", "-q"]);
    project.git(&["add", "."]);
    project.git(&["commit", "-qm", "first"]);
    project.git(&["checkout", "-q", "--detach"]);
    assert_has(&project.run(&[], 0), "Build.SourceBranch: refs/heads/detached");
}

#[test]
fn artifacts_go_from_job_to_job() {
    let project = Project::with_pipeline(
        "jobs:
- job: Make
  steps:
  - checkout: none
  - script: mkdir -p out/sub && echo built-here > out/sub/app.txt && echo left > out/left.log
  - publish: out
    artifact: drop
- job: Use
  dependsOn: Make
  steps:
  - checkout: none
  - download: current
    artifact: drop
    patterns: '**/*.txt'
  - script: cat drop/sub/app.txt && ls drop
    workingDirectory: $(Pipeline.Workspace)
  - task: DownloadBuildArtifacts@1
    inputs: { artifactName: none, downloadPath: x }
    continueOnError: true
",
    );
    let ended = project.run(&[], 0);
    for text in ["Associated artifact 1 with build", "Downloaded 1 files of artifact 'drop'", "built-here"] {
        assert_has(&ended, text);
    }
    assert_has(&ended, "the build has no artifact 'none'; it has 'drop'");
    assert_has_not(&ended, "left.log");
}
