//! `dayfly run` beside its arguments: what happens in a run, and how it is shown.

pub(crate) mod change;
pub(crate) mod console;
pub(crate) mod inputs;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod summary;
