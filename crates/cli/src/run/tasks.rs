//! What there is for the tasks of a pipeline: in Dayfly itself, and in packages that `dayfly tasks pull` has
//! fetched from an organization.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dayfly_emulator::runs::runs_on_server;
use dayfly_pipelines::plan::TaskReference;
use dayfly_pipelines::{AnyTasks, TaskCatalog};
use semver::Version;
use uuid::Uuid;

use crate::host;

/// What runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// The worker itself, or the emulator for the tasks of server jobs.
    BuiltIn,
    /// Its package, which is on this machine.
    Pulled,
    /// Something of the worker's in its place.
    StandsIn,
    /// Nothing: its steps are left out.
    LeftOut,
    /// Nothing, and its steps fail.
    Missing,
}

/// The packages of tasks on this machine, in a folder as agents keep them: `NAME_ID/VERSION`, whole where
/// `VERSION.completed` stands beside it.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    folder: Option<PathBuf>,
    /// The newest of each major version, by lower-case name and version.
    newest: BTreeMap<(String, u64), (Version, TaskReference)>,
}

impl Pulled {
    /// Where they are; none where this machine has no place for them.
    pub(crate) fn folder() -> Option<PathBuf> {
        host::cache_folder("tasks")
    }

    /// Those that are there.
    pub(crate) fn read() -> Self {
        Self::folder().map(|folder| Self::of(&folder)).unwrap_or_default()
    }

    fn of(folder: &Path) -> Self {
        let mut pulled = Self { folder: Some(folder.to_owned()), ..Self::default() };
        for task in folders(folder) {
            let Some((name, id)) = task.rsplit_once('_') else { continue };
            let Ok(id) = Uuid::try_parse(id) else { continue };
            for text in folders(&folder.join(&task)) {
                let mark = folder.join(&task).join(format!("{text}.completed"));
                let Some(version) = Version::parse(&text).ok().filter(|_| mark.is_file()) else { continue };
                let reference = TaskReference { id, name: name.to_owned(), version: text };
                pulled.add(version, reference);
            }
        }
        pulled
    }

    fn add(&mut self, version: Version, task: TaskReference) {
        let key = (task.name.to_lowercase(), version.major);
        if self.newest.get(&key).is_none_or(|(known, _)| *known < version) {
            self.newest.insert(key, (version, task));
        }
    }

    /// The newest of each major version.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &TaskReference> {
        self.newest.values().map(|(_, task)| task)
    }

    /// Whether this version of the task is there.
    pub(crate) fn has(&self, task: &TaskReference) -> bool {
        self.tasks().any(|known| known.id == task.id && known.version == task.version)
    }

    /// What runs this task.
    pub(crate) fn state(&self, task: &TaskReference) -> State {
        match () {
            () if dayfly_worker::can_run(task.id, &task.version) || runs_on_server(task.id) => State::BuiltIn,
            () if self.has(task) => State::Pulled,
            () if dayfly_worker::is_left_out(&task.name) => State::LeftOut,
            () if dayfly_worker::can_stand_in(&task.name) => State::StandsIn,
            () => State::Missing,
        }
    }

    /// The folder for a service from which these tasks are downloaded, if one of them is there.
    pub(crate) fn folder_for<'a>(
        &self,
        mut tasks: impl Iterator<Item = &'a TaskReference>,
    ) -> Option<PathBuf> {
        self.folder.clone().filter(|_| tasks.any(|task| self.state(task) == State::Pulled))
    }
}

/// The names of the folders in a folder, which need not be there.
fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

impl TaskCatalog for Pulled {
    /// What was pulled; else any task, since what the user's organization has is not known: its steps fail
    /// alone.
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference> {
        // `publisher.extension.name` means the same task.
        let short = name.rsplit('.').next().unwrap_or(name).to_lowercase();
        let by_name = self.newest.get(&(short, major.into())).map(|(_, task)| task);
        let by_id = || self.tasks().find(|task| name.eq_ignore_ascii_case(&task.id.to_string()));
        by_name.or_else(by_id).cloned().or_else(|| AnyTasks.resolve(name, major))
    }

    fn names(&self) -> Vec<String> {
        let pulled = self.tasks().map(|task| task.name.clone());
        pulled.chain(AnyTasks.names()).collect()
    }

    fn is_certain(&self, name: &str, major: u32) -> bool {
        self.resolve(name, major).is_some_and(|task| self.has(&task)) || AnyTasks.is_certain(name, major)
    }
}

/// A task as files name it: `CMake@1`.
pub(crate) fn short(task: &TaskReference) -> String {
    let version = task.version.as_str();
    format!("{}@{}", task.name, version.split_once('.').map_or(version, |(major, _)| major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_found_in_its_newest_version() {
        let folder = tempfile::tempdir().unwrap();
        let id = "11111111-aaaa-4aaa-8aaa-000000000001";
        for (version, is_whole) in [("1.2.9", true), ("1.10.0", true), ("1.11.0", false), ("2.0.0", true)] {
            let place = folder.path().join(format!("My_Task_{id}")).join(version);
            fs::create_dir_all(&place).unwrap();
            if is_whole {
                fs::write(place.with_file_name(format!("{version}.completed")), "").unwrap();
            }
        }
        fs::create_dir_all(folder.path().join("other/1.0.0")).unwrap();
        let pulled = Pulled::of(folder.path());
        let versions = Vec::from_iter(pulled.tasks().map(|task| task.version.as_str()));
        assert_eq!(versions, ["1.10.0", "2.0.0"]);
        for name in ["my_task", "some.extension.My_Task"] {
            let task = pulled.resolve(name, 1).unwrap();
            assert_eq!((short(&task).as_str(), task.version.as_str()), ("My_Task@1", "1.10.0"), "{name}");
            assert_eq!(pulled.state(&task), State::Pulled);
        }
        assert!(pulled.is_certain("My_Task", 2) && !pulled.is_certain("My_Task", 3));
        let missing = pulled.resolve("My_Task", 3).unwrap();
        assert_eq!(pulled.state(&missing), State::Missing);
        assert_eq!(pulled.folder_for([&missing].into_iter()), None);
        let copy = pulled.resolve("CopyFiles", 2).unwrap();
        assert_eq!(pulled.state(&copy), State::BuiltIn);
    }
}
