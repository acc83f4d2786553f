//! PublishTestResults (`PublishTestResultsV2/publishtestresults.ts`).

use std::path::PathBuf;

use dayfly_client::describe;
use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{aliased, text};
use super::super::{Definition, Prepared, StepError};
use super::matching::{Links, files_in};
use super::{Task, is_local};
use crate::context::StepContext;
use crate::test_results::{Format, Order, Published, Runs};

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
    let order = Order {
        format,
        files,
        title: inputs.text("testRunTitle").to_owned(),
        platform: inputs.text("platform").to_owned(),
        configuration: inputs.text("configuration").to_owned(),
        merges: inputs.flag("mergeTestResults"),
        attaches: inputs.flag("publishRunAttachments"),
    };
    let published = publish(step, order).await?;
    if !published.failed.is_empty() && inputs.flag("failTaskOnFailedTests") {
        return Err(StepError::failed(
            "There are one or more test failures detected in result files. Detailed summary of published \
             test results can be viewed in the Tests tab.",
        ));
    }
    if published.is_incomplete && inputs.flag("failTaskOnFailureToPublishResults") {
        return Err(StepError::failed("Not all test results could be read and published."));
    }
    Ok(TaskResult::Succeeded)
}

/// Publishes the reports that a build tool wrote, in one test run.
pub(super) async fn publish_all(
    step: &StepContext,
    format: Format,
    title: &str,
    files: Vec<PathBuf>,
) -> Result<(), StepError> {
    let (title, platform, configuration) = (title.to_owned(), String::new(), String::new());
    let order = Order { format, files, title, platform, configuration, merges: true, attaches: true };
    publish(step, order).await.map(|_| ())
}

async fn publish(step: &StepContext, order: Order) -> Result<Published, StepError> {
    let runs = Runs::of(&step.job).map_err(|error| StepError::Failed(describe(&error)))?;
    let published = tokio::select! {
        published = runs.publish(order) => published,
        () = step.cancel.cancelled() => return Err(StepError::Canceled),
    };
    for line in &published.lines {
        step.output(line).await;
    }
    for warning in &published.warnings {
        step.warning(warning).await;
    }
    if is_local(&step.job) {
        tell_of_failures(step, &published).await;
    }
    Ok(published)
}

/// Stands in for the Tests tab, where Azure DevOps shows them.
async fn tell_of_failures(step: &StepContext, published: &Published) {
    let mut names: Vec<String> = published.failed.iter().take(NAMED).cloned().collect();
    if names.is_empty() {
        return;
    }
    if let Some(more @ 1..) = published.failed.len().checked_sub(NAMED) {
        names.push(format!("{more} more"));
    }
    step.warning(&format!("{}. Failed: {}", published.sum, names.join(", "))).await;
}
