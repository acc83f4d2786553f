//! The folders of a job below the work folder, and which one belongs to which pipeline.
//!
//! Follows `BuildDirectoryManager.cs` and `TrackingManager.cs`: a pipeline with the same set of repositories
//! gets the same numbered folder again, so that its checkout is quick; `a` and `TestResults` are made anew
//! for each job.

mod plain;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dayfly_protocol::job::RepositoryResource;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use plain::remove_all;

/// How long the folder's lock is waited for. A child of another process may have inherited it for the moment
/// until it becomes another program.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why the folders could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another worker uses the work folder.
    #[error("the work folder {0} is in use by another job; give each agent a work folder of its own")]
    InUse(PathBuf),
    /// The file system refused.
    #[error("{action} {path} failed")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// What to delete before the job (`workspace: clean`, `build.clean`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clean {
    /// Nothing beyond the usual.
    Nothing,
    /// The pipeline's whole folder.
    All,
    /// The sources.
    Sources,
    /// The binaries.
    Binaries,
}

impl Clean {
    /// `workspace: clean:`.
    pub(crate) fn from_workspace(text: &str) -> Clean {
        match text.to_ascii_lowercase().as_str() {
            "all" => Clean::All,
            "resources" => Clean::Sources,
            "outputs" => Clean::Binaries,
            _ => Clean::Nothing,
        }
    }

    /// The variables `agent.clean.buildDirectory` and `build.clean`.
    pub(crate) fn from_variable(text: &str) -> Option<Clean> {
        match text.to_ascii_lowercase().as_str() {
            "all" => Some(Clean::All),
            "source" => Some(Clean::Sources),
            "binary" => Some(Clean::Binaries),
            "none" => Some(Clean::Nothing),
            _ => None,
        }
    }
}

/// The work folder, held for one job.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// The folders of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineFolders {
    /// `work/<n>`.
    pub(crate) build: PathBuf,
    /// `work/<n>/s`.
    pub(crate) sources: PathBuf,
    /// `work/<n>/a`.
    pub(crate) artifacts: PathBuf,
    /// `work/<n>/b`.
    pub(crate) binaries: PathBuf,
    /// `work/<n>/TestResults`.
    pub(crate) test_results: PathBuf,
}

