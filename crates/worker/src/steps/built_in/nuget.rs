//! NuGetCommand (`NuGetCommandV2/nugetcommandmain.ts` and its commands): by `nuget`, and where that is not
//! here, packages are restored by `dotnet`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{aliased, path, text};
use super::super::{Definition, Inputs, Prepared, StepError};
use super::Task;
use super::matching::{Links, files_in};
use super::package_version::{package_properties, package_version};
use super::program::{Program, arguments, first_of, words};
use crate::context::StepContext;

pub(super) static NUGET: Task = Task {
    definition: Definition {
        friendly_name: "NuGet",
        description: "Restore, pack, or push NuGet packages, or run a NuGet command. Supports NuGet.org and \
                      authenticated feeds like Azure Artifacts and MyGet. Uses NuGet.exe and works with .NET \
                      Framework apps. For .NET Core and .NET Standard apps, use the .NET Core task.",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/package/nuget",
        inputs: &[
            text("command", "restore"),
            path("solution").called(&["restoreSolution"]).or("**/*.sln"),
            aliased("selectOrConfig", &["feedsToUse"], "select"),
            aliased("feedRestore", &["vstsFeed"], ""),
            text("nugetConfigPath", ""),
            text("noCache", "false"),
            text("disableParallelProcessing", "false"),
            aliased("packagesDirectory", &["restoreDirectory"], ""),
            text("verbosityRestore", "Detailed"),
            path("searchPatternPack").called(&["packagesToPack"]).or("**/*.csproj"),
            aliased("configurationToPack", &["configuration"], "$(BuildConfiguration)"),
            path("outputDir").called(&["packDestination"]).or("$(Build.ArtifactStagingDirectory)"),
            text("versioningScheme", "off"),
            text("includeReferencedProjects", "false"),
            text("versionEnvVar", ""),
            aliased("requestedMajorVersion", &["majorVersion"], "1"),
            aliased("requestedMinorVersion", &["minorVersion"], "0"),
            aliased("requestedPatchVersion", &["patchVersion"], "0"),
            text("includeSymbols", "false"),
            text("buildProperties", ""),
            text("basePath", ""),
            text("verbosityPack", "Detailed"),
            text("arguments", ""),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    match inputs.required("command")? {
        "restore" => restore(step, prepared).await,
        "pack" => pack(step, prepared).await,
        "custom" => {
            let line = words(inputs.required("arguments")?);
            nuget(step, prepared, line, &sources(step)).await?;
            Ok(TaskResult::Succeeded)
        }
        "push" => Err(StepError::failed(
            "nuget push needs the credentials of Azure DevOps, which Dayfly's native worker does not have. \
             Push by a script with credentials from a secret variable, or run this job on Microsoft's agent.",
        )),
        other => Err(StepError::Failed(format!("The command {other} was not recognized."))),
    }
}

fn sources(step: &StepContext) -> PathBuf {
    step.job.variable_or_empty("system.defaultWorkingDirectory").into()
}

async fn restore(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let patterns = inputs.required("solution")?.replace(';', "\n");
    let solutions = files_in(step, "", &patterns, Links::Followed).await?;
    if solutions.is_empty() {
        return Err(StepError::failed("No packages matched the search pattern."));
    }
    if inputs.get("feedRestore").is_some() && inputs.text("selectOrConfig") != "config" {
        step.warning(
            "The feed of this step needs a login that only Azure DevOps gives: the package sources of this \
             machine are used.",
        )
        .await;
    }
    let by_dotnet = first_of(&["nuget", "dotnet"], step, prepared).await? == Some("dotnet");
    if by_dotnet {
        step.output("There is no `nuget` on the PATH, so `dotnet` restores the packages.").await;
    }
    let options = restore_options(inputs, &sources(step), by_dotnet);
    for solution in solutions {
        let mut line = arguments([&"restore", &solution]);
        line.extend(options.iter().cloned());
        let folder = solution.parent().unwrap_or(Path::new("/"));
        let restored = match by_dotnet {
            true => Program::new("dotnet", line, folder).must(step, prepared).await,
            false => nuget(step, prepared, line, folder).await,
        };
        if let Err(StepError::Failed(why)) = restored {
            step.error(&why).await;
            return Err(StepError::failed("Packages failed to restore"));
        }
        restored?;
    }
    step.output("Packages were restored successfully").await;
    Ok(TaskResult::Succeeded)
}

fn restore_options(inputs: &Inputs, sources: &Path, by_dotnet: bool) -> Vec<OsString> {
    let name =
        |nuget: &'static str, dotnet: &'static str| OsString::from(if by_dotnet { dotnet } else { nuget });
    let mut options = Vec::new();
    if let Some(packages) = inputs.get("packagesDirectory") {
        options.extend([name("-PackagesDirectory", "--packages"), sources.join(packages).into()]);
    }
    if inputs.flag("noCache") {
        options.push(name("-NoCache", "--no-cache"));
    }
    if inputs.flag("disableParallelProcessing") {
        options.push(name("-DisableParallelProcessing", "--disable-parallel"));
    }
    if let Some(verbosity) = inputs.get("verbosityRestore").filter(|wish| *wish != "-") {
        options.extend([name("-Verbosity", "--verbosity"), verbosity.into()]);
    }
    if !by_dotnet {
        options.push("-NonInteractive".into());
    }
    if let Some(config) = inputs.get("nugetConfigPath").filter(|_| inputs.text("selectOrConfig") == "config")
    {
        options.extend([name("-ConfigFile", "--configfile"), sources.join(config).into()]);
    }
    options
}

async fn pack(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let output = inputs.required("outputDir")?;
    let made = tokio::fs::create_dir_all(output).await;
    made.map_err(|error| StepError::Failed(format!("Cannot make {output}: {error}")))?;
    let mut options = arguments([&"-NonInteractive", &"-OutputDirectory", &output]);
    if let Some(properties) = package_properties(inputs) {
        options.extend(arguments([&"-Properties", &properties]));
    }
    if let Some(base) = inputs.get("basePath") {
        options.extend(arguments([&"-BasePath", &base]));
    }
    if let Some(version) = package_version(step, inputs)? {
        options.extend(arguments([&"-Version", &version]));
    }
    let flags = [("includeReferencedProjects", "-IncludeReferencedProjects"), ("includeSymbols", "-Symbols")];
    options
        .extend(flags.iter().filter(|(input, _)| inputs.flag(input)).map(|(_, flag)| OsString::from(flag)));
    if let Some(verbosity) = inputs.get("verbosityPack").filter(|wish| *wish != "-") {
        options.extend(arguments([&"-Verbosity", &verbosity]));
    }
    let patterns = inputs.required("searchPatternPack")?.replace(';', "\n");
    let projects = files_in(step, "", &patterns, Links::Followed).await?;
    if projects.is_empty() {
        return Err(StepError::failed("No packages matched the search pattern."));
    }
    for project in projects {
        let mut line = arguments([&"pack", &project]);
        line.extend(options.iter().cloned());
        nuget(step, prepared, line, project.parent().unwrap_or(Path::new("/"))).await?;
    }
    Ok(TaskResult::Succeeded)
}

async fn nuget(
    step: &StepContext,
    prepared: &Prepared,
    line: Vec<OsString>,
    folder: &Path,
) -> Result<(), StepError> {
    match Program::new("nuget", line, folder).run(step, prepared).await? {
        0 => Ok(()),
        code => Err(StepError::Failed(format!("The nuget command failed with exit code({code})"))),
    }
}
