//! The status lines below a run's output.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::lines;
use super::words::{duration, shorten};

/// The widest a job's name may be here and before a job's lines; longer ones lose their middle, since legs
/// differ in their ends.
pub(super) const MAX_LABEL_WIDTH: usize = 28;

/// The line of a running job.
pub(super) fn status_line(job: &str, agent: &str) -> ProgressBar {
    let job = shorten(job, MAX_LABEL_WIDTH);
    let bar = ProgressBar::new_spinner().with_prefix(job).with_message(format!("on {agent}"));
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix:.bold} {wide_msg:.dim}") {
        bar.set_style(style);
    }
    bar
}

/// The line below those of the jobs.
pub(super) fn plain_line() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {wide_msg:.dim}") {
        bar.set_style(style);
    }
    bar
}

/// What a status line says of a step: the time first, since a line that is too long loses its end.
pub(super) fn message(step: &str, running: Duration, progress: &str) -> String {
    let gap = if progress.is_empty() { "" } else { "  " };
    format!("{} {}{gap}{progress}", duration(running.as_secs_f64()), lines::sanitize(step))
}

/// How far a step says that it is.
pub(super) fn progress(percent: Option<i32>, operation: Option<&str>) -> String {
    let percent = percent.filter(|percent| *percent > 0).map(|percent| format!("{percent}%"));
    let operation = operation.filter(|text| !text.is_empty()).map(lines::sanitize);
    percent.into_iter().chain(operation).collect::<Vec<_>>().join(" ")
}
