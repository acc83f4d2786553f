//! From what the service sees to what is shown.
//!
//! Records and console lines reach the service through queues of their own, so a step's last lines may come
//! after the word that it ended, and the next step's begin before either. Here they are put in order: within
//! a job one step is shown after the other, and a step ends when it is known to have ended and its closing
//! line has come.

use std::collections::BTreeMap;

use dayfly_pipelines::identifiers::shown;
use dayfly_protocol::task::{BASH, CHECKOUT, CMD_LINE, POWERSHELL};
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState};
use dayfly_protocol::{DateTime, JobId, RecordId, TaskResult};

use dayfly_emulator::runs::JobOfRun;

use super::change::{Change, StepKind};

/// The line each step ends with begins so.
pub(crate) const LAST_LINE: &str = "##[section]Finishing: ";
/// The name of a task that runs after the steps of the job.
const POST_JOB: &str = "Post-job: ";
const PRE_JOB: &str = "Pre-job: ";

/// The jobs that run.
#[derive(Debug, Default)]
pub(crate) struct Model {
    jobs: BTreeMap<JobId, Job>,
}

#[derive(Debug, Default)]
struct Job {
    identifier: String,
    steps: BTreeMap<RecordId, Step>,
    /// The step that is being shown.
    current: Option<RecordId>,
    /// How many steps were begun to be shown.
    shown: usize,
    /// Errors of the job itself.
    errors: Vec<String>,
    /// Warnings of the job itself.
    warnings: Vec<String>,
}

#[derive(Debug, Default)]
struct Step {
    record: TimelineRecord,
    number: usize,
    lines: Vec<String>,
    has_lines: bool,
    last_line_seen: bool,
    done: bool,
}

impl Model {
    /// A job waits for an agent.
    pub(crate) fn job_queued(job: JobOfRun) -> Change {
        Change::JobQueued { job: shown(&job.identifier), display_name: job.display_name, stage: job.stage }
    }

    /// A job was given to an agent.
    pub(crate) fn job_started(&mut self, job: JobOfRun, agent: String) -> Change {
        let identifier = shown(&job.identifier);
        self.jobs.insert(job.id, Job { identifier: identifier.clone(), ..Job::default() });
        Change::JobStarted { job: identifier, display_name: job.display_name, stage: job.stage, agent }
    }

    /// A record of a job changed.
    pub(crate) fn record(&mut self, job: JobId, record: TimelineRecord) -> Vec<Change> {
        let is_job = record.id == RecordId::from(job);
        let Some(job) = self.jobs.get_mut(&job) else { return Vec::new() };
        if is_job {
            job.errors = messages(&record.issues, IssueType::Error);
            job.warnings = messages(&record.issues, IssueType::Warning);
            return Vec::new();
        }
        let id = record.id;
        let step = job.steps.entry(id).or_default();
        let before = std::mem::replace(&mut step.record, record);
        // One that becomes the shown step now has its progress told with its beginning.
        let has_moved = job.current == Some(id) && progress(&step.record) != progress(&before);
        let mut changes = job.pump(false);
        changes.extend(job.progress(id).filter(|_| has_moved));
        changes
    }

    /// A step wrote lines.
    pub(crate) fn lines(&mut self, job: JobId, record: RecordId, lines: Vec<String>) -> Vec<Change> {
        let Some(job) = self.jobs.get_mut(&job).filter(|_| record != RecordId::from(job)) else {
            return Vec::new();
        };
        let step = job.steps.entry(record).or_default();
        step.has_lines = true;
        step.last_line_seen |= lines.iter().any(|line| line.starts_with(LAST_LINE));
        step.lines.extend(lines);
        job.pump(false)
    }

    /// A job ended; whatever is still held is shown before.
    pub(crate) fn job_completed(
        &mut self,
        job: JobOfRun,
        result: TaskResult,
        seconds: f64,
        reason: Option<String>,
    ) -> Vec<Change> {
        let mut state = self.jobs.remove(&job.id).unwrap_or_default();
        state.errors.extend(reason.filter(|_| result == TaskResult::Failed));
        let mut changes = state.pump(true);
        let (job, display_name, stage) = (shown(&job.identifier), job.display_name, job.stage);
        changes.push(Change::JobCompleted {
            job,
            display_name,
            stage,
            result,
            seconds,
            errors: state.errors,
            warnings: state.warnings,
        });
        changes
    }
}

