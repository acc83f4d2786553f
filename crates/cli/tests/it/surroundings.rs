//! `dayfly run` where users stand: at a terminal, in a repository, beside one.

use std::process::{Command, Stdio};

use crate::project::{Ended, Project};

#[cfg(target_os = "linux")]
#[test]
fn steps_cannot_ask_at_the_terminal() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: if (exec < /dev/tty) 2> /dev/null; then echo terminal there; else echo terminal gone; fi
",
    );
    let ended = Ended::from(at_a_terminal(&project).output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("\x1b["), "there was no terminal: {ended:?}");
    assert!(ended.stdout.contains("terminal gone"), "{ended:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_whose_terminal_is_closed_is_cancelled_and_cleans_up() {
    let project = Project::with_pipeline("steps: []");
    let path = project.path().display();
    project.write(
        "azure-pipelines.yml",
        &format!(
            "steps:
- checkout: none
- bash: touch {path}/started; sleep 300
- bash: touch {path}/tidied
  condition: always()
"
        ),
    );
    let temporary = project.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut terminal = at_a_terminal(&project);
    let mut terminal = terminal.env("TMPDIR", &temporary).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the step runs", || project.path().join("started").exists());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_until("the step for always runs", || project.path().join("tidied").exists());
    wait_until("the work folder is gone", || std::fs::read_dir(&temporary).unwrap().next().is_none());
}

#[cfg(target_os = "linux")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{what}: never");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// `dayfly run` at a terminal of its own.
#[cfg(target_os = "linux")]
fn at_a_terminal(project: &Project) -> Command {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command"]);
    command.arg(format!("exec {} run", env!("CARGO_BIN_EXE_dayfly"))).arg("/dev/null");
    command.current_dir(project.path()).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

#[test]
fn a_pipeline_from_elsewhere_runs_in_the_repository_of_the_user() {
    let elsewhere = Project::with_pipeline("steps:\n- script: ls\n- template: steps.yml\n");
    elsewhere.write("not-of-the-repository", "");
    let project = Project::with_pipeline("steps:\n- script: echo own pipeline\n");
    project.write("steps.yml", "steps:\n- script: echo from a template\n");
    project.write("sub/file", "");
    project.git(&["init", "--quiet"]);
    let file = elsewhere.path().join("azure-pipelines.yml");
    let mut command = project.command(&["run"]);
    command.arg(&file).current_dir(project.path().join("sub"));
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in ["  azure-pipelines.yml\n", "  steps.yml\n", "  from a template\n"] {
        assert!(ended.stdout.contains(name), "no `{name}`: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("not-of-the-repository"), "{}", ended.stdout);
    // One that has a repository of its own brings it along.
    elsewhere.git(&["init", "--quiet"]);
    elsewhere.write("steps.yml", "steps:\n- script: echo its own template\n");
    let mut command = project.command(&["run"]);
    let ended = Ended::from(command.arg(&file).output().unwrap());
    assert!(ended.stdout.contains("not-of-the-repository"), "{ended:?}");
    assert!(ended.stdout.contains("  its own template\n"), "{ended:?}");
}

#[test]
fn warnings_are_events_too() {
    let project = Project::with_pipeline(
        "jobs:
- job: a
  pool: { vmImage: windows-latest }
  strategy: { matrix: { x-y: {} } }
  steps:
  - checkout: none
",
    );
    let ended = project.run(&["--json"], 0);
    assert_eq!(ended.stderr, "");
    let events: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "warning");
    assert_eq!(events[0]["message"], "`x-y` is not a valid matrix leg name");
    let place = ["file", "line", "column", "endLine", "endColumn"].map(|name| &events[0][name]);
    assert_eq!(serde_json::json!(place), serde_json::json!(["azure-pipelines.yml", 4, 25, 4, 28]));
    assert!(events[0]["help"][0].is_string());
    assert_eq!(events[1]["event"], "warning");
    assert!(events[1]["message"].as_str().unwrap().contains("`windows-latest`"));
    assert_eq!(events[1].get("line"), None);
    assert_eq!(events[2]["event"], "runStarted");
}
