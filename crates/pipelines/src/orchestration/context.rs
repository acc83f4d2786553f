//! What conditions and `$[ ]` see while a run is under way.

use std::sync::Arc;

use dayfly_expressions::{Context, Expression, Object, Scope, Value, runtime_expression};
use dayfly_protocol::{TaskResult, timeline::VariableValue};

use super::{inputs::RunCounters, upstream::Upstream};
use crate::{
    plan::Variable,
    variable_set::{VariableSet, is_secret},
};

/// Everything an expression can read in one place of a run.
pub(super) struct Surroundings<'a> {
    pub(super) variables: Value,
    pub(super) dependencies: Value,
    pub(super) stage_dependencies: Value,
    pub(super) resources: Value,
    pub(super) pipeline: Value,
    pub(super) upstream: &'a Upstream,
    pub(super) counter: &'a RunCounters,
}

impl Context for Surroundings<'_> {
    fn root(&self, name: &str) -> Option<Value> {
        Some(match name {
            "variables" => self.variables.clone(),
            "dependencies" => self.dependencies.clone(),
            "stageDependencies" => self.stage_dependencies.clone(),
            "resources" => self.resources.clone(),
            "pipeline" => self.pipeline.clone(),
            _ => return None,
        })
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        if name == "counter" {
            return Some(self.count(arguments));
        }
        let names: Vec<String> =
            arguments.iter().map(|argument| argument.as_text().unwrap_or_default().into_owned()).collect();
        Some(Ok(Value::from(self.upstream.answer(name, &names)?)))
    }
}

impl Surroundings<'_> {
    fn count(&self, arguments: &[Value]) -> Result<Value, String> {
        let prefix = arguments
            .first()
            .map(|value| value.as_text().unwrap_or_default().into_owned())
            .unwrap_or_default();
        let seed = match arguments.get(1) {
            None => 0,
            Some(value) => value
                .to_number()
                .and_then(dayfly_expressions::Number::as_integer)
                .ok_or("the seed of `counter` must be a whole number")?,
        };
        Ok(Value::from(self.counter.value(&prefix, seed)))
    }

    /// Evaluates a condition. `Err`: why it cannot be evaluated.
    pub(super) fn condition(&self, text: &str, scope: &Scope) -> Result<Verdict, String> {
        let fail = |error| format!("the condition `{text}` cannot be evaluated: {error}");
        let explanation =
            Expression::parse(text, scope).and_then(|parsed| parsed.explain(self)).map_err(fail)?;
        Ok(match explanation.value.to_boolean() {
            true => Verdict::Run,
            false => Verdict::Skip { expanded: explanation.expanded },
        })
    }

    /// The text of a value that may be one `$[ ]`; other text stays as it is.
    pub(super) fn text(&self, value: &str) -> Result<String, String> {
        let Some(range) = runtime_expression(value) else { return Ok(value.to_owned()) };
        let fail = |error| format!("`{}` cannot be evaluated: {error}", value.trim());
        let result = Expression::parse(&value[range], &Scope::runtime())
            .and_then(|parsed| parsed.evaluate(self))
            .map_err(fail)?;
        match result.as_text() {
            Some(text) => Ok(text.into_owned()),
            None => Err(format!(
                "`{}` gives {}, which is not text: use `convertToJson`",
                value.trim(),
                result.kind()
            )),
        }
    }

    /// Adds written variables to a set, except those that a `$[ ]` gives.
    ///
    /// This is what the condition of a stage or job sees of its own variables: "nothing computed at runtime
    /// inside that unit of work is available" (azure-devops-docs, `process/conditions.md`).
    pub(super) fn literals(&mut self, written: &[Variable], set: &mut VariableSet) {
        self.variables = Value::Null;
        for variable in written.iter().filter(|variable| runtime_expression(&variable.value).is_none()) {
            put(set, variable, variable.value.clone(), false);
        }
        self.variables = set.object();
    }

    /// Adds written variables to a set, evaluating `$[ ]` one after the other, so that later ones see earlier
    /// ones.
    pub(super) fn variables(
        &mut self,
        written: &[Variable],
        set: &mut VariableSet,
        secret_outputs: &[String],
    ) -> Result<(), String> {
        for variable in written {
            let value = self
                .text(&variable.value)
                .map_err(|error| format!("the variable `{}`: {error}", variable.name))?;
            let computed = value != variable.value;
            // What is made from a secret is a secret.
            let is_secret =
                computed && is_secret(&value, set.secrets().chain(secret_outputs.iter().map(String::as_str)));
            // Frees the copy for expressions, so that the set need not be copied to be written.
            self.variables = Value::Null;
            put(set, variable, value, is_secret);
            self.variables = set.object();
        }
        Ok(())
    }
}

fn put(set: &mut VariableSet, variable: &Variable, value: String, is_secret: bool) {
    let value = VariableValue { value: Some(value), is_secret, is_read_only: variable.read_only };
    set.put(&variable.name, value);
}

/// What a condition says.
pub(super) enum Verdict {
    Run,
    Skip {
        /// The condition with what it read in place of its names; may hold secrets.
        expanded: String,
    },
}

/// The name of a result in expressions.
pub(super) fn result_name(result: TaskResult) -> &'static str {
    match result {
        TaskResult::Succeeded => "Succeeded",
        TaskResult::SucceededWithIssues => "SucceededWithIssues",
        // A job whose agent was lost failed, for those who ask.
        TaskResult::Failed | TaskResult::Abandoned => "Failed",
        TaskResult::Canceled => "Canceled",
        TaskResult::Skipped => "Skipped",
    }
}

/// `{ result, outputs }` of a job or stage.
pub(super) fn dependency(result: TaskResult, outputs: Object) -> Object {
    Object::from_iter([
        ("result", Value::from(result_name(result))),
        ("outputs", Value::Object(Arc::new(outputs))),
    ])
}
