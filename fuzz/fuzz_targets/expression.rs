//! Any text as an expression, and as a text with expressions in it.
#![no_main]

use std::sync::LazyLock;

use dayfly_expressions::{Scope, Status, Value, Values};
use libfuzzer_sys::fuzz_target;

#[path = "../checks/expressions.rs"]
mod checks;

static SCOPES: LazyLock<[Scope; 4]> = LazyLock::new(|| {
    [Scope::step_condition(), Scope::job_condition(), Scope::runtime(), Scope::template().with_root("item")]
});

static CONTEXT: LazyLock<Values> = LazyLock::new(|| {
    let json = r#"{"variables": {"a": "1,5", "b.c": ""}, "parameters": {"list": ["x", 2, null, {"y": [true]}], "map": {"k": 1.25}},
        "dependencies": {"A": {"result": "Succeeded", "outputs": {"s.v": "out"}}}, "item": [["a"], {"b": "c"}],
        "pipeline": {"startTime": "2024-02-09 08:05:01+00:00"}}"#;
    let values: Value = serde_json::from_str(json).expect("the context is JSON");
    let Value::Object(roots) = values else { unreachable!("the context is an object") };
    roots
        .iter()
        .fold(Values::new(), |values, (name, value)| values.with(name, value.clone()))
        .with_status(Status::Failed)
});

fuzz_target!(|text: &str| {
    checks::expression(text, &*SCOPES, &*CONTEXT);
    checks::template(text);
});
