//! Tests of the crate's public surface.

mod compile;
mod orchestrate;
