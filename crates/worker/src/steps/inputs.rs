//! A step's inputs and environment: defaults, then the step's own values, then macros (`TaskRunner.cs`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use dayfly_protocol::job::Step;

use super::{Prepared, StepError};
use crate::context::{JobContext, StepContext};
use crate::files;
use crate::process::Place;
use crate::variables::expand_macros;

/// Inputs of a task by name, in any case.
pub(crate) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// An input unless it is missing or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// An input that may be empty; none if neither the step nor the task's definition has it.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// All of them, by their names in lower case.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// An input, empty when it is missing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// A switch: `true` in any case (the task library's `getBoolInput`).
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// An input that must be given (the task library's `getInput`, `LIB_InputRequired`).
    pub(crate) fn required(&self, name: &str) -> Result<&str, StepError> {
        self.get(name).ok_or_else(|| StepError::Failed(format!("Input required: {name}")))
    }

    /// An input that is a folder which must exist. In a container only the start of a process shows that.
    pub(crate) async fn directory(&self, name: &str, place: &Place) -> Result<PathBuf, StepError> {
        let value = self.required(name)?;
        let path = PathBuf::from(value);
        if matches!(place, Place::Container(_)) || files::is_folder(&path).await {
            Ok(path)
        } else {
            Err(StepError::Failed(format!("Not found {name}: {value}")))
        }
    }
}

/// What a task's definition says of one of its inputs.
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    pub(super) default: &'a str,
    /// Whether relative values are completed by the repository's folder.
    pub(super) is_path: bool,
    /// Other names that pipelines use. The service knows them, too, and mostly puts the name in their place.
    pub(super) aliases: Vec<&'a str>,
}

/// Expands a step's inputs and environment with the variables as they are now.
pub(super) fn prepare<'a>(
    context: &StepContext,
    step: &Step,
    known: impl Iterator<Item = Known<'a>> + Clone,
    place: Place,
) -> Prepared {
    let job = &context.job;
    let trims = !job.with_variables(|variables| variables.is_on("DISABLE_INPUT_TRIMMING"));
    let trimmed = |value: &'a str| if trims { value.trim() } else { value };
    let mut inputs: BTreeMap<String, String> = known
        .clone()
        .map(|input| (input.name.to_ascii_lowercase(), trimmed(input.default).to_owned()))
        .collect();
    for (name, value) in &step.inputs {
        let name = name.trim();
        let of_alias = known
            .clone()
            .find(|input| input.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name)))
            .map(|input| input.name);
        let name = of_alias.unwrap_or(name);
        if !name.is_empty() {
            let value = if trims { value.trim() } else { value };
            inputs.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    for value in inputs.values_mut() {
        *value = expand(job, value);
    }
    for input in known.filter(|input| input.is_path) {
        if let Some(value) = inputs.get_mut(&input.name.to_ascii_lowercase()) {
            *value = rooted(job, value).to_string_lossy().into_owned();
        }
    }
    let mut environment = BTreeMap::new();
    for (name, value) in &step.environment {
        let name = name.trim();
        if !name.is_empty() {
            environment.insert(name.to_owned(), expand(job, value.trim()));
        }
    }
    Prepared { inputs: Inputs(inputs), environment, place }
}

/// Expands macros by variables first, then by the worker's own environment
/// (`VarUtil.ExpandEnvironmentVariables`).
pub(crate) fn expand(job: &JobContext, text: &str) -> String {
    let expanded = job.with_variables(|variables| variables.expand(text));
    expand_macros(&expanded, |name| {
        job.inherited
            .get(OsStr::new(name))
            .map(|value: &OsString| Cow::Owned(value.to_string_lossy().into_owned()))
    })
    .into_owned()
}

/// The full path of a path input (`BuildJobExtension.GetRootedPath`): relative ones are below the repository,
/// or below the default working directory if the job checks several repositories out.
fn rooted(job: &JobContext, value: &str) -> PathBuf {
    let path = Path::new(value);
    if path.is_absolute() {
        return normalize(path);
    }
    let root = if job.multiple_checkouts {
        None
    } else {
        job.primary_repository().map(|repository| repository.path)
    };
    let root = root
        .filter(|root| !root.as_os_str().is_empty())
        .unwrap_or_else(|| PathBuf::from(job.variable_or_empty("system.defaultworkingdirectory")));
    normalize(&root.join(path))
}

/// Resolves `.` and `..` by the letters of the path alone, as .NET's `Path.GetFullPath` does.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_without_the_file_system() {
        for (path, expected) in
            [("/a/./b/../c", "/a/c"), ("/../a", "/a"), ("/a/b/", "/a/b"), ("/", "/"), ("/a/../../b", "/b")]
        {
            assert_eq!(normalize(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn inputs_are_found_in_any_case() {
        let inputs = Inputs(BTreeMap::from([
            ("failonstderr".to_owned(), "TRUE".to_owned()),
            ("x".to_owned(), String::new()),
        ]));
        assert!(inputs.flag("failOnStderr"));
        assert_eq!(inputs.get("X"), None);
        assert_eq!(inputs.text("missing"), "");
    }
}
