//! CopyFiles (`CopyFilesV2/copyfiles.ts`).

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::definition::{path, text};
use super::super::{Definition, Inputs, Prepared, StepError, normalize};
use super::Task;
use super::matching::{Links, Patterns, Reading, find};
use crate::context::StepContext;
use crate::files;

/// Lines of the copying that wait for the step's log.
const LINES_AHEAD: usize = 1024;

pub(super) static COPY_FILES: Task = Task {
    definition: Definition {
        friendly_name: "Copy files",
        description: "Copy files from a source folder to a target folder using patterns matching file paths \
                      (not folder paths)",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/copy-files",
        inputs: &[
            path("SourceFolder"),
            text("Contents", "**"),
            text("TargetFolder", ""),
            text("CleanTargetFolder", "false"),
            text("OverWrite", "false"),
            text("flattenFolders", "false"),
            text("preserveTimestamp", "false"),
            text("retryCount", "0"),
            text("delayBetweenRetries", "1000"),
            text("ignoreMakeDirErrors", "false"),
        ],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let work = Work::new(step, &prepared.inputs)?;
    if !files::exists(&work.source).await {
        return Err(StepError::Failed(format!("Not found SourceFolder: {}", work.source.display())));
    }
    let (log, mut lines) = mpsc::channel::<String>(LINES_AHEAD);
    let cancel = step.cancel.clone();
    let copying = tokio::task::spawn_blocking(move || work.run(&log, &cancel));
    // Not one by one, where two threads would wake each other for each line.
    let mut some = Vec::new();
    while lines.recv_many(&mut some, LINES_AHEAD).await > 0 {
        for line in some.drain(..) {
            step.output(&line).await;
        }
    }
    match copying.await {
        Ok(copied) => copied.map(|()| TaskResult::Succeeded),
        Err(error) => Err(StepError::Failed(format!("The copying ended unexpectedly: {error}"))),
    }
}

/// What the inputs ask for.
struct Work {
    source: PathBuf,
    target: PathBuf,
    patterns: Patterns,
    cleans: bool,
    overwrites: bool,
    flattens: bool,
    keeps_times: bool,
    ignores_folder_errors: bool,
    retries: u32,
    pause: Duration,
}

impl Work {
    fn new(step: &StepContext, inputs: &Inputs) -> Result<Work, StepError> {
        let root = step.job.variable_or_empty("system.defaultWorkingDirectory");
        let rooted = |path: &str| normalize(&Path::new(&root).join(path));
        let contents = inputs.required("Contents")?;
        let source = rooted(inputs.required("SourceFolder")?);
        // What is not a number is none, as in the task.
        let number = |name| inputs.text(name).parse::<u32>().unwrap_or_default();
        Ok(Work {
            target: rooted(inputs.required("TargetFolder")?),
            patterns: Patterns::new(contents, &source, Reading::DEFAULT)?,
            source,
            cleans: inputs.flag("CleanTargetFolder"),
            overwrites: inputs.flag("OverWrite"),
            flattens: inputs.flag("flattenFolders"),
            keeps_times: inputs.flag("preserveTimestamp"),
            ignores_folder_errors: inputs.flag("ignoreMakeDirErrors"),
            retries: number("retryCount"),
            pause: Duration::from_millis(number("delayBetweenRetries").into()),
        })
    }

    /// Copies; the log gets the lines of the task. The listener of the log may be gone only with the step.
    fn run(&self, log: &mpsc::Sender<String>, cancel: &CancellationToken) -> Result<(), StepError> {
        let say = |line: String| drop(log.blocking_send(line));
        let all = find(&self.source, Links::Followed, cancel)?;
        let (taken, _) = self.patterns.part(all, &self.source);
        let matched: Vec<PathBuf> =
            taken.into_iter().filter(|entry| !entry.is_folder).map(|entry| entry.path).collect();
        say(format!("found {} files", matched.len()));
        if matched.is_empty() {
            return Ok(());
        }
        if self.cleans {
            say(format!("Cleaning target folder: {}", self.target.display()));
            self.again(cancel, || clean(&self.target))?;
        }
        let mut folders = HashSet::new();
        for file in &matched {
            if cancel.is_cancelled() {
                return Err(StepError::Canceled);
            }
            let target = self.target.join(self.relative(file));
            let folder = target.parent().unwrap_or(&self.target);
            if folders.insert(folder.to_owned()) {
                self.make_folder(folder, &say, cancel)?;
            }
            self.copy(file, &target, &say, cancel)?;
        }
        Ok(())
    }

    fn relative<'a>(&self, file: &'a Path) -> &'a Path {
        match file.file_name() {
            Some(name) if self.flattens => Path::new(name),
            _ => file.strip_prefix(&self.source).unwrap_or(file),
        }
    }

    fn make_folder(
        &self,
        folder: &Path,
        say: &dyn Fn(String),
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        match self.again(cancel, || fs::create_dir_all(folder).map_err(|error| failed(folder, &error))) {
            Err(StepError::Failed(why)) if self.ignores_folder_errors => {
                say(format!(
                    "Unable to create target folder ({}): {why}. Ignoring this as error since \
                     'ignoreErrors' is true.",
                    folder.display()
                ));
                Ok(())
            }
            made => made,
        }
    }

    fn copy(
        &self,
        file: &Path,
        target: &Path,
        say: &dyn Fn(String),
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        let there = fs::metadata(target).ok();
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(StepError::Failed(format!(
                "Unable to copy file {} to {}. The target path already exists as a directory.",
                file.display(),
                target.display()
            )));
        }
        if there.is_some() && !self.overwrites {
            say(format!("File {} already exist at {}", file.display(), target.display()));
            return Ok(());
        }
        say(format!("Copying {} to {}", file.display(), target.display()));
        self.again(cancel, || put(file, target, there.as_ref()))?;
        if self.keeps_times {
            match keep_times(file, target) {
                Ok(()) => say("Timestamp preserved successfully".to_owned()),
                Err(error) => say(format!("Problem preserving the timestamp: {error}")),
            }
        }
        Ok(())
    }

    /// Tries something as often as the step asks for.
    fn again(
        &self,
        cancel: &CancellationToken,
        attempt: impl Fn() -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let mut left = self.retries;
        loop {
            match attempt() {
                Err(StepError::Failed(_)) if left > 0 && !cancel.is_cancelled() => left -= 1,
                ended => return ended,
            }
            // The thread is the copy's own.
            std::thread::sleep(self.pause);
        }
    }
}

