//! `dayfly deliver`: copies the program to where other containers of the pod find it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

/// Arguments of `dayfly deliver`.
#[derive(Debug, Args)]
pub(crate) struct DeliverArgs {
    /// Where the program is to be
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

/// Copies the program that runs.
pub(crate) fn run(args: &DeliverArgs) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("could not find this program's own file")?;
    let to = args.to.display();
    fs::copy(&own, &args.to).with_context(|| format!("could not copy {} to {to}", own.display()))?;
    fs::set_permissions(&args.to, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("could not make {to} executable"))?;
    Ok(ExitCode::SUCCESS)
}
