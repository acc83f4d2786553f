//! Test runs with their results, and code coverage.

use dayfly_protocol::test_results::{
    CodeCoverageData, NewTestRun, TestAttachment, TestCaseResult, TestRun, TestRunUpdate,
};
use dayfly_protocol::{BuildId, ProjectId};
use http::Method;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// Makes a test run, to which results can be added.
    pub async fn create_test_run(&self, project: ProjectId, run: &NewTestRun) -> Result<TestRun> {
        let path = segments![project.to_string(), "_apis", "test", "runs"];
        let request =
            Request::new(Operation::CreateTestRun, run.name.clone(), Method::POST, self.url(), path)
                .json(run)?;
        self.call(request).await
    }

    /// Adds results to a test run, at most 1000 at once.
    pub async fn add_test_results(
        &self,
        project: ProjectId,
        run: i32,
        results: &[TestCaseResult],
    ) -> Result<()> {
        let path = segments![project.to_string(), "_apis", "test", "runs", run.to_string(), "results"];
        let request =
            Request::new(Operation::AddTestResults, run.to_string(), Method::POST, self.url(), path)
                .json(&results)?;
        self.call_without_answer(request).await
    }

    /// Says that all results of a test run are there.
    pub async fn complete_test_run(&self, project: ProjectId, run: i32) -> Result<TestRun> {
        let path = segments![project.to_string(), "_apis", "test", "runs", run.to_string()];
        let update = TestRunUpdate { state: "Completed".to_owned() };
        let request =
            Request::new(Operation::UpdateTestRun, run.to_string(), Method::PATCH, self.url(), path)
                .json(&update)?;
        self.call(request).await
    }

    /// Keeps a file with a test run.
    pub async fn attach_to_test_run(
        &self,
        project: ProjectId,
        run: i32,
        attachment: &TestAttachment,
    ) -> Result<()> {
        let path = segments![project.to_string(), "_apis", "test", "runs", run.to_string(), "attachments"];
        let name = attachment.file_name.clone();
        let request = Request::new(Operation::AttachToTestRun, name, Method::POST, self.url(), path)
            .json(attachment)?;
        self.call_without_answer(request).await
    }

    /// Adds code coverage to a build.
    pub async fn add_code_coverage(
        &self,
        project: ProjectId,
        build: BuildId,
        coverage: &CodeCoverageData,
    ) -> Result<()> {
        let path = segments![project.to_string(), "_apis", "test", "codecoverage"];
        let request =
            Request::new(Operation::AddCodeCoverage, build.to_string(), Method::POST, self.url(), path)
                .query("buildId", build)
                .json(coverage)?;
        self.call_without_answer(request).await
    }
}
