//! The forms from before `jobs` and `pool`.

use dayfly_pipelines::Inputs;
use serde_json::json;

use crate::compile::{compile_with, outline};
use crate::files;

#[test]
fn phases_are_jobs() {
    insta::assert_snapshot!(outline(
        "phases:
- phase: a
  queue: Hosted
  steps: [{script: x}]
- phase: b
  dependsOn: a
  condition: always()
  server: true
  steps: [{task: Delay@1}]
"
    ), @r#"
stage __default
  job a
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="x"
  job b after a
    if always()
    Delay Delay@1.241.0
"#);
    // Templates of phases are of the old kind, too.
    let template = [("t.yml", "phases:\n- phase: c\n  steps: [{script: y}]\n")];
    insta::assert_snapshot!(files::outline("phases:\n- template: t.yml\n", &template), @r#"
stage __default
  job c
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="y"
"#);
}

#[test]
fn queues_are_pools_with_what_belongs_to_the_job() {
    let text = "phases:
- phase: a
  queue: {name: q, demands: [d], timeoutInMinutes: 5, cancelTimeoutInMinutes: 2, parallel: 3}
- phase: b
  queue: {name: q, parallel: 2, matrix: {x: {k: 1}, y: {k: 2}}, workspace: {clean: all}}
- phase: c
  server: {timeoutInMinutes: 7}
";
    let compiled = compile_with(text, &Inputs::default());
    let jobs: Vec<_> = compiled.plan.stages[0]
        .jobs
        .iter()
        .map(|job| {
            json!([
                job.pool,
                job.timeout_in_minutes,
                job.cancel_timeout_in_minutes,
                job.strategy,
                job.workspace_clean
            ])
        })
        .collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&jobs).unwrap_or_default(), @r#"
[
  [
    {
      "demands": [
        "d"
      ],
      "name": "q",
      "server": false,
      "vmImage": null
    },
    5,
    2,
    {
      "count": 3,
      "kind": "parallel",
      "maxParallel": 0
    },
    null
  ],
  [
    {
      "name": "q",
      "server": false,
      "vmImage": null
    },
    60,
    5,
    {
      "kind": "matrix",
      "legs": [
        {
          "name": "x",
          "variables": [
            {
              "name": "k",
              "readonly": false,
              "value": "1"
            }
          ]
        },
        {
          "name": "y",
          "variables": [
            {
              "name": "k",
              "readonly": false,
              "value": "2"
            }
          ]
        }
      ],
      "maxParallel": 2
    },
    "all"
  ],
  [
    {
      "name": null,
      "server": true,
      "vmImage": null
    },
    7,
    5,
    {
      "kind": "single"
    },
    null
  ]
]
"#);
    let beside =
        compile_with("queue: {name: q, timeoutInMinutes: 9}\nsteps: [{script: x}]\n", &Inputs::default());
    let job = &beside.plan.stages[0].jobs[0];
    assert_eq!(json!([job.pool.name, job.timeout_in_minutes]), json!(["q", 9]));
}