/// Copies one file to a place where `there` is something, or nothing. One that must not be written is
/// replaced (`cp -f`).
fn put(file: &Path, target: &Path, there: Option<&fs::Metadata>) -> Result<(), StepError> {
    let cannot = |error: &std::io::Error| {
        let (file, target) = (file.display(), target.display());
        StepError::Failed(format!("Failed cp: Cannot copy {file} to {target}: {error}"))
    };
    if let Some(there) = there {
        let from = fs::metadata(file).map_err(|error| cannot(&error))?;
        // By a link of either kind: the copy would empty it first.
        if (from.dev(), from.ino()) == (there.dev(), there.ino()) {
            return Err(StepError::Failed(format!(
                "Unable to copy file {} to {}. They are the same file.",
                file.display(),
                target.display()
            )));
        }
    }
    let copied = match fs::copy(file, target) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied && target.exists() => {
            fs::remove_file(target).and_then(|()| fs::copy(file, target))
        }
        copied => copied,
    };
    copied.map(drop).map_err(|error| cannot(&error))
}

fn keep_times(file: &Path, target: &Path) -> std::io::Result<()> {
    let source = fs::metadata(file)?;
    let times = fs::FileTimes::new().set_accessed(source.accessed()?).set_modified(source.modified()?);
    fs::File::open(target)?.set_times(times)
}

/// Deletes what is in a folder, or a file in its place.
fn clean(target: &Path) -> Result<(), StepError> {
    let metadata = match fs::metadata(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(target, &error)),
    };
    if !metadata.is_dir() {
        return fs::remove_file(target).map_err(|error| failed(target, &error));
    }
    for entry in fs::read_dir(target).map_err(|error| failed(target, &error))? {
        let path = entry.map_err(|error| failed(target, &error))?.path();
        super::delete_files::remove(&path).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> StepError {
    StepError::Failed(format!("{}: {error}", path.display()))
}
