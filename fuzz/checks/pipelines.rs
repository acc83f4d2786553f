//! What holds for any text that is taken for a pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use dayfly_pipelines::{
    Action, Compiled, Diagnostics, Inputs, Orchestration, Plan, RunContext, RunInputs, Source, Style,
    compile, message,
};
use dayfly_protocol::{JobId, TaskResult, json};

/// Compiles a text. What compiles is run in several ways, each of which must come to an end.
pub(crate) fn pipeline(text: &str, context: &RunContext) {
    let source = Source { name: "azure-pipelines.yml".to_owned(), text: text.to_owned() };
    let parameters = BTreeMap::from([("p".to_owned(), serde_json::json!("given"))]);
    for inputs in [Inputs::default(), Inputs { parameters, ..Inputs::default() }] {
        match compile(&source, &inputs) {
            Ok(Compiled { plan, warnings }) => {
                assert_eq!(warnings.error_count(), 0, "what compiles has no errors");
                shown(&warnings, text);
                assert!(serde_json::to_value(&plan).is_ok(), "a plan can be written");
                let plan = Arc::new(plan);
                run(&plan, Story::Succeeds, context);
                run(&plan, Story::Fails, context);
                run(&plan, Story::IsCancelled, context);
            }
            Err(diagnostics) => {
                assert!(diagnostics.error_count() > 0, "what does not compile has an error");
                shown(&diagnostics, text);
            }
        }
    }
}

/// Diagnostics lie within their file and can be shown.
fn shown(diagnostics: &Diagnostics, text: &str) {
    let lines = text.split('\n').count();
    for report in diagnostics.reports() {
        assert!((1..=lines).contains(&report.location.line), "{report:?} must lie in one of {lines} lines");
        assert!(
            report.end_line >= report.location.line && report.end_line <= lines,
            "{report:?} must end in the file"
        );
        assert!(!report.message.is_empty() && !report.message.contains('\n'), "{report:?} must be one line");
    }
    assert_eq!(diagnostics.is_empty(), diagnostics.render(Style::Plain).is_empty());
    assert_eq!(diagnostics.is_empty(), diagnostics.render(Style::Colored).is_empty());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    Succeeds,
    Fails,
    IsCancelled,
}

/// Runs a plan whose jobs all end the same way.
fn run(plan: &Arc<Plan>, story: Story, context: &RunContext) {
    let mut run = Orchestration::new(Arc::clone(plan), RunInputs::default()).expect("no names are asked for");
    let mut jobs: Vec<JobId> = Vec::new();
    let mut started = 0usize;
    loop {
        let actions = run.advance();
        for action in &actions {
            if let Action::StartJob(instance) = action {
                started += 1;
                jobs.push(instance.job.id);
                if let Ok(job) = message(instance, context, &String::from("token").into()) {
                    let written = json::to_vec(&job).expect("a job message can be encoded");
                    let read = json::from_slice::<dayfly_protocol::job::AgentJobRequestMessage>(&written);
                    assert!(read.is_ok(), "a job message can be decoded: {read:?}");
                }
            }
        }
        if run.result().is_some() {
            assert!(
                matches!(actions.last(), Some(Action::RunCompleted { .. })),
                "the run says that it is done"
            );
            assert_eq!(run.running(), 0, "a run that is done runs nothing");
            return;
        }
        assert_eq!(run.running(), jobs.len(), "each started job runs until it is completed");
        assert!(!jobs.is_empty(), "a run that is not done waits for jobs");
        if story == Story::IsCancelled && started == 1 {
            run.cancel();
        }
        let result = if story == Story::Fails { TaskResult::Failed } else { TaskResult::Succeeded };
        for job in jobs.drain(..) {
            assert!(run.job_completed(job, result, Default::default()).is_some(), "a job completes once");
            assert!(run.job_completed(job, result, Default::default()).is_none(), "a job completes once");
        }
    }
}
