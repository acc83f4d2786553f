//! Reading further files of the pipeline's repository, for templates.

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
}

/// The files of the repository that the pipeline is in.
pub trait Files {
    /// The text of a file. `path` is relative to the top of the repository, with `/` between its parts and
    /// without `.` and `..`.
    ///
    /// # Errors
    /// See [`FileError`].
    fn read(&self, path: &str) -> Result<String, FileError>;
}

/// No files: every template is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &str) -> Result<String, FileError> {
        Err(FileError::Unavailable)
    }
}

/// The place of a template in the repository, or why there is none.
///
/// `reference` is what the file at `from` says: relative to that file, or from the top of the repository with
/// a leading `/`; a backslash counts as a slash; `@self` is the pipeline's own repository.
pub(crate) fn resolve(from: &str, reference: &str) -> Result<String, String> {
    let (path, alias) = match reference.rsplit_once('@') {
        Some((path, alias)) => (path, Some(alias.trim())),
        None => (reference, None),
    };
    let own = alias.is_none_or(|alias| alias.eq_ignore_ascii_case("self"));
    if !own {
        return Err("templates of other repositories are not supported yet".to_owned());
    }
    let path = path.trim().replace('\\', "/");
    let mut parts: Vec<&str> = match path.starts_with('/') || alias.is_some() {
        true => Vec::new(),
        false => from.rsplit_once('/').map(|(folder, _)| folder.split('/').collect()).unwrap_or_default(),
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
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("ci/jobs.yml", "x.yml@tools", Err("templates of other repositories are not supported yet")),
            ("ci/jobs.yml", "", Err("this is not the path of a file")),
            ("ci/jobs.yml", "x/", Err("this is not the path of a file")),
        ] {
            let result = resolve(from, reference);
            assert_eq!(result.as_deref().map_err(String::as_str), expected, "{reference} in {from}");
        }
    }
}
