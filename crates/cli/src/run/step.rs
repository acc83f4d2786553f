//! A step as the console shows it: what is held back of it, and what its frame is.

use std::collections::VecDeque;
use std::time::Instant;

use super::change::StepKind;
use super::lines::{self, FAINT, STRONG};

/// How many of the last lines of a step that is not shown are kept in case it fails.
pub(super) const HELD_BACK_LINES: usize = 500;
/// How many `=` make a rule.
const RULE_WIDTH: usize = 70;

pub(super) struct Step {
    pub(super) name: String,
    pub(super) kind: StepKind,
    /// Lines not shown so far; `None` once lines are shown.
    pub(super) held_back: Option<HeldBack>,
    /// Whether the script's own output begins with the next line.
    pub(super) output_begins: bool,
    /// Whether its name is still to be shown: steps that are skipped at once are not announced.
    pub(super) unannounced: bool,
    /// How many of the two rules round the task's description have come.
    pub(super) rules: u8,
    pub(super) started: Instant,
    /// How far it says that it is.
    pub(super) progress: String,
}

/// The last lines of a step that is not shown: the first are those which a failure needs least.
#[derive(Default)]
pub(super) struct HeldBack {
    lines: VecDeque<String>,
    dropped: usize,
}

impl HeldBack {
    pub(super) fn push(&mut self, line: &str) {
        if self.lines.len() == HELD_BACK_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line.to_owned());
    }

    pub(super) fn show(&self, prefix: &str, text: &mut String) {
        if self.dropped > 0 {
            text.push_str(&format!("{prefix}  {FAINT}({} lines before these){FAINT:#}\n", self.dropped));
        }
        for line in &self.lines {
            push_line(text, prefix, line);
        }
    }
}

impl Step {
    /// Whether it is one of the lines which the worker puts round every step and which are shown here in
    /// another way: its name at both ends, and the description of its task between two rules.
    pub(super) fn is_frame(&mut self, line: &str) -> bool {
        if self.rules < 2 && line.len() >= RULE_WIDTH && line.bytes().all(|byte| byte == b'=') {
            self.rules += 1;
            return true;
        }
        let section = line.strip_prefix("##[section]");
        let name = section
            .and_then(|rest| rest.strip_prefix("Starting: ").or_else(|| rest.strip_prefix("Finishing: ")));
        self.rules == 1 || name == Some(self.name.as_str())
    }

    /// Shows the step's name if it was not shown.
    pub(super) fn announce(&mut self, prefix: &str, text: &mut String) {
        if std::mem::take(&mut self.unannounced) {
            text.push_str(&format!("{prefix}{STRONG}▸ {}{STRONG:#}\n", lines::sanitize(&self.name)));
        }
    }
}

/// Adds a line of a step, unless it only closes a group.
pub(super) fn push_line(text: &mut String, prefix: &str, line: &str) {
    if let Some(shown) = lines::format(line) {
        text.push_str(prefix);
        text.push_str("  ");
        text.push_str(&shown);
        text.push('\n');
    }
}

/// Whether a line is one of git's steps on the way to 100 %, as in `Receiving objects:  42% (21/50)`.
pub(super) fn is_progress(line: &str) -> bool {
    let Some((before, after)) = line.split_once("% (") else { return false };
    let percent = before.rsplit(' ').next().and_then(|number| number.parse::<u8>().ok());
    let is_count = after.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('/');
    is_count && percent.is_some_and(|percent| percent < 100)
}
