//! DotNetCoreCLI (`DotNetCoreCLIV2/dotnetcore.ts` and its commands).

mod pack;
mod publish;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use self::publish::Publishing;
use super::super::definition::{aliased, path, text};
use super::super::{Definition, Inputs, Prepared, StepError};
use super::Task;
use super::delete_files::remove;
use super::matching::{Links, files_in};
use super::program::{Program, arguments, folder, words};
use super::publish_test_results::publish_all;
use crate::context::StepContext;
use crate::test_results::Format;

pub(super) static DOTNET: Task = Task {
    definition: Definition {
        friendly_name: ".NET Core",
        description: "Build, test, package, or publish a dotnet application, or run a custom dotnet command",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/dotnet-core-cli",
        inputs: &[
            text("command", "build"),
            text("publishWebProjects", "true"),
            text("projects", ""),
            text("custom", ""),
            text("arguments", ""),
            text("restoreArguments", ""),
            text("publishTestResults", "true"),
            text("testRunTitle", ""),
            text("zipAfterPublish", "true"),
            text("modifyOutputPath", "true"),
            aliased("selectOrConfig", &["feedsToUse"], "select"),
            aliased("feedRestore", &["vstsFeed"], ""),
            text("includeNuGetOrg", "true"),
            text("nugetConfigPath", ""),
            aliased("externalEndpoints", &["externalFeedCredentials"], ""),
            text("noCache", "false"),
            aliased("packagesDirectory", &["restoreDirectory"], ""),
            text("verbosityRestore", "Normal"),
            path("searchPatternPush")
                .called(&["packagesToPush"])
                .or("$(Build.ArtifactStagingDirectory)/*.nupkg"),
            path("searchPatternPack").called(&["packagesToPack"]).or("**/*.csproj"),
            aliased("configurationToPack", &["configuration"], "$(BuildConfiguration)"),
            path("outputDir").called(&["packDirectory"]).or("$(Build.ArtifactStagingDirectory)"),
            text("nobuild", "false"),
            text("includesymbols", "false"),
            text("includesource", "false"),
            text("versioningScheme", "off"),
            text("versionEnvVar", ""),
            aliased("requestedMajorVersion", &["majorVersion"], "1"),
            aliased("requestedMinorVersion", &["minorVersion"], "0"),
            aliased("requestedPatchVersion", &["patchVersion"], "0"),
            text("buildProperties", ""),
            text("verbosityPack", "Normal"),
            path("workingDirectory"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    match inputs.required("command")? {
        command @ ("build" | "publish" | "run") => with_projects(step, prepared, command).await,
        "custom" => with_projects(step, prepared, inputs.required("custom")?).await,
        "test" => test(step, prepared).await,
        "restore" => restore(step, prepared).await,
        "pack" => pack::run(step, prepared).await,
        "push" => Err(StepError::failed(
            "dotnet push needs the credentials of Azure DevOps, which Dayfly's native worker does not have. \
             Push by a script with credentials from a secret variable, or run this job on Microsoft's agent.",
        )),
        other => Err(StepError::Failed(format!("The command {other} was not recognized."))),
    }
}

/// The projects that the patterns of an input name; none named is the folder that dotnet starts in.
async fn projects(step: &StepContext, inputs: &Inputs) -> Result<Vec<Option<PathBuf>>, StepError> {
    match inputs.get("projects").filter(|patterns| !patterns.trim().is_empty()) {
        Some(patterns) => {
            Ok(files_in(step, "", patterns, Links::Followed).await?.into_iter().map(Some).collect())
        }
        None => Ok(vec![None]),
    }
}

/// Runs a command for each project, and tells of all that failed.
async fn with_projects(
    step: &StepContext,
    prepared: &Prepared,
    command: &str,
) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let folder = folder(inputs.text("workingDirectory")).await?;
    let publishing = (command == "publish").then(|| Publishing::new(inputs));
    let projects = match &publishing {
        Some(publishing) if publishing.of_web => publish::web_projects(step).await?,
        _ => projects(step, inputs).await?,
    };
    if projects.is_empty() {
        return Err(no_projects());
    }
    let mut failed = Vec::new();
    for project in projects {
        let mut line: Vec<OsString> = words(command);
        match (&project, command) {
            (Some(project), "run") => line.extend(arguments([&"--project", project])),
            (Some(project), _) => line.push(project.into()),
            (None, _) => {}
        }
        match &publishing {
            Some(publishing) => line.extend(publishing.arguments(project.as_deref())),
            None => line.extend(words(inputs.text("arguments"))),
        }
        let code = Program::new("dotnet", line, &folder).run(step, prepared).await?;
        if code != 0 {
            failed.push(tell_of_failure(step, project.as_deref(), code).await);
        } else if let Some(publishing) = &publishing {
            publishing.zip(step, &folder, project.as_deref()).await?;
        }
    }
    all_but(failed)
}

async fn test(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let folder = folder(inputs.text("workingDirectory")).await?;
    let results = step.job.variable_or_empty("agent.tempDirectory");
    let publishes = inputs.flag("publishTestResults");
    let mut options = words(inputs.text("arguments"));
    if publishes {
        options.splice(..0, arguments([&"--logger", &"trx", &"--results-directory", &results]));
        // Those of an earlier step have been told of.
        for report in reports(step, &results).await? {
            remove(&report)
                .map_err(|error| StepError::Failed(format!("Cannot delete {}: {error}", report.display())))?;
        }
    }
    let projects = projects(step, inputs).await?;
    if projects.is_empty() {
        step.warning("Project file(s) matching the specified pattern were not found.").await;
        return Ok(TaskResult::Succeeded);
    }
    let mut failed = Vec::new();
    for project in projects {
        let mut line: Vec<OsString> = vec!["test".into()];
        line.extend(project.iter().map(Into::into));
        line.extend(options.iter().cloned());
        match Program::new("dotnet", line, &folder).run(step, prepared).await? {
            0 => {}
            code => failed.push(tell_of_failure(step, project.as_deref(), code).await),
        }
    }
    if publishes {
        match reports(step, &results).await? {
            none if none.is_empty() => step.warning("No test result files were found.").await,
            found => {
                publish_all(step, Format::VsTest, inputs.text("testRunTitle"), found).await?;
            }
        }
    }
    all_but(failed)
}

async fn reports(step: &StepContext, folder: &str) -> Result<Vec<PathBuf>, StepError> {
    files_in(step, folder, "**/*.trx", Links::Kept).await
}

async fn restore(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let projects = projects(step, inputs).await?;
    if projects.is_empty() {
        return Err(StepError::failed("No files matched the search pattern."));
    }
    let sources = PathBuf::from(step.job.variable_or_empty("system.defaultWorkingDirectory"));
    let is_own_config = inputs.text("selectOrConfig") == "config";
    if inputs.get("feedRestore").is_some() && !is_own_config {
        step.warning(
            "The feed of this step needs a login that only Azure DevOps gives: dotnet goes on with the \
             package sources of this machine.",
        )
        .await;
    }
    for project in projects {
        let mut line: Vec<OsString> = vec!["restore".into()];
        line.extend(project.iter().map(Into::into));
        if let Some(packages) = inputs.get("packagesDirectory") {
            line.extend(arguments([&"--packages", &sources.join(packages)]));
        }
        if let Some(config) = inputs.get("nugetConfigPath").filter(|_| is_own_config) {
            line.extend(arguments([&"--configfile", &sources.join(config)]));
        }
        if inputs.flag("noCache") {
            line.push("--no-cache".into());
        }
        line.extend(verbosity(inputs.text("verbosityRestore")));
        line.extend(words(inputs.text("restoreArguments")));
        let folder = project.as_deref().and_then(Path::parent).unwrap_or(&sources);
        match Program::new("dotnet", line, folder).run(step, prepared).await? {
            0 => {}
            code => {
                tell_of_failure(step, project.as_deref(), code).await;
                return Err(StepError::failed("Packages failed to restore"));
            }
        }
    }
    step.output("Packages were restored successfully").await;
    Ok(TaskResult::Succeeded)
}

/// The option for how much dotnet says; `-` leaves that to it.
fn verbosity(wish: &str) -> Vec<OsString> {
    match wish {
        "" | "-" => Vec::new(),
        wish => arguments([&"--verbosity", &wish]),
    }
}

/// Tells of a project that failed; answers its name.
async fn tell_of_failure(step: &StepContext, project: Option<&Path>, code: i32) -> String {
    step.error(&format!("Error: The process 'dotnet' failed with exit code {code}")).await;
    project.map(|project| project.display().to_string()).unwrap_or_default()
}

fn all_but(failed: Vec<String>) -> Result<TaskResult, StepError> {
    if failed.is_empty() {
        return Ok(TaskResult::Succeeded);
    }
    Err(StepError::Failed(format!(
        "Dotnet command failed with non-zero exit code on the following projects : [{}]",
        failed.join(",")
    )))
}

fn no_projects() -> StepError {
    StepError::failed("Project file(s) matching the specified pattern were not found.")
}
