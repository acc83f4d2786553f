//! `variables:` at the root, of a stage or of a job.

use std::collections::HashSet;

use super::reader::{Fields, Reader};
use crate::{
    diagnostics::Span,
    expression,
    plan::Variable,
    yaml::{Kind, Node},
};

/// Beginnings of names that the service keeps for itself.
const RESERVED: &[&str] = &["endpoint", "input", "secret", "path", "securefile"];

/// Reads a block of variables in list or mapping form. A later entry of the same name wins.
pub(crate) fn variables(node: Option<&Node>, reader: &mut Reader<'_>) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    let Some(node) = node.filter(|node| !node.is_blank()) else { return variables };
    match &node.kind {
        Kind::Mapping(entries) => {
            for entry in entries {
                let what = format!("the variable `{}`", entry.key.text);
                let Some(value) = reader.text(&entry.value, &what) else { continue };
                check(&entry.key.text, entry.key.span, &entry.value, reader);
                variables.push(Variable { name: entry.key.text.clone(), value, read_only: false });
            }
        }
        _ => {
            for item in reader.items(node, "variables") {
                variables.extend(entry(item, reader));
            }
        }
    }
    last_of_each(variables)
}

fn entry(item: &Node, reader: &mut Reader<'_>) -> Vec<Variable> {
    let mut fields = Fields::open(item, "a variable", reader);
    if fields.is_silent() {
        return Vec::new();
    }
    match fields.which(&["name", "group"]) {
        Some("group") => {
            let node = fields.take("group");
            fields.finish(reader);
            node.map(|node| group(node, reader)).unwrap_or_default()
        }
        _ => single(fields, reader).into_iter().collect(),
    }
}

/// The variables of a group, as far as they are known.
fn group(node: &Node, reader: &mut Reader<'_>) -> Vec<Variable> {
    let Some(group) = reader.filled(node, "`group`") else { return Vec::new() };
    let known = reader.known_groups.into_iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case(&group));
    let is_new = !reader.groups.contains(&group);
    if is_new && known.is_none() {
        reader
            .collector
            .warning(
                node.span,
                format!(
                    "the variable group `{group}` is kept in Azure DevOps, so its \
                variables are not set here"
                ),
            )
            .help(format!(
                "pass its values when you start the run: `dayfly run --variable-group {group}=@FILE`, or \
                    one by one as variables and secrets"
            ));
    }
    if is_new {
        reader.groups.push(group);
    }
    let values = known.into_iter().flat_map(|(_, values)| values);
    values
        .map(|(name, value)| Variable { name: name.clone(), value: value.clone(), read_only: false })
        .collect()
}

fn single(mut fields: Fields<'_>, reader: &mut Reader<'_>) -> Option<Variable> {
    let name_node = fields.take("name");
    let value_node = fields.take("value");
    let read_only = reader.boolean(fields.take("readonly"), "`readonly`", false);
    let span = fields.span;
    fields.finish(reader);
    let Some(name_node) = name_node else {
        reader
            .collector
            .error(span, "a variable in a list needs `name` and `value`")
            .help("write `- name: x` and `value: y`, or use a mapping: `x: y`");
        return None;
    };
    let name = reader.filled(name_node, "the variable's `name`")?;
    let value = match value_node {
        Some(node) => {
            let value = reader.text(node, &format!("the variable `{name}`"))?;
            check(&name, name_node.span, node, reader);
            value
        }
        None => {
            reader.collector.error(span, format!("the variable `{name}` has no `value`"));
            return None;
        }
    };
    Some(Variable { name, value, read_only })
}

/// Of several variables of one name, the last one counts.
pub(super) fn last_of_each(mut variables: Vec<Variable>) -> Vec<Variable> {
    let mut seen = HashSet::with_capacity(variables.len());
    variables.reverse();
    variables.retain(|variable| seen.insert(variable.name.to_lowercase()));
    variables.reverse();
    variables
}

/// Checks a name, and the `$[ ]` of a value.
pub(super) fn check(name: &str, span: Span, value: &Node, reader: &mut Reader<'_>) {
    if name.is_empty() || name.chars().any(|c| c.is_control() || matches!(c, '(' | ')' | '[' | ']')) {
        reader
            .collector
            .error(span, format!("`{name}` is not a valid name for a variable"))
            .help("use letters, digits, `.` and `_`");
    }
    let lower = name.to_ascii_lowercase();
    if let Some(reserved) = RESERVED.iter().find(|reserved| lower.starts_with(*reserved)) {
        reader
            .collector
            .warning(span, format!("Azure Pipelines refuses variables whose names start with `{reserved}`"))
            .help(format!("rename `{name}`"));
    }
    expression::check_runtime(value, reader);
}
