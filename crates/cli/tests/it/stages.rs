//! The project's own pipeline runs every stage of `.ci/run`, in its order.

use std::path::Path;
use std::process::Command;

#[test]
fn the_pipeline_runs_every_stage_of_ci() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = Command::new(root.join(".ci/run")).arg("--list").output().expect(".ci/run starts");
    let listed = String::from_utf8(listed.stdout).expect("names of stages are text");
    let stages: Vec<&str> = listed.lines().collect();
    let pipeline = std::fs::read_to_string(root.join("azure-pipelines.yml")).expect("the pipeline is there");
    let run: Vec<&str> =
        pipeline.lines().filter_map(|line| line.trim().strip_prefix("- script: .ci/run ")).collect();
    assert!(!stages.is_empty(), "`.ci/run --list` names the stages");
    assert_eq!(run, stages);
}
