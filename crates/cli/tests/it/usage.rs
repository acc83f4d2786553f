//! Usage, help and exit codes that belong to no command.

use std::process::{Command, Output};

use crate::project::Project;

fn dayfly(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dayfly")).args(arguments).output().expect("the built binary starts")
}

#[test]
fn an_unknown_command_is_bad_usage() {
    let output = dayfly(&["frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unrecognized subcommand 'frobnicate'"));
}

#[test]
fn completions_are_printed_for_a_shell() {
    let output = dayfly(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("_dayfly()"));
}

#[test]
fn a_mistyped_command_gets_a_suggestion() {
    for (typed, meant) in [("rnu", "run"), ("agnet", "agent"), ("log", "logs"), ("emulate", "emulator")] {
        let output = dayfly(&[typed]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("'{meant}'")), "{text}");
    }
    let text = dayfly(&["Cargo.toml"]).stderr;
    assert!(String::from_utf8_lossy(&text).contains("dayfly run Cargo.toml"), "a file is meant to be run");
}

#[test]
fn every_help_text_has_examples_and_ends_with_the_options_of_every_command() {
    for command in [
        &[][..],
        &["run"],
        &["logs"],
        &["agent"],
        &["emulator"],
        &["tasks", "list"],
        &["tasks", "pull"],
        &["eval"],
        &["completions"],
    ] {
        for help in ["-h", "--help"] {
            let output = dayfly(&[command, &[help]].concat());
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let at = |wanted: &str| {
                text.find(wanted).unwrap_or_else(|| panic!("{command:?}: no {wanted}: {text}"))
            };
            let examples = if command == ["completions"] { "Where the script goes" } else { "Examples:" };
            assert!(
                at("Options:") < at("Dayfly's own log:") && at("Dayfly's own log:") < at(examples),
                "{text}"
            );
        }
    }
}

#[test]
fn a_run_in_a_cluster_says_what_it_needs() {
    let images = ["--image", "a", "--dayfly-image", "b"];
    for (options, code, wanted) in [
        (&["--on", "kubernetes", "--image", "a"][..], 2, "--dayfly-image <IMAGE>"),
        (&["--namespace", "team"], 2, "--on <WHERE>"),
        (
            &[&["--on", "kubernetes", "--keep-work"][..], &images].concat(),
            2,
            "--keep-work is for jobs on this machine",
        ),
        (&[&["--on", "kubernetes"][..], &images].concat(), 1, "no cluster can be used; set KUBECONFIG"),
        (
            &[&["--on", "kubernetes", "--context", "far"][..], &images].concat(),
            1,
            "the context `far` cannot be used",
        ),
    ] {
        let project = Project::with_pipeline("steps:\n- bash: echo never\n");
        let mut command = project.command(&[&["run"], options].concat());
        for variable in ["DAYFLY_RUN_IMAGE", "DAYFLY_RUN_DAYFLY_IMAGE", "KUBERNETES_SERVICE_HOST"] {
            command.env_remove(variable);
        }
        let output = command.env("KUBECONFIG", "/nonexistent/config").output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {text}");
        assert!(text.contains(wanted), "{options:?}: {text}");
    }
}

#[test]
fn containers_are_no_reason_for_a_warning_where_jobs_run_in_pods() {
    let project = Project::with_pipeline("container: ubuntu:24.04\nsteps:\n- bash: echo hello\n");
    let listed = |on: &str| {
        let options = ["run", "--list", "--on", on, "--image", "a", "--dayfly-image", "b"];
        let output = project.command(&options).env("PATH", "").output().expect("the binary starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(listed("local").contains("container: cannot run here"), "{}", listed("local"));
    assert!(!listed("kubernetes").contains("cannot run here"), "{}", listed("kubernetes"));
}
