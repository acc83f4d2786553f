//! One run of a plan, as a state machine.
//!
//! Pure: it does no I/O and reads no clock. The owner calls [`Orchestration::advance`] until it yields
//! nothing, does what the [`Action`]s say, and tells of finished jobs with [`Orchestration::job_completed`];
//! then it advances again.
//!
//! A stage begins when the stages it depends on are done and its condition holds, a job likewise within its
//! stage. `$[ ]` is evaluated at that moment, with the results and outputs of what was depended on.

mod action;
mod context;
mod inputs;
mod instance;
mod matrix;
mod phase;
mod select;
mod upstream;

use std::{collections::HashMap, fmt, sync::Arc};

use dayfly_expressions::{Object, Scope, Value};
use dayfly_protocol::{JobId, TaskResult, job::Variables};

pub use action::{Action, JobReference, PhaseReference, StageReference};
pub use inputs::{Counters, Outputs, RunCounters, RunInputs};
pub use instance::{DeploymentInstance, JobInstance};
pub use select::{UnknownNames, select, select_legs};

use crate::{
    identifiers,
    plan::{Plan, Stage},
    variable_set::{VariableSet, masked},
};
use context::{Surroundings, Verdict, dependency};
use instance::Unfolded;
use phase::Phase;
use upstream::{Kind, Upstream};

/// How far a stage is.
enum Progress {
    Waiting,
    Running,
    Done(TaskResult),
}

struct StageState {
    reference: StageReference,
    /// Whether the run wants it; one that is left out counts as succeeded.
    wanted: bool,
    /// The person asked for it by name, so a manual stage runs.
    named: bool,
    progress: Progress,
    /// It began although the run was being cancelled: its condition wanted it. Its jobs then run as in any
    /// stage (azure-devops-docs, `process/conditions.md`, "Stage example 1").
    begun_canceling: bool,
    /// The stages that it depends on, as places among all stages.
    depends_on: Vec<usize>,
    phases: Vec<Phase>,
}

/// One run of a plan.
pub struct Orchestration {
    plan: Arc<Plan>,
    variables: VariableSet,
    /// Why the root's variables could not be evaluated.
    broken: Option<String>,
    pipeline: Value,
    resources: Value,
    counter: RunCounters,
    stages: Vec<StageState>,
    /// Where the jobs are that were started and have not completed: stage, phase, leg.
    running: HashMap<JobId, (usize, usize, usize)>,
    canceling: bool,
    /// Jobs to be cancelled, for the next advance.
    cancellations: Vec<JobId>,
    result: Option<TaskResult>,
}

impl fmt::Debug for Orchestration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orchestration")
            .field("running", &self.running.len())
            .field("canceling", &self.canceling)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

impl Orchestration {
    /// Makes a run ready.
    ///
    /// # Errors
    /// Names of stages or jobs to run that the plan does not have.
    pub fn new(plan: Arc<Plan>, inputs: RunInputs) -> Result<Self, UnknownNames> {
        let wanted = select::select(&plan, &inputs.stages, &inputs.jobs)?;
        let attempt = inputs.attempt.max(1);
        let stages = plan
            .stages
            .iter()
            .zip(wanted)
            .zip(1..)
            .map(|((stage, wanted), order)| StageState {
                reference: stage_reference(stage, order, attempt),
                named: inputs.stages.iter().any(|name| name.eq_ignore_ascii_case(&stage.name))
                    || !inputs.jobs.is_empty() && wanted.contains(&true),
                progress: if wanted.contains(&true) {
                    Progress::Waiting
                } else {
                    Progress::Done(TaskResult::Succeeded)
                },
                wanted: wanted.contains(&true),
                begun_canceling: false,
                depends_on: places(&stage.depends_on, plan.stages.iter().map(|stage| stage.name.as_str())),
                phases: stage
                    .jobs
                    .iter()
                    .zip(wanted)
                    .zip(1..)
                    .map(|((job, wanted), order)| {
                        let names = stage.jobs.iter().map(|job| job.name.as_str());
                        let depends_on = places(&job.depends_on, names);
                        Phase::new(stage, job, order, attempt, wanted, depends_on)
                    })
                    .collect(),
            })
            .collect();
        let mut run = Self {
            variables: VariableSet::new(&inputs.variables),
            broken: None,
            pipeline: Object::from_iter([("startTime", Value::from(inputs.start_time.as_str()))]).into(),
            resources: Value::Null,
            counter: inputs.counters,
            stages,
            running: HashMap::new(),
            canceling: false,
            cancellations: Vec::new(),
            result: None,
            plan,
        };
        run.evaluate_root();
        Ok(run)
    }

