//! Files with the values of variables, in YAML (and so JSON): `name: value`, a `variables:` block as
//! pipelines and templates have it, or what `az pipelines variable-group show` prints, where a value may be
//! secret.

use crate::{
    Diagnostics, Source,
    diagnostics::{Collector, SourceId},
    schema::parse_boolean,
    yaml::{self, Kind, Node},
};

/// A variable of such a file.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether the file calls it secret (`isSecret: true`).
    pub is_secret: bool,
}

/// Without the value, which may be secret.
impl std::fmt::Debug for GivenVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenVariable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads such a file, in its order.
///
/// # Errors
/// What is wrong with it. Its text may hold secrets: show places and messages, not lines.
pub fn variables_file(source: &Source) -> Result<Vec<GivenVariable>, Diagnostics> {
    let mut collector = Collector::new(source.clone());
    let Some(root) = yaml::parse(SourceId::ROOT, &source.text, &mut collector) else {
        return Err(collector.finish());
    };
    let mut found = Vec::new();
    read(
        root.get("variables").filter(|node| node.text().is_none()).unwrap_or(&root),
        &mut found,
        &mut collector,
    );
    if collector.errors() > 0 { Err(collector.finish()) } else { Ok(found) }
}

fn read(node: &Node, found: &mut Vec<GivenVariable>, collector: &mut Collector) {
    match &node.kind {
        _ if node.is_blank() => {}
        Kind::Mapping(entries) => {
            for entry in entries {
                found.extend(variable(&entry.key.text, &entry.value, collector));
            }
        }
        Kind::Sequence(items) => {
            for item in items {
                match item.get("name").and_then(Node::text) {
                    Some(name) => found.extend(variable(name, item, collector)),
                    None => {
                        collector.error(item.span, "a variable in a list needs `name` and `value`");
                    }
                }
            }
        }
        Kind::Scalar(_) | Kind::Invalid => {
            collector.error(node.span, "expected variables as `name: value`");
        }
    }
}

/// A text, or a mapping with `value` and perhaps `isSecret`.
fn variable(name: &str, node: &Node, collector: &mut Collector) -> Option<GivenVariable> {
    let (value, is_secret) = match &node.kind {
        Kind::Scalar(text) => (Some(text.as_str()), false),
        Kind::Mapping(_) => {
            let secret = node.get("isSecret").and_then(Node::text);
            let is_secret = secret.is_some_and(|text| parse_boolean(text).unwrap_or(false));
            let is_hidden =
                node.get("value").and_then(Node::text).is_none_or(|text| ["", "null", "~"].contains(&text));
            if is_secret && is_hidden {
                // The service tells nobody the values of secrets.
                return None;
            }
            (node.get("value").and_then(Node::text), is_secret)
        }
        Kind::Sequence(_) | Kind::Invalid => (None, false),
    };
    let Some(value) = value else {
        collector.error(node.span, format!("the variable `{name}` needs a text as its value"));
        return None;
    };
    Some(GivenVariable { name: name.to_owned(), value: value.to_owned(), is_secret })
}
