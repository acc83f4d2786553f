//! Other repositories, for the templates that a pipeline takes from them.
//!
//! One is a folder that the user names, or it is cloned by the user's own git into the user's cache, once:
//! from then on it is there without a network, and fetched again when its copy is a day old.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use dayfly_pipelines::{FileError, Repository};
use url::Url;
use uuid::Uuid;

use crate::output;

/// How long git may take for one step.
const GIT_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How often it is looked whether git has ended.
const GIT_PAUSE: Duration = Duration::from_millis(10);

/// How old a copy may be before it is fetched again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A repository that is a folder here.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryFolder {
    alias: String,
    folder: PathBuf,
}

impl FromStr for RepositoryFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((alias, folder)) if !alias.trim().is_empty() && !folder.is_empty() => {
                Ok(Self { alias: alias.trim().to_owned(), folder: folder.into() })
            }
            _ => Err("expected ALIAS=FOLDER, as in templates=../pipeline-templates".to_owned()),
        }
    }
}

/// The repositories of one run, each with the folder it is in, or why it cannot be had.
#[derive(Debug)]
pub(crate) struct Repositories {
    given: Vec<RepositoryFolder>,
    /// The top of the pipeline's own repository.
    own: PathBuf,
    found: Mutex<BTreeMap<String, Result<PathBuf, String>>>,
}

impl Repositories {
    pub(crate) fn new(given: Vec<RepositoryFolder>, own: PathBuf) -> Self {
        Self { given, own, found: Mutex::default() }
    }

    /// The folder of a repository.
    pub(crate) fn folder(&self, repository: &Repository) -> Result<PathBuf, FileError> {
        let alias = repository.alias.to_lowercase();
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = found.entry(alias).or_insert_with(|| self.find(repository));
        folder.clone().map_err(FileError::NoRepository)
    }

    fn find(&self, repository: &Repository) -> Result<PathBuf, String> {
        let given = self.given.iter().find(|given| given.alias.eq_ignore_ascii_case(&repository.alias));
        if let Some(given) = given {
            return match given.folder.is_dir() {
                true => Ok(given.folder.clone()),
                false => Err(format!("the folder `{}` is not there", given.folder.display())),
            };
        }
        let advice = format!("give its folder by `--repository {}=FOLDER`", repository.alias);
        let url = self.url(repository).ok_or_else(|| {
            format!("the address of the repository `{}` is not known; {advice}", repository.name)
        })?;
        let cache = cache_folder().ok_or_else(|| format!("there is no folder for copies; {advice}"))?;
        copy(&url, repository.reference.as_deref(), &cache)
            .map_err(|reason| format!("the repository {url} cannot be copied: {reason}; {advice}"))
    }

    /// Where a repository is, as git takes it. For Azure Repos the organization is that of the pipeline's
    /// own.
    fn url(&self, repository: &Repository) -> Option<String> {
        let name = &repository.name;
        match repository.kind.to_ascii_lowercase().as_str() {
            "github" => Some(format!("https://github.com/{name}")),
            "bitbucket" => Some(format!("https://bitbucket.org/{name}")),
            "git" => {
                let own = git_output(&self.own, &["remote", "get-url", "origin"])?;
                let (project, name) =
                    name.split_once('/').map_or((None, name.as_str()), |(p, n)| (Some(p), n));
                azure_repos(own.trim(), project, name)
            }
            _ => None,
        }
    }
}

/// The address of another repository of the same organization, without a login that may be in the address of
/// the own one: git asks its own helpers.
fn azure_repos(own: &str, project: Option<&str>, name: &str) -> Option<String> {
    const SSH: &str = "git@ssh.dev.azure.com:v3/";
    if let Some(place) = own.strip_prefix(SSH) {
        let (organization, rest) = place.split_once('/')?;
        let (own_project, _) = rest.split_once('/')?;
        return Some(format!("{SSH}{organization}/{}/{name}", project.unwrap_or(own_project)));
    }
    let (before, _) = own.split_once("/_git/")?;
    let mut before = Url::parse(before).ok()?;
    // An address that cannot have a login has none.
    let _ = before.set_username("");
    let _ = before.set_password(None);
    let (collection, own_project) = before.as_str().rsplit_once('/')?;
    Some(format!("{collection}/{}/_git/{name}", project.unwrap_or(own_project)))
}

fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("dayfly").join("repositories"))
}

