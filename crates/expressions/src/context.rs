//! What an expression is evaluated against.

use crate::object::Object;
use crate::status::Status;
use crate::value::Value;

/// What the names of a scope hold and what its functions answer.
pub trait Context {
    /// The value of a root name, in the scope's spelling. `None` counts as null.
    fn root(&self, name: &str) -> Option<Value>;

    /// What to say of a name that a root does not hold, with the root in the scope's spelling: `None` reads
    /// it as null, a message (lower case) makes it an error.
    fn missing(&self, root: &str, name: &str) -> Option<String> {
        let _ = (root, name);
        None
    }

    /// The answer of a function of the scope, whose name comes in the scope's spelling: `None` if it is not
    /// known here, an `Err` with a message (lower case, no values) if it refuses.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let _ = (name, arguments);
        None
    }
}

/// A [`Context`] of given values. Its only functions are the status functions, once a status is given.
#[derive(Debug, Clone, Default)]
pub struct Values {
    roots: Object,
    status: Option<Status>,
}

impl Values {
    /// No values.
    pub fn new() -> Values {
        Values::default()
    }

    /// The same values and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Values {
        self.roots.insert(name, value);
        self
    }

    /// The same values, with the status functions of a step in a job that stands so.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Values {
        self.status = Some(status);
        self
    }
}

impl Context for Values {
    fn root(&self, name: &str) -> Option<Value> {
        self.roots.get(name).cloned()
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let answer = self.status?.answer(name)?;
        if !arguments.is_empty() {
            return Some(Err(format!("`{name}` takes no arguments here")));
        }
        Some(Ok(Value::Boolean(answer)))
    }
}
