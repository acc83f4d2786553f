//! Runs of plans: what starts when, and how it ends.

use std::sync::Arc;

use dayfly_pipelines::{
    Action, Orchestration, RunInputs,
    orchestration::{JobInstance, Outputs},
};
use dayfly_protocol::{TaskResult, timeline::VariableValue};

use crate::compile::compiled;

/// A run with the names of its events, as the tests read them.
pub(crate) struct Run {
    orchestration: Orchestration,
    pub(crate) started: Vec<JobInstance>,
}

impl Run {
    pub(crate) fn new(text: &str) -> Self {
        Self::with(text, RunInputs::default())
    }

    pub(crate) fn with(text: &str, inputs: RunInputs) -> Self {
        let plan = Arc::new(compiled(text).plan);
        let orchestration = Orchestration::new(plan, inputs).expect("the names exist");
        Self { orchestration, started: Vec::new() }
    }

    /// Advances, and tells what happened, one event a line.
    pub(crate) fn advance(&mut self) -> String {
        let mut lines = Vec::new();
        for action in self.orchestration.advance() {
            lines.push(match action {
                Action::StageStarted { stage } => format!("stage {}", stage.name),
                Action::StageCompleted { stage, result, reason } => {
                    format!("stage {} {result:?}{}", stage.name, because(reason))
                }
                Action::PhaseStarted { phase, .. } => format!("  phase {}", phase.name),
                Action::PhaseCompleted { phase, result, reason, .. } => {
                    format!("  phase {} {result:?}{}", phase.name, because(reason))
                }
                Action::StartJob(instance) => {
                    let line =
                        format!("    start {} \"{}\"", instance.job.identifier, instance.job.display_name);
                    self.started.push(*instance);
                    line
                }
                Action::JobSkipped { job, result, .. } => format!("    job {} {result:?}", job.identifier),
                Action::CancelJob(id) => format!("    cancel {}", self.identifier(id)),
                Action::RunCompleted { result } => format!("run {result:?}"),
            });
        }
        lines.join("\n")
    }

    fn identifier(&self, id: dayfly_protocol::JobId) -> String {
        let job = self.started.iter().find(|instance| instance.job.id == id).expect("the job was started");
        job.job.identifier.clone()
    }

    /// The job that was started under this identifier.
    pub(crate) fn job(&self, identifier: &str) -> &JobInstance {
        self.started
            .iter()
            .find(|instance| instance.job.identifier == identifier)
            .unwrap_or_else(|| panic!("{identifier} was not started"))
    }

    /// Ends a job, and advances.
    pub(crate) fn end(&mut self, identifier: &str, result: TaskResult) -> String {
        self.end_with(identifier, result, &[])
    }

    pub(crate) fn end_with(
        &mut self,
        identifier: &str,
        result: TaskResult,
        outputs: &[(&str, &str)],
    ) -> String {
        let id = self.job(identifier).job.id;
        let outputs: Outputs =
            outputs.iter().map(|(name, value)| ((*name).to_owned(), VariableValue::public(*value))).collect();
        assert!(self.orchestration.job_completed(id, result, outputs).is_some(), "{identifier} is running");
        self.advance()
    }

    /// The same, with one secret output.
    pub(crate) fn end_with_secret(&mut self, identifier: &str, name: &str, value: &str) -> String {
        let id = self.job(identifier).job.id;
        let outputs = Outputs::from([(name.to_owned(), VariableValue::secret(value))]);
        assert!(self.orchestration.job_completed(id, TaskResult::Succeeded, outputs).is_some());
        self.advance()
    }

    /// Cancels the run, and advances.
    pub(crate) fn cancel(&mut self) -> String {
        self.orchestration.cancel();
        self.advance()
    }

    pub(crate) fn variable(&self, identifier: &str, name: &str) -> Option<String> {
        let variables = &self.job(identifier).variables;
        variables
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value.value.clone())
    }
}

