//! Tasks that install a tool, where no package of theirs can be had: the tool is looked for instead.
//!
//! It may be in the tool cache (`Agent.ToolsDirectory`, as the tool library keeps it), on the PATH, or where
//! a version manager keeps it. Its version must satisfy the wish of the step, unless the variable
//! `Dayfly.Tools` is `any`.

mod cache;
mod python;
mod tools;
mod wish;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use dayfly_protocol::TaskResult;
use tokio_util::sync::CancellationToken;

use super::inputs::Known;
use super::program::{environment_of, which};
use super::{Prepared, StepError, own_name};
use crate::context::StepContext;
use crate::process::{self, Command, Place};
use crate::variables::Flags;
use tools::Tool;
use wish::Wish;

/// The variable by which any version will do.
const ANY_VERSION: &str = "Dayfly.Tools";

/// How much a tool may say about its version.
const MAX_SAID_BYTES: usize = 64 * 1024;

/// How long a tool may take to say its version. Those that run by a slow virtual machine take seconds.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);

/// A task for which something stands in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Installer(&'static Tool);

/// A tool that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    version: semver::Version,
    program: PathBuf,
    /// Whether scripts get it without anything being done.
    is_on_path: bool,
}

impl Installer {
    /// What stands in for the task of this name.
    pub(crate) fn of(task: &str) -> Option<Self> {
        let task = own_name(task);
        tools::TOOLS
            .iter()
            .find(|tool| tool.tasks.iter().any(|known| known.eq_ignore_ascii_case(task)))
            .map(Self)
    }

    pub(super) fn known(self) -> impl Iterator<Item = Known<'static>> + Clone {
        let known = |(name, default): &'static (&str, &str)| Known {
            name,
            default,
            is_path: false,
            aliases: Vec::new(),
        };
        self.0.inputs.iter().map(known)
    }

    pub(super) async fn run(self, step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
        let tool = self.0;
        let wished = tool.wish(&prepared.inputs);
        let wish = Wish::parse(wished).map_err(|reason| {
            StepError::Failed(format!(
                "The version '{wished}' of {} cannot be understood: {reason}",
                tool.name
            ))
        })?;
        let found = find(step, prepared, tool, &wish).await?;
        let satisfying = found.iter().filter(|found| wish.is_satisfied_by(&found.version));
        if let Some(found) = satisfying.max_by(|a, b| a.version.cmp(&b.version)) {
            step.output(&format!("Found {} {} at {}.", tool.name, found.version, found.program.display()))
                .await;
            return put_first(step, prepared, tool, found).await;
        }
        if let Some(other) = tool.program.instead.filter(|_| found.is_empty())
            && which(other, &environment_of(step, prepared).await?, &Place::Here).await.is_some()
        {
            let missing = tool.program.names[0];
            step.output(&format!(
                "There is no `{missing}` on the PATH: `{other}` does what it can of its work."
            ))
            .await;
            return Ok(TaskResult::Succeeded);
        }
        let have: Vec<String> =
            found.iter().map(|found| format!("{} at {}", found.version, found.program.display())).collect();
        let here = match have.is_empty() {
            true => format!("There is no `{}` on the PATH or in the tool cache", tool.program.names[0]),
            false => format!("Here is {}", have.join(", ")),
        };
        let wanted = format!("{} {wished}", tool.name);
        let text = format!("This step wants {}. {here}.", wanted.trim_end());
        match nearest(found, &wish).filter(|_| takes_any_version(step)) {
            Some(found) => {
                let taken = match have.len() {
                    1 => "It is used all the same.".to_owned(),
                    _ => format!("The nearest, {}, is used all the same.", found.version),
                };
                step.warning(&format!("{text} {taken}")).await;
                put_first(step, prepared, tool, &found).await
            }
            None if have.is_empty() => Err(StepError::Failed(format!("{text} Install it."))),
            None => Err(StepError::Failed(format!(
                "{text} Install that version, or take the one there is: `dayfly run --tools any`."
            ))),
        }
    }
}

/// Where the Java of a version such as `11` is, if there is one on the PATH; any version if that is wanted.
pub(super) async fn java_home(
    step: &StepContext,
    prepared: &Prepared,
    version: &str,
) -> Result<Option<PathBuf>, StepError> {
    let Some(Installer(tool)) = Installer::of("JavaToolInstaller") else { return Ok(None) };
    let Some((_, levels)) = tool.location else { return Ok(None) };
    let Ok(wish) = Wish::parse(version) else { return Ok(None) };
    let found = find(step, prepared, tool, &wish).await?;
    let (fitting, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| wish.is_satisfied_by(&found.version));
    let other = || nearest(others, &wish).filter(|_| takes_any_version(step));
    let java = fitting.into_iter().next().or_else(other);
    let Some(java) = java else { return Ok(None) };
    Ok(Some(location(&java.program, levels).await))
}

/// The version that is nearest to a wish; of equally near ones what scripts get anyway, then the newest.
fn nearest(found: Vec<Found>, wish: &Wish) -> Option<Found> {
    found.into_iter().min_by_key(|found| {
        (wish.distance(&found.version), !found.is_on_path, Reverse(found.version.clone()))
    })
}

/// Whether any version of a tool will do.
fn takes_any_version(step: &StepContext) -> bool {
    step.job.variable_or_empty(ANY_VERSION).eq_ignore_ascii_case("any")
}

