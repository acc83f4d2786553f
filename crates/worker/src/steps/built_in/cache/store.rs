//! The caches of this machine: for each a tar file, and beside it a description.
//!
//! Several jobs may use them at once: both files come to their place as a whole, the description last, and
//! whoever looks takes only what has both.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use super::key::Fingerprint;

/// What all caches of the machine may take together; those that were used least recently go first.
pub(super) const MAX_BYTES: u64 = 10 << 30;

/// How long a cache stays that nothing uses, as on the service.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// A larger description is none.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 10;

/// What the name of a tar file begins with that is not whole yet.
const UNFINISHED: &str = ".unfinished-";

/// When a tar file that is not whole belongs to nobody any more.
const ABANDONED: Duration = Duration::from_hours(24);

/// The caches of one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) folder: PathBuf,
    /// What tells this pipeline from others.
    pub(super) pipeline: String,
}

/// What is known of a cache.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    pipeline: String,
    segments: Vec<String>,
    made: Timestamp,
}

/// A cache that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fingerprint: Fingerprint,
    pub(super) archive: PathBuf,
    made: Timestamp,
}

impl Store {
    /// The cache with this key; else the newest whose key begins with the first of `restore` that has any.
    pub(super) fn find(&self, key: &Fingerprint, restore: &[Fingerprint]) -> io::Result<Option<Found>> {
        if let Some(found) = self.read(&self.description_of(key)) {
            return Ok(Some(found));
        }
        if restore.is_empty() {
            return Ok(None);
        }
        let mut all = Vec::new();
        for entry in entries(&self.folder)? {
            all.extend(self.read(&entry.path()));
        }
        all.sort_by_key(|found| std::cmp::Reverse(found.made));
        for wanted in restore {
            if let Some(at) = all.iter().position(|found| found.fingerprint.0.starts_with(&wanted.0)) {
                return Ok(Some(all.swap_remove(at)));
            }
        }
        Ok(None)
    }

    /// Whether there is one with this key.
    pub(super) fn has(&self, key: &Fingerprint) -> bool {
        self.read(&self.description_of(key)).is_some()
    }

    /// A place for a tar file that is made.
    pub(super) fn begin(&self) -> io::Result<TempPath> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = tempfile::Builder::new().prefix(UNFINISHED).suffix(".tar").tempfile_in(&self.folder)?;
        Ok(file.into_temp_path())
    }

    /// Keeps a tar file under this key, and lets go what is too old or too much.
    pub(super) fn keep(&self, key: &Fingerprint, archive: TempPath) -> io::Result<()> {
        let description = self.description_of(key);
        archive.persist(description.with_extension("tar")).map_err(|error| error.error)?;
        let text = serde_json::to_vec(&Description {
            pipeline: self.pipeline.clone(),
            segments: key.0.clone(),
            made: Timestamp::now(),
        })?;
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        fs::write(file.path(), text)?;
        file.persist(description).map_err(|error| error.error)?;
        prune(&self.folder, SystemTime::now(), MAX_BYTES)
    }

    fn description_of(&self, key: &Fingerprint) -> PathBuf {
        let text = serde_json::json!([self.pipeline, key.0]).to_string();
        let digest = digest(&SHA256, text.as_bytes());
        let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name).with_extension("json")
    }

    /// The cache of this pipeline with that description; none if that is damaged.
    fn read(&self, path: &Path) -> Option<Found> {
        if path.extension()? != "json" {
            return None;
        }
        let text = crate::files::read_bounded(path, MAX_DESCRIPTION_BYTES).ok()?;
        let Description { pipeline, segments, made } = serde_json::from_slice(&text).ok()?;
        let archive = path.with_extension("tar");
        (pipeline == self.pipeline && archive.is_file()).then_some(Found {
            fingerprint: Fingerprint(segments),
            archive,
            made,
        })
    }
}

impl Found {
    /// Notes that it is in use, so that it stays.
    pub(super) fn touch(&self) -> io::Result<()> {
        File::options().append(true).open(&self.archive)?.set_modified(SystemTime::now())
    }

    /// Takes it away: its content cannot be read.
    pub(super) fn discard(&self) -> io::Result<()> {
        remove(&self.archive)
    }
}

