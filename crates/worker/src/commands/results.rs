//! `##vso[results.…]` and `##vso[codecoverage.…]` (`ResultsCommandExtension.cs`, `CodeCoverageCommands.cs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dayfly_client::describe;
use tokio_util::sync::CancellationToken;

use super::artifact::upload_new;
use super::command::Command;
use super::{CommandResult, local_path};
use crate::artifacts::{Kind, NewArtifact};
use crate::code_coverage;
use crate::context::{JobContext, PendingFailure, Said, StepContext};
use crate::files;
use crate::test_results::{Format, Order, Runs};

/// A property that must be there; `called`: its name in the error.
fn needed<'a>(command: &'a Command, name: &str, called: &str) -> Result<&'a str, String> {
    command.non_empty(name).ok_or_else(|| format!("'{called}' has to be specified."))
}

/// Publishes the reports of test runners.
pub(super) async fn publish(step: &StepContext, command: &Command) -> CommandResult {
    let files = match command.data.trim() {
        "" => needed(command, "resultFiles", "TestResults")?,
        data => data,
    };
    let kind = needed(command, "type", "Testrunner")?;
    // What is neither true nor false is as if it were not there.
    let flag = |name: &str, default: bool| {
        let text = command.property(name).map(str::to_ascii_lowercase);
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(default)
    };
    let text = |name| command.property(name).unwrap_or_default().to_owned();
    let order = Order {
        format: Format::named(kind)?,
        files: files.split(',').map(|file| local_path(step, file.trim())).collect(),
        title: text("runTitle"),
        platform: text("platform"),
        configuration: text("config"),
        merges: flag("mergeResults", true),
        attaches: flag("publishRunAttachments", true),
    };
    let fails = flag("failTaskOnFailedTests", false);
    let runs = Runs::of(&step.job).map_err(|error| describe(&error))?;
    step.start_pending("Publish test results", || async move {
        let published = runs.publish(order).await;
        let lines = published.lines.into_iter().map(Said::Line);
        let said = lines.chain(published.warnings.into_iter().map(Said::Warning)).collect();
        if fails && !published.failed.is_empty() {
            let message = "There are one or more test failures detected in result files. Detailed summary of \
                           published test results can be viewed in the Tests tab.";
            return Err(PendingFailure { said, message: message.to_owned() });
        }
        Ok(said)
    })
    .await
}

/// Publishes a report of code coverage, and the folder with its pages as an artifact.
pub(super) async fn publish_code_coverage(step: &StepContext, command: &Command) -> CommandResult {
    let tool = needed(command, "codecoveragetool", "CodeCoverageTool")?;
    if !["cobertura", "jacoco"].contains(&tool.to_ascii_lowercase().as_str()) {
        return Err(format!("Code coverage tool '{tool}' is not supported."));
    }
    let summary = local_path(step, needed(command, "summaryfile", "SummaryFile")?);
    let pages = command.non_empty("reportdirectory").map(|folder| local_path(step, folder));
    step.output(&format!("Reading code coverage summary from '{}'", summary.display())).await;
    let coverage = code_coverage::read(summary.clone()).await;
    let coverage = coverage.map_err(|why| format!("Cannot read '{}': {why}", summary.display()))?;
    if coverage.is_empty() {
        step.warning("No coverage data found. Check the build errors/warnings for more details.").await;
    }
    let job = Arc::clone(&step.job);
    let cancel = step.cancel.clone();
    step.start_pending("Publish code coverage", || async move {
        let mut said = Vec::new();
        if !coverage.is_empty() {
            let lines = code_coverage::publish(&job, coverage).await.map_err(|error| describe(&error))?;
            said.extend(lines.into_iter().map(Said::Line));
        }
        let Some(pages) = pages else { return Ok(said) };
        if !files::is_folder(&pages).await {
            said.push(Said::Warning(format!("Directory not found: '{}'", pages.display())));
            return Ok(said);
        }
        said.push(Said::Line("Publishing code coverage files to TFS server.".to_owned()));
        said.extend(upload(&job, pages, &cancel).await?);
        Ok(said)
    })
    .await
}

/// Uploads the pages of a report; answers what the log is to say.
async fn upload(
    job: &JobContext,
    pages: PathBuf,
    cancel: &CancellationToken,
) -> Result<Vec<Said>, PendingFailure> {
    let artifacts = job.service.artifacts().map_err(|error| describe(&error))?;
    let name = format!("Code Coverage Report_{}", artifacts.build);
    let properties = BTreeMap::new();
    let new = NewArtifact { kind: Kind::Build, name: &name, folder: &name, source: &pages, properties };
    let mut said = upload_new(&artifacts, new, cancel).await?;
    said.push(Said::Line(format!("Published '{}' as artifact '{name}'", pages.display())));
    Ok(said)
}
