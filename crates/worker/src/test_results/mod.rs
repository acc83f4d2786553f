//! Results of tests: the reports of test runners are read, summed up and published as test runs of the build
//! (`ResultsCommandExtension.cs`, `LegacyTestRunDataPublisher.cs`, `TestRunPublisher.cs`).
//!
//! Not published are attachments of single tests, and the tests within a test of NUnit and VSTest.

mod report;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_client::{Connection, describe};
use dayfly_protocol::test_results::{
    JobReference, NewTestRun, PhaseReference, PipelineReference, ShallowReference, StageReference,
    TestAttachment, TestCaseResult,
};
use dayfly_protocol::{BuildId, ProjectId};

pub(crate) use self::report::Format;
use self::report::{Outcome, Report};
use crate::context::JobContext;
use crate::files::{read_bounded, read_bounded_text};

/// The largest report that is read.
const MAX_REPORT_BYTES: u64 = 256 * 1024 * 1024;

/// Results in one call (`BATCH_SIZE`).
const BATCH: usize = 1000;

/// The largest report that is kept with its run. (The official agent takes up to 75 MB; this worker may have
/// less memory than that.)
const MAX_ATTACHMENT_BYTES: u64 = 16 * 1024 * 1024;

/// What is to be published.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) format: Format,
    pub(crate) files: Vec<PathBuf>,
    /// What the test run is called; empty: a name is made.
    pub(crate) title: String,
    pub(crate) platform: String,
    pub(crate) configuration: String,
    /// One test run for all reports, or one for each.
    pub(crate) merges: bool,
    /// Whether the reports are kept with the runs.
    pub(crate) attaches: bool,
}

/// What it came to.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// What the log is to say.
    pub(crate) lines: Vec<String>,
    /// What went wrong on the way, which fails nothing by itself.
    pub(crate) warnings: Vec<String>,
    /// The names of the tests that failed.
    pub(crate) failed: Vec<String>,
    /// All in one line.
    pub(crate) sum: String,
    /// Whether a report could not be read, or not be published.
    pub(crate) is_incomplete: bool,
}

/// Where test runs are published.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    connection: Connection,
    project: ProjectId,
    build: BuildId,
    job: PipelineReference,
}

impl Runs {
    /// Those of a job's build.
    pub(crate) fn of(job: &JobContext) -> Result<Runs, crate::service::Error> {
        let (connection, project, build) = job.service.build_place()?;
        let text = |name| job.variable_or_empty(name);
        let number = |name| text(name).parse().unwrap_or_default();
        let job = PipelineReference {
            pipeline_id: build.0,
            stage_reference: StageReference {
                stage_name: text("system.stageName"),
                attempt: number("system.stageAttempt"),
            },
            phase_reference: PhaseReference {
                phase_name: text("system.phaseName"),
                attempt: number("system.phaseAttempt"),
            },
            job_reference: JobReference {
                job_name: text("system.jobName"),
                attempt: number("system.jobAttempt"),
            },
        };
        Ok(Runs { connection, project, build, job })
    }

    /// Reads the reports, and publishes them as the order says. What cannot be read or published is told of,
    /// and does not keep the others back.
    pub(crate) async fn publish(&self, order: Order) -> Published {
        let mut published = Published::default();
        let mut reports = Vec::new();
        for file in &order.files {
            match read(file.clone(), order.format).await {
                Ok(report) => {
                    published.lines.push(format!("{}: {report}", file.display()));
                    reports.push((vec![file.as_path()], report));
                }
                Err(why) => {
                    published.warn(format!("Failed to read the test results of {}: {why}", file.display()))
                }
            }
        }
        if order.merges && reports.len() > 1 {
            let (files, reports_of_files): (Vec<_>, Vec<_>) = reports.into_iter().unzip();
            let tests = reports_of_files.into_iter().flat_map(|report| report.tests).collect();
            reports = vec![(files.concat(), Report { tests })];
        }
        let are_many = reports.len() > 1;
        let mut sum = Report::default();
        for (number, (files, report)) in (1..).zip(reports) {
            let name = self.name(&order, are_many.then_some(number));
            let lines = &mut published.lines;
            if let Err(error) = self.publish_run(&order, name, &files, &report, lines).await {
                published.warn(format!("Failed to publish test results: {}", describe(&error)));
            }
            sum.tests.extend(report.tests);
        }
        published.failed = sum.failed().into_iter().map(str::to_owned).collect();
        published.lines.extend(published.failed.iter().map(|test| format!("Failed: {test}")));
        let title = if order.title.is_empty() { "Tests" } else { order.title.as_str() };
        published.sum = format!("{title}: {sum}");
        published.lines.push(published.sum.clone());
        published
    }

