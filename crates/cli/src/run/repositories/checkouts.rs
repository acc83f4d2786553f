//! Repositories that jobs check out: found before the run, and served to it as the pipeline's own one is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use dayfly_emulator::runs::RunRepository;
use dayfly_emulator::snapshot;
use dayfly_pipelines::plan::{Job, RepositoryResource};
use dayfly_pipelines::{Plan, Repository};

use super::{Repositories, copies};
use crate::run::caveats;

/// A repository that jobs check out.
#[derive(Debug)]
pub(crate) struct Checkout {
    /// How the jobs call it.
    alias: String,
    /// Its name, by which its folder in a job is called.
    name: String,
    source: Source,
}

/// Where it comes from.
#[derive(Debug)]
enum Source {
    /// A folder that the user named, with all that was changed there.
    WorkTree(PathBuf),
    /// A bare repository, and its branch or tag if that is not the default one.
    Copy(PathBuf, Option<String>),
}

/// What the wanted jobs check out besides the pipeline's own repository.
#[derive(Debug, Default)]
pub(crate) struct Checkouts {
    pub(crate) found: Vec<Checkout>,
    /// Sentences on those that cannot be had.
    pub(crate) missing: Vec<String>,
}

impl Repositories {
    /// Finds, and copies if need be, what the wanted jobs check out.
    pub(crate) fn checkouts(&self, plan: &Plan, wanted: &[Vec<bool>]) -> Checkouts {
        let mut checkouts = Checkouts::default();
        for alias in aliases(plan, wanted) {
            match self.checkout(plan, &alias) {
                Ok(checkout) => checkouts.found.push(checkout),
                Err(reason) => {
                    checkouts.missing.push(format!("jobs that check out `{alias}` will fail: {reason}"));
                }
            }
        }
        checkouts
    }

    fn checkout(&self, plan: &Plan, alias: &str) -> Result<Checkout, String> {
        let repository =
            described(plan, alias).ok_or("the pipeline does not say which repository that is")?;
        let source = match self.given(alias) {
            Some(given) => Source::WorkTree(given.existing()?),
            None => {
                let copy = self.copy(&repository, copies::of_everything)?;
                Source::Copy(copy, repository.reference.clone())
            }
        };
        Ok(Checkout { alias: alias.to_owned(), name: repository.name, source })
    }

    /// Whether it is known where a repository is that a step checks out.
    pub(crate) fn has_place(&self, plan: &Plan, alias: &str) -> bool {
        self.given(alias).is_some()
            || described(plan, alias).is_some_and(|repository| self.url(&repository).is_some())
    }
}

impl Checkout {
    /// The repository as the run takes it, with what is to be said of it. `into` is for a snapshot.
    async fn serve(&self, into: &Path) -> anyhow::Result<(RunRepository, Vec<String>)> {
        let failed = || format!("could not take the repository `{}`", self.alias);
        match &self.source {
            Source::Copy(folder, reference) => {
                let at = RunRepository::at(&self.name, folder, reference.as_deref()).await;
                Ok((at.with_context(failed)?, Vec::new()))
            }
            Source::WorkTree(folder) => {
                // A folder inside of another repository is not that repository.
                let taken = match folder.join(".git").exists() {
                    true => snapshot::take(folder, into).await,
                    false => snapshot::take_folder(folder, into).await,
                };
                let taken = taken.with_context(failed)?;
                let repository =
                    RunRepository { name: self.name.clone(), ..RunRepository::of_snapshot(&taken) };
                Ok((repository, taken.warnings))
            }
        }
    }
}

/// All of them as the run takes them, with snapshots below `folder`.
pub(crate) async fn serve(
    checkouts: &[Checkout],
    folder: &Path,
) -> anyhow::Result<(BTreeMap<String, RunRepository>, Vec<String>)> {
    let (mut served, mut said) = (BTreeMap::new(), Vec::new());
    for (number, checkout) in checkouts.iter().enumerate() {
        let (repository, warnings) = checkout.serve(&folder.join(format!("repository-{number}.git"))).await?;
        served.insert(checkout.alias.clone(), repository);
        said.extend(warnings.into_iter().map(|warning| format!("`{}`: {warning}", checkout.alias)));
    }
    Ok((served, said))
}

/// What the wanted jobs check out, or use without a checkout step.
fn aliases(plan: &Plan, wanted: &[Vec<bool>]) -> BTreeSet<String> {
    let jobs = plan.stages.iter().zip(wanted).flat_map(|(stage, wanted)| stage.jobs.iter().zip(wanted));
    jobs.filter(|(_, wanted)| **wanted)
        .flat_map(|(job, _)| aliases_of(job))
        .map(|alias| key(plan, alias))
        .collect()
}

fn aliases_of(job: &Job) -> impl Iterator<Item = &str> {
    let used = job.uses_repositories.iter().map(String::as_str);
    let used = used.filter(|alias| !alias.eq_ignore_ascii_case("self"));
    caveats::steps(job).filter_map(caveats::foreign_repository).chain(used)
}

/// An alias as the resource writes it: steps may use other cases.
fn key(plan: &Plan, alias: &str) -> String {
    resource(plan, alias).map_or_else(|| alias.to_owned(), |resource| resource.alias.clone())
}

fn resource<'a>(plan: &'a Plan, alias: &str) -> Option<&'a RepositoryResource> {
    plan.resources.repositories.iter().find(|resource| resource.alias.eq_ignore_ascii_case(alias))
}

/// The names of all repositories of a pipeline: its resources, and those that steps write in place.
pub(crate) fn names(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> =
        plan.resources.repositories.iter().map(|resource| resource.alias.as_str()).collect();
    let jobs = plan.stages.iter().flat_map(|stage| &stage.jobs);
    names.extend(jobs.flat_map(aliases_of).filter(|alias| in_place(alias).is_some()));
    names
}

/// Which repository that is: a resource, or one that is written in place.
fn described(plan: &Plan, alias: &str) -> Option<Repository> {
    if let Some(resource) = resource(plan, alias) {
        return Some(Repository {
            alias: resource.alias.clone(),
            kind: resource.kind.clone().unwrap_or_else(|| "git".to_owned()),
            name: resource.name.clone()?,
            reference: resource.reference.clone(),
        });
    }
    in_place(alias)
}

/// A repository as `git://project/repository@ref`.
fn in_place(alias: &str) -> Option<Repository> {
    let (kind, rest) = alias.split_once("://")?;
    let (name, reference) = rest.split_once('@').map_or((rest, None), |(name, at)| (name, Some(at)));
    let reference = reference.filter(|reference| !reference.is_empty()).map(str::to_owned);
    Some(Repository { alias: alias.to_owned(), kind: kind.to_owned(), name: name.to_owned(), reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_may_be_written_in_place() {
        for (alias, kind, name, reference) in [
            ("git://shop/tools@refs/tags/v1", "git", "shop/tools", Some("refs/tags/v1")),
            ("git://tools", "git", "tools", None),
            ("github://a/b@main", "github", "a/b", Some("main")),
        ] {
            let found = in_place(alias).unwrap();
            assert_eq!((found.kind.as_str(), found.name.as_str()), (kind, name));
            assert_eq!(found.reference.as_deref(), reference);
        }
        assert!(in_place("tools").is_none());
    }
}
