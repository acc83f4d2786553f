//! Ant (`ANTV1/anttask.ts`).

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{aliased, path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::java;
use super::program::{Program, arguments, words};
use crate::context::StepContext;
use crate::files;

pub(super) static ANT: Task = Task {
    definition: Definition {
        friendly_name: "Ant",
        description: "Build with Apache Ant",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/ant",
        inputs: &[
            path("antBuildFile").called(&["buildFile"]).or("build.xml"),
            text("options", ""),
            text("targets", ""),
            java::PUBLISHES,
            text("testResultsFiles", "**/TEST-*.xml"),
            java::TEST_RUN_TITLE,
            aliased("codeCoverageTool", &["codeCoverageToolOptions"], "None"),
            aliased("antHomeUserInputPath", &["antHomeDirectory"], ""),
            java::JAVA_HOME_SELECTION,
            java::JDK_VERSION,
            java::JDK_PATH.called(&["jdkUserInputDirectory"]),
            java::JDK_ARCHITECTURE,
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let file = inputs.required("antBuildFile")?;
    if !files::exists(file).await {
        return Err(StepError::Failed(format!("Not found antBuildFile: {file}")));
    }
    let mut variables: Vec<_> = java::home(step, prepared).await?.into_iter().collect();
    variables.extend(inputs.get("antHomeUserInputPath").map(|home| ("ANT_HOME", home.to_owned())));
    java::warn_of_analyses(step, inputs).await;
    let mut line = arguments([&"-buildfile", &file]);
    line.extend(words(inputs.text("options")));
    line.extend(inputs.text("targets").split_whitespace().map(Into::into));
    let folder = step.job.variable_or_empty("system.defaultWorkingDirectory");
    let program = Program { variables, ..Program::new("ant", line, folder) };
    let code = program.run(step, prepared).await?;
    java::tell_of_tests(step, inputs).await?;
    match code {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!("The process 'ant' failed with exit code {code}"))),
    }
}