impl WorkFolder {
    /// Makes the folder and locks it: temporary files are wiped at the start and at the end, so two jobs must
    /// not share it.
    pub(crate) async fn open(path: PathBuf) -> Result<WorkFolder, Error> {
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || WorkFolder::open_now(&path)
        });
        opened.await.unwrap_or_else(|error| Err(failed("opening the folder", &path)(io::Error::other(error))))
    }

    fn open_now(path: &Path) -> Result<WorkFolder, Error> {
        fs::create_dir_all(path).map_err(failed("making the folder", path))?;
        let file = path.join(".lock");
        let lock = plain::lock_file(&file).map_err(failed("opening the file", &file))?;
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
                Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse(path.to_owned())),
                Err(fs::TryLockError::Error(source)) => {
                    return Err(failed("locking the file", &file)(source));
                }
            }
        }
        for name in ["_tool", "_tasks", "_pages"] {
            let folder = path.join(name);
            plain::make_folder(&folder).map_err(failed("making the folder", &folder))?;
        }
        Ok(WorkFolder { path: path.to_owned(), _lock: lock })
    }

    /// `_temp`.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path.join("_temp")
    }

    /// Where log pages wait to be sent.
    pub(crate) fn pages(&self) -> PathBuf {
        self.path.join("_pages")
    }

    /// `_tasks`.
    pub(crate) fn tasks(&self) -> PathBuf {
        self.path.join("_tasks")
    }

    /// `_tool`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.path.join("_tool")
    }

    /// Empties `_temp`, and makes it if need be. What cannot be deleted stays.
    pub(crate) async fn empty_temporary(&self) -> Result<(), Error> {
        let folder = self.temporary();
        let emptied = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || {
                delete_content(&folder);
                plain::make_folder(&folder)
            }
        });
        emptied.await.map_err(io::Error::other).flatten().map_err(failed("making the folder", &folder))
    }

    /// Finds the pipeline's folder, or the next free number, and prepares it.
    pub(crate) fn prepare(
        &self,
        collection: &str,
        definition: &str,
        repositories: &[RepositoryResource],
        sets: Sets,
        clean: Clean,
    ) -> Result<PipelineFolders, Error> {
        let number = self.number(collection, definition, repositories, sets)?;
        let build = self.path.join(number.to_string());
        let folders = PipelineFolders {
            sources: build.join("s"),
            artifacts: build.join("a"),
            binaries: build.join("b"),
            test_results: build.join("TestResults"),
            build,
        };
        make(&folders.build, clean == Clean::All)?;
        make(&folders.artifacts, true)?;
        make(&folders.test_results, true)?;
        make(&folders.binaries, clean == Clean::Binaries)?;
        make(&folders.sources, clean == Clean::Sources)?;
        Ok(folders)
    }

    fn number(
        &self,
        collection: &str,
        definition: &str,
        repositories: &[RepositoryResource],
        sets: Sets,
    ) -> Result<u32, Error> {
        let root = self.path.join(MAPPINGS);
        let of_pipeline = root.join(file_name(collection)).join(file_name(definition));
        let key = hash_key(collection, definition, repositories);
        let of_all = of_pipeline.join("SourceFolder.json");
        let (folder, file) = match sets {
            Sets::OneFolder => (of_pipeline, of_all.clone()),
            Sets::FolderEach => {
                let folder = of_pipeline.join(&key);
                let file = folder.join("SourceFolder.json");
                (folder, file)
            }
        };
        let below = folder.strip_prefix(&root).unwrap_or(&folder);
        plain::make_folder(&root)
            .and_then(|()| plain::make_folders(&root, below))
            .map_err(failed("making the folder", &folder))?;
        let known = read::<SourceFolder>(&file).map(|known| (&file, known));
        let known = known.or_else(|| read::<SourceFolder>(&of_all).map(|known| (&of_all, known)));
        let number = match known {
            Some((of, known)) if known.hash_key == key && known.build_directory > 0 => {
                if *of == file {
                    return Ok(known.build_directory);
                }
                known.build_directory
            }
            Some((_, other)) => {
                self.mark_garbage(other.build_directory)?;
                self.next_number()?
            }
            None => self.next_number()?,
        };
        write(&file, &SourceFolder { build_directory: number, hash_key: key })?;
        if file != of_all && of_all.exists() {
            fs::remove_file(&of_all).map_err(failed("deleting the file", &of_all))?;
        }
        Ok(number)
    }

    fn next_number(&self) -> Result<u32, Error> {
        let root = self.path.join(MAPPINGS);
        plain::make_folder(&root).map_err(failed("making the folder", &root))?;
        let file = root.join("Mappings.json");
        let mappings = read::<Mappings>(&file).unwrap_or_default();
        let next = mappings.last_build_folder_number.checked_add(1).unwrap_or(1);
        // Jobs can write the file, so it may lead to a folder that another pipeline has.
        let is_free = |number: &u32| fs::symlink_metadata(self.path.join(number.to_string())).is_err();
        let number = (next..).find(is_free).unwrap_or(next);
        write(&file, &Mappings { last_build_folder_number: number })?;
        Ok(number)
    }

    /// Notes that no pipeline uses a folder any more (`TrackingManager.MarkForGarbageCollection`).
    fn mark_garbage(&self, number: u32) -> Result<(), Error> {
        let folder = self.path.join(MAPPINGS).join(GARBAGE);
        plain::make_folder(&folder).map_err(failed("making the folder", &folder))?;
        let file = folder.join(format!("{number}.json"));
        write(&file, &SourceFolder { build_directory: number, hash_key: String::new() })
    }

    /// Deletes the folders that no pipeline uses any more. (The official agent leaves that to the maintenance
    /// jobs of its pool.) What cannot be deleted now is tried again after the next job.
    pub(crate) async fn collect_garbage(&self) {
        let work = self.path.clone();
        let collection = tokio::task::spawn_blocking(move || collect_garbage(&work));
        if let Err(error) = collection.await {
            tracing::warn!(%error, "old folders of pipelines were not deleted");
        }
    }
}

/// Where the numbers of the folders are kept.
const MAPPINGS: &str = "SourceRootMapping";
/// Where it is noted which of them nobody uses.
const GARBAGE: &str = "GC";

/// What a pipeline whose jobs check out different sets of repositories gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sets {
    /// One folder, which is given up when the set changes.
    OneFolder,
    /// One folder for each set (`agent.useWorkspaceId`).
    FolderEach,
}

fn collect_garbage(work: &Path) {
    let Ok(entries) = fs::read_dir(work.join(MAPPINGS).join(GARBAGE)) else { return };
    for entry in entries.flatten() {
        let file = entry.path();
        let Some(garbage) = read::<SourceFolder>(&file).filter(|garbage| garbage.build_directory > 0) else {
            continue;
        };
        let folder = work.join(garbage.build_directory.to_string());
        let deleted = plain::remove_all(&folder).and_then(|()| fs::remove_file(&file));
        if let Err(error) = deleted {
            tracing::warn!(
                path = %folder.display(), %error,
                "could not delete a folder that no pipeline uses any more"
            );
        }
    }
}

