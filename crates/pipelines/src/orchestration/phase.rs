//! A job of the file while it runs: its legs, side by side or (the hooks of a deployment) one after the
//! other.

use dayfly_expressions::{Object, Value};
use dayfly_protocol::{JobId, TaskResult};

use super::{
    Action, JobReference, Outputs, PhaseReference, StageReference,
    context::dependency,
    instance::{Draft, JobInstance, Unfolded},
    merge,
    upstream::is_failure,
};
use crate::{
    identifiers::{self, DEFAULT_NAME},
    plan::{HookKind, Job, Plan, Stage},
};

/// A phase of a run.
pub(super) struct Phase {
    reference: PhaseReference,
    wanted: bool,
    /// The jobs that it depends on, as places among those of the stage.
    depends_on: Vec<usize>,
    state: State,
    /// It began although the run was being cancelled: its condition wanted it.
    begun_canceling: bool,
    /// Results and outputs stay for those who depend on it.
    legs: Vec<Leg>,
}

enum State {
    Waiting,
    Running(Box<Unfolded>),
    Done(TaskResult),
}

struct Leg {
    name: String,
    /// Shown in outputs: `leg.step.variable` where the phase has legs.
    prefixed: bool,
    state: LegState,
    /// It failed, whatever `continueOnError` makes of that for others: the hooks of a deployment see the
    /// failure itself.
    failed: bool,
    outputs: Outputs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LegState {
    Pending,
    Running,
    Done(TaskResult),
}

impl Phase {
    pub(super) fn new(
        stage: &Stage,
        job: &Job,
        order: u32,
        attempt: u32,
        wanted: bool,
        depends_on: Vec<usize>,
    ) -> Self {
        let identifier = identifiers::phase(&stage.name, &job.name, attempt);
        Self {
            reference: PhaseReference {
                name: job.name.clone(),
                display_name: job.display_name.clone(),
                record_id: identifiers::record_id(&identifier),
                identifier,
                order,
                attempt,
            },
            state: if wanted { State::Waiting } else { State::Done(TaskResult::Succeeded) },
            wanted,
            depends_on,
            begun_canceling: false,
            legs: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.reference.name
    }

    pub(super) fn depends_on(&self) -> &[usize] {
        &self.depends_on
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// The result, once it is done.
    pub(super) fn result(&self) -> Option<TaskResult> {
        match self.state {
            State::Done(result) => Some(result),
            State::Waiting | State::Running(_) => None,
        }
    }

    /// Outputs as those see them who depend on this phase: `step.variable`, or `leg.step.variable`.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (String, &str)> {
        self.legs.iter().flat_map(|leg| {
            leg.outputs.iter().map(move |(name, value)| {
                let name = if leg.prefixed { format!("{}.{name}", leg.name) } else { name.clone() };
                (name, value.value.as_deref().unwrap_or_default())
            })
        })
    }

    pub(super) fn secret_outputs(&self) -> impl Iterator<Item = String> {
        let secrets = self.legs.iter().flat_map(|leg| leg.outputs.values()).filter(|value| value.is_secret);
        secrets.filter_map(|value| value.value.clone()).filter(|value| !value.is_empty())
    }

    /// `{ result, outputs }` for expressions.
    pub(super) fn dependency(&self) -> Object {
        let outputs = Object::from_iter(self.outputs().map(|(name, value)| (name, Value::from(value))));
        dependency(self.result().unwrap_or(TaskResult::Skipped), outputs)
    }

    /// Ends a phase whose condition does not hold.
    pub(super) fn skip(
        &mut self,
        stage: &StageReference,
        job: &Job,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        self.state = State::Done(TaskResult::Skipped);
        // How many jobs a matrix would have had is not known here: one stands for all, so that none is left
        // out in silence.
        let job = self.job_reference(stage, DEFAULT_NAME, &job.display_name, 1);
        self.tell_skipped(stage, job, TaskResult::Skipped, Some(reason.clone()), actions);
        self.tell_completed(stage, TaskResult::Skipped, Some(reason), actions);
    }

    /// Ends a phase that could not begin.
    pub(super) fn fail(&mut self, stage: &StageReference, reason: String, actions: &mut Vec<Action>) {
        self.state = State::Done(TaskResult::Failed);
        self.tell_completed(stage, TaskResult::Failed, Some(reason), actions);
    }

    /// Begins a phase.
    pub(super) fn begin(
        &mut self,
        stage: &StageReference,
        unfolded: Unfolded,
        canceling: bool,
        actions: &mut Vec<Action>,
    ) {
        self.begun_canceling = canceling;
        self.reference.display_name.clone_from(&unfolded.display_name);
        self.legs = unfolded.drafts.iter().map(|draft| Leg::new(draft, &unfolded)).collect();
        self.state = State::Running(Box::new(unfolded));
        actions.push(Action::PhaseStarted { stage: stage.clone(), phase: self.reference.clone() });
        if self.legs.is_empty() {
            let job = self.job_reference(stage, DEFAULT_NAME, &self.reference.display_name, 1);
            let reason = "the deployment has no hooks".to_owned();
            self.tell_skipped(stage, job, TaskResult::Succeeded, Some(reason), actions);
        }
    }

    /// Starts as many legs as may run now. When the run is being cancelled, those that did not start never
    /// do.
    pub(super) fn start_legs(
        &mut self,
        plan: &Plan,
        stage: &StageReference,
        job: &Job,
        canceling: bool,
        actions: &mut Vec<Action>,
    ) -> Vec<(usize, JobInstance)> {
        let State::Running(unfolded) = &self.state else { return Vec::new() };
        let running = self.legs.iter().filter(|leg| leg.state == LegState::Running).count();
        let mut free = unfolded.max_parallel.saturating_sub(running);
        let mut started = Vec::new();
        let mut dropped = Vec::new();
        for (at, draft) in unfolded.drafts.iter().enumerate() {
            let leg = &self.legs[at];
            if leg.state != LegState::Pending {
                continue;
            }
            let order = u32::try_from(at + 1).unwrap_or(u32::MAX);
            let reference = self.job_reference(stage, &draft.name, &draft.display_name, order);
            if canceling && !self.begun_canceling {
                dropped.push((at, reference, TaskResult::Canceled, "the run was cancelled"));
                continue;
            }
            match self.turn(unfolded, at) {
                Turn::Now if free > 0 => {
                    free -= 1;
                    let instance = JobInstance::new(
                        plan,
                        stage.clone(),
                        self.reference.clone(),
                        reference,
                        job,
                        unfolded,
                        draft,
                    );
                    started.push((at, instance));
                    if unfolded.sequential {
                        break;
                    }
                }
                Turn::Now | Turn::Later => break,
                Turn::Never => dropped.push((at, reference, TaskResult::Skipped, "another hook decided so")),
            }
        }
        for (at, _) in &started {
            self.legs[*at].state = LegState::Running;
        }
        for (at, reference, result, reason) in dropped {
            self.legs[at].state = LegState::Done(result);
            self.tell_skipped(stage, reference, result, Some(reason.to_owned()), actions);
        }
        started
    }

    /// Whether a hook of a deployment may run: hooks follow one another, a failure ends them, and the hooks
    /// of `on:` come last. Other legs may always run.
    fn turn(&self, unfolded: &Unfolded, at: usize) -> Turn {
        if !unfolded.sequential {
            return Turn::Now;
        }
        let before = &self.legs[..at];
        if before.iter().any(|leg| !matches!(leg.state, LegState::Done(_))) {
            return Turn::Later;
        }
        let failed = before.iter().any(|leg| leg.failed);
        let canceled = before.iter().any(|leg| leg.state == LegState::Done(TaskResult::Canceled));
        let runs = match unfolded.drafts[at].hook.as_ref().map(|hook| hook.kind) {
            Some(HookKind::OnFailure) => failed,
            _ => !failed && !canceled,
        };
        if runs { Turn::Now } else { Turn::Never }
    }

    /// Takes a leg's result and outputs. The answer is the result that counts.
    pub(super) fn leg_completed(
        &mut self,
        leg: usize,
        result: TaskResult,
        outputs: Outputs,
        canceling: bool,
    ) -> TaskResult {
        self.legs[leg].failed = is_failure(result) && !(canceling && result == TaskResult::Abandoned);
        let forgiving = matches!(&self.state, State::Running(unfolded) if unfolded.continue_on_error);
        let result = match result {
            TaskResult::Abandoned if canceling => TaskResult::Canceled,
            result if is_failure(result) && forgiving => TaskResult::SucceededWithIssues,
            TaskResult::Abandoned => TaskResult::Failed,
            result => result,
        };
        self.legs[leg].state = LegState::Done(result);
        self.legs[leg].outputs = outputs;
        result
    }

    /// Ends the phase when all its legs are done.
    pub(super) fn complete(&mut self, stage: &StageReference, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Running(_)) {
            return;
        }
        let mut result = TaskResult::Succeeded;
        for leg in &self.legs {
            let LegState::Done(part) = leg.state else { return };
            result = merge(result, part);
        }
        self.state = State::Done(result);
        self.tell_completed(stage, result, None, actions);
    }

