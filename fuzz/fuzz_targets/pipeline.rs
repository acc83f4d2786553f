//! Any text as a pipeline; what compiles is run.
#![no_main]

use std::sync::LazyLock;

use dayfly_pipelines::RunContext;
use libfuzzer_sys::fuzz_target;

#[path = "../checks/pipelines.rs"]
mod checks;
#[path = "../checks/run_context.rs"]
mod run_context;

static CONTEXT: LazyLock<RunContext> = LazyLock::new(run_context::sample);

fuzz_target!(|text: &str| checks::pipeline(text, &CONTEXT));