/// Which numbers are taken.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mappings {
    last_build_folder_number: u32,
}

/// Which number a pipeline has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SourceFolder {
    build_directory: u32,
    hash_key: String,
}

/// Changes with the pipeline and with its set of repositories.
fn hash_key(collection: &str, definition: &str, repositories: &[RepositoryResource]) -> String {
    let mut lines: Vec<String> = repositories
        .iter()
        .map(|repository| {
            let properties = &repository.properties;
            let url = properties.url.as_ref().map(ToString::to_string).unwrap_or_default();
            format!(
                "{}|{}|{url}",
                repository.alias,
                properties.repository_type.as_deref().unwrap_or_default()
            )
        })
        .collect();
    lines.sort_unstable();
    let text = format!("{collection}\n{definition}\n{}", lines.join("\n"));
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes()).simple().to_string()
}

/// Makes a folder below `above` that no other job has, called like the job: `build.greet.english`.
pub(crate) async fn of_job(above: &Path, identifier: &str) -> Result<PathBuf, Error> {
    const LONGEST_NAME: usize = 60;
    // The implicit stage, job and leg are not anybody's words.
    let parts = identifier.split('.').filter(|part| !part.is_empty() && *part != "__default").map(file_name);
    let name: String = parts.collect::<Vec<_>>().join(".").chars().take(LONGEST_NAME).collect();
    let name = if name.is_empty() { "job".to_owned() } else { name };
    tokio::fs::create_dir_all(above).await.map_err(failed("making the folder", above))?;
    let mut number = 1;
    loop {
        let folder = above.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match tokio::fs::create_dir(&folder).await {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed("making the folder", &folder)(error)),
        }
    }
}

