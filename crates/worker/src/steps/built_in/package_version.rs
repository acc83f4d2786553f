//! The version and the properties of packages that a step makes (`packcommand.ts`).

use std::sync::LazyLock;

use regex::Regex;

use super::super::{Inputs, StepError};
use crate::context::StepContext;

/// The version that the input `versioningScheme` means; none if the project says it.
pub(super) fn package_version(step: &StepContext, inputs: &Inputs) -> Result<Option<String>, StepError> {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\d+\.\d+\.\d+(?:\.\d+)?").expect("it is a pattern"));
    let run = step.job.variable_or_empty("build.buildNumber");
    match inputs.text("versioningScheme") {
        "byPrereleaseNumber" => {
            let parts = ["requestedMajorVersion", "requestedMinorVersion", "requestedPatchVersion"];
            let [major, minor, patch] = parts.map(|part| inputs.text(part));
            let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
            Ok(Some(format!("{major}.{minor}.{patch}-CI-{now}")))
        }
        "byEnvVar" => {
            let value = inputs.get("versionEnvVar").and_then(|name| step.job.variable(name));
            let value = value.filter(|value| !value.is_empty());
            value
                .map(Some)
                .ok_or_else(|| StepError::failed("No value was found for the provided environment variable."))
        }
        "byBuildNumber" => {
            let number = NUMBER.find(&run).map(|found| found.as_str().to_owned());
            number.map(Some).ok_or_else(|| {
                StepError::Failed(format!(
                    "The number of this run, '{run}', has no version such as 1.2.3 or 1.2.3.4 in it. Set it \
                     by `name` in the pipeline's file."
                ))
            })
        }
        "bySemVerBuildNumber" => match semver::Version::parse(&run) {
            Ok(_) => Ok(Some(run)),
            Err(_) => Err(StepError::failed("Build number is not a valid SemVer 2.0 string.")),
        },
        _ => Ok(None),
    }
}

/// The properties that packages are built with, as one argument; none if the inputs name none.
pub(super) fn package_properties(inputs: &Inputs) -> Option<String> {
    // Where the variable is not set, the default stays as it is written.
    let configuration = inputs.get("configurationToPack").filter(|name| *name != "$(BuildConfiguration)");
    let configuration = configuration.map(|configuration| format!("Configuration={configuration}"));
    let all: Vec<String> =
        configuration.into_iter().chain(inputs.get("buildProperties").map(str::to_owned)).collect();
    (!all.is_empty()).then(|| all.join(";"))
}
