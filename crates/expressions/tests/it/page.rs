//! The page of the documentation: what it says an expression gives is what it gives.

use dayfly_expressions::{Expression, Scope, Value, Values};

#[test]
fn the_page_says_what_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/expressions.md");
    let page = std::fs::read_to_string(path).unwrap();
    let json = serde_json::json!({
        "variables": {"Build.Reason": "PullRequest"},
        "parameters": {"list": [1, 2, 3], "flag": true, "steps": [{"name": "build"}, {"name": "test"}, {}]},
        "pipeline": {"startTime": "2024-02-09 08:05:01+00:00"},
    });
    let names = ["variables", "parameters", "pipeline"];
    let context =
        names.iter().fold(Values::new(), |values, name| values.with(name, Value::from_json(&json[name])));
    let scope = names.iter().fold(Scope::new(), |scope, name| scope.with_root(*name));

    let mut rows = 0;
    for line in page.lines() {
        let Some((expression, result)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | "))
        else {
            continue;
        };
        let Some((result, "")) = result.rsplit_once(" |").filter(|(result, _)| !result.contains(" | "))
        else {
            continue;
        };
        let value =
            Expression::parse(expression, &scope).and_then(|parsed| parsed.evaluate(&context)).unwrap();
        assert_eq!(shown(&value), result, "{expression}");
        rows += 1;
    }
    assert!(rows > 35, "the rows of the page are found");
}

/// As `dayfly eval` prints it, but lists in one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "Null".to_owned(),
        Value::Boolean(value) => format!("Boolean {value}"),
        Value::Version(version) => format!("Version {version}"),
        Value::Array(_) | Value::Object(_) => format!("{} {}", value.kind(), value.to_json()),
        Value::Number(_) | Value::String(_) => format!("{} {value}", value.kind()),
    }
}
