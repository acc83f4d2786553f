//! Tests of the crate's public surface.

mod anything;
#[path = "../../../../fuzz/checks/pipelines.rs"]
mod checks;
mod compile;
mod orchestrate;
#[path = "../../../../fuzz/checks/run_context.rs"]
mod run_context;
