//! The table at the end of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use anstyle::Style;

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::{Legs, Strategy};
use dayfly_protocol::TaskResult;

use super::change::Change;
use super::lines::{ERROR, FAINT, STRONG, WARNING, of_issue, sanitize_lines};
use super::words::{duration, mark, shorten, word};

/// How many errors and warnings are repeated under the table.
const MAX_REPEATED_ISSUES: usize = 20;

/// How wide the column for times is.
const TIME_WIDTH: usize = 7;

/// Gathers what the table shows.
#[derive(Debug)]
pub(crate) struct Summary {
    plan: Arc<Plan>,
    stages: Vec<(String, String)>,
    /// Display names of jobs by their identifiers.
    jobs: BTreeMap<String, String>,
    rows: Vec<Row>,
    issues: Vec<(bool, String)>,
    hidden_issues: usize,
    end: Option<(String, TaskResult, f64)>,
}

#[derive(Debug)]
struct Row {
    stage: String,
    /// The job's identifier; none for a stage without jobs.
    identifier: String,
    job: String,
    result: TaskResult,
    seconds: f64,
}

impl Summary {
    /// Of a run of this plan.
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            stages: Vec::new(),
            jobs: BTreeMap::new(),
            rows: Vec::new(),
            issues: Vec::new(),
            hidden_issues: 0,
            end: None,
        }
    }

    /// Takes note of what happened.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::StageStarted { stage, display_name }
            | Change::StageCompleted { stage, display_name, .. } => {
                if !self.stages.iter().any(|(name, _)| name == stage) {
                    self.stages.push((stage.clone(), display_name.clone()));
                }
                if let Change::StageCompleted { result: TaskResult::Skipped, .. } = change {
                    self.skipped_stage(stage);
                }
            }
            Change::JobCompleted { job, display_name, stage, result, seconds, errors, warnings } => {
                self.rows.push(Row {
                    stage: stage.clone(),
                    identifier: job.clone(),
                    job: display_name.clone(),
                    result: *result,
                    seconds: *seconds,
                });
                self.issues(display_name, "", errors, warnings);
            }
            Change::JobStarted { job, display_name, .. } => {
                self.jobs.insert(job.clone(), display_name.clone());
            }
            Change::StepCompleted { job, step, result, errors, warnings, .. } => {
                let of_cancel = |text: &&String| *result == TaskResult::Canceled && is_of_cancel(text);
                let errors: Vec<_> = errors.iter().filter(|text| !of_cancel(text)).cloned().collect();
                let job = self.jobs.get(job).unwrap_or(job).clone();
                self.issues(&job, &format!(" / {step}"), &errors, warnings);
            }
            Change::RunCompleted { run, result, seconds } => {
                self.end = Some((run.clone(), *result, *seconds))
            }
            Change::Warning(_)
            | Change::RunStarted { .. }
            | Change::JobQueued { .. }
            | Change::StepStarted { .. }
            | Change::StepProgress { .. }
            | Change::Line { .. } => {}
        }
    }

    fn skipped_stage(&mut self, stage: &str) {
        if !self.rows.iter().any(|row| row.stage == stage) {
            let (stage, identifier, job) = (stage.to_owned(), String::new(), String::new());
            self.rows.push(Row { stage, identifier, job, result: TaskResult::Skipped, seconds: 0.0 });
        }
    }

    fn issues(&mut self, job: &str, step: &str, errors: &[String], warnings: &[String]) {
        let all = errors.iter().map(|text| (true, text)).chain(warnings.iter().map(|text| (false, text)));
        for (is_error, text) in all {
            if self.issues.len() < MAX_REPEATED_ISSUES {
                self.issues.push((is_error, format!("{job}{step}: {}", of_issue(text))));
            } else {
                self.hidden_issues += 1;
            }
        }
    }

    /// The identifier of the first job that failed, in the order of the plan.
    pub(crate) fn failed_job(&self) -> Option<&str> {
        let failed =
            self.rows.iter().filter(|row| !row.identifier.is_empty() && row.result == TaskResult::Failed);
        failed.min_by_key(|row| self.place(row)).map(|row| row.identifier.as_str())
    }

    /// The table, the issues, and one line on the run, for a terminal of this width.
    pub(crate) fn render(&self, columns: Option<usize>) -> String {
        let mut text = format!("\n{}", self.table(columns));
        for (is_error, issue) in &self.issues {
            let (style, kind) = if *is_error { (ERROR, "error") } else { (WARNING, "warning") };
            let _ = writeln!(text, "{style}{kind}:{style:#} {}", sanitize_lines(issue));
        }
        if self.hidden_issues > 0 {
            let _ = writeln!(text, "{FAINT}and {} more{FAINT:#}", self.hidden_issues);
        }
        if let Some((run, result, seconds)) = &self.end {
            let (style, mark) = mark(*result);
            let (word, took) = (word(*result), duration(*seconds));
            let _ = writeln!(
                text,
                "{style}{mark}{style:#} {STRONG}{run}{STRONG:#} {style}{word}{style:#} in {took}"
            );
        }
        text
    }

    /// Columns for stage (when there are several), job, result and time.
    fn table(&self, columns: Option<usize>) -> String {
        let many_stages = self.stages.len() > 1;
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_cached_key(|row| self.place(row));
        let stage_names: Vec<String> = rows.iter().map(|row| self.stage_name(&row.stage)).collect();
        let stage_width = if many_stages { width("Stage", stage_names.iter()) } else { 0 };
        let job_width = width("Job", rows.iter().map(|row| &row.job));
        let words: Vec<String> =
            rows.iter().map(|row| format!("{} {}", mark(row.result).1, word(row.result))).collect();
        let result_width = width("Result", words.iter());
        let (stage_width, job_width) = fitting(stage_width, job_width, result_width, columns);

        let mut text = String::new();
        let mut line = |stage: &str, job: &str, style: Style, result: &str, time: &str| {
            let (stage, job) = (shorten(stage, stage_width), shorten(job, job_width));
            if many_stages {
                let _ = write!(text, "{stage:stage_width$}  ");
            }
            let _ = writeln!(
                text,
                "{job:job_width$}  {style}{result:result_width$}{style:#}  \
                 {FAINT}{time:>TIME_WIDTH$}{FAINT:#}"
            );
        };
        line("Stage", "Job", Style::new(), "Result", "Time");
        for ((row, stage), result) in rows.iter().zip(&stage_names).zip(&words) {
            // Skipped, or cancelled before it began.
            let never_ran = row.result == TaskResult::Skipped || row.seconds <= 0.0;
            let took = if never_ran { String::new() } else { duration(row.seconds) };
            line(stage, &row.job, mark(row.result).0, result, &took);
        }
        text
    }

    /// Where the plan has a row: its stage, its job, its leg. Parts which the file does not name stay as they
    /// came.
    fn place(&self, row: &Row) -> [Option<usize>; 3] {
        let mut stages = self.plan.stages.iter().enumerate();
        let Some((at, stage)) = stages.find(|(_, stage)| stage.name.eq_ignore_ascii_case(&row.stage)) else {
            return [None; 3];
        };
        // The implicit stage is in no identifier.
        let inside = after(&row.identifier, &stage.name).unwrap_or(&row.identifier);
        let (job, leg) = inside.split_once('.').unwrap_or((inside, ""));
        let mut jobs = stage.jobs.iter().enumerate();
        let Some((job_at, job)) = jobs.find(|(_, known)| known.name.eq_ignore_ascii_case(job)) else {
            return [Some(at), None, None];
        };
        let leg_at = match &job.strategy {
            Strategy::Matrix { legs: Legs::List(legs), .. } => {
                legs.iter().position(|known| known.name.eq_ignore_ascii_case(leg))
            }
            // `Job1`, `Job2`, ...
            Strategy::Parallel { .. } => {
                leg.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().ok()
            }
            _ => None,
        };
        [Some(at), Some(job_at), leg_at]
    }

    fn stage_name(&self, stage: &str) -> String {
        self.stages
            .iter()
            .find(|(name, _)| name == stage)
            .map_or_else(|| stage.to_owned(), |(_, shown)| shown.clone())
    }
}