/// The folder so many levels above a program. Programs on the path are often links into the tool's own
/// folder.
async fn location(program: &Path, levels: usize) -> PathBuf {
    let real = tokio::fs::canonicalize(program).await.unwrap_or_else(|_| program.to_owned());
    real.ancestors().nth(levels).unwrap_or(&real).to_owned()
}

/// The versions of a tool that are here: in the tool cache and on the PATH, and where none of these satisfies
/// the wish, also those that version managers keep.
async fn find(
    step: &StepContext,
    prepared: &Prepared,
    tool: &Tool,
    wish: &Wish,
) -> Result<Vec<Found>, StepError> {
    let tools::Program { names, cached_as, .. } = tool.program;
    let mut found = Vec::new();
    if let Some(name) = cached_as {
        let folder = PathBuf::from(step.job.variable_or_empty("Agent.ToolsDirectory"));
        let cached = tokio::task::spawn_blocking(move || cache::versions(&folder, name, names)).await;
        found.extend(cached.unwrap_or_default());
    }
    let environment = environment_of(step, prepared).await?;
    for program in names {
        let Some(program) = which(program, &environment, &Place::Here).await else { continue };
        let versions = versions_of(step, tool, &program, &environment).await?;
        found.extend(versions.into_iter().map(|version| Found {
            version,
            program: program.clone(),
            is_on_path: true,
        }));
    }
    if found.iter().any(|found| wish.is_satisfied_by(&found.version)) {
        return Ok(found);
    }
    let folders: Vec<PathBuf> = tool.shelves.iter().filter_map(|shelf| shelf.folder(&environment)).collect();
    let kept = tokio::task::spawn_blocking(move || programs_in(&folders, names)).await.unwrap_or_default();
    for program in kept {
        let versions = versions_of(step, tool, &program, &environment).await?;
        found.extend(versions.into_iter().map(|version| Found {
            version,
            program: program.clone(),
            is_on_path: false,
        }));
    }
    Ok(found)
}

/// The versions that a program tells of itself.
async fn versions_of(
    step: &StepContext,
    tool: &Tool,
    program: &Path,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Vec<semver::Version>, StepError> {
    let mut command = Command::new(program.to_owned(), std::env::temp_dir());
    command.environment = environment.clone();
    command.arguments = tool.program.arguments.iter().map(Into::into).collect();
    let said = said(command, &step.cancel).await?;
    Ok([&said.stdout, &said.stderr].into_iter().flat_map(|text| tools::versions_in(text)).collect())
}

/// What a program says of its version, as far as it has come after a while: some wait for an answer, or say
/// the same without end.
async fn said(command: Command, cancel: &CancellationToken) -> Result<process::Captured, process::Error> {
    let limit = cancel.child_token();
    let mut captured = pin!(process::capture(command, &limit, MAX_SAID_BYTES));
    tokio::select! {
        captured = &mut captured => return captured,
        () = tokio::time::sleep(VERSION_PATIENCE) => limit.cancel(),
    }
    captured.await
}

/// The programs in the folders of versions that these folders have. Some are there by several names.
fn programs_in(folders: &[PathBuf], names: &[&str]) -> Vec<PathBuf> {
    let mut known = BTreeSet::new();
    let versions = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    versions.sort();
    let program = |version: PathBuf| {
        let program = names.iter().map(|name| version.join("bin").join(name)).find(|path| path.is_file())?;
        known.insert(fs::canonicalize(&program).ok()?).then_some(program)
    };
    versions.into_iter().filter_map(program).collect()
}

/// Puts the tool in front of the path, and tells where it is as the task does.
async fn put_first(
    step: &StepContext,
    prepared: &Prepared,
    tool: &Tool,
    found: &Found,
) -> Result<TaskResult, StepError> {
    let folder = found.program.parent().unwrap_or(&found.program);
    let folder = match tool.usual_name() {
        Some(name) if found.program.file_name().is_some_and(|file| file != name) => {
            Some(alias(step, &found.program, name).await?)
        }
        // In front of the path its folder would bring all else that is in it, too.
        _ if found.is_on_path => None,
        _ => Some(folder.to_owned()),
    };
    let own = if tool.has_packages { python::environment(step, prepared, found).await? } else { None };
    for folder in folder.into_iter().chain(own.as_ref().map(|own| own.join("bin"))) {
        step.output(&format!("Prepending PATH environment variable with directory: {}", folder.display()))
            .await;
        step.job.prepend_path(&folder.to_string_lossy());
    }
    if let Some((variable, levels)) = tool.location {
        let location = match own {
            Some(own) => own,
            None => location(&found.program, levels).await,
        };
        let location = location.to_string_lossy().into_owned();
        step.job.change_variables(|variables| variables.set(variable, &location, Flags::default()));
    }
    Ok(TaskResult::Succeeded)
}

/// A folder in which the program has the name that scripts use: Debian's `python3` is to be `python`.
async fn alias(step: &StepContext, program: &Path, name: &str) -> Result<PathBuf, StepError> {
    let folder =
        PathBuf::from(step.job.variable_or_empty("Agent.TempDirectory")).join(format!("dayfly-{name}"));
    let link = folder.join(name);
    let made = async {
        tokio::fs::create_dir_all(&folder).await?;
        match tokio::fs::remove_file(&link).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        tokio::fs::symlink(program, &link).await
    };
    made.await.map_err(|error| StepError::Failed(format!("Could not make {}: {error}", link.display())))?;
    Ok(folder)
}
