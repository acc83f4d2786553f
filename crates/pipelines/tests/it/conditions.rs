//! Which stages and jobs run, by their condition and by how the things went that they depend on.
//!
//! The sources, as the tables name them:
//! - `conditions`, `expressions`: azure-devops-docs, `docs/pipelines/process/conditions.md` and
//!   `expressions.md`
//! - `graph`: `GraphCondition.cs` in the first published commit of actions/runner, the service's own code of
//!   2019
//! - `docs N`: issue or pull request N of MicrosoftDocs/azure-devops-docs; `azure-docs N`: of
//!   MicrosoftDocs/azure-docs

use std::fmt::Write as _;

use dayfly_pipelines::RunInputs;
use dayfly_protocol::TaskResult;

use crate::orchestrate::Run;

/// `it` depends on `near`, and `near` on `far`. How these two went:
/// `S` succeeded, `I` succeeded with issues, `F` failed, `C` cancelled (by its time limit, say), `K` skipped,
/// `N` not chosen for this run, `X` at work when the run was cancelled, `.` there is none. Whether `it` runs
/// then, by its condition: `+` yes, `-` no, `j` as a job only, not as a stage.
///
/// The columns: no condition, `succeeded()`, `succeededOrFailed()`, `failed()`, `always()`, `canceled()`;
/// with names (`n` is `near`, `f` is `far`): `succeeded('n')`, `succeeded('f')`, `succeeded('n', 'f')`,
/// `succeededOrFailed('n')`, `succeededOrFailed('f')`, `failed('n')`, `failed('f')`, `failed('n', 'f')`,
/// `failed('f', 'n')`; custom: `eq(1, 1)`, `and(succeeded(), eq(1, 1))`, `not(failed())`,
/// `in(dependencies.n.result, 'Failed', 'Skipped')`.
const TABLE: &str = "
far near | none  succ  s|f  fail  alw  canc | s(n)  s(f)  s(n,f)  sf(n)  sf(f)  f(n)  f(f)  f(n,f)  f(f,n) | eq  and  not  in | source
 .   .   |  +     +     +    -     +    -   |  -     -      -       -      -     -     -      -       -    |  +   +    +   -  | graph: unknown names
 .   S   |  +     +     +    -     +    -   |  +     -      -       +      -     -     -      -       -    |  +   +    +   -  | conditions, graph
 .   I   |  +     +     +    -     +    -   |  +     -      -       +      -     -     -      -       -    |  +   +    +   -  | expressions: 'succeeded or partially succeeded'
 .   F   |  -     -     +    +     +    -   |  -     -      -       +      -     +     -      +       -    |  +   -    -   +  | conditions, graph
 .   C   |  -     -     j    -     +    -   |  -     -      -       -      -     -     -      -       -    |  +   -    +   -  | graph; jobs: expressions
 .   K   |  -     -     j    -     +    -   |  -     -      -       -      -     -     -      -       -    |  +   -    +   +  | docs 7738, 12846; jobs: docs 2896
 .   N   |  +     +     +    -     +    -   |  +     -      -       +      -     -     -      -       -    |  +   +    +   -  | docs 12846: 'only the second stage'
 S   S   |  +     +     +    -     +    -   |  +     +      +       +      +     -     -      -       -    |  +   +    +   -  | conditions
 I   S   |  +     +     +    -     +    -   |  +     +      +       +      +     -     -      -       -    |  +   +    +   -  | expressions
 S   I   |  +     +     +    -     +    -   |  +     +      +       +      +     -     -      -       -    |  +   +    +   -  | expressions
 S   F   |  -     -     +    +     +    -   |  -     +      -       +      +     +     -      +       +    |  +   -    -   +  | conditions
 F   S   |  -     -     +    +     +    -   |  +     -      -       +      +     -     +      +       +    |  +   -    -   -  | conditions: 'computed recursively'
 F   F   |  -     -     +    +     +    -   |  -     -      -       +      +     +     +      +       +    |  +   -    -   +  | conditions
 F   K   |  -     -     +    +     +    -   |  -     -      -       -      +     -     +      +       +    |  +   -    -   +  | conditions; expressions: 'any previous job in the dependency graph'
 F   N   |  -     -     +    +     +    -   |  +     -      -       +      +     -     +      +       +    |  +   -    -   -  | conditions
 K   S   |  -     -     +    -     +    -   |  +     -      -       +      -     -     -      -       -    |  +   -    +   -  | azure-docs 95768, docs 12616
 S   K   |  -     -     +    -     +    -   |  -     +      -       -      +     -     -      -       -    |  +   -    +   +  | docs 11284
 K   K   |  -     -     j    -     +    -   |  -     -      -       -      -     -     -      -       -    |  +   -    +   +  | docs 12846; jobs: docs 2896
 C   S   |  -     -     +    -     +    -   |  +     -      -       +      -     -     -      -       -    |  +   -    +   -  | graph
 S   C   |  -     -     +    -     +    -   |  -     +      -       -      +     -     -      -       -    |  +   -    +   -  | graph
 C   K   |  -     -     j    -     +    -   |  -     -      -       -      -     -     -      -       -    |  +   -    +   +  | graph; jobs: expressions
 N   S   |  +     +     +    -     +    -   |  +     +      +       +      +     -     -      -       -    |  +   +    +   -  | docs 12846
 .   X   |  -     -     -    -     +    +   |  -     -      -       -      -     -     -      -       -    |  +   -    +   -  | conditions: 'when a build is canceled'; graph
 S   X   |  -     -     -    -     +    +   |  -     -      -       -      -     -     -      -       -    |  +   -    +   -  | graph
 F   X   |  -     -     -    -     +    +   |  -     -      -       -      -     -     -      -       -    |  +   -    +   -  | graph