    /// What a run is called; of many with one title, each has a number.
    fn name(&self, order: &Order, number: Option<usize>) -> String {
        match (order.title.as_str(), number) {
            ("", _) => format!("{:?}_TestResults_{}", order.format, self.build),
            (title, Some(number)) => format!("{title}_{number}"),
            (title, None) => title.to_owned(),
        }
    }

    async fn publish_run(
        &self,
        order: &Order,
        name: String,
        files: &[&Path],
        report: &Report,
        lines: &mut Vec<String>,
    ) -> Result<(), dayfly_client::Error> {
        let new = NewTestRun {
            name,
            automated: true,
            state: "InProgress".to_owned(),
            build: ShallowReference { id: self.build.to_string() },
            build_platform: order.platform.clone(),
            build_flavor: order.configuration.clone(),
            pipeline_reference: self.job.clone(),
        };
        let run = self.connection.create_test_run(self.project, &new).await?.id;
        lines.push(format!("Publishing test results to test run '{run}'"));
        let mut left = report.tests.len();
        for tests in report.tests.chunks(BATCH) {
            lines.push(format!("Test results remaining: {left}. Test run id: {run}"));
            left -= tests.len();
            let results: Vec<_> = tests.iter().map(|test| result(test, order.format)).collect();
            self.connection.add_test_results(self.project, run, &results).await?;
        }
        let completed = self.connection.complete_test_run(self.project, run).await?;
        for file in files.iter().filter(|_| order.attaches) {
            match attachment(file.to_path_buf()).await {
                Ok(attachment) => {
                    self.connection.attach_to_test_run(self.project, run, &attachment).await?;
                }
                Err(why) => lines.push(format!("{} is not kept with the test run: {why}", file.display())),
            }
        }
        lines.push(format!("Published Test Run : {}", completed.web_access_url.unwrap_or_default()));
        Ok(())
    }
}

impl Published {
    fn warn(&mut self, warning: String) {
        self.is_incomplete = true;
        self.warnings.push(warning);
    }
}

/// A test as the service takes it.
fn result(test: &report::Test, format: Format) -> TestCaseResult {
    let outcome = match test.outcome {
        Outcome::Passed => "Passed",
        Outcome::Failed => "Failed",
        Outcome::NotExecuted => "NotExecuted",
    };
    // JUnit's readers take the title for the name.
    let name = if format == Format::JUnit { &test.title } else { &test.full_name };
    TestCaseResult {
        test_case_title: test.title.clone(),
        automated_test_name: name.clone(),
        automated_test_storage: test.storage.clone(),
        automated_test_type: format!("{format:?}"),
        outcome: outcome.to_owned(),
        state: "Completed".to_owned(),
        duration_in_ms: test.milliseconds,
        error_message: test.message.clone(),
        stack_trace: test.stack.clone(),
    }
}

async fn read(file: PathBuf, format: Format) -> Result<Report, String> {
    let work = move || Report::read(&read_bounded_text(&file, MAX_REPORT_BYTES)?, format);
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

async fn attachment(file: PathBuf) -> Result<TestAttachment, String> {
    let work = move || {
        let bytes = read_bounded(&file, MAX_ATTACHMENT_BYTES)?;
        Ok(TestAttachment {
            attachment_type: "GeneralAttachment".to_owned(),
            file_name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            stream: STANDARD.encode(bytes),
        })
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
