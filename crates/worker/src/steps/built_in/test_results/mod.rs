//! PublishTestResults (`PublishTestResultsV2/publishtestresults.ts`). On this machine there is no Tests tab,
//! so the log gets the sum and the names of the tests that failed.

mod report;

use std::path::PathBuf;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

pub(super) use self::report::Format;
use self::report::Report;
use super::super::definition::{aliased, text};
use super::super::{Definition, Prepared, StepError};
use super::matching::{Links, files_in};
use super::{Task, is_on_this_machine};
use crate::context::StepContext;

/// The largest report that is read.
const MAX_REPORT_BYTES: u64 = 256 * 1024 * 1024;

/// How many failed tests the warning names; the log has all.
const NAMED: usize = 5;

pub(super) static PUBLISH_TEST_RESULTS: Task = Task {
    definition: Definition {
        friendly_name: "Publish Test Results",
        description: "Publish test results to Azure Pipelines",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/test/publish-test-results",
        inputs: &[
            aliased("testRunner", &["testResultsFormat"], "JUnit"),
            text("testResultsFiles", "**/TEST-*.xml"),
            text("searchFolder", "$(System.DefaultWorkingDirectory)"),
            text("mergeTestResults", "false"),
            text("failTaskOnFailedTests", "false"),
            text("failTaskOnFailureToPublishResults", "false"),
            text("failTaskOnMissingResultsFile", "false"),
            text("testRunTitle", ""),
            aliased("platform", &["buildPlatform"], ""),
            aliased("configuration", &["buildConfiguration"], ""),
            text("publishRunAttachments", "true"),
        ],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    if !is_on_this_machine(&step.job.variable_or_empty("system.collectionUri")) {
        return Err(StepError::failed(
            "Dayfly's native worker cannot publish test results to Azure DevOps. Publish the reports as an \
             artifact, or run this job on Microsoft's agent.",
        ));
    }
    let inputs = &prepared.inputs;
    let format = Format::named(inputs.required("testRunner")?).map_err(StepError::Failed)?;
    let patterns = inputs.required("testResultsFiles")?;
    let files = files_in(step, inputs.text("searchFolder"), patterns, Links::Followed).await?;
    if files.is_empty() {
        let wanted = patterns.lines().map(str::trim).collect::<Vec<_>>().join(",");
        let message = format!("No test result files matching '{wanted}' were found.");
        if inputs.flag("failTaskOnMissingResultsFile") {
            return Err(StepError::Failed(message));
        }
        step.warning(&message).await;
        return Ok(TaskResult::Succeeded);
    }
    let title = inputs.get("testRunTitle").unwrap_or("Tests");
    let told = tell(step, title, format, files).await?;
    if told.has_failures && inputs.flag("failTaskOnFailedTests") {
        return Err(StepError::failed(
            "There are one or more test failures detected in result files. Detailed summary of published \
             test results can be viewed in the Tests tab.",
        ));
    }
    if told.has_unreadable && inputs.flag("failTaskOnFailureToPublishResults") {
        return Err(StepError::failed("Not all test results could be read."));
    }
    Ok(TaskResult::Succeeded)
}

/// What reports came to.
pub(super) struct Told {
    has_failures: bool,
    has_unreadable: bool,
}

/// Sums reports up in the log, names the tests that failed, and warns of them.
pub(super) async fn tell(
    step: &StepContext,
    title: &str,
    format: Format,
    files: Vec<PathBuf>,
) -> Result<Told, StepError> {
    let mut sum = Report::default();
    let mut has_unreadable = false;
    for file in files {
        if step.cancel.is_cancelled() {
            return Err(StepError::Canceled);
        }
        match read(file.clone(), format).await {
            Ok(report) => {
                step.output(&format!("{}: {report}", file.display())).await;
                sum.add(report);
            }
            Err(why) => {
                has_unreadable = true;
                step.warning(&format!("Failed to read the test results of {}: {why}", file.display())).await;
            }
        }
    }
    for test in &sum.failed {
        step.output(&format!("Failed: {test}")).await;
    }
    step.output(&format!("{title}: {sum}")).await;
    tell_of_failures(step, title, &sum).await;
    Ok(Told { has_failures: !sum.failed.is_empty(), has_unreadable })
}

/// Stands in for the Tests tab, where Azure DevOps shows them.
async fn tell_of_failures(step: &StepContext, title: &str, sum: &Report) {
    let mut names: Vec<String> = sum.failed.iter().take(NAMED).cloned().collect();
    if names.is_empty() {
        return;
    }
    if let Some(more @ 1..) = sum.failed.len().checked_sub(NAMED) {
        names.push(format!("{more} more"));
    }
    step.warning(&format!("{title}: {sum}. Failed: {}", names.join(", "))).await;
}

async fn read(file: PathBuf, format: Format) -> Result<Report, String> {
    let work = move || {
        let length = std::fs::metadata(&file).map_err(|error| error.to_string())?.len();
        if length > MAX_REPORT_BYTES {
            return Err(format!("it has {length} bytes, and at most {MAX_REPORT_BYTES} are read"));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        Report::read(&text, format)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