    /// Goes on as far as possible, and says what there is to do.
    pub fn advance(&mut self) -> Vec<Action> {
        let mut actions: Vec<Action> = self.cancellations.drain(..).map(Action::CancelJob).collect();
        if self.result.is_some() {
            return actions;
        }
        // A round may end stages and jobs that others wait for. Each round but the last changes something for
        // good, so this ends.
        loop {
            let before = actions.len();
            for at in 0..self.stages.len() {
                self.advance_stage(at, &mut actions);
            }
            if actions.len() == before {
                break;
            }
        }
        if self.stages.iter().all(|stage| matches!(stage.progress, Progress::Done(_))) {
            let result = self.run_result();
            self.result = Some(result);
            actions.push(Action::RunCompleted { result });
        }
        actions
    }

    /// Tells that a started job is done. The answer is the result that counts for the run (with
    /// `continueOnError` a failure is a success with issues); nothing when the job is not running, for
    /// example because it was told of before.
    pub fn job_completed(&mut self, job: JobId, result: TaskResult, outputs: Outputs) -> Option<TaskResult> {
        let (stage, phase, leg) = self.running.remove(&job)?;
        let canceling = self.is_canceling(stage);
        Some(self.stages[stage].phases[phase].leg_completed(leg, result, outputs, canceling))
    }

    /// Cancels the run: running jobs get a [`Action::CancelJob`] with the next advance, jobs that did not
    /// start never do, and what waits is judged by its condition, as on the service: `always()` and
    /// `canceled()` still run. A stage that still begins runs as if nothing had happened.
    pub fn cancel(&mut self) {
        if self.canceling || self.result.is_some() {
            return;
        }
        self.canceling = true;
        self.cancellations = self.running.keys().copied().collect();
        self.cancellations.sort_unstable();
    }

    /// The result of the run, once it is done.
    #[must_use]
    pub fn result(&self) -> Option<TaskResult> {
        self.result
    }

    /// How many jobs were started and are not done.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The variables of the whole run, as they are before any stage. For the run number.
    #[must_use]
    pub fn variables(&self) -> Variables {
        self.variables.to_message()
    }

    fn evaluate_root(&mut self) {
        let mut set = self.variables.clone();
        self.resources = resources(&self.plan);
        let upstream = Upstream::new(Kind::Stage, Vec::new(), false);
        let mut surroundings = Surroundings {
            variables: set.object(),
            dependencies: Value::Null,
            stage_dependencies: Value::Null,
            resources: self.resources.clone(),
            pipeline: self.pipeline.clone(),
            upstream: &upstream,
            counter: &self.counter,
        };
        self.broken = surroundings.variables(&self.plan.variables, &mut set, &[]).err();
        self.variables = set;
    }

    fn advance_stage(&mut self, at: usize, actions: &mut Vec<Action>) {
        if matches!(self.stages[at].progress, Progress::Waiting) {
            self.begin_stage(at, actions);
        }
        if !matches!(self.stages[at].progress, Progress::Running) {
            return;
        }
        for phase in 0..self.stages[at].phases.len() {
            self.advance_phase(at, phase, actions);
        }
        let stage = &self.stages[at];
        let Some(result) = stage_result(&stage.phases) else { return };
        actions.push(Action::StageCompleted { stage: stage.reference.clone(), result, reason: None });
        self.stages[at].progress = Progress::Done(result);
    }

