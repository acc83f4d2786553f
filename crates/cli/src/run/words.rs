//! Results, times and names as people read them.

use anstyle::Style;

use dayfly_protocol::TaskResult;

use super::lines::{ERROR, FAINT, GOOD, WARNING};

/// Colour and mark of a result.
pub(crate) fn mark(result: TaskResult) -> (Style, &'static str) {
    match result {
        TaskResult::Succeeded => (GOOD, "✓"),
        TaskResult::SucceededWithIssues => (WARNING, "!"),
        TaskResult::Failed | TaskResult::Abandoned => (ERROR, "✗"),
        TaskResult::Canceled => (WARNING, "■"),
        TaskResult::Skipped => (FAINT, "-"),
    }
}

/// A result in words.
pub(crate) fn word(result: TaskResult) -> &'static str {
    match result {
        TaskResult::Succeeded => "succeeded",
        TaskResult::SucceededWithIssues => "succeeded with issues",
        TaskResult::Failed => "failed",
        TaskResult::Canceled => "cancelled",
        TaskResult::Skipped => "skipped",
        TaskResult::Abandoned => "abandoned",
    }
}

/// A time as people write it: `40ms`, `1.4s`, `12s`, `3m 05s`, `1h 02m`.
pub(crate) fn duration(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    let whole = milliseconds / 1000;
    match whole {
        0 => format!("{milliseconds}ms"),
        1..=9 => format!("{}.{}s", whole, milliseconds % 1000 / 100),
        10..=59 => format!("{whole}s"),
        60..=3599 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// A name that fits, without its middle: legs differ in their ends.
pub(crate) fn shorten(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let length = label.chars().count();
    label.chars().take(head).chain(['…']).chain(label.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_legs_stay_apart_when_they_are_cut() {
        assert_eq!(shorten("Run the checks Linux_1", 10), "Run …nux_1");
        assert_eq!(shorten("Run the checks Linux_2", 10), "Run …nux_2");
        assert_eq!(shorten("short", 10), "short");
    }

    #[test]
    fn times_read_well() {
        for (seconds, text) in [
            (0.0404, "40ms"),
            (1.99, "1.9s"),
            (9.96, "9.9s"),
            (59.9, "59s"),
            (65.0, "1m 05s"),
            (3720.0, "1h 02m"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
