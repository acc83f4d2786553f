//! The inputs of a step, as its task reads them.

use std::collections::BTreeMap;

use dayfly_pipelines::message::expand;
use dayfly_protocol::job::{Step, Variables};

/// Inputs by their names in any case, with macros expanded.
pub(super) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    pub(super) fn new(step: &Step, variables: &Variables) -> Self {
        let expanded = |(name, value): (&String, &String)| (name.to_lowercase(), expand(value, variables));
        Self(step.inputs.iter().map(expanded).collect())
    }

    /// The first of these, the task's name for an input and its aliases, that is given and not blank.
    pub(super) fn get(&self, names: &[&str]) -> Option<&str> {
        let given = names.iter().filter_map(|name| self.0.get(&name.to_lowercase()));
        given.map(String::as_str).find(|value| !value.trim().is_empty())
    }
}
