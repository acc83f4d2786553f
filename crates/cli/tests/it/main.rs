//! Tests of the built binary, as a user would run it.

mod eval;
mod usage;
