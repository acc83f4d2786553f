//! How a value came about, as the agent's log shows it for conditions.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::ast::{Node, NodeKind, Step};
use crate::value::Value;

/// The result of [`Expression::explain`](crate::Expression::explain).
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The value.
    pub value: Value,
    /// The expression with what was read or answered in place of its names and calls; what was skipped stays
    /// as written. Holds values: mask it before it is shown.
    pub expanded: String,
}

/// What each node evaluated to, by its place in the text, which is its own.
pub(crate) type Trace = HashMap<Range<usize>, Value>;

/// The expression with the results in place, as Microsoft's trace shows it (`ConvertToRealizedExpression`).
pub(crate) fn expanded(root: &Node, trace: &Trace) -> String {
    let mut out = String::new();
    expand(root, trace, &mut out);
    out
}

/// The longest text that is shown, in bytes.
const MAX_SHOWN_BYTES: usize = 4096;

/// Writes a value. Long text is told by its length only: the beginning of a secret would pass a masker that
/// looks for all of it.
fn push(value: &Value, out: &mut String) {
    match value {
        Value::String(text) if text.len() > MAX_SHOWN_BYTES => {
            out.push_str(&format!("String of {} characters", text.chars().count()));
        }
        value => out.push_str(&value.to_string()),
    }
}

fn expand(node: &Node, trace: &Trace, out: &mut String) {
    let result = trace.get(&node.span);
    let (name, arguments) = match &node.kind {
        NodeKind::Literal(value) => return push(value, out),
        NodeKind::Root(name) => match result {
            Some(value) => return push(value, out),
            None => return out.push_str(name),
        },
        NodeKind::Access { base, steps } => match result {
            Some(value) => return push(value, out),
            None => return expand_access(base, steps, trace, out),
        },
        NodeKind::Call { function, arguments } => {
            if let Some(value) = result.filter(|_| function.traced_as_result()) {
                return push(value, out);
            }
            (function.name(), arguments)
        }
        NodeKind::HostCall { name, arguments } => {
            if let Some(value) = result {
                return push(value, out);
            }
            (name.as_ref(), arguments)
        }
    };
    out.push_str(name);
    out.push('(');
    for (position, argument) in arguments.iter().enumerate() {
        out.push_str(if position > 0 { ", " } else { "" });
        expand(argument, trace, out);
    }
    out.push(')');
}

fn expand_access(base: &Node, steps: &[Step], trace: &Trace, out: &mut String) {
    expand(base, trace, out);
    for step in steps {
        out.push('[');
        match step {
            Step::Property(name) => out.push_str(&Value::String(Arc::clone(name)).to_string()),
            Step::Index(index) => expand(index, trace, out),
            Step::Wildcard => out.push('*'),
        }
        out.push(']');
    }
}
