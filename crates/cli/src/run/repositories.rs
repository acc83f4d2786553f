//! Other repositories: their templates, and what jobs check out of them.
//!
//! One is a folder that the user names, or it is copied by the user's own git into the user's cache: from
//! then on it is there without a network.

mod checkouts;
mod copies;
mod git;

pub(crate) use checkouts::{Checkout, names, serve};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dayfly_pipelines::{FileError, Repository};
use url::Url;

use super::alias_folder::{self, AliasFolder, Kind};
use copies::Copied;

const KIND: Kind = Kind { option: "--repository", one: "repository", list: "repositories" };

/// Reads the value of `--repository`.
pub(crate) fn folder(text: &str) -> Result<AliasFolder, String> {
    let given = AliasFolder::parse(text, "templates=../pipeline-templates")?;
    match given.alias.eq_ignore_ascii_case("self") {
        true => Err("`self` is the repository that the pipeline is in".to_owned()),
        false => Ok(given),
    }
}

/// The repositories of one run, each with the folder its templates are in, or why it cannot be had.
#[derive(Debug)]
pub(crate) struct Repositories {
    given: Vec<AliasFolder>,
    /// The top of the pipeline's own repository.
    own: PathBuf,
    found: Mutex<BTreeMap<String, Result<PathBuf, String>>>,
    warnings: Mutex<Vec<String>>,
}

impl Repositories {
    pub(crate) fn new(given: Vec<AliasFolder>, own: PathBuf) -> Self {
        Self { given, own, found: Mutex::default(), warnings: Mutex::default() }
    }

    /// The folder with the files of a repository.
    pub(crate) fn folder(&self, repository: &Repository) -> Result<PathBuf, FileError> {
        let alias = repository.alias.to_lowercase();
        let mut found = lock(&self.found);
        let folder = found.entry(alias).or_insert_with(|| match self.given(&repository.alias) {
            Some(given) => given.existing(),
            None => self.copy(repository, copies::of_files),
        });
        folder.clone().map_err(FileError::NoRepository)
    }

    /// What the user should know of the repositories that were asked for until now.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.warnings))
    }

    /// What is wrong with the folders that were given, beside these aliases of the pipeline.
    pub(crate) fn mistakes(&self, declared: &[&str]) -> Option<String> {
        alias_folder::mistakes(&self.given, KIND, declared)
    }

    fn given(&self, alias: &str) -> Option<&AliasFolder> {
        alias_folder::given(&self.given, alias)
    }

    /// Copies a repository, or takes the copy there is.
    fn copy(&self, repository: &Repository, how: How) -> Result<PathBuf, String> {
        let advice = format!("give its folder by `--repository {}=FOLDER`", repository.alias);
        let url = self.url(repository).ok_or_else(|| {
            format!("the address of the repository `{}` is not known; {advice}", repository.name)
        })?;
        let cache = crate::host::cache_folder("repositories")
            .ok_or_else(|| format!("there is no folder for copies; {advice}"))?;
        let copied = how(&url, repository.reference.as_deref(), &cache)
            .map_err(|reason| format!("the repository {url} cannot be copied: {reason}; {advice}"))?;
        lock(&self.warnings).extend(copied.warning);
        Ok(copied.folder)
    }

    /// Where a repository is, as git takes it. For Azure Repos the organization is that of the pipeline's
    /// own.
    fn url(&self, repository: &Repository) -> Option<String> {
        let name = &repository.name;
        match repository.kind.to_ascii_lowercase().as_str() {
            "github" => Some(format!("https://github.com/{name}")),
            "bitbucket" => Some(format!("https://bitbucket.org/{name}")),
            "git" | "tfsgit" => {
                let own = git::answer(&self.own, &["remote", "get-url", "origin"])?;
                let (project, name) =
                    name.split_once('/').map_or((None, name.as_str()), |(p, n)| (Some(p), n));
                azure_repos(&own, project, name)
            }
            _ => None,
        }
    }
}

/// How a copy is made: of which address, at which reference, in which cache.
type How = fn(&str, Option<&str>, &Path) -> Result<Copied, String>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of another repository of the same organization, without a login that may be in the address of
/// the own one: git asks its own helpers.
fn azure_repos(own: &str, project: Option<&str>, name: &str) -> Option<String> {
    const SSH: &str = "git@ssh.dev.azure.com:v3/";
    if let Some(place) = own.strip_prefix(SSH) {
        let (organization, rest) = place.split_once('/')?;
        let (own_project, _) = rest.split_once('/')?;
        let project = project.map_or_else(|| own_project.to_owned(), segment);
        return Some(format!("{SSH}{organization}/{project}/{}", segment(name)));
    }
    let (before, own_name) = own.split_once("/_git/")?;
    let mut before = Url::parse(before).ok()?;
    // An address that cannot have a login has none.
    let _ = before.set_username("");
    let _ = before.set_password(None);
    let (collection, own_project) = before.as_str().rsplit_once('/')?;
    // The address of a project's first repository may leave out the project, whose name it has.
    let own_project = if own_project.is_empty() { own_name } else { own_project };
    let project = project.map_or_else(|| own_project.to_owned(), segment);
    Some(format!("{collection}/{project}/_git/{}", segment(name)))
}

/// A name as one part of an address: those of Azure Repos have spaces.
fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte))
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_azure_are_in_the_organization_of_the_own_one() {
        for (own, project, expected) in [
            (
                "https://dev.azure.com/contoso/shop/_git/web",
                None,
                "https://dev.azure.com/contoso/shop/_git/t",
            ),
            (
                "https://dev.azure.com/contoso/shop/_git/web",
                Some("My Ops"),
                "https://dev.azure.com/contoso/My%20Ops/_git/t",
            ),
            (
                "https://me:a-secret@dev.azure.com/contoso/a%20shop/_git/web",
                None,
                "https://dev.azure.com/contoso/a%20shop/_git/t",
            ),
            (
                "https://contoso.visualstudio.com/_git/web",
                None,
                "https://contoso.visualstudio.com/web/_git/t",
            ),
            (
                "git@ssh.dev.azure.com:v3/contoso/shop/web",
                Some("ops"),
                "git@ssh.dev.azure.com:v3/contoso/ops/t",
            ),
        ] {
            assert_eq!(azure_repos(own, project, "t").as_deref(), Some(expected), "{own}");
        }
        assert_eq!(azure_repos("git@github.com:contoso/web.git", None, "tools"), None);
    }

    #[test]
    fn a_folder_for_a_repository_that_nobody_declares_is_a_mistake() {
        let given = vec![folder("Tools=/").unwrap()];
        let repositories = Repositories::new(given, PathBuf::from("/"));
        assert_eq!(repositories.mistakes(&["other", "tools"]), None);
        let said = repositories.mistakes(&["other", "templates"]).unwrap();
        assert!(said.contains("no repository `Tools`") && said.contains("`other`, `templates`"), "{said}");
        assert!(repositories.mistakes(&[]).unwrap().contains("no repositories"));
        let nowhere = Repositories::new(vec![folder("tools=/nowhere/at/all").unwrap()], PathBuf::from("/"));
        let said = nowhere.mistakes(&["tools"]).unwrap();
        assert_eq!(said, "`--repository tools`: the folder `/nowhere/at/all` is not there");
        assert!(folder("self=/x").is_err());
    }
}
