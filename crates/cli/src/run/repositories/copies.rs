//! Copies of repositories in the user's cache: one commit with its files for templates, everything for
//! checkouts. A copy that is a day old is fetched again; without a network it stays good.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::git::git;
use crate::output;

/// How long git may take for the files of one commit.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How long git may take for everything.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(60 * 60);

/// How old a copy may be before it is fetched again, and what killed runs have left before it is deleted.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The file whose time is that of the last fetch.
const MARK: &str = "dayfly-fetched";

/// A copy of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) folder: PathBuf,
    /// Why it is an old one, if it is.
    pub(super) warning: Option<String>,
}

impl Copied {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), warning: None }
    }

    fn old(folder: &Path, url: &str, reason: &str, age: Option<Duration>) -> Self {
        let age = age.map_or_else(|| "an older copy".to_owned(), |age| format!("a copy from {}", ago(age)));
        let warning = format!("{url} cannot be fetched, so {age} is used: {reason}");
        Self { folder: folder.to_owned(), warning: Some(warning) }
    }
}

fn ago(age: Duration) -> String {
    match age.as_secs() / 3600 {
        hours @ 48.. => format!("{} days ago", hours / 24),
        1 => "1 hour ago".to_owned(),
        hours => format!("{hours} hours ago"),
    }
}

/// A branch or tag in full.
fn full(reference: &str) -> String {
    if reference.starts_with("refs/") { reference.to_owned() } else { format!("refs/heads/{reference}") }
}

/// The files of a repository at a branch, a tag or its default branch.
pub(super) fn of_files(url: &str, reference: Option<&str>, cache: &Path) -> Result<Copied, String> {
    let reference = reference.map_or_else(|| "HEAD".to_owned(), full);
    let place = Place::new(cache, url, &reference, ".git");
    place.recover();
    if place.is_fresh() {
        return Ok(Copied::new(&place.folder));
    }
    let fresh = workshop(cache)?;
    output::note(&format!("getting {url} for its templates"));
    let made = fresh.path().join("copy");
    std::fs::create_dir(&made).map_err(|error| error.to_string())?;
    let fetched = git(&made, &["init", "--quiet"], PATIENCE)
        .and_then(|_| git(&made, &["fetch", "--quiet", "--depth", "1", "--", url, &reference], PATIENCE))
        .and_then(|_| git(&made, &["checkout", "--quiet", "--detach", "FETCH_HEAD"], PATIENCE));
    match fetched {
        Ok(_) => place.take(&made).map(|()| Copied::new(&place.folder)),
        // What was there yesterday is better than nothing.
        Err(reason) if place.is_whole() => Ok(Copied::old(&place.folder, url, &reason, place.age())),
        Err(reason) => Err(reason),
    }
}

/// A bare repository with all branches and tags, and with this reference besides.
pub(super) fn of_everything(url: &str, reference: Option<&str>, cache: &Path) -> Result<Copied, String> {
    let reference = reference.map(full);
    let place = Place::new(cache, url, "everything", "");
    place.recover();
    if place.is_fresh() && place.has(reference.as_deref()) {
        return Ok(Copied::new(&place.folder));
    }
    output::note(&format!("getting {url} for a checkout"));
    let is_new = !place.is_whole();
    let fetched = match is_new {
        true => clone(&place, url, cache),
        false => update(&place.folder, url, reference.as_deref()),
    };
    // Others than branches and tags are not among what is cloned.
    let fetched = match fetched {
        Ok(()) if is_new && !place.has(reference.as_deref()) => {
            update(&place.folder, url, reference.as_deref())
        }
        fetched => fetched,
    };
    match fetched {
        Ok(()) => place.mark(&place.folder).map(|()| Copied::new(&place.folder)),
        // Another run has just fetched it, which was in our way.
        Err(_) if place.is_fresh() && place.has(reference.as_deref()) => Ok(Copied::new(&place.folder)),
        Err(reason) if place.is_whole() && place.has(reference.as_deref()) => {
            Ok(Copied::old(&place.folder, url, &reason, place.age()))
        }
        Err(reason) => Err(reason),
    }
}

fn clone(place: &Place, url: &str, cache: &Path) -> Result<(), String> {
    let fresh = workshop(cache)?;
    git(fresh.path(), &["clone", "--quiet", "--bare", "--", url, "copy"], PATIENCE_FOR_ALL)?;
    place.take(&fresh.path().join("copy"))
}

/// Fetches what is new. Git first gets the objects and then moves the branches, so a job that reads the copy
/// meanwhile sees a whole one.
fn update(folder: &Path, url: &str, reference: Option<&str>) -> Result<(), String> {
    let mut wanted = vec!["+refs/heads/*:refs/heads/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
    let is_special = |name: &&str| !name.starts_with("refs/heads/") && !name.starts_with("refs/tags/");
    wanted.extend(reference.filter(is_special).map(|name| format!("+{name}:{name}")));
    let mut arguments = vec!["fetch", "--quiet", "--prune", "--", url];
    arguments.extend(wanted.iter().map(String::as_str));
    bare(folder, &arguments, PATIENCE_FOR_ALL)?;
    if reference.is_none() {
        let answer = bare(folder, &["ls-remote", "--symref", "--", url, "HEAD"], PATIENCE)?;
        let default = answer.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        if let Some(branch) = default.filter(|branch| branch.starts_with("refs/heads/")) {
            bare(folder, &["symbolic-ref", "HEAD", branch], PATIENCE)?;
        }
    }
    Ok(())
}

/// Git in a bare repository, which some users' settings want to be named.
fn bare(folder: &Path, arguments: &[&str], patience: Duration) -> Result<String, String> {
    git(folder, &[&["--git-dir=."], arguments].concat(), patience)
}

/// A folder for what is being made, which is deleted with its value; those of killed runs are deleted too.
fn workshop(cache: &Path) -> Result<tempfile::TempDir, String> {
    const PREFIX: &str = "new-";
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache);
    made.map_err(|error| format!("{}: {error}", cache.display()))?;
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && age(&entry.path()).is_some_and(|age| age > FRESH) {
            // It is in nobody's way: the next run tries again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(cache).map_err(|error| error.to_string())
}

/// How long ago a file was changed.
fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(path.metadata().ok()?.modified().ok()?).ok()
}