/// Whether it says of a cancelled step only that it was cancelled, as the table does.
fn is_of_cancel(text: &str) -> bool {
    text == "The operation was canceled." || text.starts_with("The Operation will be canceled. ")
}

/// The widths of the columns for stage and job in a terminal that may be too narrow for them: the wider one
/// gives way first.
fn fitting(mut stage: usize, mut job: usize, result: usize, columns: Option<usize>) -> (usize, usize) {
    const NARROWEST: usize = 8;
    let gap = if stage > 0 { 2 } else { 0 };
    let rest = gap + 2 + result + 2 + TIME_WIDTH;
    let Some(room) = columns.map(|columns| columns.saturating_sub(rest)) else { return (stage, job) };
    while stage + job > room && stage.max(job) > NARROWEST {
        let widest = if stage > job { &mut stage } else { &mut job };
        *widest -= 1;
    }
    (stage, job)
}

/// What follows a stage's name and a dot.
fn after<'t>(identifier: &'t str, stage: &str) -> Option<&'t str> {
    let (head, rest) = identifier.split_at_checked(stage.len())?;
    head.eq_ignore_ascii_case(stage).then(|| rest.strip_prefix('.'))?
}

/// How wide a column is, in characters.
fn width<'a>(title: &str, cells: impl Iterator<Item = &'a String>) -> usize {
    cells.map(|cell| cell.chars().count()).chain([title.len()]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dayfly_pipelines::{Inputs, Source, compile};

    use super::*;

    fn summary(text: &str) -> Summary {
        let source = Source { name: "pipeline.yml".to_owned(), text: text.to_owned() };
        Summary::new(Arc::new(compile(&source, &Inputs::default()).unwrap().plan))
    }

    fn completed(stage: &str, job: &str) -> Change {
        Change::JobCompleted {
            job: job.to_owned(),
            display_name: job.to_owned(),
            stage: stage.to_owned(),
            result: TaskResult::Succeeded,
            seconds: 1.0,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn rows_are_in_the_order_of_the_plan() {
        let mut summary = summary(
            "stages:
- stage: build
  jobs:
  - job: slow
    strategy:
      matrix: { z: {}, a: {} }
    steps: []
  - job: build
    steps: []
- stage: copies
  dependsOn: []
  jobs:
  - job: many
    strategy: { parallel: 10 }
    steps: []
",
        );
        let copies = ["copies.many.Job10", "copies.many.Job2"].map(|job| completed("copies", job));
        let builds = ["build.build", "build.slow.a", "build.slow.z"].map(|job| completed("build", job));
        for change in copies.into_iter().chain(builds) {
            summary.note(&change);
        }
        let text = anstream::adapter::strip_str(&summary.render(None)).to_string();
        let order: Vec<_> =
            text.split_whitespace().filter(|word| word.contains('.') && !word.ends_with('s')).collect();
        assert_eq!(
            order,
            ["build.slow.z", "build.slow.a", "build.build", "copies.many.Job2", "copies.many.Job10"]
        );
    }

    #[test]
    fn in_a_narrow_terminal_long_names_lose_their_middle() {
        assert_eq!(fitting(0, 30, 11, None), (0, 30));
        assert_eq!(fitting(0, 30, 11, Some(80)), (0, 30));
        assert_eq!(fitting(0, 60, 11, Some(60)), (0, 38));
        assert_eq!(fitting(20, 60, 11, Some(60)), (18, 18));
        assert_eq!(fitting(20, 60, 23, Some(20)), (8, 8), "no narrower than one can read");
        let mut summary = summary("jobs:\n- job: a\n  steps: []\n");
        summary.note(&completed("__default", &"long ".repeat(20)));
        let text = anstream::adapter::strip_str(&summary.render(Some(60))).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 60) && text.contains('…'), "{text}");
    }

    #[test]
    fn jobs_results_times_and_issues_are_listed() {
        let mut summary = summary(
            "stages:\n- stage: build\n  jobs:\n  - job: greet\n    steps: []\n- stage: report\n  jobs:\n  - job: tell\n    steps: []\n",
        );
        let stage = |stage: &str| Change::StageStarted {
            stage: stage.to_owned(),
            display_name: stage.to_uppercase(),
        };
        for change in [
            stage("build"),
            stage("report"),
            Change::StepCompleted {
                job: "build.greet".to_owned(),
                number: 1,
                step: "Say".to_owned(),
                result: TaskResult::Failed,
                seconds: 1.0,
                errors: vec!["Bash exited with code '1'.".to_owned()],
                warnings: Vec::new(),
            },
            Change::JobCompleted {
                job: "build.greet".to_owned(),
                display_name: "Greet".to_owned(),
                stage: "build".to_owned(),
                result: TaskResult::Failed,
                seconds: 1.5,
                errors: Vec::new(),
                warnings: Vec::new(),
            },
            Change::StageCompleted {
                stage: "report".to_owned(),
                display_name: "REPORT".to_owned(),
                result: TaskResult::Skipped,
            },
            Change::RunCompleted { run: "1".to_owned(), result: TaskResult::Failed, seconds: 2.0 },
        ] {
            summary.note(&change);
        }
        let text = anstream::adapter::strip_str(&summary.render(None)).to_string();
        insta::assert_snapshot!(text);
    }
}
