//! The inputs of a step, as its task reads them.

use std::collections::BTreeMap;

use dayfly_pipelines::message::expand;
use dayfly_protocol::job::{Step, Variables};

/// Inputs by their names in any case, with macros expanded.
pub(super) struct Inputs<'a> {
    given: BTreeMap<String, String>,
    variables: &'a Variables,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(step: &Step, variables: &'a Variables) -> Self {
        let expanded = |(name, value): (&String, &String)| (name.to_lowercase(), expand(value, variables));
        Self { given: step.inputs.iter().map(expanded).collect(), variables }
    }

    /// An input, or what its task takes where the step does not have it. One that is blank is there.
    pub(super) fn or_default(&self, name: &str, default: &str) -> String {
        let given = self.given.get(&name.to_lowercase()).cloned();
        given.unwrap_or_else(|| expand(default, self.variables))
    }

    /// The first of these, the task's name for an input and its aliases, that is given and not blank.
    pub(super) fn get(&self, names: &[&str]) -> Option<&str> {
        let given = names.iter().filter_map(|name| self.given.get(&name.to_lowercase()));
        given.map(String::as_str).find(|value| !value.trim().is_empty())
    }
}
