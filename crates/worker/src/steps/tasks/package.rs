//! The package of a task: downloaded once, and kept for later jobs.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dayfly_client::describe;
use dayfly_protocol::job::Step;
use dayfly_protocol::timeline::TaskReference;
use uuid::Uuid;
use zip::ZipArchive;

use super::Manifest;
use crate::context::StepContext;
use crate::service::Service;

/// More files than any task has.
const MAX_FILES: usize = 100_000;

/// More bytes than any task has, unpacked.
const MAX_BYTES: u64 = 2 << 30;

/// A larger `task.json` is none.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Why a task cannot be run from its package.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be downloaded.
    #[error("could not download the task {task}")]
    Download {
        /// Name and version of the task.
        task: String,
        /// What went wrong.
        #[source]
        source: dayfly_client::Error,
    },
    /// What came is no package.
    #[error("the package of the task {task} is damaged: {reason}")]
    Damaged {
        /// Name and version of the task.
        task: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine did not let us.
    #[error("could not keep the task {task} in {}", path.display())]
    Keep {
        /// Name and version of the task.
        task: String,
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A task that is on this machine.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

/// The packages of a job; the error of one that could not be had is for its steps.
#[derive(Debug, Default)]
pub(crate) struct Packages(HashMap<(Uuid, String), Result<Arc<Package>, String>>);

impl Packages {
    /// Gets what `steps` need beside what the worker does by itself; `is_wanted` says which tasks.
    pub(crate) async fn get(
        record: &StepContext,
        service: &Service,
        folder: &Path,
        steps: &[Step],
        is_wanted: impl Fn(&TaskReference) -> bool,
    ) -> Self {
        let mut packages = HashMap::new();
        for step in steps.iter().filter(|step| step.enabled) {
            let Some(reference) = step.reference.as_ref().filter(|task| is_wanted(task)) else {
                continue;
            };
            let key = key(reference);
            if packages.contains_key(&key) {
                continue;
            }
            let package = Package::get(record, service, folder, reference).await;
            let package = package.map(Arc::new).map_err(|error| {
                let text = describe(&error);
                tracing::info!(error = text, task = reference.name, "a task cannot be had");
                text
            });
            packages.insert(key, package);
        }
        Self(packages)
    }

    /// The package of a task; the error says why there is none. None: it was not looked for.
    pub(crate) fn of(&self, reference: &TaskReference) -> Option<&Result<Arc<Package>, String>> {
        self.0.get(&key(reference))
    }
}

fn key(reference: &TaskReference) -> (Uuid, String) {
    (reference.id.0, reference.version.clone())
}

impl Package {
    /// The package of this task: the one that is there, or a new one.
    async fn get(
        record: &StepContext,
        service: &Service,
        folder: &Path,
        reference: &TaskReference,
    ) -> Result<Self, Error> {
        let task = format!("{} {}", reference.name, reference.version);
        let (place, mark) = place_of(folder, &reference.name, reference.id.0, &reference.version);
        if !crate::files::is_file(&mark).await {
            download(service, reference, folder).await?;
            // Where there is none, something may stand in: only what came is told.
            record.output(&format!("Downloading task: {} ({})", reference.name, reference.version)).await;
        }
        let path = place.join("task.json");
        let read = tokio::task::spawn_blocking({
            let path = path.clone();
            move || read_manifest(&path)
        });
        let manifest = match read.await {
            Ok(manifest) => manifest,
            Err(error) => Err(io::Error::other(error)),
        };
        let manifest = manifest
            .map_err(|error| Error::Damaged { task, reason: format!("{}: {error}", path.display()) })?;
        Ok(Self { folder: place, manifest })
    }
}

/// Where a task is kept, and the mark that it is whole, as the official agent has them (`TaskManager.cs`).
fn place_of(folder: &Path, name: &str, id: Uuid, version: &str) -> (PathBuf, PathBuf) {
    let place = folder.join(format!("{}_{id}", plain(name))).join(plain(version));
    let mark = place.with_file_name(format!("{}.completed", plain(version)));
    (place, mark)
}

/// Unpacks a task's package beside its zip file, and puts it to its place in a folder of tasks. It waits for
/// the disk.
///
/// # Errors
/// If the package is damaged, or cannot be kept there.
pub fn keep(zip: &Path, id: Uuid, name: &str, version: &str, folder: &Path) -> Result<(), Error> {
    let damaged = |reason| Error::Damaged { task: format!("{name} {version}"), reason };
    let unpacked = zip.with_extension("unpacked");
    unpack(zip, &unpacked).map_err(damaged)?;
    read_manifest(&unpacked.join("task.json")).map_err(|error| damaged(format!("task.json: {error}")))?;
    let (place, mark) = place_of(folder, name, id, version);
    put(&unpacked, &place, &mark).map_err(|source| Error::Keep {
        task: format!("{name} {version}"),
        path: place,
        source,
    })
}

/// A name as a part of a path: the service's names are plain, others lose what is not.
fn plain(name: &str) -> String {
    let allowed = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let name: String = name.chars().filter(|letter| allowed(*letter)).collect();
    name.trim_start_matches('.').to_owned()
}

fn read_manifest(path: &Path) -> io::Result<Manifest> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_MANIFEST_BYTES).read_to_string(&mut text)?;
    dayfly_protocol::json::from_str(&text).map_err(io::Error::other)
}