impl Job {
    /// What can be shown now; with `all`, everything there is.
    fn pump(&mut self, all: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let before = self.current;
        while let Some(id) = self.current.or_else(|| self.next()) {
            let later_lines = self.later_step_has_lines(&id);
            let Some(step) = self.steps.get_mut(&id) else { break };
            if self.current.is_none() {
                self.current = Some(id);
                self.shown += 1;
                step.number = self.shown;
                if !step.is_skipped() {
                    changes.push(step.started(&self.identifier));
                }
            }
            let (job, number) = (&self.identifier, step.number);
            changes.extend(step.lines.drain(..).map(|line| Change::Line { job: job.clone(), number, line }));
            if !(all || step.is_complete(later_lines)) {
                break;
            }
            step.done = true;
            changes.extend(step.completed(&self.identifier));
            self.current = None;
        }
        // What it said of its progress while an earlier step was shown.
        if let Some(id) = self.current.filter(|_| self.current != before) {
            let has_some = self.steps.get(&id).is_some_and(|step| progress(&step.record) != (None, None));
            changes.extend(self.progress(id).filter(|_| has_some));
        }
        changes
    }

    /// How far a step is, if it is the one that is being shown and goes on: one that ended is all done.
    fn progress(&self, id: RecordId) -> Option<Change> {
        let step = self.steps.get(&id).filter(|step| self.current == Some(id) && !step.is_ended())?;
        let (percent, operation) = progress(&step.record);
        let operation = operation.map(str::to_owned);
        Some(Change::StepProgress { job: self.identifier.clone(), number: step.number, percent, operation })
    }

    /// The first step in order that has begun or ended and was not shown.
    fn next(&self) -> Option<RecordId> {
        let waiting =
            self.steps.iter().filter(|(_, step)| !step.done && (step.is_begun() || step.is_ended()));
        // Lines of a step that nothing is known about yet: its record is on its way.
        let known = waiting.filter(|(_, step)| step.record.name.is_some());
        known.min_by_key(|(_, step)| step.record.order.unwrap_or(i32::MAX)).map(|(id, _)| *id)
    }

    /// Whether a step after `id` has written. A job's lines come in the order in which they were written, so
    /// nothing of `id` is on its way then.
    fn later_step_has_lines(&self, id: &RecordId) -> bool {
        let order = self.steps.get(id).and_then(|step| step.record.order);
        self.steps.values().any(|step| step.has_lines && step.record.order > order)
    }
}

impl Step {
    fn is_begun(&self) -> bool {
        self.has_lines || self.record.state == Some(TimelineRecordState::InProgress)
    }

    fn is_ended(&self) -> bool {
        self.record.state == Some(TimelineRecordState::Completed)
    }

    /// Whether nothing more can come. A step that ran ends with a line of its own, however late; one that was
    /// skipped or never began has none, but with `all_lines` all it had to say has come.
    fn is_complete(&self, all_lines: bool) -> bool {
        self.is_ended() && (all_lines || self.last_line_seen || self.is_skipped())
    }

    /// Whether it was skipped and has nothing to say of it so far.
    fn is_skipped(&self) -> bool {
        self.record.result == Some(TaskResult::Skipped) && !self.has_lines
    }

    fn name(&self) -> String {
        self.record.name.clone().unwrap_or_default()
    }

    fn started(&self, job: &str) -> Change {
        Change::StepStarted {
            job: job.to_owned(),
            number: self.number,
            step: self.name(),
            kind: kind(&self.record),
        }
    }

    /// `None` when nobody knows how it ended: the worker was lost.
    fn completed(&self, job: &str) -> Option<Change> {
        Some(Change::StepCompleted {
            job: job.to_owned(),
            number: self.number,
            step: self.name(),
            result: self.record.result?,
            seconds: seconds(self.record.start_time, self.record.finish_time),
            errors: messages(&self.record.issues, IssueType::Error),
            warnings: messages(&self.record.issues, IssueType::Warning),
        })
    }
}

/// How far a step says that it is: percent, and what it does.
fn progress(record: &TimelineRecord) -> (Option<i32>, Option<&str>) {
    (record.percent_complete, record.current_operation.as_deref())
}

fn kind(record: &TimelineRecord) -> StepKind {
    let name = record.name.as_deref().unwrap_or_default();
    match &record.task {
        Some(_) if name.starts_with(POST_JOB) || name.starts_with(PRE_JOB) => StepKind::Own,
        Some(task) if task.id.0 == CHECKOUT => StepKind::Quiet,
        // ShellScript@2 has Bash's id.
        Some(task) if task.id.0 == BASH && task.version.starts_with("2.") => StepKind::Task,
        Some(task) if [CMD_LINE, BASH, POWERSHELL].contains(&task.id.0) => StepKind::Script,
        Some(_) => StepKind::Task,
        None => StepKind::Own,
    }
}

