//! Registered pipelines (build definitions): a name, a file in YAML, and the repository it belongs to.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dayfly_pipelines::orchestration::Counters;
use dayfly_protocol::ProjectId;
use jiff::Timestamp;

use super::{Error, Result, State};

/// More pipelines than an organization has.
const MAX_DEFINITIONS: usize = 10_000;
/// Number prefixes which are counted for one pipeline; the oldest day's are forgotten with the pipeline.
const MAX_COUNTERS: usize = 10_000;

/// Where a pipeline's file is read from when a run is queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PipelineFile {
    /// A file on this disk; the repository around it, as it is at that moment, is what `checkout: self` gets.
    WorkTree(PathBuf),
    /// A file of a repository that is served here, at the branch of the run.
    Repository {
        /// The repository's name.
        repository: String,
        /// The path in it, with `/`.
        path: String,
    },
    /// The caller brings the compiled pipeline with each run.
    None,
}

/// A pipeline.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) id: i32,
    pub(crate) name: String,
    pub(crate) project: ProjectId,
    pub(crate) file: PipelineFile,
    pub(crate) created: Timestamp,
    /// How often a number's prefix (the part before `$(Rev:r)`) was used.
    revisions: HashMap<String, u32>,
    counters: Arc<PipelineCounters>,
}

/// The counters that a pipeline's expressions use. They go on from run to run.
#[derive(Debug, Default)]
pub(crate) struct PipelineCounters(Mutex<HashMap<String, i64>>);

impl Counters for PipelineCounters {
    /// The seed first. A seed above the number begins anew from it.
    fn next(&self, prefix: &str, seed: i64) -> i64 {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = prefix.to_lowercase();
        if counters.len() >= MAX_COUNTERS && !counters.contains_key(&key) {
            counters.clear();
        }
        let next = counters.get(&key).map_or(seed, |last| last.saturating_add(1).max(seed));
        counters.insert(key, next);
        next
    }
}

impl Definition {
    /// The path of the file as people know it.
    pub(crate) fn yaml_path(&self) -> String {
        match &self.file {
            PipelineFile::WorkTree(path) => {
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            PipelineFile::Repository { path, .. } => path.clone(),
            PipelineFile::None => String::new(),
        }
    }

    /// The repository it is read from, if that is served here by a name of its own.
    pub(crate) fn repository(&self) -> Option<&str> {
        match &self.file {
            PipelineFile::Repository { repository, .. } => Some(repository),
            PipelineFile::WorkTree(_) | PipelineFile::None => None,
        }
    }

    pub(crate) fn counters(&self) -> Arc<PipelineCounters> {
        Arc::clone(&self.counters)
    }

    /// The next revision for a number with this prefix, from 1.
    pub(crate) fn next_revision(&mut self, prefix: &str) -> u32 {
        if self.revisions.len() >= MAX_COUNTERS && !self.revisions.contains_key(prefix) {
            self.revisions.clear();
        }
        let revision = self.revisions.entry(prefix.to_owned()).or_default();
        *revision += 1;
        *revision
    }
}

impl State {
    /// Registers a file of a repository that is served here. Gives the project and the pipeline's number.
    pub(crate) fn add_definition(
        &mut self,
        project: &str,
        name: &str,
        repository: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<(ProjectId, i32)> {
        let project = self.projects.find(project)?.id;
        let repository = self.repositories.find(project, repository)?.name.clone();
        let path = path.trim_start_matches('/').to_owned();
        if path.is_empty() {
            let reason = "it is missing".to_owned();
            return Err(Error::Invalid { what: "the path of the pipeline's file", reason });
        }
        let file = PipelineFile::Repository { repository, path };
        Ok((project, self.definitions.insert(project, name, file, now)?.id))
    }
}

/// All pipelines, by number.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    by_id: BTreeMap<i32, Definition>,
    last_id: i32,
}

impl Definitions {
    /// Adds a pipeline.
    pub(crate) fn insert(
        &mut self,
        project: ProjectId,
        name: &str,
        file: PipelineFile,
        now: Timestamp,
    ) -> Result<&mut Definition> {
        let name = name.trim();
        if name.is_empty() || name.len() > 260 || name.contains(char::is_control) {
            let reason = format!("`{name}` is not a valid name");
            return Err(Error::Invalid { what: "the pipeline's name", reason });
        }
        if self.named(project, name).is_some() {
            return Err(Error::DefinitionExists(name.to_owned()));
        }
        if self.by_id.len() >= MAX_DEFINITIONS {
            return Err(Error::LimitReached { what: "pipelines", limit: MAX_DEFINITIONS as u64 });
        }
        self.last_id += 1;
        let id = self.last_id;
        let name = name.to_owned();
        let definition = Definition {
            id,
            name,
            project,
            file,
            created: now,
            revisions: HashMap::new(),
            counters: Arc::default(),
        };
        Ok(self.by_id.entry(id).or_insert(definition))
    }

    /// The pipeline of that name, which is made if there is none.
    pub(crate) fn named_or_insert(
        &mut self,
        project: ProjectId,
        name: &str,
        now: Timestamp,
    ) -> Result<&mut Definition> {
        match self.named(project, name).map(|definition| definition.id) {
            Some(id) => self.get_mut(project, id),
            None => self.insert(project, name, PipelineFile::None, now),
        }
    }

    pub(crate) fn get(&self, project: ProjectId, id: i32) -> Result<&Definition> {
        let found = self.by_id.get(&id).filter(|definition| definition.project == project);
        found.ok_or(Error::DefinitionNotFound(id))
    }

    pub(crate) fn get_mut(&mut self, project: ProjectId, id: i32) -> Result<&mut Definition> {
        let found = self.by_id.get_mut(&id).filter(|definition| definition.project == project);
        found.ok_or(Error::DefinitionNotFound(id))
    }

    pub(crate) fn named(&self, project: ProjectId, name: &str) -> Option<&Definition> {
        self.of(project).find(|definition| definition.name.eq_ignore_ascii_case(name))
    }

    /// The pipelines of a project, by number.
    pub(crate) fn of(&self, project: ProjectId) -> impl Iterator<Item = &Definition> {
        self.by_id.values().filter(move |definition| definition.project == project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_in_a_project_and_revisions_count_by_prefix() {
        let mut definitions = Definitions::default();
        let (one, two) = (ProjectId(uuid::Uuid::from_u128(1)), ProjectId(uuid::Uuid::from_u128(2)));
        let now = Timestamp::UNIX_EPOCH;
        let id = definitions.insert(one, "Build", PipelineFile::None, now).unwrap().id;
        assert!(matches!(
            definitions.insert(one, "build", PipelineFile::None, now).unwrap_err(),
            Error::DefinitionExists(_)
        ));
        definitions.insert(two, "build", PipelineFile::None, now).unwrap();
        let definition = definitions.named_or_insert(one, "BUILD", now).unwrap();
        assert_eq!(definition.id, id);
        assert_eq!(
            [definition.next_revision("a"), definition.next_revision("a"), definition.next_revision("b")],
            [1, 2, 1]
        );
        assert!(definitions.get(two, id).is_err());
    }

    #[test]
    fn counters_begin_with_their_seed() {
        let counters = PipelineCounters::default();
        assert_eq!(
            [counters.next("a", 5), counters.next("A", 5), counters.next("b", 0), counters.next("a", 100)],
            [5, 6, 0, 100]
        );
    }
}
