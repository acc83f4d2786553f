//! PublishCodeCoverageResults (`PublishCodeCoverageResultsV1` and `V2`, `publishcodecoverageresults.ts`).

use dayfly_client::describe;
use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{Input, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::matching::{Links, files_in};
use crate::code_coverage::{self, Coverage};
use crate::context::StepContext;

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
    let inputs = &prepared.inputs;
    let mut sum = Coverage::default();
    for pattern in inputs.required(SUMMARIES.name)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let files = files_in(step, "", pattern, Links::Kept).await?;
        step.output(&format!("Found {} matches for pattern {pattern}", files.len())).await;
        for file in files {
            if step.cancel.is_cancelled() {
                return Err(StepError::Canceled);
            }
            match code_coverage::read(file.clone()).await {
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
    let published = tokio::select! {
        published = code_coverage::publish(&step.job, sum) => published,
        () = step.cancel.cancelled() => return Err(StepError::Canceled),
    };
    for line in published.map_err(|error| StepError::Failed(describe(&error)))? {
        step.output(&line).await;
    }
    Ok(TaskResult::Succeeded)
}