fn messages(issues: &[Issue], kind: IssueType) -> Vec<String> {
    issues.iter().filter(|issue| issue.issue_type == kind).map(|issue| issue.message.clone()).collect()
}

fn seconds(from: Option<DateTime>, to: Option<DateTime>) -> f64 {
    match (from, to) {
        (Some(from), Some(to)) => to.0.duration_since(from.0).as_secs_f64(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn job() -> JobId {
        JobId(Uuid::from_u128(1))
    }

    fn names() -> JobOfRun {
        let (identifier, display_name, stage) = ("j".to_owned(), "J".to_owned(), "__default".to_owned());
        JobOfRun { id: job(), identifier, display_name, stage }
    }

    fn record(number: u128, state: TimelineRecordState) -> TimelineRecord {
        let ended = state == TimelineRecordState::Completed;
        TimelineRecord {
            id: RecordId(Uuid::from_u128(10 + number)),
            name: Some(format!("step {number}")),
            order: Some(i32::try_from(number).unwrap()),
            state: Some(state),
            result: ended.then_some(TaskResult::Succeeded),
            ..TimelineRecord::default()
        }
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::StepStarted { number, .. } => format!("start {number}"),
            Change::Line { number, line, .. } => format!("{number}: {line}"),
            Change::StepCompleted { number, .. } => format!("end {number}"),
            Change::JobCompleted { .. } => "job end".to_owned(),
            other => panic!("{other:?}"),
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn what_comes_out_of_order_is_shown_in_order() {
        use TimelineRecordState::{Completed, InProgress, Pending};
        let mut model = Model::default();
        model.job_started(names(), "a".to_owned());
        let mut changes = Vec::new();
        changes.extend(model.record(job(), record(1, Pending)));
        changes.extend(model.record(job(), record(2, Pending)));
        changes.extend(model.lines(job(), record(1, Pending).id, vec!["one".to_owned()]));
        changes.extend(model.record(job(), record(1, Completed)));
        changes.extend(model.record(job(), record(2, InProgress)));
        // The second step is over before its first line, or the last of the step before, has come.
        changes.extend(model.record(job(), record(2, Completed)));
        changes.extend(model.lines(job(), record(1, Pending).id, vec![format!("{LAST_LINE}step 1")]));
        changes.extend(model.lines(job(), record(2, Pending).id, vec!["two".to_owned()]));
        changes.extend(model.lines(job(), record(2, Pending).id, vec![format!("{LAST_LINE}step 2")]));
        changes.extend(model.lines(job(), record(3, Pending).id, vec!["three".to_owned()]));
        changes.extend(model.record(job(), record(3, InProgress)));
        changes.extend(model.job_completed(names(), TaskResult::Failed, 1.0, None));
        let (end_of_1, end_of_2) = (format!("1: {LAST_LINE}step 1"), format!("2: {LAST_LINE}step 2"));
        assert_eq!(
            shown(&changes),
            [
                "start 1", "1: one", &end_of_1, "end 1", "start 2", "2: two", &end_of_2, "end 2", "start 3",
                "3: three", "job end",
            ]
        );
    }

    #[test]
    fn what_has_no_closing_line_ends_with_the_first_line_of_a_later_step() {
        use TimelineRecordState::{Completed, InProgress};
        let mut model = Model::default();
        model.job_started(names(), "a".to_owned());
        let skipped = TimelineRecord { result: Some(TaskResult::Skipped), ..record(1, Completed) };
        assert_eq!(
            shown(&model.lines(job(), skipped.id, vec!["why".to_owned()])),
            Vec::<String>::new(),
            "nothing is known about the step yet"
        );
        assert_eq!(shown(&model.record(job(), skipped)), ["start 1", "1: why"]);
        assert_eq!(shown(&model.record(job(), record(2, InProgress))), Vec::<String>::new());
        assert_eq!(
            shown(&model.lines(job(), record(2, InProgress).id, vec!["two".to_owned()])),
            ["end 1", "start 2", "2: two"]
        );
    }

    #[test]
    fn a_skipped_step_only_ends() {
        let mut model = Model::default();
        model.job_started(names(), "a".to_owned());
        let skipped =
            TimelineRecord { result: Some(TaskResult::Skipped), ..record(1, TimelineRecordState::Completed) };
        assert_eq!(shown(&model.record(job(), skipped)), ["end 1"]);
    }
}