/// Copies a repository at a branch, a tag or its default branch, or takes the copy there is.
fn copy(url: &str, reference: Option<&str>, cache: &Path) -> Result<PathBuf, String> {
    let reference = match reference {
        None => "HEAD".to_owned(),
        Some(full) if full.starts_with("refs/") => full.to_owned(),
        Some(branch) => format!("refs/heads/{branch}"),
    };
    let folder = cache.join(name_of_copy(url, &reference));
    let mark = folder.join(".git").join("dayfly-fetched");
    let age = |path: &Path| SystemTime::now().duration_since(path.metadata().ok()?.modified().ok()?).ok();
    if age(&mark).is_some_and(|age| age < FRESH) {
        return Ok(folder);
    }
    std::fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let fresh =
        tempfile::Builder::new().prefix("new-").tempdir_in(cache).map_err(|error| error.to_string())?;
    output::note(&format!("getting {url} for its templates"));
    let made = fresh.path().join("copy");
    std::fs::create_dir(&made).map_err(|error| error.to_string())?;
    let fetched = git(&made, &["init", "--quiet"])
        .and_then(|()| git(&made, &["fetch", "--quiet", "--depth", "1", "--", url, &reference]))
        .and_then(|()| git(&made, &["checkout", "--quiet", "--detach", "FETCH_HEAD"]));
    match fetched {
        Ok(()) => {}
        Err(reason) if mark.is_file() => {
            // What was there yesterday is better than nothing.
            tracing::warn!(reason, url, "an old copy of a repository is used");
            return Ok(folder);
        }
        Err(reason) => return Err(reason),
    }
    std::fs::write(made.join(".git").join("dayfly-fetched"), "").map_err(|error| error.to_string())?;
    if folder.exists() {
        let _ = std::fs::rename(&folder, fresh.path().join("old"));
    }
    match std::fs::rename(&made, &folder) {
        Ok(()) => Ok(folder),
        // Another run was faster.
        Err(_) if mark.is_file() => Ok(folder),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

/// A folder's name by which a person finds it, and which no other repository or reference has.
fn name_of_copy(url: &str, reference: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    let end: String = url.rsplit('/').next().unwrap_or_default().chars().map(plain).take(40).collect();
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{url} {reference}").as_bytes());
    format!("{end}-{}", hash.simple())
}

/// Runs git, which must not ask anything: nobody would see it.
fn git(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = command(folder, arguments);
    command.env("GIT_TERMINAL_PROMPT", "0").stdout(Stdio::null()).stderr(Stdio::piped());
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
    }
    let mut child = command.spawn().map_err(|error| format!("git cannot be run: {error}"))?;
    let until = Instant::now() + GIT_PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > until {
            // Whatever it still says is of no use.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("git did not end within {} minutes", GIT_PATIENCE.as_secs() / 60));
        }
        std::thread::sleep(GIT_PAUSE);
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("git gives no reason").trim().to_owned())
}

fn git_output(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = command(folder, arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Git in that folder, whatever repository it is told of by who started us.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"] {
        command.env_remove(variable);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_azure_are_in_the_organization_of_the_own_one() {
        let own = "https://dev.azure.com/contoso/shop/_git/web";
        let expected = |url: &str| Some(url.to_owned());
        assert_eq!(
            azure_repos(own, None, "tools"),
            expected("https://dev.azure.com/contoso/shop/_git/tools")
        );
        assert_eq!(
            azure_repos(own, Some("ops"), "tools"),
            expected("https://dev.azure.com/contoso/ops/_git/tools")
        );
        assert_eq!(
            azure_repos("https://me:a-secret@dev.azure.com/contoso/shop/_git/web", None, "tools"),
            expected("https://dev.azure.com/contoso/shop/_git/tools")
        );
        assert_eq!(
            azure_repos("git@ssh.dev.azure.com:v3/contoso/shop/web", Some("ops"), "tools"),
            expected("git@ssh.dev.azure.com:v3/contoso/ops/tools")
        );
        assert_eq!(azure_repos("git@github.com:contoso/web.git", None, "tools"), None);
    }

    #[test]
    fn copies_have_names_of_their_own() {
        let names = [
            name_of_copy("https://github.com/a/b-c", "HEAD"),
            name_of_copy("https://github.com/a-b/c", "HEAD"),
            name_of_copy("https://github.com/a/b-c", "refs/heads/v1"),
            name_of_copy("https://github.com/a/b-c", "refs/tags/v1"),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("b-c-"), "{}", names[0]);
    }
}