";

/// The conditions of the columns, for the second half of a table's head.
const CONDITIONS: [Option<&str>; 19] = [
    None,
    Some("succeeded()"),
    Some("succeededOrFailed()"),
    Some("failed()"),
    Some("always()"),
    Some("canceled()"),
    Some("succeeded('near')"),
    Some("succeeded('far')"),
    Some("succeeded('near', 'far')"),
    Some("succeededOrFailed('near')"),
    Some("succeededOrFailed('far')"),
    Some("failed('near')"),
    Some("failed('far')"),
    Some("failed('near', 'far')"),
    Some("failed('far', 'near')"),
    Some("eq(1, 1)"),
    Some("and(succeeded(), eq(1, 1))"),
    Some("not(failed())"),
    Some("in(dependencies.near.result, 'Failed', 'Skipped')"),
];

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Stages,
    Jobs,
}

#[test]
fn conditions_decide_by_all_that_went_before() {
    let mut wrong = String::new();
    for row in TABLE.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').collect();
        let [went, plain, named, custom, source] = cells[..] else { panic!("five columns in {row}") };
        let [far, near] = went.split_whitespace().collect::<Vec<_>>()[..] else { panic!("two in {went}") };
        let expected: Vec<&str> =
            [plain, named, custom].into_iter().flat_map(str::split_whitespace).collect();
        assert_eq!(expected.len(), CONDITIONS.len(), "{row}");
        for (condition, expected) in CONDITIONS.into_iter().zip(expected) {
            for of in [Of::Stages, Of::Jobs] {
                let should_run = expected == "+" || (expected == "j" && of == Of::Jobs);
                if runs(of, far, near, condition) != should_run {
                    let what = if of == Of::Jobs { "job" } else { "stage" };
                    let condition = condition.unwrap_or("no condition");
                    let _ = writeln!(
                        wrong,
                        "{far} {near}: the {what} with {condition}: not {expected} ({})",
                        source.trim()
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whether `it` runs, after `far` and `near` went so.
fn runs(of: Of, far: &str, near: &str, condition: Option<&str>) -> bool {
    let mut text = String::from(if of == Of::Jobs { "jobs:\n" } else { "stages:\n" });
    // `near` runs whatever `far` does; what is skipped has a condition that never holds.
    let settled = |went| Some(if went == "K" { "false" } else { "always()" });
    let links =
        [("far", far, settled(far), None), ("near", near, settled(near), Some("far").filter(|_| far != "."))];
    let links = links.into_iter().filter(|(_, went, ..)| *went != ".");
    let it = ("it", "", condition, Some("near").filter(|_| near != "."));
    for (name, _, condition, depends_on) in links.clone().chain([it]) {
        let word = if of == Of::Jobs { "job" } else { "stage" };
        let _ = write!(text, "- {word}: {name}\n  dependsOn: [{}]\n", depends_on.unwrap_or_default());
        let _ = condition.map(|condition| writeln!(text, "  condition: {condition}"));
        if of == Of::Stages {
            text.push_str("  jobs: [{job: j}]\n");
        }
    }
    let mut chosen: Vec<String> =
        links.clone().filter(|(_, went, ..)| *went != "N").map(|(name, ..)| name.to_owned()).collect();
    chosen.push("it".to_owned());
    let inputs = match of {
        Of::Stages => RunInputs { stages: chosen, ..RunInputs::default() },
        Of::Jobs => RunInputs { jobs: chosen, ..RunInputs::default() },
    };
    let mut run = Run::with(&text, inputs);
    let mut events = run.advance();
    let job =
        |name: &str| if of == Of::Jobs { format!("{name}.__default") } else { format!("{name}.j.__default") };
    for (name, went, ..) in links {
        let result = match went {
            "S" => TaskResult::Succeeded,
            "I" => TaskResult::SucceededWithIssues,
            "F" => TaskResult::Failed,
            "C" => TaskResult::Canceled,
            "X" => {
                events += &run.cancel();
                TaskResult::Canceled
            }
            _ => continue,
        };
        events += &run.end(&job(name), result);
    }
    events.contains(&format!("start {} ", job("it")))
}

/// What `dependencies` and `stageDependencies` hold where. `before` comes before `A`, and `A` before `B`,
/// where the place is. In `A`, job `j` puts out `s.v`, as do the legs of `m` and the hook of the deployment
/// `d`; `k` fails; in `B`, `two` depends on `one`, which does as `A.j` does, and `one` on `zero`.
const HELD: &str = "
place           | expression                                    | value     | source
stage condition | dependencies.A.result                         | Failed    | expressions, 'Dependencies'
stage condition | stageDependencies.A.result                    | Failed    | docs 8366: interchangeable in the condition of a stage
stage condition | dependencies.A.outputs['j.s.v']               | from j    | expressions, 'Stage to stage'
stage condition | stageDependencies.A.outputs['j.s.v']          | from j    | docs 8366, 9050
stage condition | stageDependencies.A.j.outputs['s.v']          |           | docs 9050: not in the condition of a stage
stage condition | dependencies.A.j.outputs['s.v']               |           | docs 9050
stage condition | dependencies.A.outputs['m.x.s.v']             | from m.x  | expressions
stage condition | dependencies.A.outputs['d.d.s.v']             | from d    | deployment-jobs
stage condition | dependencies.before.result                    |           | expressions: add it to `dependsOn`
stage condition | dependencies.one.result                       |           | expressions
stage variable  | dependencies.A.result                         |           | docs 14041: a stage's variables are evaluated for each job
stage variable  | dependencies.A.outputs['j.s.v']               |           | docs 14041
stage variable  | stageDependencies.A.j.outputs['s.v']          | from j    | variables.md, 'Use outputs in a different stage'
stage variable  | dependencies.one.outputs['s.v']               | from one  | docs 14041
job condition   | dependencies.one.result                       | Succeeded | expressions
job condition   | dependencies.one.outputs['s.v']               | from one  | expressions, 'Job to job dependencies within one stage'
job condition   | dependencies.zero.result                      |           | expressions: add it to `dependsOn`
job condition   | dependencies.A.result                         |           | docs 8366: not interchangeable for jobs
job condition   | dependencies.A.outputs['j.s.v']               |           | docs 8366
job condition   | stageDependencies.A.j.result                  | Succeeded | expressions, 'Job to job dependencies across stages'
job condition   | stageDependencies.A.k.result                  | Failed    | expressions
job condition   | stageDependencies.A.skipped.result            | Skipped   | expressions
job condition   | stageDependencies.A.m.result                  | SucceededWithIssues | expressions
job condition   | stageDependencies.A.j.outputs['s.v']          | from j    | expressions
job condition   | stageDependencies.A.m.outputs['y.s.v']        | from m.y  | expressions, matrix
job condition   | stageDependencies.A.d.outputs['d.s.v']        | from d    | deployment-jobs
job condition   | stageDependencies.A.outputs['j.s.v']          |           | microsoft/azure-pipelines-tasks 4743
job condition   | stageDependencies.before.j.result             |           | expressions: add it to `dependsOn`
job condition   | variables.literal                             | written   | conditions
job condition   | variables.later                               |           | conditions: 'nothing computed at runtime inside that unit of work is available'
job condition   | variables.ofStage                             | from j    | blog.richardfennell.net, 'Stage Dependency Variables with Conditional Stage and Job Execution'
job variable    | dependencies.one.outputs['s.v']               | from one  | variables.md
job variable    | dependencies.A.outputs['j.s.v']               |           | docs 8366
job variable    | stageDependencies.A.j.outputs['s.v']          | from j    | variables.md
job variable    | stageDependencies.A.m.outputs['x.s.v']        | from m.x  | variables.md
";

#[test]
fn every_place_knows_its_own_dependencies() {
    for row in HELD.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [place, expression, value, source] = cells[..] else { panic!("four columns in {row}") };
        let found = match place {
            "stage condition" => holds(&format!("eq({expression}, '{value}')"), "", "", ""),
            "job condition" => holds("always()", "", &format!("eq({expression}, '{value}')"), ""),
            "stage variable" => read("always()", expression, "").is_some_and(|read| read == value),
            "job variable" => read("always()", "", expression).is_some_and(|read| read == value),
            _ => panic!("{place}"),
        };
        assert!(found, "{place}: {expression} is not `{value}` ({source})");
    }
}

/// Whether `two` runs.
fn holds(stage_condition: &str, stage_variable: &str, job_condition: &str, job_variable: &str) -> bool {
    at_two(stage_condition, stage_variable, job_condition, job_variable).1
}

/// The variable `v` of `two`, set by its stage or by itself.
fn read(stage_condition: &str, stage_variable: &str, job_variable: &str) -> Option<String> {
    let (run, started) = at_two(stage_condition, stage_variable, "always()", job_variable);
    started.then(|| run.variable("B.two.__default", "v")).flatten()
}

fn at_two(
    stage_condition: &str,
    stage_variable: &str,
    job_condition: &str,
    job_variable: &str,
) -> (Run, bool) {
    let or_empty = |text: &str| if text.is_empty() { "''".to_owned() } else { format!("\"$[ {text} ]\"") };
    let job_condition = if job_condition.is_empty() { "always()" } else { job_condition };
    let own =
        if job_variable.is_empty() { String::new() } else { format!("v: {}, ", or_empty(job_variable)) };
    let text = format!(
        "
stages:
- stage: before
  jobs: [{{job: j}}]
- stage: A
  jobs:
  - job: j
  - job: k
  - job: skipped
    condition: false
  - job: m
    strategy: {{matrix: {{x: {{}}, y: {{}}}}}}
  - deployment: d
    environment: e
    strategy: {{runOnce: {{deploy: {{steps: []}}}}}}
- stage: B
  condition: {stage_condition}
  variables:
    v: {stage}
    ofStage: $[ stageDependencies.A.j.outputs['s.v'] ]
  jobs:
  - job: zero
  - job: one
    dependsOn: zero
  - job: two
    dependsOn: one
    condition: {job_condition}
    variables: {{{own}literal: written, later: \"$[ dependencies.one.outputs['s.v'] ]\"}}
",
        stage = or_empty(stage_variable),
    );
    let mut run = Run::new(&text);
    run.advance();
    let good = TaskResult::Succeeded;
    run.end("before.j.__default", good);
    run.end_with("A.j.__default", good, &[("s.v", "from j")]);
    run.end("A.k.__default", TaskResult::Failed);
    run.end_with("A.m.x", good, &[("s.v", "from m.x")]);
    run.end_with("A.m.y", TaskResult::SucceededWithIssues, &[("s.v", "from m.y")]);
    run.end_with("A.d.d", good, &[("s.v", "from d")]);
    if run.started.iter().all(|job| job.job.identifier != "B.zero.__default") {
        return (run, false);
    }
    run.end("B.zero.__default", good);
    let events = run.end_with("B.one.__default", good, &[("s.v", "from one")]);
    let started = events.contains("start B.two.__default ");
    (run, started)
}

#[test]
fn a_stage_that_begins_after_the_cancellation_runs_as_any_other() {
    // azure-devops-docs, `process/conditions.md`, "Stage example 1".
    let text = "
stages:
- stage: one
  jobs: [{job: a}, {job: b, dependsOn: a, condition: always()}, {job: c, dependsOn: a}]
- stage: two
  condition: eq(1, 1)
  jobs: [{job: a}, {job: b, dependsOn: a}, {job: c, dependsOn: a, condition: canceled()}]
";
    let mut run = Run::new(text);
    run.advance();
    run.cancel();
    let events = run.end("one.a.__default", TaskResult::Canceled);
    assert!(
        events.contains("start one.b.__default") && events.contains("job one.c.__default Skipped"),
        "{events}"
    );
    let events = run.end("one.b.__default", TaskResult::Succeeded);
    assert!(events.contains("start two.a.__default"), "{events}");
    let events = run.end("two.a.__default", TaskResult::Succeeded);
    assert!(
        events.contains("start two.b.__default") && events.contains("job two.c.__default Skipped"),
        "{events}"
    );
    let events = run.end("two.b.__default", TaskResult::Succeeded);
    assert!(events.contains("stage two Succeeded") && events.contains("run Canceled"), "{events}");
}

#[test]
fn what_was_left_out_between_two_jobs_does_not_let_the_later_one_overtake() {
    let text = "jobs: [{job: a}, {job: b, dependsOn: a}, {job: c, dependsOn: b}]";
    let jobs = vec!["a".to_owned(), "c".to_owned()];
    let mut run = Run::with(text, RunInputs { jobs, ..RunInputs::default() });
    assert!(!run.advance().contains("start c"), "it waits for what it indirectly depends on");
    assert!(run.end("a.__default", TaskResult::Succeeded).contains("start c.__default"));
}

#[test]
fn secrets_that_a_job_put_out_do_not_show_in_the_reason_of_another() {
    let text =
        "jobs: [{job: a}, {job: b, dependsOn: a, condition: \"eq(dependencies.a.outputs['s.t'], 'x')\"}]";
    let mut run = Run::new(text);
    run.advance();
    let events = run.end_with_secret("a.__default", "s.t", "hunter22");
    assert!(events.contains("eq('***', 'x')") && !events.contains("hunter22"), "{events}");
}

#[test]
fn secrets_do_not_show_in_the_reason_why_a_job_could_not_be_made() {
    let text =
        "jobs: [{job: a}, {job: b, dependsOn: a, timeoutInMinutes: \"$[ dependencies.a.outputs['s.t'] ]\"}]";
    let mut run = Run::new(text);
    run.advance();
    let events = run.end_with_secret("a.__default", "s.t", "hunter22");
    assert!(events.contains("gives `***`") && !events.contains("hunter22"), "{events}");
}

#[test]
fn hooks_of_a_deployment_see_a_failure_that_is_forgiven() {
    let text = "
jobs:
- deployment: d
  continueOnError: true
  environment: e
  strategy:
    runOnce:
      deploy: {steps: []}
      routeTraffic: {steps: []}
      on: {failure: {steps: []}, success: {steps: []}}
- job: after
  dependsOn: d
";
    let mut run = Run::new(text);
    run.advance();
    let events = run.end("d.d", TaskResult::Failed);
    assert!(
        events.contains("job d.routeTraffic Skipped") && events.contains("start d.onFailure"),
        "{events}"
    );
    let events = run.end("d.onFailure", TaskResult::Succeeded);
    assert!(events.contains("job d.onSuccess Skipped"), "{events}");
    assert!(
        events.contains("phase d SucceededWithIssues") && events.contains("start after.__default"),
        "{events}"
    );
}

#[test]
fn a_deployment_without_a_strategy_has_no_jobs() {
    let mut run = Run::new("jobs: [{deployment: gate, environment: prod}, {job: after, dependsOn: gate}]");
    let events = run.advance();
    assert!(events.contains("phase gate Succeeded") && events.contains("start after.__default"), "{events}");
}

#[test]
fn an_empty_matrix_is_nothing_to_do() {
    let text = "
jobs:
- job: plan
- job: work
  dependsOn: plan
  strategy: {matrix: \"$[ dependencies.plan.outputs['s.legs'] ]\"}
- job: after
  dependsOn: work
  condition: succeededOrFailed()
";
    for legs in ["{}", "null", " { /* none */ } "] {
        let mut run = Run::new(text);
        run.advance();
        let events = run.end_with("plan.__default", TaskResult::Succeeded, &[("s.legs", legs)]);
        assert!(events.contains("phase work Skipped (the matrix has no legs)"), "{events}");
        assert!(events.contains("start after.__default"), "{events}");
    }
}