/// A text as the name of a folder; what a name cannot hold is replaced.
fn file_name(text: &str) -> String {
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

fn read<T: for<'de> Deserialize<'de>>(file: &Path) -> Option<T> {
    // A file that cannot be read is as good as none: the pipeline gets a new folder.
    serde_json::from_slice(&plain::read_file(file)?).ok()
}

fn write<T: Serialize>(file: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .map_err(failed("writing the file", file))?;
    // Written beside and renamed, so that a crash leaves the old file or the new one.
    let beside = file.with_extension("new");
    // Not through what may lie there.
    plain::remove_all(&beside).map_err(failed("deleting the file", &beside))?;
    fs::write(&beside, bytes).map_err(failed("writing the file", &beside))?;
    fs::rename(&beside, file).map_err(failed("replacing the file", file))
}

fn make(folder: &Path, anew: bool) -> Result<(), Error> {
    if anew {
        plain::remove_all(folder).map_err(failed("deleting the folder", folder))?;
    }
    plain::make_folder(folder).map_err(failed("making the folder", folder))
}

/// Deletes what is in a folder and goes on past what cannot be deleted. That may be much, so it is done
/// beside the async threads.
pub(crate) async fn empty(folder: PathBuf) {
    let deletion = tokio::task::spawn_blocking(move || delete_content(&folder));
    if let Err(error) = deletion.await {
        tracing::warn!(%error, "a folder was not emptied");
    }
}

fn delete_content(folder: &Path) {
    if plain::is_planted(folder).unwrap_or(true) {
        // What it leads to is not ours.
        if let Err(error) = fs::remove_file(folder) {
            tracing::warn!(
                path = %folder.display(), %error,
                "could not delete what is in the place of a folder"
            );
        }
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if let Err(error) = plain::remove_all(&path) {
            tracing::warn!(path = %path.display(), %error, "could not delete a temporary file");
        }
    }
}

/// The folder `git clone` would make for a repository (`RepositoryUtil.GetCloneDirectory`).
pub(crate) fn clone_folder(repository: &RepositoryResource) -> String {
    let url = repository.properties.url.as_ref().map(ToString::to_string);
    let name = repository.properties.name.clone().or(url).unwrap_or_else(|| repository.alias.clone());
    let rest = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix(".git").unwrap_or(rest).trim_end_matches('/');
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let last = last.rsplit(':').next().unwrap_or(last);
    // Nothing that would lead out of the sources.
    if last.is_empty() || last == "." || last == ".." { repository.alias.clone() } else { last.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dayfly_protocol::job::RepositoryProperties;

    fn repository(name: &str) -> RepositoryResource {
        RepositoryResource {
            alias: "self".to_owned(),
            properties: RepositoryProperties { name: Some(name.to_owned()), ..Default::default() },
            ..Default::default()
        }
    }

    #[test]
    fn clone_folders_are_those_of_git() {
        for (name, expected) in [
            ("tools", "tools"),
            ("fabrikam/tools", "tools"),
            ("https://user@host/a/b/tools.git", "tools"),
            ("git@host:tools.git/", "tools"),
            ("..", "self"),
        ] {
            assert_eq!(clone_folder(&repository(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_pipeline_keeps_its_folder_until_its_repositories_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkFolder::open_now(folder.path()).expect("opened");
        let first =
            work.prepare("c", "1", &[repository("a")], Sets::OneFolder, Clean::Nothing).expect("prepared");
        assert_eq!(first.build, folder.path().join("1"));
        fs::write(first.sources.join("kept"), "").expect("written");
        fs::write(first.artifacts.join("old"), "").expect("written");
        let again =
            work.prepare("c", "1", &[repository("a")], Sets::OneFolder, Clean::Nothing).expect("prepared");
        assert_eq!(again, first);
        assert!(again.sources.join("kept").exists());
        assert!(!again.artifacts.join("old").exists());
        let mut changed = repository("a");
        changed.properties.repository_type = Some("GitHub".to_owned());
        let other = work.prepare("c", "1", &[changed], Sets::OneFolder, Clean::Nothing).expect("prepared");
        assert_eq!(other.build, folder.path().join("2"));
        let another = work.prepare("c", "2", &[], Sets::OneFolder, Clean::Nothing).expect("prepared");
        assert_eq!(another.build, folder.path().join("3"));
    }

    #[test]
    fn each_set_of_repositories_may_have_a_folder_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkFolder::open_now(folder.path()).expect("opened");
        let [large, small] = [&["a", "b"][..], &["a"]].map(|names| {
            names
                .iter()
                .map(|name| RepositoryResource { alias: (*name).to_owned(), ..repository(name) })
                .collect::<Vec<_>>()
        });
        let prepare = |repositories: &[RepositoryResource], sets| {
            work.prepare("c", "1", repositories, sets, Clean::Nothing).expect("prepared").build
        };
        // What an older version noted is found again.
        let first = prepare(&large, Sets::OneFolder);
        assert_eq!(prepare(&large, Sets::FolderEach), first);
        let second = prepare(&small, Sets::FolderEach);
        assert_ne!(second, first);
        for _ in 0..2 {
            assert_eq!(prepare(&large, Sets::FolderEach), first);
            assert_eq!(prepare(&small, Sets::FolderEach), second);
        }
        collect_garbage(folder.path());
        assert!(first.exists() && second.exists(), "both are in use");
    }

    #[test]
    fn folders_that_no_pipeline_uses_are_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkFolder::open_now(folder.path()).expect("opened");
        let prepare = |name: &str| {
            work.prepare("c", "1", &[repository(name)], Sets::OneFolder, Clean::Nothing)
                .expect("prepared")
                .build
        };
        let first = prepare("a");
        collect_garbage(folder.path());
        assert!(first.exists(), "it is in use");
        let mut other = repository("a");
        other.alias = "other".to_owned();
        let second =
            work.prepare("c", "1", &[other], Sets::OneFolder, Clean::Nothing).expect("prepared").build;
        collect_garbage(folder.path());
        assert!(!first.exists() && second.exists());
        assert_eq!(fs::read_dir(folder.path().join(MAPPINGS).join(GARBAGE)).expect("a folder").count(), 0);
    }

    #[test]
    fn cleaning_deletes_what_was_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkFolder::open_now(folder.path()).expect("opened");
        for (clean, sources, binaries) in [
            (Clean::Nothing, true, true),
            (Clean::Sources, false, true),
            (Clean::Binaries, true, false),
            (Clean::All, false, false),
        ] {
            let folders = work.prepare("c", "1", &[], Sets::OneFolder, Clean::Nothing).expect("prepared");
            fs::write(folders.sources.join("f"), "").expect("written");
            fs::write(folders.binaries.join("f"), "").expect("written");
            work.prepare("c", "1", &[], Sets::OneFolder, clean).expect("prepared");
            assert_eq!(folders.sources.join("f").exists(), sources, "{clean:?}");
            assert_eq!(folders.binaries.join("f").exists(), binaries, "{clean:?}");
        }
    }

    #[test]
    fn what_a_job_planted_in_the_place_of_folders_is_removed() {
        let (folder, elsewhere) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        fs::write(elsewhere.path().join("dear"), "").expect("written");
        let plant = |name: &str| {
            let place = folder.path().join(name);
            plain::remove_all(&place).expect("removed");
            std::os::unix::fs::symlink(elsewhere.path(), &place).expect("linked");
        };
        let first = WorkFolder::open_now(folder.path()).expect("opened");
        first.prepare("c", "1", &[], Sets::OneFolder, Clean::Nothing).expect("prepared");
        drop(first);
        for name in [
            "_tool",
            "_tasks",
            "_pages",
            "_temp",
            "1/s",
            "1/a",
            "1/b",
            "1/TestResults",
            "SourceRootMapping/c",
        ] {
            plant(name);
        }
        nix::unistd::mkfifo(
            &folder.path().join("SourceRootMapping/Mappings.new"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .expect("made");
        fs::remove_file(folder.path().join(".lock")).expect("removed");
        nix::unistd::mkfifo(&folder.path().join(".lock"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        let work = WorkFolder::open_now(folder.path()).expect("opened");
        delete_content(&work.temporary());
        let folders = work.prepare("c", "1", &[], Sets::OneFolder, Clean::Nothing).expect("prepared");
        for made in [
            &folders.sources,
            &folders.artifacts,
            &folders.binaries,
            &folders.test_results,
            &work.tools(),
            &work.pages(),
        ] {
            assert!(fs::symlink_metadata(made).expect("there").is_dir(), "{}", made.display());
        }
        assert!(fs::symlink_metadata(work.temporary()).is_err());
        let left: Vec<_> =
            fs::read_dir(elsewhere.path()).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["dear"]);
        plant("1");
        let folders = work.prepare("c", "1", &[], Sets::OneFolder, Clean::Nothing).expect("prepared");
        assert!(fs::symlink_metadata(folders.build).expect("there").is_dir());
        assert_eq!(fs::read_dir(elsewhere.path()).expect("there").count(), 1);
    }

    #[test]
    fn what_a_job_made_unwritable_is_deleted() {
        use std::os::unix::fs::PermissionsExt as _;
        let top = tempfile::tempdir().expect("a folder");
        let tree = top.path().join("tree");
        fs::create_dir_all(tree.join("cache/module")).expect("made");
        fs::write(tree.join("cache/module/file"), "").expect("written");
        for folder in ["cache/module", "cache"] {
            fs::set_permissions(tree.join(folder), fs::Permissions::from_mode(0o500)).expect("set");
        }
        remove_all(&tree).expect("deleted");
        assert!(!tree.exists());
        remove_all(&tree).expect("nothing to do");
    }

    #[test]
    fn what_a_job_made_deeper_than_paths_go_is_deleted() {
        use std::os::unix::fs::PermissionsExt as _;
        let top = tempfile::tempdir().expect("a folder");
        let (tree, inner) = (top.path().join("tree"), top.path().join("inner"));
        fs::create_dir(&tree).expect("made");
        // Each is put into a new one, so that no path here is too long.
        for _ in 0..5_000 {
            fs::write(tree.join("file"), "").expect("written");
            fs::rename(&tree, &inner).expect("moved");
            fs::create_dir(&tree).expect("made");
            fs::rename(&inner, tree.join("inner")).expect("moved");
        }
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o500)).expect("set");
        remove_all(&tree).expect("deleted");
        assert!(!tree.exists());
    }

    #[test]
    fn the_work_folder_serves_one_job_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = WorkFolder::open_now(folder.path()).expect("opened");
        assert!(matches!(WorkFolder::open_now(folder.path()), Err(Error::InUse(_))));
        drop(held);
        WorkFolder::open_now(folder.path()).expect("free again");
    }

    #[tokio::test]
    async fn no_two_jobs_get_the_same_folder_of_their_own() {
        let top = tempfile::tempdir().expect("a folder");
        let above = top.path().join("work");
        for (identifier, expected) in [
            ("build.greet.english", "build.greet.english"),
            ("build.greet.english", "build.greet.english-2"),
            ("__default.Job.__default", "Job"),
            ("build.compile.x64 / ../..", "build.compile.x64___._"),
            ("..", "job"),
        ] {
            let folder = of_job(&above, identifier).await.expect("made");
            assert_eq!(folder, above.join(expected), "{identifier}");
        }
    }

    #[tokio::test]
    async fn temporary_files_are_emptied_but_the_folder_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = WorkFolder::open_now(folder.path()).expect("opened");
        work.empty_temporary().await.expect("made");
        fs::create_dir_all(work.temporary().join("a/b")).expect("made");
        fs::write(work.temporary().join("c"), "").expect("written");
        work.empty_temporary().await.expect("emptied");
        assert_eq!(fs::read_dir(work.temporary()).expect("still there").count(), 0);
    }
}
