//! DownloadSecureFile (`DownloadSecureFileV1/predownloadsecurefile.ts`, `securefiles-common.ts`). It
//! downloads before all steps, so that a file is there wherever its step stands, and deletes the file after
//! the job.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_client::{Again, ErrorKind, RetryPolicy, describe};
use dayfly_protocol::TaskResult;
use dayfly_protocol::job::SecureFile;
use futures::FutureExt as _;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;

use super::super::definition::{Input, text};
use super::super::{Definition, Inputs, Prepared, StepError};
use super::Task;
use crate::context::{StepContext, lock};
use crate::variables::Flags;

const SECURE_FILE: Input = text("secureFile", "");
const RETRIES: Input = text("retryCount", "8");
const TIMEOUT: Input = text("socketTimeout", "");
/// How often it is tried again when the input is no number.
const DEFAULT_RETRIES: u32 = 8;
/// Where the post-job part finds the file.
const PATH: &str = "secureFilePath";

/// The task.
pub(super) static DOWNLOAD_SECURE_FILE: Task = Task {
    definition: Definition {
        friendly_name: "Download secure file",
        description: "Download a secure file to the agent machine",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/download-secure-file",
        inputs: &[SECURE_FILE, RETRIES, TIMEOUT],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let wanted = inputs.required(SECURE_FILE.name)?;
    let file = step.job.secure_files.iter().find(|file| file.is_called(wanted)).ok_or_else(|| {
        StepError::Failed(format!(
            "The job was not given a secure file '{wanted}'. It has to be in the library of the project, or \
             for `dayfly run` in the `secure-files` of dayfly.toml."
        ))
    })?;
    let path = place(step, file)?;
    // Before there is anything to delete.
    lock(&step.task_variables).set(PATH, &path.to_string_lossy(), Flags::default());
    let downloaded = tokio::select! {
        downloaded = download(step, file, &path, inputs) => downloaded,
        () = step.cancel.cancelled() => return Err(StepError::Canceled),
    };
    let bytes = downloaded.map_err(|why| {
        StepError::Failed(format!("The secure file '{}' could not be downloaded: {why}", file.name))
    })?;
    step.output(&format!("Downloaded secure file: {} ({bytes} bytes)", path.display())).await;
    step.set_variable(PATH, &path.to_string_lossy(), true, Flags::default());
    Ok(TaskResult::Succeeded)
}

/// Deletes the file after the job.
pub(super) async fn delete(step: &StepContext) -> Result<TaskResult, StepError> {
    let path = lock(&step.task_variables).get(PATH).map(PathBuf::from);
    let Some(path) = path else { return Ok(TaskResult::Succeeded) };
    match tokio::fs::remove_file(&path).await {
        Ok(()) => step.output(&format!("Deleted secure file: {}", path.display())).await,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let path = path.display();
            return Err(StepError::Failed(format!("The secure file {path} could not be deleted: {error}")));
        }
    }
    Ok(TaskResult::Succeeded)
}

/// Where the file goes to. Its name is the service's, which must not lead elsewhere.
fn place(step: &StepContext, file: &SecureFile) -> Result<PathBuf, StepError> {
    let name = Path::new(&file.name);
    if name.file_name() != Some(name.as_os_str()) {
        return Err(StepError::Failed(format!("'{}' is not the name of a file.", file.name)));
    }
    Ok(Path::new(&step.job.variable_or_empty("agent.tempDirectory")).join(name))
}

async fn download(
    step: &StepContext,
    file: &SecureFile,
    path: &Path,
    inputs: &Inputs,
) -> Result<u64, String> {
    let retries = inputs.text(RETRIES.name).trim().parse().unwrap_or(DEFAULT_RETRIES);
    let policy = RetryPolicy {
        attempts: retries.saturating_add(1),
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(10),
    };
    let longest = inputs.text(TIMEOUT.name).trim().parse().ok().filter(|longest| *longest > 0);
    let attempt = async || match longest.map(Duration::from_millis) {
        None => download_once(step, file, path).await,
        Some(longest) => match tokio::time::timeout(longest, download_once(step, file, path)).await {
            Ok(downloaded) => downloaded,
            Err(_) => Err((None, format!("it took longer than {} ms", longest.as_millis()))),
        },
    };
    let again = |(kind, why): &(Option<ErrorKind>, String), attempt| {
        let is_final = |kind: ErrorKind| {
            matches!(kind, ErrorKind::NotFound | ErrorKind::Forbidden | ErrorKind::Unauthorized)
        };
        if kind.is_some_and(is_final) {
            return Again::No;
        }
        tracing::debug!(why, attempt, "could not download a secure file yet");
        Again::Yes
    };
    policy.retry(attempt, again).await.map_err(|(_, why)| why)
}

/// One attempt; why it failed, and what kind of error of the service that was.
async fn download_once(
    step: &StepContext,
    file: &SecureFile,
    path: &Path,
) -> Result<u64, (Option<ErrorKind>, String)> {
    let unwritable = |error: std::io::Error| (None, format!("{} cannot be written: {error}", path.display()));
    let mut options = OpenOptions::new();
    let opened = options.create(true).write(true).truncate(true).mode(0o600).open(path).await;
    let mut content = opened.map_err(unwritable)?;
    let ticket = file.ticket.as_deref().unwrap_or_default();
    let downloaded = step.job.service.download_secure_file(file.id, ticket, &mut content).await;
    let bytes = downloaded.map_err(|error| (Some(error.kind()), describe(&error)))?;
    content.flush().await.map_err(unwritable)?;
    Ok(bytes)
}
