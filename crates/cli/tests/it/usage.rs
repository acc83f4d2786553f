//! Usage, help and exit codes that belong to no command.

use std::process::{Command, Output};

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