    /// Judges a waiting stage as soon as everything it depends on is done.
    fn begin_stage(&mut self, at: usize, actions: &mut Vec<Action>) {
        let Some(upstream) = self.stage_upstream(at) else { return };
        let plan = Arc::clone(&self.plan);
        let written = &plan.stages[at];
        let verdict = match &self.broken {
            Some(reason) => Err(reason.clone()),
            None if written.manual && !self.stages[at].named => {
                Ok(Some("the stage waits for a person; name it to run it".to_owned()))
            }
            None => {
                let mut set = self.variables.clone();
                let dependencies = self.stage_dependencies(at);
                let mut surroundings = Surroundings {
                    variables: set.object(),
                    // In the condition of a stage both names mean the same (MicrosoftDocs/azure-devops-docs,
                    // issue 8366).
                    stage_dependencies: dependencies.clone(),
                    dependencies,
                    resources: self.resources.clone(),
                    pipeline: self.pipeline.clone(),
                    upstream: &upstream,
                    counter: &self.counter,
                };
                surroundings.literals(&written.variables, &mut set);
                judge(&surroundings, written.condition.as_deref(), &Scope::stage_condition())
                    .map(|skip| skip.map(|reason| self.hidden(&reason, &set)))
            }
        };
        let stage = &mut self.stages[at];
        let reference = stage.reference.clone();
        match verdict {
            Ok(None) => {
                stage.begun_canceling = upstream.is_canceling();
                stage.progress = Progress::Running;
                actions.push(Action::StageStarted { stage: reference });
            }
            Ok(Some(reason)) => {
                stage.progress = Progress::Done(TaskResult::Skipped);
                let result = TaskResult::Skipped;
                actions.push(Action::StageCompleted { stage: reference, result, reason: Some(reason) });
            }
            Err(reason) => {
                stage.progress = Progress::Done(TaskResult::Failed);
                let result = TaskResult::Failed;
                actions.push(Action::StageCompleted { stage: reference, result, reason: Some(reason) });
            }
        }
    }

    /// Whether what waits in a stage is judged as in a run that is being cancelled.
    fn is_canceling(&self, stage: usize) -> bool {
        self.canceling && !self.stages[stage].begun_canceling
    }

    /// The results of what a stage depends on, directly or through others; `None` while one of them is not
    /// done.
    fn stage_upstream(&self, at: usize) -> Option<Upstream> {
        let result = |at: usize| match self.stages[at].progress {
            Progress::Done(result) => Some((self.stages[at].reference.name.clone(), result)),
            Progress::Waiting | Progress::Running => None,
        };
        // Most often it is a direct one that is not done.
        self.stages[at].depends_on.iter().try_for_each(|above| result(*above).map(drop))?;
        let above = upstream::ancestors(at, |stage| &self.stages[stage].depends_on);
        let results = above.into_iter().map(result).collect::<Option<_>>()?;
        Some(Upstream::new(Kind::Stage, results, self.canceling))
    }

    /// A reason without secrets: those of the variables, and those that jobs put out.
    fn hidden(&self, reason: &str, set: &VariableSet) -> String {
        let outputs = self.secret_outputs();
        masked(reason, set.secrets().chain(outputs.iter().map(String::as_str)))
    }

    /// `dependencies` of a stage: results, and outputs as `Job.step.variable`.
    fn stage_dependencies(&self, at: usize) -> Value {
        let mut dependencies = Object::new();
        for stage in self.stages_above(at) {
            let Progress::Done(result) = stage.progress else { continue };
            let mut outputs = Object::new();
            for phase in &stage.phases {
                for (name, value) in phase.outputs() {
                    outputs.insert(format!("{}.{name}", phase.name()), Value::from(value));
                }
            }
            dependencies.insert(stage.reference.name.as_str(), dependency(result, outputs).into());
        }
        dependencies.into()
    }

    /// `stageDependencies`: for each stage above, its result and its jobs with results and outputs.
    fn job_results_of_stages(&self, at: usize) -> Value {
        let mut stages = Object::new();
        for stage in self.stages_above(at) {
            let Progress::Done(result) = stage.progress else { continue };
            let mut jobs = Object::from_iter([("result", Value::from(context::result_name(result)))]);
            for phase in &stage.phases {
                jobs.insert(phase.name(), phase.dependency().into());
            }
            stages.insert(stage.reference.name.as_str(), jobs.into());
        }
        stages.into()
    }

    fn stages_above(&self, at: usize) -> impl Iterator<Item = &StageState> {
        self.stages[at].depends_on.iter().map(|at| &self.stages[*at])
    }

    /// The values of secret outputs so far, so that variables made of them become secret.
    fn secret_outputs(&self) -> Vec<String> {
        self.stages.iter().flat_map(|stage| &stage.phases).flat_map(Phase::secret_outputs).collect()
    }

