//! Tests of the crate's public surface.

mod anything;
#[path = "../../../../fuzz/checks/pipelines.rs"]
mod checks;
mod compile;
mod conditions;
mod files;
mod legacy;
mod message;
mod mistakes;
mod orchestrate;
mod public_shapes;
mod reported;
mod resources;
#[path = "../../../../fuzz/checks/run_context.rs"]
mod run_context;
mod tasks;
mod template;
mod typed;
mod undeclared;
