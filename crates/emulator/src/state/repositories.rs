//! Repositories of the projects: a name and the folder on this disk from which they are served.

use std::path::{Path, PathBuf};

use dayfly_protocol::ProjectId;
use uuid::Uuid;

use super::{Error, Result, named_id};
use crate::state::runs::RunRepository;
use crate::stores::git::{MAX_NAME, is_refused, repository_name};

/// More repositories than a machine holds; snapshots go with their runs.
const MAX_REPOSITORIES: usize = 10_000;

/// A repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) id: Uuid,
    pub(crate) project: ProjectId,
    pub(crate) name: String,
    /// A bare repository or a work tree with `.git`.
    pub(crate) directory: PathBuf,
    /// In full, such as `refs/heads/main`.
    pub(crate) default_branch: String,
}

/// All repositories.
#[derive(Debug, Default)]
pub(crate) struct Repositories(Vec<Repository>);

impl Repositories {
    /// Adds a repository; one of the same name in the project is replaced, which keeps its id.
    pub(crate) fn insert(
        &mut self,
        project: ProjectId,
        name: &str,
        directory: PathBuf,
        default_branch: String,
    ) -> Result<&Repository> {
        check_name(name)?;
        let found = self.position(project, name);
        if found.is_none() && self.0.len() >= MAX_REPOSITORIES {
            return Err(Error::LimitReached { what: "repositories", limit: MAX_REPOSITORIES as u64 });
        }
        let id = named_id("repository", &format!("{project}/{}", name.to_lowercase()));
        let repository = Repository { id, project, name: name.to_owned(), directory, default_branch };
        let at = match found {
            Some(at) => {
                self.0[at] = repository;
                at
            }
            None => {
                self.0.push(repository);
                self.0.len() - 1
            }
        };
        Ok(&self.0[at])
    }

    /// Adds a repository of a run under a name that no other has, and gives the name.
    pub(crate) fn insert_beside(&mut self, project: ProjectId, repository: &RunRepository) -> Result<String> {
        let last = repository.name.rsplit('/').next().unwrap_or_default();
        let wanted = repository_name(last);
        let is_free = |name: &String| {
            self.find(project, name).map_or(true, |found| found.directory == repository.directory)
        };
        let others = (2..=MAX_REPOSITORIES).map(|number| {
            let end = format!("-{number}");
            let start: String = wanted.chars().take(MAX_NAME - end.len()).collect();
            format!("{start}{end}")
        });
        let full = Error::LimitReached { what: "repositories", limit: MAX_REPOSITORIES as u64 };
        let name = std::iter::once(wanted.clone()).chain(others).find(is_free).ok_or(full)?;
        let branch = repository.reference.clone();
        self.insert(project, &name, repository.directory.clone(), branch).map(|served| served.name.clone())
    }

    /// A repository of a project by its id or its name in any case.
    pub(crate) fn find(&self, project: ProjectId, id_or_name: &str) -> Result<&Repository> {
        let id = Uuid::parse_str(id_or_name).ok();
        self.of(project)
            .find(|repository| repository.name.eq_ignore_ascii_case(id_or_name) || id == Some(repository.id))
            .ok_or_else(|| Error::RepositoryNotFound(id_or_name.to_owned()))
    }

    /// Serves a folder no more.
    pub(crate) fn forget(&mut self, directory: &Path) {
        self.0.retain(|repository| repository.directory != directory);
    }

    /// The repositories of a project.
    pub(crate) fn of(&self, project: ProjectId) -> impl Iterator<Item = &Repository> {
        self.0.iter().filter(move |repository| repository.project == project)
    }

    fn position(&self, project: ProjectId, name: &str) -> Option<usize> {
        self.0.iter().position(|repository| {
            repository.project == project && repository.name.eq_ignore_ascii_case(name)
        })
    }
}

/// Names become a segment of an address.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty()
        || name.chars().count() > MAX_NAME
        || name.starts_with('.')
        || name.contains(is_refused)
    {
        let reason = format!("`{name}` is not a valid name: use letters, digits, `-`, `_`, `.`, at most 64");
        return Err(Error::Invalid { what: "the repository's name", reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_become_names_of_repositories() {
        for (folder, expected) in
            [("dayfly", "dayfly"), (".tmp", "tmp"), ("a:b#c", "a-b-c"), ("", "self"), ("...", "self")]
        {
            assert_eq!(repository_name(folder), expected);
        }
        assert!(check_name(&repository_name(&"ä".repeat(200))).is_ok());
    }

    #[test]
    fn repositories_of_runs_keep_out_of_each_others_way() {
        let project = ProjectId(Uuid::from_u128(1));
        let mut repositories = Repositories::default();
        let mut insert = |name: &str, directory: &str| {
            let repository = RunRepository {
                name: name.to_owned(),
                directory: PathBuf::from(directory),
                reference: "refs/heads/main".to_owned(),
                commit: String::new(),
                author: String::new(),
                message: String::new(),
                is_temporary: false,
            };
            repositories.insert_beside(project, &repository).unwrap()
        };
        assert_eq!(insert("one/tools", "/a"), "tools");
        assert_eq!(insert("two/Tools", "/b"), "Tools-2");
        assert_eq!(insert("one/tools", "/a"), "tools");
        let long = insert(&"n".repeat(100), "/c");
        assert_eq!(long.len(), MAX_NAME);
        assert!(insert(&"n".repeat(100), "/d").ends_with("-2"));
    }

    #[test]
    fn repositories_are_found_within_their_project_only() {
        let mut repositories = Repositories::default();
        let (one, two) = (ProjectId(Uuid::from_u128(1)), ProjectId(Uuid::from_u128(2)));
        let insert = |repositories: &mut Repositories, project, name: &str| {
            repositories
                .insert(project, name, PathBuf::from("/x"), "refs/heads/main".to_owned())
                .map(|found| found.id)
        };
        let id = insert(&mut repositories, one, "Self").unwrap();
        assert_eq!(insert(&mut repositories, one, "self").unwrap(), id);
        assert_eq!(repositories.of(one).count(), 1);
        assert_eq!(repositories.find(one, &id.to_string()).unwrap().name, "self");
        assert!(repositories.find(two, "self").is_err());
        for name in ["", "..", "a/b", "a?b", ".git", "a\nb"] {
            assert!(insert(&mut repositories, one, name).is_err(), "{name}");
        }
    }
}