    fn advance_phase(&mut self, at: usize, phase_at: usize, actions: &mut Vec<Action>) {
        if self.stages[at].phases[phase_at].is_waiting() {
            self.begin_phase(at, phase_at, actions);
        }
        let plan = Arc::clone(&self.plan);
        let job = &plan.stages[at].jobs[phase_at];
        let canceling = self.is_canceling(at);
        let StageState { reference, phases, .. } = &mut self.stages[at];
        let phase = &mut phases[phase_at];
        for (leg, instance) in phase.start_legs(&plan, reference, job, canceling, actions) {
            self.running.insert(instance.job.id, (at, phase_at, leg));
            actions.push(Action::StartJob(Box::new(instance)));
        }
        phase.complete(reference, actions);
    }

    /// Judges a waiting phase as soon as everything it depends on is done.
    fn begin_phase(&mut self, at: usize, phase_at: usize, actions: &mut Vec<Action>) {
        let Some(upstream) = self.phase_upstream(at, phase_at) else { return };
        let plan = Arc::clone(&self.plan);
        let unfolding = self.unfold(&plan.stages[at], at, phase_at, &upstream);
        let job = &plan.stages[at].jobs[phase_at];
        let canceling = upstream.is_canceling();
        let StageState { reference, phases, .. } = &mut self.stages[at];
        let phase = &mut phases[phase_at];
        match unfolding {
            Ok(Unfolding::Jobs(unfolded)) => phase.begin(reference, *unfolded, canceling, actions),
            Ok(Unfolding::Skip(reason)) => phase.skip(reference, job, reason, actions),
            Err(reason) => phase.fail(reference, reason, actions),
        }
    }

    /// Judges a job, and unfolds it if it is to run. The variables of its stage are evaluated for each job,
    /// so that in them, too, `dependencies` are the jobs that this one depends on.
    fn unfold(
        &self,
        stage: &Stage,
        at: usize,
        phase_at: usize,
        upstream: &Upstream,
    ) -> Result<Unfolding, String> {
        let job = &stage.jobs[phase_at];
        let mut set = self.variables.clone();
        let secrets = self.secret_outputs();
        let mut surroundings = Surroundings {
            variables: set.object(),
            dependencies: self.phase_dependencies(at, phase_at),
            stage_dependencies: self.job_results_of_stages(at),
            resources: self.resources.clone(),
            pipeline: self.pipeline.clone(),
            upstream,
            counter: &self.counter,
        };
        surroundings.variables(&stage.variables, &mut set, &secrets)?;
        let mut known = set.clone();
        surroundings.literals(&job.variables, &mut known);
        if let Some(reason) = judge(&surroundings, job.condition.as_deref(), &Scope::job_condition())? {
            return Ok(Unfolding::Skip(self.hidden(&reason, &known)));
        }
        surroundings.variables = set.object();
        surroundings.variables(&job.variables, &mut set, &secrets)?;
        let known = set.clone();
        let unfolded = instance::unfold(job, &surroundings, set, &secrets)
            .map_err(|reason| self.hidden(&reason, &known))?;
        if unfolded.drafts.is_empty() && job.deployment.is_none() {
            return Ok(Unfolding::Skip("the matrix has no legs".to_owned()));
        }
        Ok(Unfolding::Jobs(Box::new(unfolded)))
    }

    /// The results of what a job depends on, directly or through others; `None` while one of them is not
    /// done.
    fn phase_upstream(&self, at: usize, phase_at: usize) -> Option<Upstream> {
        let phases = &self.stages[at].phases;
        let above = upstream::ancestors(phase_at, |phase| phases[phase].depends_on());
        let result = |at: usize| Some((phases[at].name().to_owned(), phases[at].result()?));
        let results = above.into_iter().map(result).collect::<Option<_>>()?;
        Some(Upstream::new(Kind::Job, results, self.is_canceling(at)))
    }

    fn phase_dependencies(&self, at: usize, phase_at: usize) -> Value {
        let phases = &self.stages[at].phases;
        let above = phases[phase_at].depends_on().iter().map(|above| &phases[*above]);
        Object::from_iter(above.map(|phase| (phase.name().to_owned(), phase.dependency().into()))).into()
    }

