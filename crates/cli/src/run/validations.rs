//! Validations (`ManualValidation`) that jobs wait for: whoever runs the pipeline is asked on the terminal,
//! or has approved them all beforehand. Where there is nobody to ask, they are rejected at once.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use uuid::Uuid;

use dayfly_emulator::runs::{PendingValidation, RunEvent, Verdict};

use super::lines::{STRONG, sanitize, sanitize_lines};

/// What is said of a rejection that nobody has asked for.
const NOBODY: &str = "there is no terminal to ask on; run again with `--approve` to approve all validations";

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decider {
    /// They are all approved.
    Approved,
    /// Whoever sits at the terminal.
    Terminal,
    /// Nobody.
    Nobody,
}

impl Decider {
    /// Who decides in this run.
    pub(crate) fn new(approve: bool, json: bool) -> Self {
        match approve {
            true => Self::Approved,
            false if !json && io::stdin().is_terminal() && io::stderr().is_terminal() => Self::Terminal,
            false => Self::Nobody,
        }
    }
}

/// The validations that wait.
pub(super) struct Validations {
    decider: Decider,
    /// The first one is being asked for.
    waiting: VecDeque<PendingValidation>,
    /// Whether the question stands on the terminal.
    is_asked: bool,
    input: Lines<BufReader<Stdin>>,
}

impl Validations {
    pub(super) fn new(decider: Decider) -> Self {
        let input = BufReader::new(tokio::io::stdin()).lines();
        Self { decider, waiting: VecDeque::new(), is_asked: false, input }
    }

    /// Takes note of what happened.
    pub(super) fn note(&mut self, event: &RunEvent) {
        match event {
            RunEvent::ValidationPending { validation, .. } => self.waiting.push_back(validation.clone()),
            RunEvent::ValidationWithdrawn { id, .. } => {
                self.is_asked &= self.waiting.front().is_none_or(|first| first.id != *id);
                self.waiting.retain(|validation| validation.id != *id);
            }
            _ => {}
        }
    }

    /// Whether somebody is typing an answer: nothing else may draw on the terminal then.
    pub(super) fn is_asking(&self) -> bool {
        self.is_asked
    }

    /// The question that is to be shown, once for each.
    pub(super) fn question(&mut self) -> Option<String> {
        let validation =
            self.waiting.front().filter(|_| self.decider == Decider::Terminal && !self.is_asked)?;
        self.is_asked = true;
        let job = sanitize(&validation.job.display_name);
        let instructions = match validation.instructions.as_str() {
            "" => String::new(),
            text => format!("\n  {}", sanitize_lines(text)),
        };
        Some(format!(
            "\n{STRONG}{job} waits for your validation{STRONG:#}{instructions}\n\
             Type `approve`, or `reject` and perhaps why:"
        ))
    }

    /// The next decision, or none when the answer was not understood and has to be asked for again. Waits for
    /// ever while there is nothing to decide; safe to drop and call again.
    pub(super) async fn decision(&mut self) -> Option<(Uuid, Verdict)> {
        let Some(id) = self.waiting.front().map(|first| first.id) else {
            return std::future::pending().await;
        };
        let verdict = match self.decider {
            Decider::Approved => Some(verdict(true, "by `--approve`")),
            Decider::Nobody => Some(verdict(false, NOBODY)),
            Decider::Terminal => match self.input.next_line().await {
                Ok(Some(line)) => understood(&line),
                Ok(None) | Err(_) => Some(verdict(false, "standard input has ended")),
            },
        };
        self.is_asked = false;
        let verdict = verdict?;
        self.waiting.pop_front();
        Some((id, verdict))
    }
}

fn verdict(approved: bool, comment: &str) -> Verdict {
    Verdict { approved, comment: comment.to_owned() }
}

/// What somebody typed.
fn understood(line: &str) -> Option<Verdict> {
    let line = line.trim();
    let (word, comment) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word.to_lowercase().trim_end_matches(':') {
        "approve" | "a" => Some(verdict(true, comment.trim())),
        "reject" | "r" => Some(verdict(false, comment.trim())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_answer_is_one() {
        for (line, expected) in [
            ("approve", Some((true, ""))),
            (" Approve  looks good ", Some((true, "looks good"))),
            ("reject: too early", Some((false, "too early"))),
            ("r", Some((false, ""))),
            ("", None),
            ("yes", None),
            ("approved", None),
        ] {
            let expected = expected.map(|(approved, comment)| verdict(approved, comment));
            assert_eq!(understood(line), expected, "{line}");
        }
    }
}
