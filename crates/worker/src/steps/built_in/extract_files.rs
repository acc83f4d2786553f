//! ExtractFiles (`ExtractFilesV1/extractfilestask.ts`): by the programs `unzip`, `tar` and `7z`.

use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Inputs, Prepared, StepError, normalize};
use super::Task;
use super::delete_files::remove;
use super::matching::{Links, Patterns, Reading, files_of};
use super::program::{Program, arguments};
use crate::context::StepContext;
use crate::files;

pub(super) static EXTRACT_FILES: Task = Task {
    definition: Definition {
        friendly_name: "Extract files",
        description: "Extract a variety of archive and compression files such as .7z, .rar, .tar.gz, and \
                      .zip",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/extract-files",
        inputs: &[
            text("archiveFilePatterns", "**/*.zip"),
            path("destinationFolder"),
            text("cleanDestinationFolder", "true"),
            text("overwriteExistingFiles", "false"),
            text("pathToSevenZipTool", ""),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

/// Files that `unzip` takes, by their ends.
const ZIP: &[&str] = &[".zip", ".jar", ".war", ".ear"];

/// Files that `tar` takes.
const TAR: &[&str] = &[
    ".tar",
    ".tar.gz",
    ".tgz",
    ".taz",
    ".tar.Z",
    ".taZ",
    ".tar.bz2",
    ".tz2",
    ".tbz2",
    ".tbz",
    ".tar.lz",
    ".tar.lzma",
    ".tlz",
    ".tar.lzo",
    ".tar.xz",
    ".txz",
];

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let target = normalize(Path::new(inputs.required("destinationFolder")?.trim()));
    let archives = archives(step, inputs.required("archiveFilePatterns")?).await?;
    if archives.is_empty() {
        step.warning("No archives were found using specified file patterns").await;
    }
    step.output(&format!("Found: {} files to extract:", archives.len())).await;
    for archive in &archives {
        step.output(&archive.display().to_string()).await;
    }
    make_room(step, &target, inputs.flag("cleanDestinationFolder")).await?;
    for archive in archives {
        step.output(&format!("Extracting file: {}", archive.display())).await;
        match extractor(inputs, &archive, &target).run(step, prepared).await? {
            0 => {}
            code => {
                return Err(StepError::Failed(format!(
                    "Extraction failed for file: {} \ncode: {code}",
                    archive.display()
                )));
            }
        }
    }
    step.output("Successfully extracted all files.").await;
    Ok(TaskResult::Succeeded)
}

/// Makes the folder, and deletes it before if that is wanted.
async fn make_room(step: &StepContext, target: &Path, cleans: bool) -> Result<(), StepError> {
    let name = target.display();
    let exists = files::exists(target).await;
    if exists && cleans {
        step.output(&format!("Cleaning destination folder before extraction: {name}")).await;
        let target = target.to_owned();
        let removed = tokio::task::spawn_blocking(move || remove(&target)).await;
        removed
            .map_err(std::io::Error::other)
            .and_then(|removed| removed)
            .map_err(|error| StepError::Failed(format!("Cannot delete {name}: {error}")))?;
    }
    if !exists || cleans {
        step.output(&format!("Creating destination folder: {name}")).await;
    }
    let made = tokio::fs::create_dir_all(target).await;
    made.map_err(|error| StepError::Failed(format!("Cannot make {name}: {error}")))
}

/// The archives that lines of patterns name, each once.
async fn archives(step: &StepContext, lines: &str) -> Result<Vec<PathBuf>, StepError> {
    let root = PathBuf::from(step.job.variable_or_empty("system.defaultWorkingDirectory"));
    let mut archives = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let found = match line.find(['*', '?']) {
            None => vec![archive(root.join(line)).await?],
            Some(wildcard) => {
                let (folder, pattern) =
                    line.split_at(line[..wildcard].rfind('/').map_or(0, |slash| slash + 1));
                search(step, root.join(folder), pattern).await?
            }
        };
        for archive in found {
            if !archives.contains(&archive) {
                archives.push(archive);
            }
        }
    }
    Ok(archives)
}

/// An archive that a line names itself.
async fn archive(path: PathBuf) -> Result<PathBuf, StepError> {
    let path = normalize(&path);
    let why = match tokio::fs::metadata(&path).await {
        Ok(metadata) if metadata.is_file() => return Ok(path),
        Ok(metadata) if metadata.is_dir() => "because it is a directory.".to_owned(),
        Ok(_) => "because it is not a file.".to_owned(),
        Err(error) => format!("because it can not be accessed: {error}"),
    };
    Err(StepError::Failed(format!("Specified archive: {} can not be extracted {why}", path.display())))
}

/// The files below a folder that match.
async fn search(step: &StepContext, folder: PathBuf, pattern: &str) -> Result<Vec<PathBuf>, StepError> {
    let folder = normalize(&folder);
    step.output(&format!("Searching for: {pattern} under directory: {}", folder.display())).await;
    if !files::is_folder(&folder).await {
        return Err(StepError::Failed(format!(
            "Search failed because the specified search directory: {} does not exist.",
            folder.display()
        )));
    }
    // The task takes every line as a pattern that includes.
    let pattern = pattern.trim_start_matches('!');
    let patterns = Patterns::new(pattern, &folder, Reading { of_library: false, braces: true, dots: false })?;
    files_of(step, patterns, folder, Links::Followed).await
}

/// The program that extracts an archive.
fn extractor(inputs: &Inputs, archive: &Path, target: &Path) -> Program {
    let name = archive.to_string_lossy();
    let is = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let overwrites = inputs.flag("overwriteExistingFiles");
    let (program, arguments) = if is(TAR) {
        ("tar", arguments([&if overwrites { "-xvf" } else { "-xvkf" }, &archive, &"-C", &target]))
    } else if is(ZIP) {
        let mut all = arguments([&archive, &"-d", &target]);
        if overwrites {
            all.insert(0, "-o".into());
        }
        ("unzip", all)
    } else {
        let mut all = arguments([&"x", &format!("-o{}", target.display()), &archive]);
        if overwrites {
            all.insert(0, "-aoa".into());
        }
        (inputs.get("pathToSevenZipTool").unwrap_or("7z"), all)
    };
    Program::new(program, arguments, target)
}
