//! The status functions of a step's condition: `always()`, `canceled()`, `failed()`, `succeeded()`,
//! `succeededOrFailed()`.

use std::fmt;
use std::str::FromStr;

/// How a job stands so far, which is what the status functions of its steps look at (`Agent.JobStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Status {
    /// Nothing went wrong so far.
    #[default]
    Succeeded,
    /// A step failed that may (`continueOnError`), or reported an issue.
    SucceededWithIssues,
    /// A step failed.
    Failed,
    /// The job was cancelled.
    Canceled,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 4] =
        [Status::Succeeded, Status::SucceededWithIssues, Status::Failed, Status::Canceled];

    /// The answer of a status function (`ExpressionManager.cs` of the agent), or none if the name is no
    /// status function.
    pub fn answer(self, function: &str) -> Option<bool> {
        let good = matches!(self, Status::Succeeded | Status::SucceededWithIssues);
        let answers = [
            ("always", true),
            ("canceled", self == Status::Canceled),
            ("failed", self == Status::Failed),
            ("succeeded", good),
            ("succeededOrFailed", good || self == Status::Failed),
        ];
        answers.into_iter().find_map(|(name, answer)| name.eq_ignore_ascii_case(function).then_some(answer))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Succeeded => "Succeeded",
            Status::SucceededWithIssues => "SucceededWithIssues",
            Status::Failed => "Failed",
            Status::Canceled => "Canceled",
        })
    }
}

/// The text names no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a status is one of Succeeded, SucceededWithIssues, Failed, Canceled")]
pub struct InvalidStatus;

impl FromStr for Status {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Status, InvalidStatus> {
        Status::ALL
            .into_iter()
            .find(|status| status.to_string().eq_ignore_ascii_case(text))
            .ok_or(InvalidStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let functions = ["always", "Canceled", "FAILED", "succeeded", "succeededOrFailed"];
        for (status, expected) in [
            (Status::Succeeded, [true, false, false, true, true]),
            (Status::SucceededWithIssues, [true, false, false, true, true]),
            (Status::Failed, [true, false, true, false, true]),
            (Status::Canceled, [true, true, false, false, false]),
        ] {
            assert_eq!(functions.map(|function| status.answer(function)), expected.map(Some), "{status}");
            assert_eq!(status.to_string().to_lowercase().parse(), Ok(status));
        }
        assert_eq!(Status::Succeeded.answer("counter"), None);
        assert_eq!("Skipped".parse::<Status>(), Err(InvalidStatus));
    }
}
