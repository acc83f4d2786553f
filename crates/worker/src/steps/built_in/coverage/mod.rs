//! PublishCodeCoverageResults (`PublishCodeCoverageResultsV2/publishcodecoverageresults.ts`). On this machine
//! there is no Code Coverage tab, so the log gets the sum.

mod report;

use std::path::PathBuf;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use self::report::Coverage;
use super::super::definition::{Input, text};
use super::super::{Definition, Prepared, StepError};
use super::matching::{Links, files_in};
use super::{Task, is_on_this_machine};
use crate::context::StepContext;

/// The largest report that is read.
const MAX_REPORT_BYTES: u64 = 256 * 1024 * 1024;

const HELP: &str =
    "https://docs.microsoft.com/azure/devops/pipelines/tasks/test/publish-code-coverage-results";
const SUMMARIES: Input = text("summaryFileLocation", "");
const SOURCES: Input = text("pathToSources", "");
const FAILS_IF_EMPTY: Input = text("failIfCoverageEmpty", "false");

/// Version 1, which is told what kind of report it is to read.
pub(super) static COVERAGE_OF_ONE_TOOL: Task = Task {
    definition: Definition {
        friendly_name: "Publish code coverage",
        description: "Publish Cobertura or JaCoCo code coverage results from a build",
        author: "Microsoft Corporation",
        help: HELP,
        inputs: &[
            text("codeCoverageTool", "JaCoCo"),
            SUMMARIES,
            SOURCES,
            text("reportDirectory", ""),
            text("additionalCodeCoverageFiles", ""),
            FAILS_IF_EMPTY,
        ],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

/// Version 2, which sees that itself.
pub(super) static COVERAGE: Task = Task {
    definition: Definition {
        friendly_name: "Publish code coverage results v2",
        description: "Publish any of the code coverage results from a build",
        author: "Microsoft Corporation",
        help: HELP,
        inputs: &[SUMMARIES, SOURCES, FAILS_IF_EMPTY],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    if !is_on_this_machine(&step.job.variable_or_empty("system.collectionUri")) {
        return Err(StepError::failed(
            "Dayfly's native worker cannot publish code coverage to Azure DevOps. Publish the reports as an \
             artifact, or run this job on Microsoft's agent.",
        ));
    }
    let inputs = &prepared.inputs;
    let mut sum = Coverage::default();
    for pattern in inputs.required(SUMMARIES.name)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let files = files_in(step, "", pattern, Links::Kept).await?;
        step.output(&format!("Found {} matches for pattern {pattern}", files.len())).await;
        for file in files {
            if step.cancel.is_cancelled() {
                return Err(StepError::Canceled);
            }
            match read(file.clone()).await {
                Ok(coverage) => {
                    step.output(&format!("{}: {coverage}", file.display())).await;
                    sum.add(coverage);
                }
                Err(why) => {
                    step.warning(&format!("Cannot read the code coverage of {}: {why}", file.display()))
                        .await;
                }
            }
        }
    }
    if sum.is_empty() {
        const NOTHING: &str = "No code coverage results were found to publish.";
        if inputs.flag(FAILS_IF_EMPTY.name) {
            return Err(StepError::failed(NOTHING));
        }
        step.warning(NOTHING).await;
        return Ok(TaskResult::Succeeded);
    }
    step.output(&format!("Code coverage: {sum}")).await;
    Ok(TaskResult::Succeeded)
}

async fn read(file: PathBuf) -> Result<Coverage, String> {
    let work = move || {
        let length = std::fs::metadata(&file).map_err(|error| error.to_string())?.len();
        if length > MAX_REPORT_BYTES {
            return Err(format!("it has {length} bytes, and at most {MAX_REPORT_BYTES} are read"));
        }
        Coverage::read(&std::fs::read_to_string(&file).map_err(|error| error.to_string())?)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
