//! The table at the end of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;

use dayfly_protocol::TaskResult;

use super::change::Change;
use super::console::{duration, mark, word};
use super::lines::{ERROR, FAINT, STRONG, WARNING, sanitize};

/// How many errors and warnings are repeated under the table.
const MAX_REPEATED_ISSUES: usize = 20;

/// Gathers what the table shows.
#[derive(Debug, Default)]
pub(crate) struct Summary {
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
    job: String,
    result: TaskResult,
    seconds: f64,
}

impl Summary {
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
            Change::JobCompleted { display_name, stage, result, seconds, errors, .. } => {
                let job = display_name.clone();
                self.rows.push(Row { stage: stage.clone(), job, result: *result, seconds: *seconds });
                self.issues(display_name, "", errors, &[]);
            }
            Change::JobStarted { job, display_name, .. } => {
                self.jobs.insert(job.clone(), display_name.clone());
            }
            Change::StepCompleted { job, step, errors, warnings, .. } => {
                let job = self.jobs.get(job).unwrap_or(job).clone();
                self.issues(&job, &format!(" / {step}"), errors, warnings);
            }
            Change::RunCompleted { run, result, seconds } => {
                self.end = Some((run.clone(), *result, *seconds))
            }
            Change::RunStarted { .. } | Change::StepStarted { .. } | Change::Line { .. } => {}
        }
    }

    fn skipped_stage(&mut self, stage: &str) {
        if !self.rows.iter().any(|row| row.stage == stage) {
            let (stage, job) = (stage.to_owned(), String::new());
            self.rows.push(Row { stage, job, result: TaskResult::Skipped, seconds: 0.0 });
        }
    }

    fn issues(&mut self, job: &str, step: &str, errors: &[String], warnings: &[String]) {
        let all = errors.iter().map(|text| (true, text)).chain(warnings.iter().map(|text| (false, text)));
        for (is_error, text) in all {
            if self.issues.len() < MAX_REPEATED_ISSUES {
                self.issues.push((is_error, format!("{job}{step}: {text}")));
            } else {
                self.hidden_issues += 1;
            }
        }
    }

    /// The table, the issues, and one line on the run.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("\n{}", self.table());
        for (is_error, issue) in &self.issues {
            let (style, kind) = if *is_error { (ERROR, "error") } else { (WARNING, "warning") };
            let _ = writeln!(text, "{style}{kind}:{style:#} {}", sanitize(issue));
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
    fn table(&self) -> String {
        let many_stages = self.stages.len() > 1;
        let stage_names: Vec<String> = self.rows.iter().map(|row| self.stage_name(&row.stage)).collect();
        let stage_width = if many_stages { width("Stage", stage_names.iter()) } else { 0 };
        let job_width = width("Job", self.rows.iter().map(|row| &row.job));
        let words: Vec<String> =
            self.rows.iter().map(|row| format!("{} {}", mark(row.result).1, word(row.result))).collect();
        let result_width = width("Result", words.iter());

        let mut text = String::new();
        let mut line = |stage: &str, job: &str, style: Style, result: &str, time: &str| {
            if many_stages {
                let _ = write!(text, "{stage:stage_width$}  ");
            }
            let _ = writeln!(
                text,
                "{job:job_width$}  {style}{result:result_width$}{style:#}  {FAINT}{time:>7}{FAINT:#}"
            );
        };
        line("Stage", "Job", Style::new(), "Result", "Time");
        for ((row, stage), result) in self.rows.iter().zip(&stage_names).zip(&words) {
            let skipped = row.result == TaskResult::Skipped;
            let took = if skipped { String::new() } else { duration(row.seconds) };
            line(stage, &row.job, mark(row.result).0, result, &took);
        }
        text
    }

    fn stage_name(&self, stage: &str) -> String {
        self.stages
            .iter()
            .find(|(name, _)| name == stage)
            .map_or_else(|| stage.to_owned(), |(_, shown)| shown.clone())
    }
}

/// How wide a column is, in characters.
fn width<'a>(title: &str, cells: impl Iterator<Item = &'a String>) -> usize {
    cells.map(|cell| cell.chars().count()).chain([title.len()]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_results_times_and_issues_are_listed() {
        let mut summary = Summary::default();
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
        let text = anstream::adapter::strip_str(&summary.render()).to_string();
        insta::assert_snapshot!(text);
    }
}
