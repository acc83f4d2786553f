//! The tasks which pipelines name and agents download: a folder of tasks, each with its `task.json`.
//! Microsoft's own tasks are known by name without it, but only what is in the folder can be downloaded.
//!
//! A pipeline says `Name@major`; the service resolves it to an id and an exact version, which is what the job
//! message carries and what the agent asks for (`TaskManager.cs`). Packages are made when first asked for and
//! kept in a bounded cache.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use dayfly_pipelines::plan::TaskReference;
use dayfly_pipelines::{BuiltinTasks, TaskCatalog};
use serde_json::Value;
use uuid::Uuid;

use crate::stores::disk::Disk;

/// A larger `task.json` is no task.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// More tasks than the service itself has, many times over.
const MAX_TASKS: usize = 4_000;
/// `Name/task.json`, `Name/version/task.json`, or one more folder around them.
const MAX_DEPTH: usize = 3;
/// The packages kept on disk; older ones are made again when asked for.
const MAX_CACHED_BYTES: u64 = 512 << 20;
/// A package with more files than this is refused, so that a wrong folder does not fill the disk.
const MAX_FILES: usize = 50_000;
/// The bytes of one package before compression.
const MAX_PACKAGE_BYTES: u64 = 1 << 30;

/// What went wrong with the folder of tasks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder, or a file in it, cannot be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A `task.json` is not one.
    #[error("`{}` is not a task manifest: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong or missing.
        reason: String,
    },
    /// The folder holds too much.
    #[error("the task folder `{}` holds more than {limit} {what}", path.display())]
    TooMuch {
        /// The folder.
        path: PathBuf,
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// A package could not be written.
    #[error("could not make the package of the task `{task}`")]
    Package {
        /// Name and version of the task.
        task: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// A task's exact version. Azure numbers them by three integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskVersion {
    /// What a pipeline names after `@`.
    pub(crate) major: u32,
    /// The service's sprint for Microsoft's own tasks.
    pub(crate) minor: u32,
    /// Counts within the sprint.
    pub(crate) patch: u32,
}

impl std::fmt::Display for TaskVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl std::str::FromStr for TaskVersion {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().unwrap_or("0").parse();
        Ok(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

/// One task of the folder.
#[derive(Debug)]
struct Installed {
    name: String,
    folder: PathBuf,
    /// The whole `task.json`, with `id` and `version` in the form that the service answers.
    manifest: Value,
}

/// The tasks of a folder, by name and by id.
#[derive(Debug)]
pub(crate) struct TaskFolder {
    installed: BTreeMap<(Uuid, TaskVersion), Installed>,
    /// Versions by lower-case name, full name with the extension's, or id.
    names: HashMap<String, BTreeSet<(TaskVersion, Uuid)>>,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    folder: PathBuf,
    packages: HashMap<(Uuid, TaskVersion), Arc<tokio::sync::OnceCell<Arc<Package>>>>,
    order: VecDeque<(Uuid, TaskVersion)>,
    bytes: u64,
}

/// A task's package on disk; the file lives as long as somebody holds this.
#[derive(Debug)]
pub(crate) struct Package {
    path: tempfile::TempPath,
    length: u64,
}

impl Package {
    /// The zip file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

impl TaskFolder {
    /// Reads the manifests of a folder of tasks; without a folder there are none. Packages are made in the
    /// folder `packages`.
    ///
    /// # Errors
    /// If the folder cannot be read, a manifest is damaged, or there are absurdly many.
    pub(crate) fn load(folder: Option<&Path>, packages: PathBuf) -> Result<Self> {
        let cache = Cache { folder: packages, packages: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        let mut catalog =
            Self { installed: BTreeMap::new(), names: HashMap::new(), cache: Mutex::new(cache) };
        if let Some(folder) = folder {
            catalog.scan(folder, folder, 0)?;
        }
        Ok(catalog)
    }

    /// The manifests for `GET tasks`, for one id and one version if asked for, in the order of ids.
    pub(crate) fn manifests(
        &self,
        id: Option<Uuid>,
        version: Option<TaskVersion>,
    ) -> impl Iterator<Item = &Value> {
        self.installed
            .iter()
            .filter(move |((of, _), _)| id.is_none_or(|id| id == *of))
            .filter(move |((_, at), _)| version.is_none_or(|version| version == *at))
            .map(|(_, task)| &task.manifest)
    }

    /// The package of one task. It is made on first use, once however many ask at the same time.
    ///
    /// Gives `None` for a task which the folder does not hold.
    ///
    /// # Errors
    /// If a file of the task cannot be read or the package cannot be written.
    pub(crate) async fn package(
        &self,
        disk: &Disk,
        id: Uuid,
        version: TaskVersion,
    ) -> Result<Option<Arc<Package>>> {
        let Some(task) = self.installed.get(&(id, version)) else { return Ok(None) };
        let (cell, folder) = {
            let mut cache = self.cache.lock().expect("no one panics while holding the cache");
            let cell = Arc::clone(cache.packages.entry((id, version)).or_default());
            (cell, cache.folder.clone())
        };
        let make = || async {
            let (from, name) = (task.folder.clone(), format!("{}@{version}", task.name));
            let package = disk.run(move || zip_folder(&from, &folder, &name)).await;
            let package = package.map_err(|source| Error::Package { task: task.name.clone(), source })?;
            let package = Arc::new(package?);
            self.keep((id, version), package.length);
            Ok::<_, Error>(package)
        };
        cell.get_or_try_init(make).await.cloned().map(Some)
    }

    /// Notes a new package and lets the oldest go while there are too many bytes. One that is being sent
    /// stays on disk until it has been sent.
    fn keep(&self, key: (Uuid, TaskVersion), length: u64) {
        let mut cache = self.cache.lock().expect("no one panics while holding the cache");
        cache.order.push_back(key);
        cache.bytes += length;
        while cache.bytes > MAX_CACHED_BYTES && cache.order.len() > 1 {
            let Some(oldest) = cache.order.pop_front() else { break };
            let gone = cache.packages.remove(&oldest);
            let freed = gone.and_then(|cell| cell.get().map(|package| package.length)).unwrap_or(0);
            cache.bytes = cache.bytes.saturating_sub(freed);
        }
    }

    fn scan(&mut self, top: &Path, folder: &Path, depth: usize) -> Result<()> {
        let manifest = folder.join("task.json");
        if manifest.is_file() {
            if self.installed.len() >= MAX_TASKS {
                return Err(Error::TooMuch {
                    path: top.to_path_buf(),
                    limit: MAX_TASKS as u64,
                    what: "tasks",
                });
            }
            return self.install(folder, &manifest);
        }
        if depth >= MAX_DEPTH {
            return Ok(());
        }
        let read = |source| Error::Read { path: folder.to_path_buf(), source };
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
        folders.sort();
        folders.iter().try_for_each(|inner| self.scan(top, inner, depth + 1))
    }

    fn install(&mut self, folder: &Path, path: &Path) -> Result<()> {
        let (id, version, name, manifest) = read_manifest(path)?;
        let extension = manifest["contributionIdentifier"].as_str().filter(|extension| !extension.is_empty());
        let full = extension.map(|extension| format!("{extension}.{name}"));
        for known in [Some(name.clone()), Some(id.to_string()), full].into_iter().flatten() {
            self.names.entry(known.to_ascii_lowercase()).or_default().insert((version, id));
        }
        self.installed.insert((id, version), Installed { name, folder: folder.to_path_buf(), manifest });
        Ok(())
    }
}

impl TaskCatalog for TaskFolder {
    /// The best version in the folder; else what everybody knows of Microsoft's tasks.
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference> {
        let versions = self.names.get(&name.to_ascii_lowercase());
        let best = versions.into_iter().flatten().rev().find(|(version, _)| version.major == major);
        match best.and_then(|(version, id)| Some((id, version, self.installed.get(&(*id, *version))?))) {
            Some((id, version, task)) => {
                Some(TaskReference { id: *id, name: task.name.clone(), version: version.to_string() })
            }
            None => BuiltinTasks.resolve(name, major),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.installed.values().map(|task| task.name.clone()).collect();
        names.extend(BuiltinTasks.names());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn newest(&self, name: &str) -> Option<u32> {
        let installed = self.names.get(&name.to_ascii_lowercase()).and_then(BTreeSet::last);
        let installed = installed.map(|(version, _)| version.major);
        installed.max(BuiltinTasks.newest(name))
    }
}

/// Reads a `task.json` and normalizes its id and version, which authors write in several ways.
fn read_manifest(path: &Path) -> Result<(Uuid, TaskVersion, String, Value)> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let wrong = |reason: String| Error::Manifest { path: path.to_path_buf(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(MAX_MANIFEST_BYTES).read_to_string(&mut text).map_err(read)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut manifest: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let id = manifest["id"].as_str().and_then(|id| Uuid::parse_str(id).ok());
    let id = id.ok_or_else(|| wrong("`id` is not a GUID".to_owned()))?;
    let name = manifest["name"].as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong("`name` is missing".to_owned()))?.to_owned();
    let part = |name: &str| {
        let value =
            manifest["version"].get(name).or_else(|| manifest["version"].get(name.to_ascii_lowercase()));
        match value {
            Some(Value::Number(number)) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        }
        .ok_or_else(|| wrong(format!("`version.{name}` is not a number")))
    };
    let version = TaskVersion { major: part("Major")?, minor: part("Minor")?, patch: part("Patch")? };
    let object = manifest.as_object_mut().ok_or_else(|| wrong("it is not a JSON object".to_owned()))?;
    object.insert("id".to_owned(), Value::String(id.to_string()));
    let numbers = serde_json::json!({
        "major": version.major, "minor": version.minor, "patch": version.patch, "isTest": false,
    });
    object.insert("version".to_owned(), numbers);
    object.entry("contentsUploaded").or_insert(Value::Bool(true));
    Ok((id, version, name, manifest))
}

/// Packs a task's folder. Symbolic links are left out: they could lead out of it.
fn zip_folder(folder: &Path, into: &Path, task: &str) -> Result<Package> {
    let failed = |source| Error::Package { task: task.to_owned(), source };
    let mut files = Vec::new();
    collect_files(folder, folder, &mut files)?;
    let file = tempfile::NamedTempFile::new_in(into).map_err(failed)?;
    let (file, path) = file.into_parts();
    let mut archive = zip::ZipWriter::new(std::io::BufWriter::new(file));
    let mut left = MAX_PACKAGE_BYTES;
    for (name, path) in files {
        let source = std::fs::File::open(&path).map_err(failed)?;
        let mode = mode(&source.metadata().map_err(failed)?);
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        archive.start_file(name, options).map_err(|error| failed(error.into()))?;
        let copied = std::io::copy(&mut source.take(left + 1), &mut archive).map_err(failed)?;
        left = left.checked_sub(copied).ok_or_else(|| Error::TooMuch {
            path: folder.to_path_buf(),
            limit: MAX_PACKAGE_BYTES,
            what: "bytes in one task",
        })?;
    }
    let mut writer = archive.finish().map_err(|error| failed(error.into()))?;
    writer.flush().map_err(failed)?;
    let length = writer.get_ref().metadata().map_err(failed)?.len();
    Ok(Package { path, length })
}

fn collect_files(top: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let read = |source| Error::Read { path: folder.to_path_buf(), source };
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).map_err(read)?.collect::<std::io::Result<_>>().map_err(read)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(read)?;
        let path = entry.path();
        if kind.is_dir() {
            collect_files(top, &path, files)?;
        } else if kind.is_file() {
            if files.len() >= MAX_FILES {
                let limit = MAX_FILES as u64;
                return Err(Error::TooMuch { path: top.to_path_buf(), limit, what: "files in one task" });
            }
            let relative = path.strip_prefix(top).expect("entries lie below the folder that was read");
            let name = relative.components().map(|part| part.as_os_str().to_string_lossy());
            files.push((name.collect::<Vec<_>>().join("/"), path));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> u32 {
    0o644
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_task(folder: &Path, manifest: &str) {
        std::fs::create_dir_all(folder.join("lib")).unwrap();
        std::fs::write(folder.join("task.json"), manifest).unwrap();
        std::fs::write(folder.join("lib/index.js"), "console.log('hello')").unwrap();
    }

    fn task(name: &str, version: &str) -> String {
        let id = "11111111-AAAA-4AAA-8AAA-000000000001";
        let parts: Vec<_> = version.split('.').collect();
        format!(
            r#"{{"id":"{id}","name":"{name}","contributionIdentifier":"pub.ext.task",
                "version":{{"Major":"{}","Minor":{},"Patch":{}}}}}"#,
            parts[0], parts[1], parts[2]
        )
    }

    #[test]
    fn names_resolve_to_the_best_version_of_the_major_one() {
        let folder = tempfile::tempdir().unwrap();
        write_task(&folder.path().join("HelloV1/1.2.3"), &task("Hello", "1.2.3"));
        write_task(&folder.path().join("HelloV1/1.10.0"), &task("Hello", "1.10.0"));
        write_task(&folder.path().join("HelloV2"), &format!("\u{feff}{}", task("Hello", "2.0.1")));
        let bash = r#"{"id":"6C731C3C-3C68-459A-A5C9-BDE6E6595B5B","name":"Bash",
            "version":{"Major":"3","Minor":1,"Patch":0}}"#;
        write_task(&folder.path().join("BashV3"), bash);
        let tasks = TaskFolder::load(Some(folder.path()), PathBuf::new()).unwrap();
        let resolve = |name: &str, major| tasks.resolve(name, major).map(|task| task.version);
        for (name, major, expected) in [
            ("Hello", 1, Some("1.10.0")),
            ("hello", 2, Some("2.0.1")),
            ("Hello", 3, None),
            ("pub.ext.task.Hello", 2, Some("2.0.1")),
            ("11111111-aaaa-4aaa-8aaa-000000000001", 1, Some("1.10.0")),
            // The folder goes before what is known without it.
            ("Bash", 3, Some("3.1.0")),
            ("Nothing", 1, None),
        ] {
            assert_eq!(resolve(name, major).as_deref(), expected, "{name}@{major}");
        }
        assert_eq!(tasks.resolve("cmdline", 2), BuiltinTasks.resolve("CmdLine", 2));
    }

    #[tokio::test]
    async fn packages_hold_the_files_and_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        write_task(&folder.path().join("Hello"), &task("Hello", "1.2.3"));
        let packages = tempfile::tempdir().unwrap();
        let tasks = TaskFolder::load(Some(folder.path()), packages.path().to_path_buf()).unwrap();
        let disk = Disk::new(0);
        let id = tasks.resolve("Hello", 1).unwrap().id;
        let version = "1.2.3".parse().unwrap();
        let first = tasks.package(&disk, id, version).await.unwrap().unwrap();
        let second = tasks.package(&disk, id, version).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let file = std::fs::File::open(first.path()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), first.length());
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut text = String::new();
        archive.by_name("lib/index.js").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "console.log('hello')");
        assert_eq!(archive.len(), 2);
        assert!(first.path().starts_with(packages.path()), "{}", first.path().display());
        assert!(tasks.package(&disk, id, "9.0.0".parse().unwrap()).await.unwrap().is_none());
    }

    #[test]
    fn a_damaged_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (manifest, expected) in [
            ("{", "is not a task manifest"),
            (r#"{"id":"x","name":"A","version":{"Major":1,"Minor":0,"Patch":0}}"#, "`id` is not a GUID"),
            (
                r#"{"id":"11111111-AAAA-4AAA-8AAA-000000000001","name":"A"}"#,
                "`version.Major` is not a number",
            ),
        ] {
            write_task(&folder.path().join("Bad"), manifest);
            let error = TaskFolder::load(Some(folder.path()), PathBuf::new()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("task.json"), "{error}");
        }
    }
}
