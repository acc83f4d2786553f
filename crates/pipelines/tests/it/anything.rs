//! Any text may be a pipeline. The fuzz target checks the same.

use std::sync::LazyLock;

use dayfly_pipelines::RunContext;
use proptest::prelude::*;

use crate::{checks, run_context};

static CONTEXT: LazyLock<RunContext> = LazyLock::new(run_context::sample);

const KEYS: [&str; 55] = [
    "name",
    "trigger",
    "pr",
    "parameters",
    "variables",
    "pool",
    "stages",
    "stage",
    "jobs",
    "job",
    "steps",
    "script",
    "bash",
    "task",
    "inputs",
    "checkout",
    "dependsOn",
    "condition",
    "strategy",
    "matrix",
    "parallel",
    "maxParallel",
    "displayName",
    "env",
    "enabled",
    "timeoutInMinutes",
    "continueOnError",
    "value",
    "group",
    "type",
    "default",
    "values",
    "vmImage",
    "demands",
    "deployment",
    "environment",
    "runOnce",
    "deploy",
    "resources",
    "repositories",
    "repository",
    "containers",
    "container",
    "image",
    "services",
    "workspace",
    "clean",
    "target",
    "${{ if eq(1, 1) }}",
    "${{ else }}",
    "${{ each x in parameters.p }}",
    "${{ insert }}",
    "${{ x }}",
    "branches",
    "include",
];

const VALUES: [&str; 38] = [
    "''",
    "a",
    "p",
    "A",
    "1",
    "-1",
    "0",
    "true",
    "false",
    "null",
    "none",
    "self",
    "main",
    "object",
    "string",
    "number",
    "boolean",
    "CmdLine@2",
    "Bash@3",
    "echo hi",
    "succeeded()",
    "always()",
    "failed('a')",
    "eq(variables.a, 1)",
    "and(",
    "$[ variables.a ]",
    "$[ counter('x', 1) ]",
    "$[ dependencies.a.outputs['b.c'] ]",
    "$(a)",
    "${{ parameters.p }}",
    "${{ variables.a }}",
    "${{ nosuch }}",
    "${{",
    "all",
    "99999999999",
    "[a, b]",
    "{a: b}",
    "'ü\t*'",
];

/// A value as the lines of a block, to be indented by whoever holds it.
fn block() -> impl Strategy<Value = Vec<String>> {
    let leaf = prop::sample::select(VALUES.to_vec()).prop_map(|value| vec![value.to_owned()]);
    leaf.prop_recursive(6, 60, 5, |inner| {
        let entry = (prop::sample::select(KEYS.to_vec()), inner.clone());
        let mapping = prop::collection::vec(entry, 1..5).prop_map(|entries| {
            entries.into_iter().flat_map(|(key, value)| attach(&format!("{key}:"), value)).collect::<Vec<_>>()
        });
        let list = prop::collection::vec(inner, 1..4)
            .prop_map(|items| items.into_iter().flat_map(|item| attach("-", item)).collect::<Vec<_>>());
        prop_oneof![3 => mapping, 2 => list]
    })
}

/// Puts a scalar behind its key or dash, and a block below it.
fn attach(head: &str, value: Vec<String>) -> Vec<String> {
    match &value[..] {
        [scalar] if !scalar.starts_with("- ") && !scalar.contains(": ") => vec![format!("{head} {scalar}")],
        _ => std::iter::once(head.to_owned()).chain(value.iter().map(|line| format!("  {line}"))).collect(),
    }
}

/// Documents that look like pipelines at their root.
fn document() -> impl Strategy<Value = String> {
    let root = prop::sample::select(vec![
        "stages:",
        "jobs:",
        "steps:",
        "variables:",
        "parameters:",
        "pool:",
        "trigger:",
        "resources:",
    ]);
    prop::collection::vec((root, block()), 1..4).prop_map(|entries| {
        let mut lines: Vec<String> =
            entries.into_iter().flat_map(|(key, value)| attach(key, value)).collect();
        lines.push("steps: [{script: echo}]".to_owned());
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_document_compiles_and_runs_or_is_refused_with_places(text in document()) {
        checks::pipeline(&text, &CONTEXT);
    }

    #[test]
    fn any_text_is_taken_without_panic(text in any::<String>()) {
        checks::pipeline(&text, &CONTEXT);
    }

    #[test]
    fn any_yaml_like_text_is_taken_without_panic(text in r"([a-z]+:|[ \n]+|- |[\[\]{},&*!|>'#%@`?\t-]|\$\{\{|\}\}|[a-z0-9]){0,60}") {
        checks::pipeline(&text, &CONTEXT);
    }
}

#[test]
fn a_key_on_several_lines_is_named_on_one() {
    checks::pipeline("parameters:\n- {one\n\nname }\n", &CONTEXT);
}
