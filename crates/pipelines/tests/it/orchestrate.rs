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