/// Where a copy is, and where it is for the moment in which another one takes its place.
struct Place {
    folder: PathBuf,
    aside: PathBuf,
    /// The folder of git's own files, inside of the copy.
    inner: &'static str,
}

impl Place {
    fn new(cache: &Path, url: &str, what: &str, inner: &'static str) -> Self {
        let name = name_of_copy(url, what);
        Self { folder: cache.join(&name), aside: cache.join(format!("{name}.old")), inner }
    }

    fn mark_in(&self, copy: &Path) -> PathBuf {
        copy.join(self.inner).join(MARK)
    }

    fn mark(&self, copy: &Path) -> Result<(), String> {
        let mark = self.mark_in(copy);
        std::fs::write(&mark, "").map_err(|error| format!("{}: {error}", mark.display()))
    }

    fn age(&self) -> Option<Duration> {
        age(&self.mark_in(&self.folder))
    }

    fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < FRESH)
    }

    fn is_whole(&self) -> bool {
        self.mark_in(&self.folder).is_file()
    }

    /// Whether a bare copy has a branch or tag; the default one if no other is meant.
    fn has(&self, reference: Option<&str>) -> bool {
        let name = format!("{}^{{commit}}", reference.unwrap_or("HEAD"));
        bare(&self.folder, &["rev-parse", "--verify", "--quiet", &name], PATIENCE).is_ok()
    }

    /// Puts the old copy back if a run was killed before it put the new one in its place.
    fn recover(&self) {
        if !self.folder.exists() && self.mark_in(&self.aside).is_file() {
            // If another run does so at the same time, it is done.
            let _ = std::fs::rename(&self.aside, &self.folder);
        }
    }

    /// Takes a copy that was made. At every moment there is a whole one, here or aside.
    fn take(&self, made: &Path) -> Result<(), String> {
        self.mark(made)?;
        if self.folder.exists() {
            self.forget_aside();
            let _ = std::fs::rename(&self.folder, &self.aside);
        }
        match std::fs::rename(made, &self.folder) {
            Ok(()) => {
                self.forget_aside();
                Ok(())
            }
            // Another run was faster.
            Err(_) if self.is_whole() => Ok(()),
            Err(error) => Err(format!("{}: {error}", self.folder.display())),
        }
    }

    /// What is half deleted is never put back: its mark goes first. What stays is in nobody's way.
    fn forget_aside(&self) {
        let _ = std::fs::remove_file(self.mark_in(&self.aside));
        let _ = std::fs::remove_dir_all(&self.aside);
    }
}

/// A folder's name by which a person finds it, and which no other repository or reference has.
fn name_of_copy(url: &str, what: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    let end: String = url.rsplit('/').next().unwrap_or_default().chars().map(plain).take(40).collect();
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{url} {what}").as_bytes());
    format!("{end}-{}", hash.simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_names_of_their_own() {
        let names = [
            name_of_copy("https://github.com/a/b-c", "HEAD"),
            name_of_copy("https://github.com/a-b/c", "HEAD"),
            name_of_copy("https://github.com/a/b-c", "refs/heads/v1"),
            name_of_copy("https://github.com/a/b-c", "refs/tags/v1"),
            name_of_copy("https://github.com/a/b-c", "everything"),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("b-c-"), "{}", names[0]);
    }

    /// A copy that says which one it is.
    fn copy(place: &Place, folder: &Path, text: &str) {
        std::fs::create_dir_all(folder.join(place.inner)).unwrap();
        std::fs::write(folder.join("which"), text).unwrap();
        place.mark(folder).unwrap();
    }

    #[test]
    fn a_copy_outlives_a_run_that_is_killed_while_it_replaces_it() {
        let cache = tempfile::tempdir().unwrap();
        let place = Place::new(cache.path(), "https://example.org/a", "HEAD", ".git");
        let which = || std::fs::read_to_string(place.folder.join("which")).unwrap();
        let made = cache.path().join("made");
        copy(&place, &made, "first");
        place.take(&made).unwrap();
        // Killed between the two renames, and then while what is aside is deleted.
        std::fs::rename(&place.folder, &place.aside).unwrap();
        place.recover();
        assert_eq!(which(), "first");
        copy(&place, &place.aside, "half of one");
        copy(&place, &made, "second");
        place.take(&made).unwrap();
        place.recover();
        assert_eq!(which(), "second");
        assert!(!place.aside.exists());
    }

    #[test]
    fn ages_are_said_in_words() {
        assert_eq!(ago(Duration::from_secs(3_700)), "1 hour ago");
        assert_eq!(ago(Duration::from_secs(30 * 3_600)), "30 hours ago");
        assert_eq!(ago(Duration::from_secs(50 * 3_600)), "2 days ago");
    }
}
