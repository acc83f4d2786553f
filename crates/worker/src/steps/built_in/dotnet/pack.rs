//! `dotnet pack` (`packcommand.ts`).

use std::ffi::OsString;
use std::path::Path;

use dayfly_protocol::TaskResult;

use super::super::super::{Prepared, StepError};
use super::super::matching::{Links, files_in};
use super::super::package_version::{package_properties, package_version};
use super::super::program::{Program, arguments};
use super::verbosity;
use crate::context::StepContext;

pub(super) async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let mut options: Vec<OsString> = Vec::new();
    if let Some(output) = inputs.get("outputDir") {
        let made = tokio::fs::create_dir_all(output).await;
        made.map_err(|error| StepError::Failed(format!("Cannot make {output}: {error}")))?;
        options.extend(arguments([&"--output", &output]));
    }
    let flags = [
        ("nobuild", "--no-build"),
        ("includesymbols", "--include-symbols"),
        ("includesource", "--include-source"),
    ];
    options
        .extend(flags.iter().filter(|(input, _)| inputs.flag(input)).map(|(_, flag)| OsString::from(flag)));
    if let Some(properties) = package_properties(inputs) {
        options.push(format!("/p:{properties}").into());
    }
    if let Some(version) = package_version(step, inputs)? {
        options.push(format!("/p:PackageVersion={version}").into());
    }
    options.extend(verbosity(inputs.text("verbosityPack")));
    let patterns = inputs.required("searchPatternPack")?.replace(';', "\n");
    let projects = files_in(step, "", &patterns, Links::Followed).await?;
    if projects.is_empty() {
        return Err(StepError::failed("No files matched the search pattern."));
    }
    for project in projects {
        let mut line: Vec<OsString> = vec!["pack".into()];
        line.push(match project.extension().is_some_and(|kind| kind == "nuspec") {
            true => format!("-p:NuspecFile={}", project.display()).into(),
            false => project.clone().into(),
        });
        line.extend(options.iter().cloned());
        let folder = project.parent().unwrap_or(Path::new("/"));
        match Program::new("dotnet", line, folder).run(step, prepared).await? {
            0 => {}
            code => {
                step.error(&format!("Error: The process 'dotnet' failed with exit code {code}")).await;
                return Err(StepError::failed("An error occurred while trying to pack the files."));
            }
        }
    }
    Ok(TaskResult::Succeeded)
}
