//! Gradle (`GradleV3/gradletask.ts`).

use std::os::unix::fs::PermissionsExt as _;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{aliased, path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::java;
use super::program::{Program, folder, words};
use crate::context::StepContext;

pub(super) static GRADLE: Task = Task {
    definition: Definition {
        friendly_name: "Gradle",
        description: "Build using a Gradle wrapper script",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/gradle",
        inputs: &[
            path("wrapperScript").called(&["gradleWrapperFile"]).or("gradlew"),
            path("cwd").called(&["workingDirectory"]),
            text("options", ""),
            text("tasks", "build"),
            java::PUBLISHES,
            text("testResultsFiles", "**/TEST-*.xml"),
            java::TEST_RUN_TITLE,
            aliased("codeCoverageTool", &["codeCoverageToolOption"], "None"),
            java::JAVA_HOME_SELECTION,
            java::JDK_VERSION,
            java::JDK_PATH,
            java::JDK_ARCHITECTURE,
            aliased("gradleOpts", &["gradleOptions"], "-Xmx1024m"),
            aliased("sqAnalysisEnabled", &["sonarQubeRunAnalysis"], "false"),
            aliased("checkstyleAnalysisEnabled", &["checkStyleRunAnalysis"], "false"),
            aliased("findbugsAnalysisEnabled", &["findBugsRunAnalysis"], "false"),
            aliased("pmdAnalysisEnabled", &["pmdRunAnalysis"], "false"),
            aliased("spotBugsAnalysisEnabled", &["spotBugsAnalysis"], "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let wrapper = inputs.required("wrapperScript")?;
    make_executable(step, wrapper).await?;
    let tasks = inputs.required("tasks")?;
    let mut variables: Vec<_> = java::home(step, prepared).await?.into_iter().collect();
    variables.extend(inputs.get("gradleOpts").map(|options| ("GRADLE_OPTS", options.to_owned())));
    java::warn_of_analyses(step, inputs).await;
    let mut arguments = words(inputs.text("options"));
    arguments.extend(tasks.split_whitespace().map(Into::into));
    let program =
        Program { variables, ..Program::new(wrapper, arguments, folder(inputs.text("cwd")).await?) };
    let code = program.run(step, prepared).await?;
    java::tell_of_tests(step, inputs).await?;
    match code {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!(
            "Gradle execution for task(s) {} failed with exit code {code}.",
            tasks.split_whitespace().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Lets a wrapper be run that git has without its right, as on Windows.
async fn make_executable(step: &StepContext, wrapper: &str) -> Result<(), StepError> {
    let metadata = tokio::fs::metadata(wrapper).await;
    let mut permissions =
        metadata.map_err(|_| StepError::Failed(format!("Not found wrapperScript: {wrapper}")))?.permissions();
    if permissions.mode() & 0o111 != 0 {
        return Ok(());
    }
    step.warning("Used 'chmod' method for gradlew file to make it executable.").await;
    permissions.set_mode(0o755);
    let changed = tokio::fs::set_permissions(wrapper, permissions).await;
    changed.map_err(|error| StepError::Failed(format!("Cannot make {wrapper} executable: {error}")))
}