fn because(reason: Option<String>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

#[test]
fn the_simplest_pipeline_runs_one_job() {
    let mut run = Run::new("steps:\n- script: echo hello\n");
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase Job
    start Job.__default "Job"
"#);
    insta::assert_snapshot!(run.end("Job.__default", TaskResult::Succeeded), @r"
  phase Job Succeeded
stage __default Succeeded
run Succeeded
");
}

const DIAMOND: &str = r"
jobs:
- job: top
- job: left
  dependsOn: top
- job: right
  dependsOn: top
- job: bottom
  dependsOn: [left, right]
";

#[test]
fn a_diamond_runs_from_top_to_bottom() {
    let mut run = Run::new(DIAMOND);
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase top
    start top.__default "top"
"#);
    insta::assert_snapshot!(run.end("top.__default", TaskResult::Succeeded), @r#"
phase top Succeeded
phase left
  start left.__default "left"
phase right
  start right.__default "right"
"#);
    insta::assert_snapshot!(run.end("right.__default", TaskResult::SucceededWithIssues), @r"  phase right SucceededWithIssues");
    insta::assert_snapshot!(run.end("left.__default", TaskResult::Succeeded), @r#"
phase left Succeeded
phase bottom
  start bottom.__default "bottom"
"#);
    insta::assert_snapshot!(run.end("bottom.__default", TaskResult::Succeeded), @r"
  phase bottom Succeeded
stage __default SucceededWithIssues
run SucceededWithIssues
");
}

#[test]
fn a_failure_skips_what_depends_on_it() {
    let mut run = Run::new(DIAMOND);
    run.advance();
    run.end("top.__default", TaskResult::Succeeded);
    insta::assert_snapshot!(run.end("left.__default", TaskResult::Failed), @r"  phase left Failed");
    insta::assert_snapshot!(run.end("right.__default", TaskResult::Succeeded), @r"
  phase right Succeeded
    job bottom.__default Skipped
  phase bottom Skipped (what it depends on did not succeed)
stage __default Failed
run Failed
");
}

#[test]
fn a_lost_agent_is_a_failure() {
    let mut run = Run::new("jobs:\n- job: a\n- job: b\n  dependsOn: a\n  condition: failed('a')\n");
    run.advance();
    insta::assert_snapshot!(run.end("a.__default", TaskResult::Abandoned), @r#"
phase a Failed
phase b
  start b.__default "b"
"#);
}

#[test]
fn conditions_decide_after_a_failure() {
    let mut run = Run::new(
        r"
jobs:
- job: a
- job: default
  dependsOn: a
- job: on_failure
  dependsOn: a
  condition: failed()
- job: whatever
  dependsOn: a
  condition: always()
- job: named
  dependsOn: [a, on_failure]
  condition: and(failed('a'), succeeded('on_failure'))
- job: result
  dependsOn: a
  condition: eq(dependencies.a.result, 'failed')
- job: replaced
  dependsOn: a
  condition: eq(1, 1)
- job: after_skipped
  dependsOn: default
- job: not_failed
  dependsOn: default
  condition: not(failed())
",
    );
    run.advance();
    insta::assert_snapshot!(run.end("a.__default", TaskResult::Failed), @r#"
phase a Failed
  job default.__default Skipped
phase default Skipped (what it depends on did not succeed)
phase on_failure
  start on_failure.__default "on_failure"
phase whatever
  start whatever.__default "whatever"
phase result
  start result.__default "result"
phase replaced
  start replaced.__default "replaced"
  job after_skipped.__default Skipped
phase after_skipped Skipped (what it depends on did not succeed)
  job not_failed.__default Skipped
phase not_failed Skipped (the condition `not(failed())` does not hold: not(True))
"#);
    insta::assert_snapshot!(run.end("on_failure.__default", TaskResult::Succeeded), @r#"
phase on_failure Succeeded
phase named
  start named.__default "named"
"#);
}

#[test]
fn continue_on_error_turns_failure_into_issues() {
    let mut run = Run::new("jobs:\n- job: a\n  continueOnError: true\n- job: b\n  dependsOn: a\n");
    run.advance();
    insta::assert_snapshot!(run.end("a.__default", TaskResult::Failed), @r#"
phase a SucceededWithIssues
phase b
  start b.__default "b"
"#);
    insta::assert_snapshot!(run.end("b.__default", TaskResult::Succeeded), @r"
  phase b Succeeded
stage __default SucceededWithIssues
run SucceededWithIssues
");
}

#[test]
fn a_matrix_runs_as_many_legs_as_allowed() {
    let text = r"
jobs:
- job: test
  displayName: Test $(suite)
  variables:
    suite: all
    python: none
  strategy:
    maxParallel: 2
    matrix:
      py39:
        python: '3.9'
      py310:
        python: '3.10'
      py311:
        python: '3.11'
";
    let mut run = Run::new(text);
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase test
    start test.py39 "Test all py39"
    start test.py310 "Test all py310"
"#);
    assert_eq!(run.variable("test.py310", "PYTHON").as_deref(), Some("3.10"));
    assert_eq!(run.job("test.py39").total_in_phase, 3);
    assert_eq!(run.job("test.py310").position_in_phase, 2);
    insta::assert_snapshot!(run.end("test.py39", TaskResult::Failed), @r#"    start test.py311 "Test all py311""#);
    run.end("test.py310", TaskResult::Succeeded);
    insta::assert_snapshot!(run.end("test.py311", TaskResult::Succeeded), @r"
  phase test Failed
stage __default Failed
run Failed
");
}

#[test]
fn a_matrix_may_come_from_another_job() {
    let text = r#"
jobs:
- job: plan
- job: work
  dependsOn: plan
  strategy:
    matrix: $[ dependencies.plan.outputs['legs.json'] ]
- job: after
  dependsOn: work
  variables:
    one: $[ dependencies.work.outputs['a.set.x'] ]
"#;
    let mut run = Run::new(text);
    run.advance();
    let json = r#"{"a": {"n": 1}, "b": {"n": "2"}}"#;
    insta::assert_snapshot!(run.end_with("plan.__default", TaskResult::Succeeded, &[("legs.json", json)]), @r#"
phase plan Succeeded
phase work
  start work.a "work a"
  start work.b "work b"
"#);
    assert_eq!(run.variable("work.a", "n").as_deref(), Some("1"));
    run.end_with("work.a", TaskResult::Succeeded, &[("set.x", "from a")]);
    run.end_with("work.b", TaskResult::Succeeded, &[("set.x", "from b")]);
    assert_eq!(run.variable("after.__default", "one").as_deref(), Some("from a"));

    let mut run = Run::new(text);
    run.advance();
    let ended = run.end_with("plan.__default", TaskResult::Succeeded, &[("legs.jsonn", json)]);
    assert!(ended.contains("phase work Failed (the matrix is empty: check the name"), "{ended}");

    let mut run = Run::new(text);
    run.advance();
    insta::assert_snapshot!(run.end_with("plan.__default", TaskResult::Succeeded, &[("legs.json", "[1")]), @r"
  phase plan Succeeded
  phase work Failed (the matrix has to be a JSON object of legs)
    job after.__default Skipped
  phase after Skipped (what it depends on did not succeed)
stage __default Failed
run Failed
");
}

#[test]
fn parallel_makes_copies() {
    let mut run = Run::new("jobs:\n- job: slice\n  strategy:\n    parallel: 2\n");
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase slice
    start slice.Job1 "slice 1"
    start slice.Job2 "slice 2"
"#);
    assert_eq!(run.job("slice.Job2").position_in_phase, 2);
}

#[test]
fn outputs_cross_jobs_and_stages() {
    let text = r"
stages:
- stage: A
  jobs:
  - job: make
  - job: use
    dependsOn: make
    variables:
      x: $[ dependencies.make.outputs['s.x'] ]
      length: $[ length(variables.x) ]
      secret: $[ dependencies.make.outputs['s.token'] ]
- stage: B
  condition: and(succeeded(), eq(dependencies.A.outputs['make.s.x'], 'hello'))
  jobs:
  - job: one
    condition: eq(stageDependencies.A.make.result, 'Succeeded')
    variables:
      x: $[ stageDependencies.A.make.outputs['s.x'] ]
- stage: C
  dependsOn: B
  jobs:
  - job: one
    variables:
      x: $[ stageDependencies.A.make.outputs['s.x'] ]
";
    let mut run = Run::new(text);
    run.advance();
    let id = run.job("A.make.__default").job.id;
    let outputs = Outputs::from([
        ("s.x".to_owned(), VariableValue::public("hello")),
        ("s.token".to_owned(), VariableValue::secret("hunter22")),
    ]);
    run.orchestration.job_completed(id, TaskResult::Succeeded, outputs);
    run.advance();
    assert_eq!(run.variable("A.use.__default", "x").as_deref(), Some("hello"));
    assert_eq!(run.variable("A.use.__default", "length").as_deref(), Some("5"));
    assert!(run.job("A.use.__default").variables["secret"].is_secret, "what comes from a secret is a secret");
    insta::assert_snapshot!(run.end("A.use.__default", TaskResult::Succeeded), @r#"
  phase use Succeeded
stage A Succeeded
stage B
  phase one
    start B.one.__default "one"
"#);
    assert_eq!(run.variable("B.one.__default", "x").as_deref(), Some("hello"));
    run.end("B.one.__default", TaskResult::Succeeded);
    assert_eq!(
        run.variable("C.one.__default", "x").as_deref(),
        Some(""),
        "only direct dependencies are seen"
    );
}

#[test]
fn stages_are_skipped_and_judged_like_jobs() {
    let text = r"
stages:
- stage: A
  jobs: [{job: x}]
- stage: B
  condition: false
  jobs: [{job: x}]
- stage: C
  jobs: [{job: x}]
- stage: D
  dependsOn: [A, C]
  condition: in(dependencies.C.result, 'Skipped')
  jobs: [{job: x, condition: false}]
- stage: E
  dependsOn: D
  condition: succeededOrFailed()
  jobs: [{job: x}]
- stage: F
  dependsOn: [E]
  condition: failed()
  jobs: [{job: x}]
";
    let mut run = Run::new(text);
    insta::assert_snapshot!(run.advance(), @r#"
stage A
  phase x
    start A.x.__default "x"
"#);
    insta::assert_snapshot!(run.end("A.x.__default", TaskResult::Failed), @r#"
  phase x Failed
stage A Failed
stage B Skipped (the condition `false` does not hold)
stage C Skipped (what it depends on did not succeed)
stage D
    job D.x.__default Skipped
  phase x Skipped (the condition `false` does not hold)
stage D Skipped
stage E
  phase x
    start E.x.__default "x"
"#);
    insta::assert_snapshot!(run.end("E.x.__default", TaskResult::Succeeded), @r#"
  phase x Succeeded
stage E Succeeded
stage F
  phase x
    start F.x.__default "x"
"#);
}

#[test]
fn cancellation_stops_what_runs_and_judges_what_waits() {
    let text = r"
stages:
- stage: A
  jobs:
  - job: m
    strategy:
      maxParallel: 1
      matrix: {one: {}, two: {}}
  - job: next
    dependsOn: m
  - job: clean
    dependsOn: m
    condition: always()
  - job: told
    dependsOn: m
    condition: canceled()
- stage: B
  jobs: [{job: x}]
- stage: C
  dependsOn: [A]
  condition: always()
  jobs: [{job: x}, {job: y, condition: always()}]
";
    let mut run = Run::new(text);
    run.advance();
    run.orchestration.cancel();
    insta::assert_snapshot!(run.advance(), @r"
cancel A.m.one
job A.m.two Canceled
");
    run.orchestration.cancel();
    assert_eq!(run.advance(), "", "a second time changes nothing");
    insta::assert_snapshot!(run.end("A.m.one", TaskResult::Canceled), @r#"
phase m Canceled
  job A.next.__default Skipped
phase next Skipped (the run was cancelled)
phase clean
  start A.clean.__default "clean"
phase told
  start A.told.__default "told"
"#);
    run.end("A.clean.__default", TaskResult::Succeeded);
    insta::assert_snapshot!(run.end("A.told.__default", TaskResult::Succeeded), @r#"
  phase told Succeeded
stage A Canceled
stage B Skipped (the run was cancelled)
stage C
  phase x
    start C.x.__default "x"
  phase y
    start C.y.__default "y"
"#);
    run.end("C.x.__default", TaskResult::Succeeded);
    insta::assert_snapshot!(run.end("C.y.__default", TaskResult::Succeeded), @r"
  phase y Succeeded
stage C Succeeded
run Canceled
");
}

#[test]
fn a_job_counts_once() {
    let mut run = Run::new("steps: []\n");
    run.advance();
    let id = run.job("Job.__default").job.id;
    assert_eq!(
        run.orchestration.job_completed(id, TaskResult::Succeeded, Outputs::new()),
        Some(TaskResult::Succeeded)
    );
    assert_eq!(run.orchestration.job_completed(id, TaskResult::Failed, Outputs::new()), None);
    assert_eq!(run.orchestration.result(), None, "before the next advance");
    run.advance();
    assert_eq!(run.orchestration.result(), Some(TaskResult::Succeeded));
    assert!(run.orchestration.advance().is_empty());
}

fn filtered(text: &str, stages: &[&str], jobs: &[&str]) -> Run {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Run::with(text, RunInputs { stages: owned(stages), jobs: owned(jobs), ..RunInputs::default() })
}

#[test]
fn filters_run_only_what_is_wanted() {
    let text = r"
stages:
- stage: A
  jobs: [{job: x}, {job: y, dependsOn: x}]
- stage: B
  jobs: [{job: x}, {job: z}]
- stage: M
  trigger: manual
  dependsOn: []
  jobs: [{job: x}]
";
    insta::assert_snapshot!(filtered(text, &["b"], &[]).advance(), @r#"
stage B
  phase x
    start B.x.__default "x"
  phase z
    start B.z.__default "z"
"#);
    insta::assert_snapshot!(filtered(text, &[], &["A.y"]).advance(), @r#"
stage A
  phase y
    start A.y.__default "y"
"#);
    insta::assert_snapshot!(filtered(text, &["M"], &[]).advance(), @r#"
stage M
  phase x
    start M.x.__default "x"
"#);
    insta::assert_snapshot!(filtered(text, &[], &["M.x"]).advance(), @r#"
stage M
  phase x
    start M.x.__default "x"
"#);
    insta::assert_snapshot!(filtered(text, &[], &[]).advance(), @r#"
stage A
  phase x
    start A.x.__default "x"
stage M Skipped (the stage waits for a person; name it to run it)
"#);
    let plan = Arc::new(compiled(text).plan);
    let inputs = RunInputs { jobs: vec!["yy".to_owned()], ..RunInputs::default() };
    let error = Orchestration::new(plan, inputs).expect_err("there is no such job");
    assert_eq!(error.to_string(), "the pipeline has no job `yy`; did you mean `y`?");
}

#[test]
fn legs_of_a_matrix_can_be_wanted() {
    let text = r"
jobs:
- job: x
  strategy: {matrix: {gcc4.8: {v: 1}, Debug x86: {v: 2}, clang: {v: 3}}}
- job: y
  strategy: {matrix: {clang: {v: 4}, gcc: {v: 5}}}
- job: z
";
    let select = |wanted: &[&str]| {
        let mut plan = compiled(text).plan;
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let jobs = dayfly_pipelines::orchestration::select_legs(&mut plan, &wanted);
        let inputs = RunInputs { jobs, ..RunInputs::default() };
        let mut run = Orchestration::new(Arc::new(plan), inputs).map_err(|unknown| unknown.to_string())?;
        let started = run.advance().into_iter().filter_map(|action| match action {
            Action::StartJob(instance) => Some(instance.job.display_name),
            _ => None,
        });
        Ok::<_, String>(started.collect::<Vec<_>>())
    };
    assert_eq!(
        select(&["x.gcc4.8", "X.debug X86"]),
        Ok(vec!["x gcc4.8".to_owned(), "x Debug x86".to_owned()])
    );
    assert_eq!(select(&["__default.y.gcc", "z"]), Ok(vec!["y gcc".to_owned(), "z".to_owned()]));
    assert_eq!(select(&["y", "y.gcc"]), Ok(vec!["y clang".to_owned(), "y gcc".to_owned()]));
    assert_eq!(
        select(&["x.msvc"]),
        Err("the pipeline has no job `x.msvc`; it has `x.gcc4.8`, `x.Debug x86`, `x.clang`".to_owned())
    );
    assert_eq!(select(&["y.gc"]), Err("the pipeline has no job `y.gc`; did you mean `y.gcc`?".to_owned()));
    assert_eq!(select(&["GCC"]), Err("the pipeline has no job `GCC`; did you mean `y.gcc`?".to_owned()));
    assert_eq!(select(&["z.gcc"]), Err("the pipeline has no job `z.gcc`; it has `x`, `y`, `z`".to_owned()));
}

#[test]
fn a_job_is_wanted_in_one_of_the_wanted_stages() {
    let text = r"
stages:
- stage: A
  jobs: [{job: build}, {job: test}]
- stage: B
  jobs: [{job: ship}]
";
    let plan = compiled(text).plan;
    let select = |stages: &[&str], jobs: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        dayfly_pipelines::orchestration::select(&plan, &owned(stages), &owned(jobs))
            .map_err(|unknown| unknown.to_string())
    };
    assert_eq!(select(&["a"], &["A.Test"]), Ok(vec![vec![false, true], vec![false]]));
    assert_eq!(select(&["A", "B"], &["build"]), Ok(vec![vec![true, false], vec![false]]));
    // Nothing at all would be left to run.
    assert_eq!(
        select(&["B"], &["A.build"]),
        Err("the chosen stages have no job `A.build`; it has `ship`".to_owned())
    );
}

#[test]
fn deployments_run_their_hooks_one_after_the_other() {
    let text = r"
jobs:
- deployment: ship
  environment: prod
  strategy:
    runOnce:
      preDeploy:
        steps: [{script: a}]
      deploy:
        steps: [{script: b}]
      routeTraffic:
        steps: [{script: c}]
      on:
        failure:
          steps: [{script: d}]
        success:
          steps: [{script: e}]
- job: after
  dependsOn: ship
  condition: always()
  variables:
    x: $[ dependencies.ship.outputs['ship.s.x'] ]
";
    let mut run = Run::new(text);
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase ship
    start ship.preDeploy "ship preDeploy"
"#);
    insta::assert_snapshot!(run.end("ship.preDeploy", TaskResult::Succeeded), @r#"    start ship.ship "ship deploy""#);
    assert_eq!(run.variable("ship.ship", "Environment.Name").as_deref(), Some("prod"));
    let first = &run.job("ship.ship").steps[0];
    assert_eq!(first.task.name, "DownloadPipelineArtifact", "a deploy hook begins with the run's artifacts");
    insta::assert_snapshot!(run.end_with("ship.ship", TaskResult::Failed, &[("s.x", "1")]), @r#"
job ship.routeTraffic Skipped
start ship.onFailure "ship on failure"
"#);
    insta::assert_snapshot!(run.end("ship.onFailure", TaskResult::Succeeded), @r#"
  job ship.onSuccess Skipped
phase ship Failed
phase after
  start after.__default "after"
"#);
    assert_eq!(run.variable("after.__default", "x").as_deref(), Some("1"));
}

#[test]
fn canary_goes_in_increments() {
    let text = r"
jobs:
- deployment: ship
  environment: prod
  strategy:
    canary:
      increments: [10, 50]
      deploy:
        steps: [{script: b}]
      on:
        success:
          steps: [{script: e}]
";
    let mut run = Run::new(text);
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase ship
    start ship.deploy_10 "ship deploy 10 %"
"#);
    assert_eq!(run.variable("ship.deploy_10", "strategy.increment").as_deref(), Some("10"));
    insta::assert_snapshot!(run.end("ship.deploy_10", TaskResult::Succeeded), @r#"    start ship.deploy_50 "ship deploy 50 %""#);
    insta::assert_snapshot!(run.end("ship.deploy_50", TaskResult::Succeeded), @r#"    start ship.onSuccess "ship on success""#);
}

#[test]
fn what_cannot_be_evaluated_fails_with_a_reason() {
    let mut run = Run::new("variables:\n  a: $[ gt(1, variables.b) ]\n  b: x\njobs:\n- job: j\n");
    insta::assert_snapshot!(run.advance(), @r#"
stage __default
  phase j
    start j.__default "j"
"#);
    let mut run = Run::new(
        "variables:\n  b: x\njobs:\n- job: j\n  variables:\n    a: $[ gt(1, variables.b) ]\n- job: k\n  condition: gt(1, variables.b)\n- job: t\n  timeoutInMinutes: $(b)\n",
    );
    insta::assert_snapshot!(run.advance(), @r"
stage __default
  phase j Failed (the variable `a`: `$[ gt(1, variables.b) ]` cannot be evaluated: cannot convert this String to Number at position 8)
  phase k Failed (the condition `gt(1, variables.b)` cannot be evaluated: cannot convert this String to Number at position 7)
  phase t Failed (`timeoutInMinutes: $(b)` gives `x`, which is not a whole number)
stage __default Failed
run Failed
");
}

#[test]
fn settings_and_containers_are_settled_when_a_job_starts() {
    let text = r"
variables:
  minutes: 7
  image: alpine:3
  none: ''
resources:
  containers:
  - container: db
    image: postgres:$(version)
    ports: ['5432']
jobs:
- job: j
  timeoutInMinutes: $[ variables.minutes ]
  continueOnError: $(flag)
  variables:
    flag: 'true'
    version: 16
  pool:
    name: pool-$(minutes)
    demands: [size -equals $(minutes)]
  container: $[ variables.image ]
  services:
    db: db
    cache: $[ variables.none ]
    own:
      image: redis
  steps:
  - script: x
    target: db
";
    let mut run = Run::new(text);
    run.advance();
    let job = run.job("j.__default");
    assert_eq!((job.timeout_in_minutes, job.continue_on_error), (7, true));
    assert_eq!((job.pool.name.as_deref(), job.pool.demands[0].as_str()), (Some("pool-7"), "size -equals 7"));
    assert_eq!(job.container.as_deref(), Some("alpine:3"));
    let services: Vec<_> = job.services.iter().map(|(name, alias)| format!("{name}={alias}")).collect();
    assert_eq!(services, ["db=db", "own=own_in_place"]);
    let containers: Vec<_> =
        job.containers.iter().map(|one| format!("{}:{}", one.alias, one.image)).collect();
    assert_eq!(containers, ["alpine:3:alpine:3", "db:postgres:16", "own_in_place:redis"]);
}

#[test]
fn secrets_do_not_show_in_reasons_and_written_values_win() {
    let text = "variables:\n  who: file\njobs:\n- job: j\n- job: k\n  condition: eq(variables.token, 'x')\n";
    let variables = [("token", VariableValue::secret("hunter22")), ("who", VariableValue::public("given"))];
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
    let mut run = Run::with(text, RunInputs { variables, ..RunInputs::default() });
    let events = run.advance();
    assert!(!events.contains("hunter22"), "{events}");
    assert!(events.contains("***"), "{events}");
    assert_eq!(run.variable("j.__default", "who").as_deref(), Some("file"));
    assert!(run.job("j.__default").variables["token"].is_secret);
}

#[test]
fn later_attempts_have_ids_of_their_own() {
    let mut run = Run::with("steps: []\n", RunInputs { attempt: 2, ..RunInputs::default() });
    run.advance();
    assert_eq!(run.job("Job.__default.2").job.attempt, 2);
}