    fn job_reference(
        &self,
        stage: &StageReference,
        name: &str,
        display_name: &str,
        order: u32,
    ) -> JobReference {
        let attempt = self.reference.attempt;
        let identifier = identifiers::job(&stage.name, &self.reference.name, name, attempt);
        JobReference {
            id: JobId(identifiers::record_id(&identifier)),
            name: name.to_owned(),
            display_name: display_name.to_owned(),
            identifier,
            order,
            attempt,
        }
    }

    fn tell_skipped(
        &self,
        stage: &StageReference,
        job: JobReference,
        result: TaskResult,
        reason: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        let (stage, phase) = (stage.clone(), self.reference.clone());
        actions.push(Action::JobSkipped { stage, phase, job, result, reason });
    }

    fn tell_completed(
        &self,
        stage: &StageReference,
        result: TaskResult,
        reason: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        let (stage, phase) = (stage.clone(), self.reference.clone());
        actions.push(Action::PhaseCompleted { stage, phase, result, reason });
    }
}

enum Turn {
    Now,
    Later,
    Never,
}

impl Leg {
    fn new(draft: &Draft, unfolded: &Unfolded) -> Self {
        let prefixed = unfolded.sequential || draft.name != DEFAULT_NAME;
        Self {
            name: draft.name.clone(),
            prefixed,
            state: LegState::Pending,
            failed: false,
            outputs: Outputs::new(),
        }
    }
}
