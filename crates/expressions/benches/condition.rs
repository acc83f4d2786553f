//! What a typical condition of a step costs, beside the same test written in Rust by hand.
//!
//! `cargo bench -p dayfly-expressions`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dayfly_expressions::{Expression, Object, Scope, Status, Value, Values};

/// The condition of the documentation's first example, with one more test.
const CONDITION: &str = "and(succeeded(), ne(variables['Build.Reason'], 'PullRequest'), \
                         in(variables['Build.SourceBranchName'], 'main', 'release', 'develop'))";

/// As many variables as a job of a real pipeline has.
const VARIABLES: usize = 200;

fn variables() -> Object {
    let mut variables: Object =
        (0..VARIABLES).map(|at| (format!("Some.Variable.{at}"), Value::from("value"))).collect();
    variables.insert("Build.Reason", Value::from("IndividualCI"));
    variables.insert("Build.SourceBranchName", Value::from("develop"));
    variables
}

/// The condition by hand: two lookups and up to four comparisons, without an expression.
fn by_hand(variables: &Object, status: Status) -> bool {
    let is = |name: &str, text: &str| {
        variables.get(name).and_then(Value::as_text).unwrap_or_default().eq_ignore_ascii_case(text)
    };
    matches!(status, Status::Succeeded | Status::SucceededWithIssues)
        && !is("Build.Reason", "PullRequest")
        && ["main", "release", "develop"].iter().any(|branch| is("Build.SourceBranchName", branch))
}

fn condition(criterion: &mut Criterion) {
    let variables = variables();
    let context =
        Values::new().with("variables", Value::from(variables.clone())).with_status(Status::Succeeded);
    let scope = Scope::step_condition();
    let parsed = Expression::parse(CONDITION, &scope).expect("the condition parses");
    assert_eq!(parsed.condition(&context), Ok(true));
    assert!(by_hand(&variables, Status::Succeeded));

    let mut group = criterion.benchmark_group("condition");
    group.bench_function("by_hand", |bencher| {
        bencher.iter(|| by_hand(black_box(&variables), black_box(Status::Succeeded)));
    });
    group.bench_function("evaluate", |bencher| {
        bencher.iter(|| black_box(&parsed).condition(black_box(&context)))
    });
    group.bench_function("parse", |bencher| bencher.iter(|| Expression::parse(black_box(CONDITION), &scope)));
    group.bench_function("parse_and_evaluate", |bencher| {
        bencher.iter(|| {
            Expression::parse(black_box(CONDITION), &scope).and_then(|parsed| parsed.condition(&context))
        });
    });
    group.bench_function("explain", |bencher| {
        bencher.iter(|| black_box(&parsed).explain(black_box(&context)))
    });
    group.finish();
}

criterion_group!(benches, condition);
criterion_main!(benches);