/// The files of a folder, which need not be there.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Lets go what nothing has used for long, then what was used least recently, until `most` bytes are left.
fn prune(folder: &Path, now: SystemTime, most: u64) -> io::Result<()> {
    let mut archives = Vec::new();
    for entry in entries(folder)? {
        // Another job may have taken it away.
        let Ok(metadata) = entry.metadata() else { continue };
        let used = metadata.modified()?;
        let age = now.duration_since(used).unwrap_or_default();
        let (path, name) = (entry.path(), entry.file_name());
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            if age > ABANDONED {
                fs::remove_file(path)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "tar") {
            archives.push((used, age, metadata.len(), path));
        }
    }
    archives.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
    let mut left = most;
    for (_, age, length, path) in archives {
        match left.checked_sub(length) {
            Some(rest) if age <= MAX_AGE => left = rest,
            _ => remove(&path)?,
        }
    }
    Ok(())
}

/// Removes a tar file, its description first.
fn remove(archive: &Path) -> io::Result<()> {
    for path in [archive.with_extension("json"), archive.to_owned()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(text: &str) -> Fingerprint {
        Fingerprint(text.split('|').map(str::to_owned).collect())
    }

    fn keep(store: &Store, key: &str, bytes: usize) {
        let archive = store.begin().expect("the folder is there");
        fs::write(&archive, vec![b'x'; bytes]).expect("it is written");
        store.keep(&fingerprint(key), archive).expect("it is kept");
    }

    fn found(store: &Store, key: &str, restore: &[&str]) -> Option<String> {
        let restore: Vec<_> = restore.iter().map(|key| fingerprint(key)).collect();
        let found = store.find(&fingerprint(key), &restore).expect("the folder can be read");
        found.map(|found| found.fingerprint.to_string())
    }

    #[test]
    fn the_key_comes_first_then_the_newest_that_begins_like_a_restore_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store { folder: folder.path().join("caches"), pipeline: "one".to_owned() };
        assert_eq!(found(&store, "npm|linux|1", &["npm"]), None);
        for key in ["npm|linux|1", "npm|linux|2", "npm|mac|3", "npmx|linux|4"] {
            keep(&store, key, 1);
        }
        assert_eq!(found(&store, "npm|linux|1", &["npm"]).as_deref(), Some("npm|linux|1"));
        assert_eq!(found(&store, "npm|linux|9", &["npm|linux", "npm"]).as_deref(), Some("npm|linux|2"));
        assert_eq!(found(&store, "npm|linux|9", &["yarn", "npm"]).as_deref(), Some("npm|mac|3"));
        assert_eq!(found(&store, "npm|linux|9", &[]), None);
        let other = Store { pipeline: "two".to_owned(), ..store.clone() };
        assert_eq!(found(&other, "npm|linux|1", &["npm"]), None);
        assert!(store.has(&fingerprint("npm|mac|3")) && !other.has(&fingerprint("npm|mac|3")));
    }

    #[test]
    fn what_is_damaged_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store { folder: folder.path().to_owned(), pipeline: "one".to_owned() };
        keep(&store, "a|1", 1);
        let path = store.description_of(&fingerprint("a|1"));
        let text = fs::read_to_string(&path).expect("it is there");
        for broken in ["", "{", "[1]"] {
            fs::write(&path, broken).expect("it is written");
            assert_eq!(found(&store, "a|1", &["a"]), None, "{broken}");
        }
        fs::write(&path, text).expect("it is written");
        fs::remove_file(path.with_extension("tar")).expect("it was there");
        assert_eq!(found(&store, "a|1", &["a"]), None);
    }

    #[test]
    fn what_is_too_old_or_too_much_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store { folder: folder.path().to_owned(), pipeline: "one".to_owned() };
        let now = SystemTime::now();
        for (key, days) in [("ancient", 8), ("old", 3), ("used", 2), ("new", 1)] {
            keep(&store, key, 1000);
            let archive = store.description_of(&fingerprint(key)).with_extension("tar");
            let file = File::options().append(true).open(archive).expect("it is there");
            file.set_modified(now - Duration::from_hours(days * 24)).expect("it has a time");
        }
        let left = || ["ancient", "old", "used", "new"].map(|key| store.has(&fingerprint(key)));
        prune(&store.folder, now, 1 << 20).expect("it is pruned");
        assert_eq!(left(), [false, true, true, true]);
        prune(&store.folder, now, 2500).expect("it is pruned");
        assert_eq!(left(), [false, false, true, true]);
        assert_eq!(fs::read_dir(&store.folder).expect("it is there").count(), 4);
    }
}