    fn run_result(&self) -> TaskResult {
        if self.canceling {
            return TaskResult::Canceled;
        }
        let results =
            self.stages.iter().filter(|stage| stage.wanted).filter_map(|stage| match stage.progress {
                Progress::Done(result) => Some(result),
                Progress::Waiting | Progress::Running => None,
            });
        results.fold(TaskResult::Succeeded, merge)
    }
}

fn stage_reference(stage: &Stage, order: u32, attempt: u32) -> StageReference {
    let identifier = identifiers::stage(&stage.name, attempt);
    StageReference {
        name: stage.name.clone(),
        display_name: stage.display_name.clone(),
        record_id: identifiers::record_id(&identifier),
        identifier,
        order,
        attempt,
    }
}

/// What becomes of a job whose turn has come.
enum Unfolding {
    Jobs(Box<Unfolded>),
    /// It is skipped, for this reason.
    Skip(String),
}

/// Evaluates a condition; `Some` is the reason to skip.
fn judge(
    surroundings: &Surroundings<'_>,
    condition: Option<&str>,
    scope: &Scope,
) -> Result<Option<String>, String> {
    let Verdict::Skip { expanded } = surroundings.condition(condition.unwrap_or("succeeded()"), scope)?
    else {
        return Ok(None);
    };
    Ok(Some(match condition {
        None if surroundings.upstream.is_canceling() => "the run was cancelled".to_owned(),
        None => "what it depends on did not succeed".to_owned(),
        // A literal explains itself.
        Some(text) if expanded.eq_ignore_ascii_case(text.trim()) || expanded == "False" => {
            format!("the condition `{text}` does not hold")
        }
        Some(text) => format!("the condition `{text}` does not hold: {expanded}"),
    }))
}

/// The result of a stage once all its phases are done. A stage whose jobs were all skipped was skipped
/// itself.
fn stage_result(phases: &[Phase]) -> Option<TaskResult> {
    let results =
        phases.iter().filter(|phase| phase.wanted()).map(Phase::result).collect::<Option<Vec<_>>>()?;
    if results.iter().all(|result| *result == TaskResult::Skipped) && !results.is_empty() {
        return Some(TaskResult::Skipped);
    }
    Some(results.into_iter().fold(TaskResult::Succeeded, merge))
}

/// Adds the result of a part to that of the whole (actions/runner `PipelineUtilities.cs`): failed and
/// cancelled stay, skipped parts do not count, a lost agent is a failure.
fn merge(whole: TaskResult, part: TaskResult) -> TaskResult {
    match (whole, part) {
        (TaskResult::Canceled | TaskResult::Failed, _) => whole,
        (_, TaskResult::Canceled) => TaskResult::Canceled,
        (_, TaskResult::Failed | TaskResult::Abandoned) => TaskResult::Failed,
        (TaskResult::Succeeded, TaskResult::SucceededWithIssues) => TaskResult::SucceededWithIssues,
        _ => whole,
    }
}

/// Where the named stages or jobs are among all of their kind.
fn places<'p>(names: &[String], all: impl Iterator<Item = &'p str> + Clone) -> Vec<usize> {
    names.iter().filter_map(|name| all.clone().position(|known| same_name(known, name))).collect()
}

/// Names of stages and jobs are compared without regard to case.
fn same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}

/// `resources` of expressions: what the file says about them.
fn resources(plan: &Plan) -> Value {
    let repositories = plan.resources.repositories.iter().map(|repository| {
        let text = |value: &Option<String>| Value::from(value.clone().unwrap_or_default());
        let fields = Object::from_iter([
            ("name", text(&repository.name)),
            ("ref", text(&repository.reference)),
            ("type", text(&repository.kind)),
        ]);
        (repository.alias.clone(), fields.into())
    });
    let pipelines = plan.resources.pipelines.iter().map(|pipeline| {
        let name = pipeline.source.clone().unwrap_or_default();
        (pipeline.alias.clone(), Object::from_iter([("pipelineName", Value::from(name))]).into())
    });
    Object::from_iter([
        ("repositories", Value::from(Object::from_iter(repositories))),
        ("pipeline", Value::from(Object::from_iter(pipelines))),
    ])
    .into()
}
