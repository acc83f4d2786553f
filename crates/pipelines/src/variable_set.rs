//! Variables of a run, a stage or a job while they are put together.

use std::{collections::BTreeMap, sync::Arc};

use dayfly_expressions::{Object, Value};
use dayfly_protocol::{job::Variables, timeline::VariableValue};

/// Secrets shorter than this make a text secret only when they are all of it: a one-letter secret is in every
/// text.
const MIN_SECRET_PART: usize = 4;
/// How deep macros may lead from variable to variable (AG `Variables.cs`).
const MAX_DEPTH: usize = 50;
/// How long an expanded text may get.
const MAX_EXPANDED_BYTES: usize = 64 * 1024;

/// Variables by name, in any case. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct VariableSet {
    values: BTreeMap<String, (String, VariableValue)>,
    /// The same for expressions.
    object: Arc<Object>,
}

impl VariableSet {
    pub(crate) fn new(variables: &Variables) -> Self {
        let mut set = Self::default();
        for (name, value) in variables {
            set.put(name, value.clone());
        }
        set
    }

    /// Sets a variable, unless one of that name may not be written.
    pub(crate) fn put(&mut self, name: &str, value: VariableValue) {
        let key = name.to_lowercase();
        if self.values.get(&key).is_some_and(|(_, before)| before.is_read_only) {
            return;
        }
        Arc::make_mut(&mut self.object).insert(name, Value::from(value.value.clone().unwrap_or_default()));
        self.values.insert(key, (name.to_owned(), value));
    }

    /// The `variables` of expressions.
    pub(crate) fn object(&self) -> Value {
        Value::Object(Arc::clone(&self.object))
    }

    /// The variables of a job message.
    pub(crate) fn to_message(&self) -> Variables {
        self.values.values().cloned().collect()
    }

    /// The values of all secrets, for [`is_secret`] and [`masked`].
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.values
            .values()
            .filter(|(_, value)| value.is_secret)
            .filter_map(|(_, value)| value.value.as_deref())
            .filter(|value| !value.is_empty())
    }

    /// Expands `$(name)`, also within the values that come in. Unknown names, circles and secrets stay as
    /// they are written.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut expansion = Expansion { set: self, with_secrets: false, budget: MAX_EXPANDED_BYTES };
        expansion.expand(text, &mut Vec::new())
    }

    /// The same, with secrets.
    pub(crate) fn expand_all(&self, text: &str) -> String {
        let mut expansion = Expansion { set: self, with_secrets: true, budget: MAX_EXPANDED_BYTES };
        expansion.expand(text, &mut Vec::new())
    }
}

/// Expands one text.
struct Expansion<'a> {
    set: &'a VariableSet,
    with_secrets: bool,
    /// How many bytes may still come in.
    budget: usize,
}

impl Expansion<'_> {
    /// `within` are the names whose values are being expanded.
    fn expand(&mut self, text: &str, within: &mut Vec<String>) -> String {
        let mut result = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            let Some(length) = rest[start + 2..].find(')') else { break };
            let name = rest[start + 2..start + 2 + length].to_lowercase();
            let value = self.set.values.get(&name).filter(|(_, value)| self.with_secrets || !value.is_secret);
            let usable = !within.contains(&name) && within.len() < MAX_DEPTH && self.budget > 0;
            match value.and_then(|(_, value)| value.value.as_deref()).filter(|_| usable) {
                Some(value) => {
                    result.push_str(&rest[..start]);
                    self.budget = self.budget.saturating_sub(value.len().max(1));
                    within.push(name);
                    result.push_str(&self.expand(value, within));
                    within.pop();
                    rest = &rest[start + 2 + length + 1..];
                }
                None => {
                    // Another macro may begin within the brackets.
                    result.push_str(&rest[..start + 2]);
                    rest = &rest[start + 2..];
                }
            }
        }
        result.push_str(rest);
        result
    }
}

/// Whether a text gives a secret away.
pub(crate) fn is_secret<'s>(text: &str, mut secrets: impl Iterator<Item = &'s str>) -> bool {
    secrets.any(|secret| text == secret || (secret.len() >= MIN_SECRET_PART && text.contains(secret)))
}

/// The text with secrets blotted out.
pub(crate) fn masked<'s>(text: &str, secrets: impl Iterator<Item = &'s str>) -> String {
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> VariableSet {
        let mut set = VariableSet::default();
        for (name, value) in pairs {
            set.put(name, VariableValue::public(*value));
        }
        set
    }

    #[test]
    fn macros_are_expanded_through_variables() {
        let set = set(&[("a", "1"), ("b", "<$(A)>"), ("c", "$(c)"), ("d", "$(e)"), ("e", "$(d)")]);
        for (text, expected) in [
            ("$(b) and $(a)", "<1> and 1"),
            ("$(missing)", "$(missing)"),
            ("$(c)", "$(c)"),
            ("$(d)", "$(d)"),
            ("$($(a))", "$(1)"),
            ("$(a", "$(a"),
            ("no macro", "no macro"),
        ] {
            assert_eq!(set.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn secrets_are_not_expanded_and_read_only_values_stay() {
        let mut set = VariableSet::default();
        set.put("token", VariableValue::secret("hunter2"));
        set.put("fixed", VariableValue::read_only("1"));
        set.put("FIXED", VariableValue::public("2"));
        assert_eq!(set.expand("$(token) $(fixed)"), "$(token) 1");
        assert_eq!(set.expand_all("$(token) $(fixed)"), "hunter2 1");
        assert!(is_secret("x hunter2", set.secrets()));
        assert_eq!(masked("x hunter2", set.secrets()), "x ***");
    }

    #[test]
    fn doubling_macros_end_at_the_limit() {
        let mut pairs = vec![("v0".to_owned(), "x".repeat(10))];
        for n in 1..40 {
            pairs.push((format!("v{n}"), format!("$(v{})$(v{})", n - 1, n - 1)));
        }
        let mut set = VariableSet::default();
        for (name, value) in &pairs {
            set.put(name, VariableValue::public(value));
        }
        assert!(set.expand("$(v39)").len() < 4 * MAX_EXPANDED_BYTES);
    }
}
