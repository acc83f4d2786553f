//! Step conditions: parsed when the job is initialised, evaluated before the step and again when the job is
//! cancelled.

use dayfly_expressions::{Context, Expression, Object, Scope, Value};
use dayfly_protocol::TaskResult;

use crate::context::JobContext;

/// A step's condition.
#[derive(Debug)]
pub(crate) struct Condition(Expression);

/// What a condition came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the step runs.
    pub(crate) holds: bool,
    /// How it was evaluated, for the log of a skipped step.
    pub(crate) trace: String,
}

impl Condition {
    /// Parses a condition; none means `succeeded()`.
    ///
    /// # Errors
    ///
    /// What is wrong with it and where, for the log.
    pub(crate) fn parse(text: Option<&str>) -> Result<Condition, String> {
        let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("succeeded()");
        Expression::parse(text, &Scope::step_condition())
            .map(Condition)
            .map_err(|error| format!("The condition '{text}' is not valid: {error}"))
    }

    /// The condition of post-job parts.
    pub(crate) fn always() -> Condition {
        Condition(
            Expression::parse("always()", &Scope::step_condition()).expect("`always()` is an expression"),
        )
    }

    /// The text as it was parsed.
    pub(crate) fn text(&self) -> &str {
        self.0.text()
    }

    /// Evaluates it with the job's variables and status as they are now.
    ///
    /// # Errors
    ///
    /// Why it cannot be evaluated, for the log.
    pub(crate) fn evaluate(&self, job: &JobContext) -> Result<Verdict, String> {
        let explanation = self
            .0
            .explain(&State { variables: variables(job), status: job.status() })
            .map_err(|error| format!("The condition '{}' cannot be evaluated: {error}", self.text()))?;
        let holds = explanation.value.to_boolean();
        let result = if holds { "True" } else { "False" };
        // What says no more than the result is left out (`ExpressionNode.cs`, `TraceTreeResult`).
        let expanded = match explanation.expanded.as_str() {
            expanded if expanded == result => String::new(),
            expanded => format!("Expanded: {expanded}\n"),
        };
        let trace = format!("Evaluating: {}\n{expanded}Result: {result}", self.text());
        Ok(Verdict { holds, trace })
    }
}

fn variables(job: &JobContext) -> Value {
    job.with_variables(|variables| {
        variables
            .iter()
            .map(|variable| (variable.name.as_str(), Value::from(variable.value.as_str())))
            .collect::<Object>()
            .into()
    })
}

/// What conditions can see (`ExpressionManager.cs`).
struct State {
    variables: Value,
    status: TaskResult,
}

impl Context for State {
    fn root(&self, name: &str) -> Option<Value> {
        (name == "variables").then(|| self.variables.clone())
    }

    fn call(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        answer(name, self.status).map(|answer| Ok(Value::Boolean(answer)))
    }
}

/// The status functions of a job that has come so far.
fn answer(function: &str, status: TaskResult) -> Option<bool> {
    match function {
        "always" => Some(true),
        "canceled" => Some(status == TaskResult::Canceled),
        "failed" => Some(status == TaskResult::Failed),
        "succeeded" => Some(status.is_success()),
        "succeededOrFailed" => Some(status.is_success() || status == TaskResult::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_functions_by_status() {
        use TaskResult::{Canceled, Failed, Succeeded, SucceededWithIssues};
        // always, canceled, failed, succeeded, succeededOrFailed
        for (status, expected) in [
            (Succeeded, [true, false, false, true, true]),
            (SucceededWithIssues, [true, false, false, true, true]),
            (Failed, [true, false, true, false, true]),
            (Canceled, [true, true, false, false, false]),
        ] {
            let functions = ["always", "canceled", "failed", "succeeded", "succeededOrFailed"];
            assert_eq!(
                functions.map(|function| answer(function, status) == Some(true)),
                expected,
                "{status:?}"
            );
        }
        assert_eq!(answer("counter", Succeeded), None);
    }

    #[test]
    fn an_empty_condition_is_succeeded() {
        for text in [None, Some(""), Some("  ")] {
            assert_eq!(Condition::parse(text).expect("a condition").text(), "succeeded()");
        }
        let error = Condition::parse(Some("eq(1")).expect_err("not closed");
        assert!(error.contains("'eq(1'"), "{error}");
        assert!(Condition::parse(Some("eq(parameters.x, 1)")).is_err());
    }
}
