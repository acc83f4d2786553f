//! Who watches calls: for metrics, and for people who wait.

use std::fmt;

use crate::error::Error;
use crate::operation::Operation;

/// Is told of every attempt of every call of a connection and of those derived from it. It is called in the
/// middle of things, so it must be quick.
pub trait Observer: fmt::Debug + Send + Sync {
    /// An attempt has ended: with an answer of so many bytes, or an error. What is given up from outside is
    /// not told.
    fn attempted(&self, operation: Operation, outcome: Result<usize, &Error>);

    /// The service says how much of its rate limit is left (`X-RateLimit-Remaining`), in its own units.
    fn rate_limit_left(&self, left: u64);
}
