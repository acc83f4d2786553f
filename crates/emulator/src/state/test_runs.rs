//! Test runs with their results, and code coverage: part of the run (build) they were published for.

use dayfly_protocol::BuildId;
use dayfly_protocol::test_results::{CodeCoverageData, NewTestRun, TestCaseResult};

use super::{Error, Result};

/// Test runs of one build. Their numbers are made of the build's and theirs.
const MAX_TEST_RUNS: i32 = 1_000;

/// Results, attachments and coverage figures of one build.
const MAX_RESULTS: usize = 100_000;
const MAX_ATTACHMENTS: usize = 1_000;
const MAX_COVERAGE: usize = 100;

/// What tests of a build came to.
#[derive(Debug, Default)]
pub(crate) struct TestResults {
    runs: Vec<TestRun>,
    pub(crate) coverage: Vec<CodeCoverageData>,
}

/// A test run.
#[derive(Debug)]
pub(crate) struct TestRun {
    pub(crate) id: i32,
    pub(crate) new: NewTestRun,
    pub(crate) is_completed: bool,
    pub(crate) results: Vec<TestCaseResult>,
    /// Names and sizes in bytes. The files themselves are not kept: nobody asks the emulator for them.
    pub(crate) attachments: Vec<(String, usize)>,
}

impl TestResults {
    /// All of the build.
    pub(crate) fn runs(&self) -> &[TestRun] {
        &self.runs
    }

    /// One by its number.
    pub(crate) fn run(&self, id: i32) -> Result<&TestRun> {
        self.runs.iter().find(|run| run.id == id).ok_or(Error::TestRunNotFound(id))
    }

    fn run_mut(&mut self, id: i32) -> Result<&mut TestRun> {
        self.runs.iter_mut().find(|run| run.id == id).ok_or(Error::TestRunNotFound(id))
    }

    /// Makes a run.
    pub(crate) fn create(&mut self, build: BuildId, new: NewTestRun) -> Result<&TestRun> {
        let number = i32::try_from(self.runs.len()).unwrap_or(MAX_TEST_RUNS);
        let first = build.0.checked_mul(MAX_TEST_RUNS).filter(|_| number < MAX_TEST_RUNS);
        let id = first.and_then(|first| first.checked_add(number));
        let limit = MAX_TEST_RUNS.unsigned_abs().into();
        let id = id.ok_or(Error::LimitReached { what: "test runs of this build", limit })?;
        self.runs.push(TestRun {
            id,
            new,
            is_completed: false,
            results: Vec::new(),
            attachments: Vec::new(),
        });
        self.run(id)
    }

    /// Adds results to a run; answers how many it has.
    pub(crate) fn add(&mut self, id: i32, results: Vec<TestCaseResult>) -> Result<usize> {
        let present: usize = self.runs.iter().map(|run| run.results.len()).sum();
        if present.saturating_add(results.len()) > MAX_RESULTS {
            return Err(Error::LimitReached {
                what: "test results of this build",
                limit: MAX_RESULTS as u64,
            });
        }
        let run = self.run_mut(id)?;
        run.results.extend(results);
        Ok(run.results.len())
    }

    /// Changes the state of a run.
    pub(crate) fn update(&mut self, id: i32, state: &str) -> Result<&TestRun> {
        self.run_mut(id)?.is_completed |= state.eq_ignore_ascii_case("completed");
        self.run(id)
    }

    /// Remembers a file; answers how many there are.
    pub(crate) fn attach(&mut self, id: i32, name: String, bytes: usize) -> Result<usize> {
        let run = self.run_mut(id)?;
        if run.attachments.len() >= MAX_ATTACHMENTS {
            let limit = MAX_ATTACHMENTS as u64;
            return Err(Error::LimitReached { what: "attachments of this test run", limit });
        }
        run.attachments.push((name, bytes));
        Ok(run.attachments.len())
    }

    /// Adds figures of code coverage.
    pub(crate) fn add_coverage(&mut self, coverage: CodeCoverageData) -> Result<()> {
        if self.coverage.len() >= MAX_COVERAGE {
            let limit = MAX_COVERAGE as u64;
            return Err(Error::LimitReached { what: "reports of code coverage of this build", limit });
        }
        self.coverage.push(coverage);
        Ok(())
    }
}

/// The build that a test run of this number would belong to.
pub(crate) fn build_of(id: i32) -> BuildId {
    BuildId(id / MAX_TEST_RUNS)
}
