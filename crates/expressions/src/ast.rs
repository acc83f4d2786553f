//! The tree of a parsed expression.

use std::ops::Range;
use std::sync::Arc;

use crate::functions::Function;
use crate::value::Value;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum NodeKind {
    Literal(Value),
    /// A root name in the scope's spelling.
    Root(Arc<str>),
    /// A function of the language.
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
    /// A function of the caller's, in the scope's spelling.
    HostCall {
        name: Arc<str>,
        arguments: Vec<Node>,
    },
    /// `base.a[0].*`: one node however long the chain is, so that walking it needs no stack.
    Access {
        base: Box<Node>,
        steps: Vec<Step>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Property(Arc<str>),
    Index(Node),
    Wildcard,
}

/// Whether the tree reads this entry of a root by a fixed key. As deep as the tree, which the parser bounds.
pub(crate) fn reads(node: &Node, root: &str, key: &str) -> bool {
    match &node.kind {
        NodeKind::Literal(_) | NodeKind::Root(_) => false,
        NodeKind::Call { arguments, .. } | NodeKind::HostCall { arguments, .. } => {
            arguments.iter().any(|argument| reads(argument, root, key))
        }
        NodeKind::Access { base, steps } => {
            let is_root = matches!(&base.kind, NodeKind::Root(name) if name.eq_ignore_ascii_case(root));
            let is_key = steps.first().is_some_and(|step| match step {
                Step::Property(name) => name.eq_ignore_ascii_case(key),
                Step::Index(Node { kind: NodeKind::Literal(index), .. }) => {
                    index.as_text().is_some_and(|index| index.eq_ignore_ascii_case(key))
                }
                Step::Index(_) | Step::Wildcard => false,
            });
            let inside = |step: &Step| matches!(step, Step::Index(index) if reads(index, root, key));
            (is_root && is_key) || reads(base, root, key) || steps.iter().any(inside)
        }
    }
}
