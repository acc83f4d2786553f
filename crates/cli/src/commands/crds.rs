//! `dayfly crds`: prints the custom resource definitions.

use std::process::ExitCode;

use anyhow::Context as _;
use dayfly_kubernetes::api::definitions_yaml;

use crate::output;

/// Prints one YAML document for each definition.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    output::write(&definitions_yaml().context("the definitions have no form in YAML")?)?;
    Ok(ExitCode::SUCCESS)
}
