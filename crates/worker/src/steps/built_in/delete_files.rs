//! DeleteFiles (`DeleteFilesV1/deletefiles.ts`).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError, normalize};
use super::Task;
use super::matching::{Links, Patterns, Reading, find};
use crate::context::StepContext;

pub(super) static DELETE_FILES: Task = Task {
    definition: Definition {
        friendly_name: "Delete files",
        description: "Delete folders, or files matching a pattern",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/delete-files",
        inputs: &[
            path("SourceFolder"),
            text("Contents", "myFileShare"),
            text("RemoveSourceFolder", "false"),
            text("RemoveDotFiles", "false"),
        ],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let root = normalize(Path::new(inputs.required("SourceFolder")?));
    let reading = Reading { of_library: false, braces: true, dots: inputs.flag("RemoveDotFiles") };
    let patterns = Patterns::new(inputs.required("Contents")?, &root, reading)?;
    if patterns.is_empty() {
        return Ok(TaskResult::Succeeded);
    }
    let removes_root = inputs.flag("RemoveSourceFolder");
    let cancel = step.cancel.clone();
    let work = move || delete(&root, &patterns, removes_root, &cancel);
    let errors = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StepError::Failed(format!("The deleting ended unexpectedly: {error}")))??;
    match errors {
        None => step.output("No files to delete.").await,
        Some(errors) if !errors.is_empty() => {
            for error in errors {
                step.error(&error).await;
            }
            return Err(StepError::failed("Couldn't delete one or more files"));
        }
        Some(_) => {}
    }
    Ok(TaskResult::Succeeded)
}

/// Deletes what matches; answers what could not be deleted, or nothing if there is no such folder. Links are
/// deleted, not followed: what they lead to is another's.
fn delete(
    root: &Path,
    patterns: &Patterns,
    removes_root: bool,
    cancel: &CancellationToken,
) -> Result<Option<Vec<String>>, StepError> {
    let found = find(root, Links::Kept, cancel)?;
    if found.is_empty() {
        return Ok(None);
    }
    let (taken, left) = patterns.part(found, root);
    let mut matched: Vec<PathBuf> = taken.into_iter().map(|entry| entry.path).collect();
    if patterns.exclude() {
        // A folder stays if something in it does.
        let kept: HashSet<&Path> = left.iter().flat_map(|entry| entry.path.ancestors()).collect();
        matched.retain(|path| !kept.contains(path.as_path()));
    }
    // What is in a folder goes before the folder.
    matched.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
    let mut errors = Vec::new();
    for path in matched {
        if cancel.is_cancelled() {
            return Err(StepError::Canceled);
        }
        if let Err(error) = remove(&path) {
            errors.push(format!("Failed rmRF: {}: {error}", path.display()));
        }
    }
    if removes_root
        && errors.is_empty()
        && find(root, Links::Kept, cancel)?.len() == 1
        && let Err(error) = remove(root)
    {
        errors.push(format!("Failed rmRF: {}: {error}", root.display()));
    }
    Ok(Some(errors))
}

/// Deletes a file, a link, or a folder with all in it; what is not there is deleted already.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
