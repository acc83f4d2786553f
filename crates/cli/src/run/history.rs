//! The logs of the last runs, which `dayfly logs` shows: in `$XDG_STATE_HOME/dayfly/runs`, a folder for each
//! run with an index.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use dayfly_emulator::Emulator;
use dayfly_pipelines::identifiers::shown;
use dayfly_protocol::{BuildId, TaskResult};

use super::change::Change;
use super::keep;

/// How many runs are kept.
const MOST_RUNS: usize = 10;
/// How much the logs of one run may weigh, and those of all together. The last run is kept whatever the
/// others weigh.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// The index of a run, in its folder.
const INDEX: &str = "run.json";
/// What the names of folders begin with whose run is not all there.
const UNFINISHED: &str = ".new-";
/// Nobody writes for so long.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of a run that is over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PastRun {
    /// The pipeline's file, absolute.
    pub(crate) pipeline: PathBuf,
    /// The run's number.
    pub(crate) run: String,
    /// When it ended.
    pub(crate) ended: jiff::Timestamp,
    /// How it ended; none if it was killed.
    pub(crate) result: Option<TaskResult>,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// Its logs, job by job and step by step.
    pub(crate) logs: Vec<PastLog>,
    /// Whether logs are missing because there were too many.
    pub(crate) is_cut: bool,
}

/// The log of one step, or of a job's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PastLog {
    /// The job's identifier.
    pub(crate) job: String,
    /// The job's name for people.
    pub(crate) job_name: String,
    /// The step's place and name.
    pub(crate) number: i32,
    pub(crate) step: String,
    /// How the step ended, as far as it is known.
    pub(crate) result: Option<TaskResult>,
    /// The file, in the run's folder.
    pub(crate) file: PathBuf,
}

/// Takes note of what a run's logs cannot tell.
#[derive(Debug, Default)]
pub(super) struct Notes {
    run: String,
    result: Option<TaskResult>,
    seconds: f64,
    /// The jobs in the order in which they began.
    jobs: Vec<String>,
    /// Results of steps by job and name.
    steps: BTreeMap<(String, String), Vec<TaskResult>>,
}

impl Notes {
    pub(super) fn take(&mut self, change: &Change) {
        match change {
            Change::RunStarted { run, .. } => self.run.clone_from(run),
            Change::JobStarted { job, .. } => self.jobs.push(job.clone()),
            Change::StepCompleted { job, step, result, .. } => {
                self.steps.entry((job.clone(), step.clone())).or_default().push(*result);
            }
            Change::RunCompleted { run, result, seconds } => {
                (self.run, self.result, self.seconds) = (run.clone(), Some(*result), *seconds);
            }
            _ => {}
        }
    }
}

/// The folder with the runs; none where there is neither `XDG_STATE_HOME` nor a home.
pub(crate) fn folder() -> Option<PathBuf> {
    crate::host::state_folder().map(|state| state.join("runs"))
}

/// Keeps the logs of a run that is over, and removes the oldest ones.
pub(super) async fn save(
    emulator: &Emulator,
    build: BuildId,
    pipeline: &Path,
    notes: Notes,
) -> anyhow::Result<()> {
    let Some(runs) = folder() else { anyhow::bail!("neither XDG_STATE_HOME nor HOME is set") };
    // Nobody else's business, as logs are.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&runs)?;
    let ended = jiff::Timestamp::now();
    let name = format!("{}-{}", ended.strftime("%Y%m%dT%H%M%S%3fZ"), std::process::id());
    let unfinished = runs.join(format!("{UNFINISHED}{name}"));
    std::fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
    let mut run = PastRun {
        pipeline: pipeline.to_owned(),
        run: notes.run,
        ended,
        result: notes.result,
        seconds: notes.seconds,
        logs: Vec::new(),
        is_cut: false,
    };
    let mut steps = notes.steps;
    let mut room = MAX_BYTES;
    for log in emulator.run_logs(build)? {
        let (Some(job), Some((number, step))) = (&log.job, &log.step) else { continue };
        let bytes = tokio::fs::metadata(&log.file).await.map_or(0, |metadata| metadata.len());
        if bytes > room {
            run.is_cut = true;
            continue;
        }
        room -= bytes;
        let file = keep::place(&log);
        keep::copy(&log.file, &unfinished.join(&file)).await?;
        let identifier = shown(&job.identifier);
        let results =
            steps.get_mut(&(identifier.clone(), step.clone())).filter(|results| !results.is_empty());
        run.logs.push(PastLog {
            result: results.map(|results| results.remove(0)),
            job: identifier,
            job_name: job.display_name.clone(),
            number: *number,
            step: step.clone(),
            file,
        });
    }
    let place = |log: &PastLog| notes.jobs.iter().position(|job| *job == log.job);
    run.logs.sort_by_key(|log| (place(log), log.number));
    tokio::fs::write(unfinished.join(INDEX), serde_json::to_vec_pretty(&run)?).await?;
    tokio::fs::rename(&unfinished, runs.join(name)).await?;
    prune(&runs)?;
    Ok(())
}

/// Removes what is too old or too much, and what runs have left that were killed while they wrote.
fn prune(runs: &Path) -> io::Result<()> {
    let mut room = MAX_BYTES;
    for (place, folder) in folders(runs)?.into_iter().enumerate() {
        let bytes = weight(&folder);
        let is_kept = place == 0 || place < MOST_RUNS && bytes <= room;
        room = room.saturating_sub(bytes);
        if !is_kept {
            std::fs::remove_dir_all(&folder)?;
        }
    }
    for entry in std::fs::read_dir(runs)?.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) && age > Some(ABANDONED_AFTER) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The bytes of all files below a folder.
fn weight(folder: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// The folders of runs, the last run's first.
pub(crate) fn folders(runs: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(runs)? {
        let path = entry?.path();
        if path.join(INDEX).is_file() {
            folders.push(path);
        }
    }
    // Their names begin with the time.
    folders.sort_unstable();
    folders.reverse();
    Ok(folders.into_iter().filter(|folder| !is_unfinished(folder)).collect())
}

fn is_unfinished(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// Reads the index of a run.
pub(crate) fn read(folder: &Path) -> anyhow::Result<PastRun> {
    Ok(serde_json::from_slice(&std::fs::read(folder.join(INDEX))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_runs_go_and_the_last_one_stays_however_large() {
        let runs = tempfile::tempdir().unwrap();
        let make = |name: &str, bytes: u64| {
            let folder = runs.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(INDEX), "{}").unwrap();
            // Takes no room on the disk.
            std::fs::File::create(folder.join("log")).unwrap().set_len(bytes).unwrap();
        };
        for number in 10..25 {
            make(&format!("20260101T0000{number}000Z-1"), 10);
        }
        std::fs::create_dir(runs.path().join(".new-x")).unwrap();
        prune(runs.path()).unwrap();
        let names = || -> Vec<String> {
            let folders = folders(runs.path()).unwrap();
            folders
                .iter()
                .map(|folder| folder.file_name().unwrap().to_string_lossy()[13..15].to_owned())
                .collect()
        };
        assert_eq!(names(), ["24", "23", "22", "21", "20", "19", "18", "17", "16", "15"]);
        make("20260101T000030000Z-1", MAX_BYTES * 2);
        prune(runs.path()).unwrap();
        assert_eq!(names(), ["30"]);
        make("20260101T000031000Z-1", MAX_BYTES / 2);
        prune(runs.path()).unwrap();
        assert_eq!(names(), ["31"]);
        assert!(runs.path().join(".new-x").exists(), "somebody may be writing there");
    }
}