/// Gets the package and puts it to its place as a whole. Of two jobs that do so at once, one wins.
async fn download(service: &Service, reference: &TaskReference, folder: &Path) -> Result<(), Error> {
    let task = format!("{} {}", reference.name, reference.version);
    let unkept = |path: &Path| {
        let (task, path) = (task.clone(), path.to_owned());
        move |source| Error::Keep { task, path, source }
    };
    let staging = tempfile::Builder::new().prefix("_staging_").tempdir_in(folder).map_err(unkept(folder))?;
    let zip = staging.path().join("task.zip");
    let mut file = tokio::fs::File::create(&zip).await.map_err(unkept(&zip))?;
    service
        .download_task(reference.id, &reference.version, &mut file)
        .await
        .map_err(|source| Error::Download { task: task.clone(), source })?;
    drop(file);
    let keeping = tokio::task::spawn_blocking({
        let (reference, folder) = (reference.clone(), folder.to_owned());
        move || keep(&zip, reference.id.0, &reference.name, &reference.version, &folder)
    });
    keeping.await.unwrap_or_else(|error| Err(unkept(folder)(io::Error::other(error))))
}

/// Unpacks into a new folder; entries that would leave it make the whole package a damaged one.
fn unpack(zip: &Path, folder: &Path) -> Result<(), String> {
    let file = fs::File::open(zip).map_err(|error| error.to_string())?;
    let mut archive = ZipArchive::new(file).map_err(|error| error.to_string())?;
    if archive.len() > MAX_FILES {
        return Err(format!("it has more than {MAX_FILES} files"));
    }
    let mut left = MAX_BYTES;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| error.to_string())?;
        let name = entry.name().map_err(|error| error.to_string())?.into_owned();
        let path =
            entry.enclosed_name().ok_or_else(|| format!("it would write outside its folder: {name}"))?;
        let path = folder.join(path);
        let is_folder = entry.is_dir();
        // Some tasks bring programs. What this user could not read or delete is of no use.
        let mode = entry.unix_mode().map(|mode| mode & 0o777 | 0o600);
        let written = (|| {
            if is_folder {
                fs::create_dir_all(&path)?;
                return Ok(0);
            }
            path.parent().map(fs::create_dir_all).transpose()?;
            // Of the size that an entry claims to have nothing is believed.
            let mut file = fs::File::create(&path)?;
            if let Some(mode) = mode {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            io::copy(&mut entry.take(left + 1), &mut file)
        })()
        .map_err(|error: io::Error| format!("{name}: {error}"))?;
        left = left.checked_sub(written).ok_or_else(|| format!("it has more than {MAX_BYTES} bytes"))?;
    }
    Ok(())
}

fn put(unpacked: &Path, place: &Path, mark: &Path) -> io::Result<()> {
    place.parent().map(fs::create_dir_all).transpose()?;
    if let Err(error) = fs::rename(unpacked, place) {
        if mark.is_file() {
            // Another job was faster, with the same.
            return Ok(());
        }
        if !place.is_dir() {
            return Err(error);
        }
        // What was left half done earlier.
        fs::remove_dir_all(place)?;
        fs::rename(unpacked, place)?;
    }
    fs::write(mark, "")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn zip_of(entries: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in entries {
            let mode = if name.starts_with("bin/") { 0o755 } else { 0o644 };
            let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
            writer.start_file(*name, options).expect("an entry");
            writer.write_all(content.as_bytes()).expect("its content");
        }
        let bytes = writer.finish().expect("a zip").into_inner();
        file.write_all(&bytes).expect("it is written");
        file
    }

    #[test]
    fn a_package_is_unpacked_with_its_folders_and_modes() {
        let folder = tempfile::tempdir().expect("a folder");
        let zip = zip_of(&[("task.json", "{}"), ("lib/a.js", "1"), ("bin/tool", "2")]);
        unpack(zip.path(), folder.path()).expect("it is one");
        assert_eq!(fs::read_to_string(folder.path().join("lib/a.js")).expect("it is there"), "1");
        let mode = |file: &str| {
            let metadata = fs::metadata(folder.path().join(file)).expect("it is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("lib/a.js"), mode("bin/tool")), (0o644, 0o755));
    }

    #[test]
    fn what_leaves_its_folder_or_is_no_zip_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        let error = unpack(zip_of(&[("../out.txt", "x")]).path(), &inner).expect_err("it leaves");
        assert!(error.contains("outside its folder: ../out.txt"), "{error}");
        assert!(!folder.path().join("out.txt").exists());
        let mut none = tempfile::NamedTempFile::new().expect("a file");
        none.write_all(b"this is no zip").expect("it is written");
        assert!(unpack(none.path(), &inner).is_err());
        let half = zip_of(&[("task.json", "{}"), ("lib/a.js", "1")]);
        let length = half.as_file().metadata().expect("it is there").len();
        half.as_file().set_len(length / 2).expect("it is cut");
        assert!(unpack(half.path(), &inner).is_err());
    }

    #[test]
    fn names_stay_below_their_folder() {
        for (name, expected) in
            [("CopyFiles", "CopyFiles"), ("../../x", "x"), ("a b/c", "abc"), ("1.2.3", "1.2.3")]
        {
            assert_eq!(plain(name), expected);
        }
    }
}
