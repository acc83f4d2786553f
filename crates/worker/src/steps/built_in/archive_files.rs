//! ArchiveFiles (`ArchiveFilesV2/archivefiles.ts`): by the programs `zip`, `tar` and `7z`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Inputs, Prepared, StepError, normalize};
use super::Task;
use super::program::Program;
use crate::context::StepContext;
use crate::files;

/// How many names the log shows.
const SHOWN: usize = 10;

pub(super) static ARCHIVE_FILES: Task = Task {
    definition: Definition {
        friendly_name: "Archive files",
        description: "Compress files into .7z, .tar.gz, or .zip",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/archive-files",
        inputs: &[
            path("rootFolderOrFile").or("$(Build.BinariesDirectory)"),
            text("includeRootFolder", "true"),
            text("archiveType", "zip"),
            text("sevenZipCompression", "normal"),
            text("tarCompression", "gz"),
            path("archiveFile").or("$(Build.ArtifactStagingDirectory)/$(Build.BuildId).zip"),
            text("replaceExistingArchive", "true"),
            text("verbose", "false"),
            text("quiet", "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let root = normalize(Path::new(inputs.required("rootFolderOrFile")?));
    let archive = normalize(Path::new(inputs.required("archiveFile")?));
    make_room(step, inputs, &archive).await?;
    let (folder, names) = contents(step, inputs, &root).await?;
    step.output(&format!("Found {} files", names.len())).await;
    for name in names.iter().take(SHOWN) {
        step.output(&format!("Archiving file: {}", name.to_string_lossy())).await;
    }
    if let Some(more @ 1..) = names.len().checked_sub(SHOWN) {
        step.output(&format!("... {more} more ...")).await;
    }
    if let Some(folder) = archive.parent() {
        let made = tokio::fs::create_dir_all(folder).await;
        made.map_err(|error| StepError::Failed(format!("Cannot make {}: {error}", folder.display())))?;
    }
    let (program, arguments) = command_line(inputs, &archive, &names, files::exists(&archive).await)?;
    let program = Program::new(program, arguments, folder);
    match program.run(step, prepared).await? {
        0 => Ok(TaskResult::Succeeded),
        code => Err(StepError::Failed(format!(
            "Archive creation failed for archive file: {} \ncode: {code}",
            archive.display()
        ))),
    }
}

/// Deletes an archive that is there, unless files are to be added to it.
async fn make_room(step: &StepContext, inputs: &Inputs, archive: &Path) -> Result<(), StepError> {
    if !files::exists(archive).await {
        return Ok(());
    }
    let name = archive.display();
    if !inputs.flag("replaceExistingArchive") {
        step.output(&format!("Archive file: {name} already exists.  Attempting to add files to it.")).await;
        return Ok(());
    }
    if !files::is_file(archive).await {
        return Err(StepError::Failed(format!(
            "Specified archive file: {name} already exists and is not a file."
        )));
    }
    step.output(&format!("Removing existing archive file before creation: {name}")).await;
    tokio::fs::remove_file(archive).await.map_err(|error| {
        StepError::Failed(format!(
            "Specified archive file: {name} cannot be created because it cannot be accessed: {error}"
        ))
    })
}

/// The folder in which the archiver starts, and the names that it is given.
async fn contents(
    step: &StepContext,
    inputs: &Inputs,
    root: &Path,
) -> Result<(PathBuf, Vec<OsString>), StepError> {
    let above = || root.parent().unwrap_or(root).to_owned();
    let own = || root.file_name().unwrap_or(root.as_os_str()).to_owned();
    if inputs.flag("includeRootFolder") {
        if !files::exists(root).await {
            step.warning(&format!("No file or directory found - {}", root.display())).await;
        }
        return Ok((above(), vec![own()]));
    }
    if files::is_file(root).await {
        return Ok((above(), vec![own()]));
    }
    let unreadable = |error| StepError::Failed(format!("Cannot read {}: {error}", root.display()));
    let mut entries = tokio::fs::read_dir(root).await.map_err(unreadable)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
        names.push(entry.file_name());
    }
    names.sort();
    Ok((root.to_owned(), names))
}

/// The archiver and its arguments.
fn command_line(
    inputs: &Inputs,
    archive: &Path,
    names: &[OsString],
    exists: bool,
) -> Result<(&'static str, Vec<OsString>), StepError> {
    let is_verbose = inputs.flag("verbose");
    let mut arguments: Vec<OsString> = Vec::new();
    let program = match inputs.required("archiveType")? {
        "zip" | "default" => {
            arguments.push("-r".into());
            match (is_verbose, inputs.flag("quiet")) {
                (true, _) => arguments.push("-v".into()),
                (false, true) => arguments.push("-q".into()),
                (false, false) => {}
            }
            arguments.extend([archive.into(), "--".into()]);
            "zip"
        }
        "tar" => {
            arguments.push(if exists { "-r" } else { "-c" }.into());
            arguments.extend(is_verbose.then(|| "-v".into()));
            let compression = match inputs.required("tarCompression")? {
                "gz" => Some("--gz"),
                "bz2" => Some("--bzip2"),
                "xz" => Some("--xz"),
                _ => None,
            };
            arguments.extend(compression.map(OsString::from));
            arguments.extend(["-f".into(), archive.into(), "--".into()]);
            "tar"
        }
        other => {
            arguments.extend(["a".into(), format!("-t{other}").into()]);
            arguments.extend(is_verbose.then(|| "-bb3".into()));
            let level = match inputs.text("sevenZipCompression").to_ascii_lowercase().as_str() {
                "ultra" => 9,
                "maximum" => 7,
                "fast" => 3,
                "fastest" => 1,
                "none" => 0,
                _ => 5,
            };
            arguments.extend([format!("-mx={level}").into(), archive.into(), "--".into()]);
            "7z"
        }
    };
    arguments.extend(names.iter().cloned());
    Ok((program, arguments))
}
