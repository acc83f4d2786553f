//! `dayfly eval`: typed results, and mistakes with their place.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const CONTEXT: &str = r#"{
  "variables": {"Build.Reason": "PullRequest", "z": 1, "a": [1.5, null]},
  "dependencies": {"A": {"result": "Failed"}, "B": {"result": "Succeeded"}, "C": {"result": "Skipped"}},
  "status": "failed",
  "item": "loop"
}"#;

fn eval(arguments: &[&str], context: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
    command
        .arg("eval")
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if context.is_some() {
        command.args(["--context", "-"]);
    }
    let mut child = command.spawn().expect("the built binary starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(context.unwrap_or_default().as_bytes()).expect("the context can be written");
    drop(stdin);
    child.wait_with_output().expect("the command ends")
}

#[track_caller]
fn check(expression: &str, expected: &str) {
    let output = eval(&[expression], Some(CONTEXT));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), stdout.trim_end()), (Some(0), expected), "{expression}: {stderr}");
}

#[track_caller]
fn refused(arguments: &[&str], context: Option<&str>, expected: &str) {
    let output = eval(arguments, context);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), stderr.trim_end()), (Some(2), expected), "{arguments:?}: {stdout}");
    assert_eq!(stdout, "");
}

#[test]
fn the_result_is_typed() {
    check("eq(variables['build.reason'], 'pullrequest')", "Boolean true");
    check("variables['Build.Reason']", "String 'PullRequest'");
    check("-1.50", "Number -1.5");
    check("-.5", "Number -0.5");
    check("1.2.3", "Version 1.2.3");
    check("variables.missing", "Null");
    check("variables.a", "Array [\n  1.5,\n  null\n]");
    check("item", "String 'loop'");
}

#[test]
fn status_functions_answer_for_the_given_status_and_jobs() {
    check("and(failed(), not(succeeded()), succeededOrFailed(), always(), not(canceled()))", "Boolean true");
    check("succeeded('B')", "Boolean true");
    check("or(succeeded('A', 'B'), failed('B', 'C'), succeededOrFailed('C'))", "Boolean false");
    check("and(failed('A', 'B'), succeededOrFailed('A', 'C'))", "Boolean true");
    let output = eval(&["succeeded()"], None);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Boolean true\n");
}

#[test]
fn json_is_one_object() {
    let output = eval(&["--json", "variables"], Some(CONTEXT));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    let expected = serde_json::json!({"Build.Reason": "PullRequest", "z": 1, "a": [1.5, null]});
    assert_eq!(json, serde_json::json!({"type": "Object", "value": expected}));
}

#[test]
fn mistakes_show_their_place() {
    refused(&["eq(1 2)"], None, "error: unexpected symbol `2` at position 6\n  eq(1 2)\n       ^");
    refused(
        &["and(true, lt(1, 'x'))"],
        None,
        "error: cannot convert this String to Number at position 17\n  and(true, lt(1, 'x'))\n                  ^^^",
    );
    refused(
        &["1 == 2"],
        None,
        "error: unrecognized value `==` at position 3\n  1 == 2\n    ^^\nhint: there are no operators, only functions such as eq, ne, not, and, or",
    );
    refused(
        &["$[ eq(1, 1) ]"],
        None,
        "error: unrecognized value `$` at position 1\n  $[ eq(1, 1) ]\n  ^\nhint: give only what stands between the markers",
    );
    refused(
        &["failed('Z')"],
        Some(CONTEXT),
        "error: the context has no result for `Z` in `dependencies` at position 1\n  failed('Z')\n  ^^^^^^^^^^^",
    );
}

#[test]
fn an_expression_may_begin_with_whatever_it_likes() {
    refused(&["-(1)"], None, "error: unrecognized value `-` at position 1\n  -(1)\n  ^");
    let output = eval(&["-h"], None);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Usage:"), "{output:?}");
}

#[test]
fn a_bad_context_file_is_named_with_the_place_in_it() {
    refused(&["1"], Some("{\n  \"a\": 1,\n}"), "error: -:3:1: trailing comma");
    refused(
        &["1"],
        Some("[]"),
        "error: -:1:0: invalid type: sequence, expected an object of names and their values",
    );
    refused(
        &["1"],
        Some("{\n \"status\": \"Skipped\"\n}"),
        "error: -:2:20: a status is one of Succeeded, SucceededWithIssues, Failed, Canceled",
    );
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("context.json");
    std::fs::write(&file, "{\"variables\": {").expect("the file can be written");
    let name = file.to_str().expect("the path is text");
    refused(&["1", "--context", name], None, &format!("error: {name}:1:15: EOF while parsing an object"));
    std::fs::remove_file(&file).expect("the file can be removed");
    refused(
        &["1", "--context", name],
        None,
        &format!("error: cannot read context file `{name}`: No such file or directory (os error 2)"),
    );
    std::fs::write(&file, "\u{feff}{\"variables\": {\"a\": \"b\"}}").expect("the file can be written");
    let output = eval(&["variables.a", "--context", name], None);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "String 'b'\n");
}
