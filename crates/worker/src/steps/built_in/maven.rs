//! Maven (`MavenV4/maventask.ts`).

use std::path::Path;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{aliased, path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::java;
use super::program::{Program, arguments, words};
use crate::context::StepContext;
use crate::files;

pub(super) static MAVEN: Task = Task {
    definition: Definition {
        friendly_name: "Maven",
        description: "Build, test, and deploy with Apache Maven",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/maven",
        inputs: &[
            path("mavenPOMFile").called(&["mavenPomFile"]).or("pom.xml"),
            text("goals", "package"),
            text("options", ""),
            java::PUBLISHES,
            text("testResultsFiles", "**/surefire-reports/TEST-*.xml"),
            java::TEST_RUN_TITLE,
            aliased("codeCoverageTool", &["codeCoverageToolOption"], "None"),
            java::JAVA_HOME_SELECTION,
            java::JDK_VERSION,
            java::JDK_PATH,
            java::JDK_ARCHITECTURE,
            aliased("mavenVersionSelection", &["mavenVersionOption"], "Default"),
            aliased("mavenPath", &["mavenDirectory"], ""),
            text("mavenSetM2Home", "false"),
            aliased("mavenOpts", &["mavenOptions"], "-Xmx1024m"),
            aliased("mavenFeedAuthenticate", &["mavenAuthenticateFeed"], "false"),
            aliased("sqAnalysisEnabled", &["sonarQubeRunAnalysis"], "false"),
            aliased("checkstyleAnalysisEnabled", &["checkStyleRunAnalysis"], "false"),
            aliased("pmdAnalysisEnabled", &["pmdRunAnalysis"], "false"),
            aliased("findbugsAnalysisEnabled", &["findBugsRunAnalysis"], "false"),
            aliased("spotBugsAnalysisEnabled", &["spotBugsRunAnalysis"], "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let pom = inputs.required("mavenPOMFile")?;
    if !files::exists(pom).await {
        return Err(StepError::Failed(format!("Not found mavenPOMFile: {pom}")));
    }
    let maven = maven(step, prepared).await?;
    let mut variables: Vec<_> = java::home(step, prepared).await?.into_iter().collect();
    variables.extend(inputs.get("mavenOpts").map(|options| ("MAVEN_OPTS", options.to_owned())));
    java::warn_of_analyses(step, inputs).await;
    if inputs.flag("mavenFeedAuthenticate") {
        step.warning(
            "The feeds of Azure Artifacts need a login that only Azure DevOps gives: Maven goes on with the \
             settings of this machine.",
        )
        .await;
    }
    let sources = step.job.variable_or_empty("system.defaultWorkingDirectory");
    let program = |arguments| Program {
        variables: variables.clone(),
        ..Program::new(maven.clone(), arguments, Path::new(&sources))
    };
    program(vec!["-version".into()]).must(step, prepared).await?;
    let mut line = arguments([&"-f", &pom]);
    line.extend(words(inputs.text("options")));
    line.extend(words(inputs.text("goals")));
    let code = program(line).run(step, prepared).await?;
    // Failed tests are what one wants to know of when the build fails.
    java::tell_of_tests(step, inputs).await?;
    match code {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!("Build failed. Maven ended with exit code {code}."))),
    }
}

/// The program: of the folder that is named, of `M2_HOME`, or on the path.
async fn maven(step: &StepContext, prepared: &Prepared) -> Result<String, StepError> {
    let inputs = &prepared.inputs;
    let home = if inputs.text("mavenVersionSelection") == "Path" {
        let home = inputs.required("mavenPath")?.to_owned();
        if inputs.flag("mavenSetM2Home") {
            step.job.set_variable("M2_HOME", &home);
        }
        home
    } else {
        step.job.variable_or_empty("M2_HOME")
    };
    if home.is_empty() {
        return Ok("mvn".to_owned());
    }
    let program = Path::new(&home).join("bin/mvn").to_string_lossy().into_owned();
    match files::exists(&program).await {
        true => Ok(program),
        false => Err(StepError::Failed(format!("Not found maven path: {program}"))),
    }
}
