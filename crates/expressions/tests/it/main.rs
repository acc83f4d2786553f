//! The language through its public face: expression in, value or error out.

#[path = "../../../../fuzz/checks/expressions.rs"]
mod checks;
mod errors;
mod evaluate;
mod page;
mod properties;

use dayfly_expressions::{Context, Error, Expression, Scope, Value, Version};

/// A context with one of everything, and status functions of a failed job.
struct World {
    data: Value,
}

impl World {
    fn new() -> World {
        let data = serde_json::json!({
            "variables": {"Build.Reason": "PullRequest", "empty": "", "number": "42", "List": "a;b;c", "quote": "it's"},
            "parameters": {
                "flag": true,
                "off": false,
                "count": 3,
                "ratio": 1.50,
                "nothing": null,
                "list": ["one", "Two", 3, true, null],
                "nested": [["a", "b"], ["c"], "d", {"x": "e"}],
                "steps": [{"name": "build", "time": 1}, {"time": 2}, {"name": "Test", "more": {"deep": "y"}}, "text"],
                "map": {"first": "1st", "Second": {"x": "y"}, "a-b": "dash", "3": "three"},
                "emptyList": [],
                "emptyMap": {}
            },
            "dependencies": {"A": {"result": "Succeeded", "outputs": {"step.value": "out"}}},
            "stageDependencies": {"S": {"J": {"result": "Failed"}}},
            "pipeline": {"startTime": "2024-02-09 08:05:01+00:00"},
            "resources": {}
        });
        World { data: Value::from_json(&data) }
    }
}

impl Context for World {
    fn root(&self, name: &str) -> Option<Value> {
        match name {
            "version" => Version::parse("1.2").map(Value::from),
            "absent" => None,
            _ => Some(self.data.property(name)),
        }
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "always" | "failed" | "succeededOrFailed" => Some(Ok(Value::Boolean(true))),
            "succeeded" => Some(Ok(Value::Boolean(!arguments.is_empty()))),
            "canceled" => Some(Ok(Value::Boolean(false))),
            "counter" => Some(Ok(Value::from(arguments.to_vec()))),
            "refuse" => Some(Err("refused".to_owned())),
            _ => None,
        }
    }
}

/// Everything that any place allows.
fn scope() -> Scope {
    Scope::job_condition()
        .with_root("parameters")
        .with_root("version")
        .with_root("absent")
        .with_function("counter", 0, 2)
        .with_function("refuse", 0, 0)
        .with_function("unknown", 0, 0)
}

fn evaluate(text: &str) -> Result<Value, Error> {
    Expression::parse(text, &scope())?.evaluate(&World::new())
}
