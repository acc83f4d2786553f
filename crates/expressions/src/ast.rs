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
