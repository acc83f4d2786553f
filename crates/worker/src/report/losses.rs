//! What could not be reported, for the job's result, its record and the worker's own log.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dayfly_client::describe;
use dayfly_mask::Masker;
use dayfly_protocol::RecordId;
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord};

use super::service::Error;

/// Descriptions that are kept.
const MOST_DESCRIPTIONS: usize = 20;

/// Descriptions in the job's issue.
const DESCRIPTIONS_SHOWN: usize = 3;

/// What was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Timeline,
    /// A record with output variables: later jobs depend on it.
    Outputs,
    Log,
    Console,
    Attachment,
}

/// Collected losses, in masked words.
pub(super) struct Losses {
    masker: Masker,
    state: Mutex<State>,
    /// What people call the records.
    names: Mutex<HashMap<RecordId, String>>,
}

#[derive(Default, Clone)]
pub(super) struct State {
    pub(super) outputs_lost: bool,
    /// The first ones.
    pub(super) descriptions: Vec<String>,
    /// How many different ones there were beside those.
    more: usize,
}

impl Losses {
    pub(super) fn new(masker: Masker) -> Losses {
        Losses { masker, state: Mutex::default(), names: Mutex::default() }
    }

    /// Says what people call a record.
    pub(super) fn name(&self, record: RecordId, name: String) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(record, name);
    }

    fn name_of(&self, record: RecordId) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&record).cloned().unwrap_or_else(|| format!("record {record}"))
    }

    pub(super) fn add(&self, loss: Loss, object: &str, error: &Error) {
        self.describe(loss, format!("{object} could not be sent: {}", describe(error)));
    }

    pub(super) fn add_log(&self, record: RecordId, lines: u64, error: &Error) {
        self.add(
            Loss::Log,
            &format!("{} of the log of {}", count_of_lines(lines), self.name_of(record)),
            error,
        );
    }

    pub(super) fn add_record(&self, record: &TimelineRecord, error: &Error) {
        let name = self.name_of(record.id);
        if record.variables.is_empty() {
            self.add(Loss::Timeline, &format!("an update of {name}"), error);
        } else {
            let variables: Vec<&str> = record.variables.keys().map(String::as_str).collect();
            self.add(
                Loss::Outputs,
                &format!("the output variables {} of {name}", variables.join(", ")),
                error,
            );
        }
    }

    pub(super) fn describe(&self, loss: Loss, description: String) {
        let description = self.masker.mask(&description).into_owned();
        tracing::warn!(?loss, "{description}");
        let mut state = self.state();
        state.outputs_lost |= loss == Loss::Outputs;
        if state.descriptions.contains(&description) {
            return;
        }
        // What fails the job comes first.
        let place = if loss == Loss::Outputs { 0 } else { state.descriptions.len() };
        state.descriptions.insert(place, description);
        if state.descriptions.len() > MOST_DESCRIPTIONS {
            state.descriptions.pop();
            state.more += 1;
        }
    }

    pub(super) fn snapshot(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `1 line`, `2 lines`.
pub(super) fn count_of_lines(lines: u64) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

impl State {
    /// What the job's record says of the losses, if there are any: an error if the job fails for them
    /// (`JobServerQueue.cs`, `JobRunner.cs`), else a warning. (The official agent says it in its own log
    /// only.)
    pub(super) fn issue(&self) -> Option<Issue> {
        if self.descriptions.is_empty() {
            return None;
        }
        let (issue_type, what) = if self.outputs_lost {
            let what =
                "Output variables did not reach the service, so the job fails: later jobs may need them.";
            (IssueType::Error, what)
        } else {
            (IssueType::Warning, "Not all reports of this job reached the service.")
        };
        let shown = self.descriptions.iter().take(DESCRIPTIONS_SHOWN).cloned().collect::<Vec<_>>();
        let hidden = self.descriptions.len() - shown.len() + self.more;
        let mut message = format!("{what} {}", shown.join("; "));
        if hidden > 0 {
            message.push_str(&format!("; and {hidden} more"));
        }
        Some(Issue { issue_type, category: Some("General".to_owned()), message, data: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::timeline::VariableValue;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn losses_are_told_once_masked_by_name_and_bounded() {
        let masker = Masker::new();
        masker.add_value("sesame-open");
        let losses = Losses::new(masker);
        assert!(losses.snapshot().issue().is_none());
        let record = RecordId(Uuid::from_u128(1));
        losses.name(record, "'Build sesame-open'".to_owned());
        for number in [1, 1, 2, 3] {
            losses.add_log(record, number, &Error::Deadline);
        }
        let issue = losses.snapshot().issue().unwrap();
        assert_eq!(issue.issue_type, IssueType::Warning);
        let over = "could not be sent: the deadline for the last reports of the job has passed";
        assert_eq!(
            issue.message,
            format!(
                "Not all reports of this job reached the service. 1 line of the log of 'Build ***' {over}; \
                 2 lines of the log of 'Build ***' {over}; 3 lines of the log of 'Build ***' {over}"
            )
        );
        let variables = [("version".to_owned(), VariableValue::public("1"))].into();
        let change = TimelineRecord { id: record, variables, ..TimelineRecord::default() };
        losses.add_record(&change, &Error::Deadline);
        for number in 100..200 {
            losses.add_log(record, number, &Error::Deadline);
        }
        let state = losses.snapshot();
        assert_eq!(state.descriptions.len(), MOST_DESCRIPTIONS);
        let issue = state.issue().unwrap();
        assert_eq!(issue.issue_type, IssueType::Error);
        assert!(issue.message.contains("the output variables version of 'Build ***' could not"), "{issue:?}");
        assert!(issue.message.ends_with("; and 101 more"), "{issue:?}");
    }
}
