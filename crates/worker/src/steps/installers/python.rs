//! A virtual environment for each job, as the service gives each a fresh machine: jobs that install packages
//! at the same time must not meet in one Python, what is installed here must not get in their way, and the
//! Pythons of distributions take no packages (PEP 668).

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::fs;

use super::{Found, MAX_SAID_BYTES};
use crate::context::StepContext;
use crate::process::{self, Command};
use crate::steps::program::environment_of;
use crate::steps::{Prepared, StepError};

/// How an environment is made. What the first needs is a package of its own in Debian; the second takes what
/// is installed already, with the pip that is among it.
const ARGUMENTS: [&[&str]; 2] =
    [&["-m", "venv"], &["-m", "venv", "--clear", "--system-site-packages", "--without-pip"]];

/// The job's environment for this Python, made if it is not there yet. `None`: this Python makes none, which
/// the log says.
pub(super) async fn environment(
    step: &StepContext,
    prepared: &Prepared,
    found: &Found,
) -> Result<Option<PathBuf>, StepError> {
    let temporary = PathBuf::from(step.job.variable_or_empty("Agent.TempDirectory"));
    let folder = temporary.join(format!("dayfly-python-{}", found.version));
    let pip = folder.join("bin/pip");
    if exists(&pip).await {
        return Ok(Some(folder));
    }
    let mut reason = String::new();
    for arguments in ARGUMENTS {
        let mut command = Command::new(found.program.clone(), temporary.clone());
        command.environment = environment_of(step, prepared).await?;
        command.arguments = arguments.iter().map(Into::into).chain([folder.clone().into()]).collect();
        let said = process::capture(command, &step.cancel, MAX_SAID_BYTES).await?;
        if said.ended.cancelled {
            return Err(StepError::Canceled);
        }
        if exists(&pip).await {
            return Ok(Some(folder));
        }
        said.stderr.trim().lines().last().unwrap_or("its module venv made none").clone_into(&mut reason);
    }
    if !exists(&folder.join("bin/python")).await {
        step.output(&format!("No virtual environment, so packages go to this Python itself: {reason}")).await;
        return Ok(None);
    }
    step.output("The virtual environment sees the packages that are installed: ensurepip is missing.").await;
    for name in ["pip", "pip3"] {
        let pip = folder.join("bin").join(name);
        write_pip(&folder, &pip)
            .await
            .map_err(|error| StepError::Failed(format!("Could not write {}: {error}", pip.display())))?;
    }
    Ok(Some(folder))
}

async fn exists(path: &Path) -> bool {
    fs::try_exists(path).await.unwrap_or(false)
}

/// Makes `pip` of the environment: the module that this Python has, for the environment.
async fn write_pip(folder: &Path, pip: &Path) -> io::Result<()> {
    let python = folder.join("bin/python");
    let script =
        format!("#!/bin/sh\nexec '{}' -m pip \"$@\"\n", python.display().to_string().replace('\'', "'\\''"));
    fs::write(pip, script).await?;
    fs::set_permissions(pip, std::fs::Permissions::from_mode(0o755)).await
}
