//! The result of a job or a step, and how results add up.

use crate::json::wire_enum;

wire_enum! {
    /// How a job, step, stage or run ended. The numbers are the service's (`TaskResult`).
    pub enum TaskResult {
        /// All well.
        Succeeded = 0,
        /// Well enough: warnings or a failure that was allowed.
        SucceededWithIssues = 1,
        /// Failed.
        Failed = 2,
        /// Cancelled by somebody or by a timeout.
        Canceled = 3,
        /// Not run, since its condition was false.
        Skipped = 4,
        /// The agent was lost.
        Abandoned = 5,
    }
}

impl TaskResult {
    /// The worker's process ends with 100 plus the result's number (`TaskResultUtil.ReturnCodeOffset`).
    pub const EXIT_CODE_OFFSET: i32 = 100;

    /// The exit code by which a worker tells its listener this result.
    pub fn exit_code(self) -> i32 {
        Self::EXIT_CODE_OFFSET + self as i32
    }

    /// The result behind a worker's exit code; `None` is a crash.
    pub fn from_exit_code(code: i32) -> Option<Self> {
        Self::from_number(i64::from(code) - i64::from(Self::EXIT_CODE_OFFSET))
    }

    /// Merges the result of one more step into that of the job (`TaskResultUtil.MergeTaskResults`):
    /// cancelled, skipped and abandoned stay, otherwise the worse one wins.
    pub fn merge(current: Option<Self>, coming: Self) -> Self {
        match current {
            None => coming,
            Some(current) if current as i32 > Self::Failed as i32 => current,
            Some(current) if coming as i32 >= current as i32 => coming,
            Some(current) => current,
        }
    }

    /// Whether `succeeded()` holds for it.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithIssues)
    }
}

#[cfg(test)]
mod tests {
    use super::TaskResult::{Abandoned, Canceled, Failed, Skipped, Succeeded, SucceededWithIssues};
    use super::*;

    #[test]
    fn results_merge_to_the_worst_and_final_ones_stay() {
        for (current, coming, expected) in [
            (None, Succeeded, Succeeded),
            (Some(Succeeded), Failed, Failed),
            (Some(Failed), Succeeded, Failed),
            (Some(SucceededWithIssues), Succeeded, SucceededWithIssues),
            (Some(Canceled), Failed, Canceled),
            (Some(Skipped), Failed, Skipped),
            (Some(Failed), Canceled, Canceled),
            (Some(Abandoned), Succeeded, Abandoned),
        ] {
            assert_eq!(TaskResult::merge(current, coming), expected, "{current:?} + {coming:?}");
        }
    }

    #[test]
    fn exit_codes_carry_results() {
        assert_eq!(Failed.exit_code(), 102);
        assert_eq!(TaskResult::from_exit_code(100), Some(Succeeded));
        assert_eq!(TaskResult::from_exit_code(1), None);
        assert_eq!(TaskResult::from_exit_code(106), None);
    }
}
