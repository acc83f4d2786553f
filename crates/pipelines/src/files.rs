//! Reading further files of the pipeline's repository and of others, for templates.
//!
//! People read of a file of another repository as pipelines call it: `path@alias`.

use std::fmt;

/// Why a file cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("there is no such file")]
    NotFound,
    /// It is there, but cannot be read as text.
    #[error("it is unreadable: {0}")]
    Unreadable(String),
    /// No file but the pipeline's own can be read here.
    #[error("files of the repository are not available here")]
    Unavailable,
    /// The repository cannot be had; the text says why.
    #[error("{0}")]
    NoRepository(String),
}

/// Another repository, as `resources.repositories` of the pipeline's file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// How the pipeline calls it.
    pub alias: String,
    /// Its `type`, such as `git` or `github`.
    pub kind: String,
    /// Its `name`, such as `project/repository`.
    pub name: String,
    /// Its `ref`, if it says one.
    pub reference: Option<String>,
}

/// The files of the repository that the pipeline is in.
pub trait Files {
    /// The text of a file. `path` is relative to the top of the repository, with `/` between its parts and
    /// without `.` and `..`.
    ///
    /// # Errors
    /// See [`FileError`].
    fn read(&self, path: &str) -> Result<String, FileError>;

    /// The text of a file of another repository.
    ///
    /// # Errors
    /// See [`FileError`].
    fn read_of(&self, repository: &Repository, path: &str) -> Result<String, FileError> {
        let _ = path;
        let name = &repository.name;
        Err(FileError::NoRepository(format!("files of the repository `{name}` are not available here")))
    }
}

/// No files: every template is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &str) -> Result<String, FileError> {
        Err(FileError::Unavailable)
    }
}

/// Where a file is: a path from the top of a repository, and which repository that is. A path may itself hold
/// an `@`, so the two are never one text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// As [`Files::read`] takes it.
    pub(crate) path: String,
    /// The alias of the repository in lower case; the pipeline's own has none.
    pub(crate) alias: Option<String>,
}

impl Place {
    /// A file of the pipeline's own repository.
    pub(crate) fn own(path: String) -> Self {
        Self { path, alias: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path)?;
        self.alias.iter().try_for_each(|alias| write!(formatter, "@{alias}"))
    }
}

/// The place of a template, or why there is none.
///
/// `reference` is what the file at `from` says: relative to that file and in its repository, or from the top
/// with a leading `/` or with `@` and the alias of a repository; a backslash counts as a slash; `@self` is
/// the pipeline's own repository.
pub(crate) fn resolve(from: &Place, reference: &str) -> Result<Place, String> {
    let (path, alias) = match reference.rsplit_once('@') {
        Some((path, alias)) => (path, Some(alias.trim())),
        None => (reference, None),
    };
    let repository = match alias {
        None => from.alias.clone(),
        Some(alias) if alias.eq_ignore_ascii_case("self") => None,
        Some("") => return Err("there is no repository after the `@`".to_owned()),
        Some(alias) => Some(alias.to_lowercase()),
    };
    let path = path.trim().replace('\\', "/");
    let mut parts: Vec<&str> = match path.starts_with('/') || alias.is_some() {
        true => Vec::new(),
        false => {
            from.path.rsplit_once('/').map(|(folder, _)| folder.split('/').collect()).unwrap_or_default()
        }
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or("the path leaves the repository")?;
            }
            part => parts.push(part),
        }
    }
    if path.is_empty() || path.ends_with('/') || parts.is_empty() {
        return Err("this is not the path of a file".to_owned());
    }
    Ok(Place { path: parts.join("/"), alias: repository })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `resolve` finds from a file of the repository `alias`, as people read it.
    fn found(from: &str, alias: Option<&str>, reference: &str) -> Result<String, String> {
        let from = Place { path: from.to_owned(), alias: alias.map(str::to_owned) };
        resolve(&from, reference).map(|place| place.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        for (from, reference, expected) in [
            ("azure-pipelines.yml", "ci/steps.yml", Ok("ci/steps.yml")),
            ("ci/jobs.yml", "steps.yml", Ok("ci/steps.yml")),
            ("ci/jobs.yml", "./a/../steps.yml", Ok("ci/steps.yml")),
            ("ci/jobs.yml", "../steps.yml", Ok("steps.yml")),
            ("ci/jobs.yml", "/steps.yml", Ok("steps.yml")),
            ("ci/jobs.yml", "/x/steps.yml@self", Ok("x/steps.yml")),
            ("ci/jobs.yml", "x\\steps.yml", Ok("ci/x/steps.yml")),
            ("ci/jobs.yml", "../../steps.yml", Err("the path leaves the repository")),
            ("ci/jobs.yml", "x.yml@Tools", Ok("x.yml@tools")),
            ("ci/jobs.yml", "x.yml@", Err("there is no repository after the `@`")),
            ("ci/jobs.yml", "", Err("this is not the path of a file")),
            ("ci/jobs.yml", "x/", Err("this is not the path of a file")),
            ("ci@v2/jobs.yml", "steps.yml", Ok("ci@v2/steps.yml")),
        ] {
            let result = found(from, None, reference);
            assert_eq!(result.as_deref().map_err(String::as_str), expected, "{reference} in {from}");
        }
    }

    #[test]
    fn paths_in_other_repositories_stay_there_unless_they_say_otherwise() {
        for (from, reference, expected) in [
            ("ci/jobs.yml", "../x.yml", Ok("x.yml@tools")),
            ("ci/jobs.yml", "x.yml@self", Ok("x.yml")),
            ("ci/jobs.yml", "../../x.yml", Err("the path leaves the repository")),
            ("ci@v2/jobs.yml", "x.yml", Ok("ci@v2/x.yml@tools")),
        ] {
            let result = found(from, Some("tools"), reference);
            assert_eq!(result.as_deref().map_err(String::as_str), expected, "{reference} in {from}");
        }
        let place = resolve(&Place::own("ci@v2/p.yml".to_owned()), "x.yml").unwrap();
        assert_eq!(place.alias, None, "a folder's name is no repository");
    }
}
