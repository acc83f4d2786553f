//! The emulators that run on this machine, for commands from another shell: a file for each in the user's
//! state folder.
//!
//! An emulator holds a lock on its file, so a file without one was left by an emulator that was killed.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::host;

/// More files than emulators run at a time.
const MAX_FILES: usize = 1_000;
/// No file is longer, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;
const EXTENSION: &str = "json";

/// What others need to know of an emulator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Running {
    /// The collection.
    pub(super) url: Url,
    /// The file with the token.
    pub(super) token_file: PathBuf,
    /// The project with its pipelines.
    pub(super) project: String,
    /// The names of its pipelines.
    pub(super) pipelines: Vec<String>,
}

/// The file of an emulator that runs. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Registration {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Registration {
    /// Makes it known that an emulator runs.
    pub(super) fn new(running: &Running) -> anyhow::Result<Self> {
        let Some(folder) = folder() else { anyhow::bail!("neither XDG_STATE_HOME nor HOME is set") };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // It gets its name when it is whole and locked, so that nobody takes it for a leftover.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&folder)?;
        file.as_file().try_lock()?;
        file.write_all(&serde_json::to_vec(running)?)?;
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let path = folder.join(name).with_extension(EXTENSION);
        Ok(Self { _file: file.persist(&path)?, path })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the file of this emulator stays");
        }
    }
}

/// The emulators that run. Removes what killed ones have left.
pub(super) fn all() -> Vec<Running> {
    let entries = folder().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let named = paths.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    named.take(MAX_FILES).filter_map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Option<Running> {
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Ok(()) => {
            // Nobody holds it. One that cannot be removed is passed over the next time as well.
            let _ = std::fs::remove_file(path);
            return None;
        }
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => {
            tracing::debug!(path = %path.display(), %error, "whether the emulator runs is not known");
        }
    }
    let mut text = String::new();
    file.take(LONGEST_FILE).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn folder() -> Option<PathBuf> {
    host::state_folder().map(|state| state.join("emulators"))
}
