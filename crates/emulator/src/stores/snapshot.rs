//! Makes a commit of a user's present work tree (uncommitted and untracked files too, ignored ones not) in a
//! bare repository of our own, without touching the user's tree, index, refs or objects.
//!
//! The index is a copy, new objects go to the new repository, old ones are read through
//! `objects/info/alternates`. So a snapshot costs what changed, not what the tree weighs. (When git meets an
//! object that the user's repository has already, it may renew that file's time stamp, as every `git add`
//! does; no byte changes.) A folder which is no repository gets a history of one commit.
//!
//! Submodules keep their place as links to the commit that is checked out; a job that asks for submodules
//! fetches them from where `.gitmodules` says, unless the snapshot was taken with them (see `submodules.rs`).
//! Repositories inside the tree that are not submodules are left out, with a warning: git cannot carry them.
//! Content filters such as LFS are not run, since they may write into the user's repository.

mod submodules;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::stores::git::{plain_git, repository_name};
use submodules::Submodules;

/// Author and committer of the commit that holds the uncommitted changes.
const IDENTITY: (&str, &str) = ("Dayfly", "dayfly@localhost");
/// How much of git's error text goes into an error.
const MAX_MESSAGE: usize = 2_000;
/// How often a work tree is read that changes meanwhile. Each time there is less to read.
const MAX_ATTEMPTS: u32 = 5;
/// Branch of a folder which is no repository, and of a repository without a name for its branch.
const DEFAULT_BRANCH: &str = "main";
/// Branch of a repository whose HEAD is a commit and no branch.
const DETACHED: &str = "refs/heads/detached";

/// Why no snapshot could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder does not exist or cannot be entered.
    #[error("`{}` is not a folder that can be read", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder is in a bare repository.
    #[error("`{}` is in a bare repository, which has no files to take; run this in a clone of it", path.display())]
    Bare {
        /// The folder.
        path: PathBuf,
    },
    /// A git command failed.
    #[error("git {command} failed while taking a snapshot of `{}`: {message}", path.display())]
    Git {
        /// The git command.
        command: String,
        /// The work tree.
        path: PathBuf,
        /// The end of git's error text.
        message: String,
    },
    /// Git could not be started.
    #[error("could not start git; is it installed and on the PATH?")]
    Start(#[source] std::io::Error),
    /// A file of the snapshot's own repository could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// A commit of a work tree, in a bare repository of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The bare repository that holds the commit.
    pub repository: PathBuf,
    /// Top folder of the work tree that was taken.
    pub work_tree: PathBuf,
    /// The commit: the user's own HEAD if nothing differs from it.
    pub commit: String,
    /// The full name of the branch that points at the commit, such as `refs/heads/main`.
    pub branch: String,
    /// First line of the message of the user's HEAD (of ours if there is none).
    pub subject: String,
    /// Author of the same commit.
    pub author: String,
    /// Whether the work tree differed from HEAD.
    pub has_changes: bool,
    /// What was left out, for the user to read.
    pub warnings: Vec<String>,
    /// Paths of the submodules that are not checked out; only of a snapshot that was taken with them.
    pub missing_submodules: Vec<String>,
}

/// Takes a snapshot of the repository around `folder` (or of `folder` itself) into the new bare repository
/// `into`.
///
/// Dropping the future stops the git processes; the user's repository is only ever read.
///
/// # Errors
/// If the folder cannot be read, git is missing, or git refuses the tree (its own words are in the error).
pub async fn take(folder: &Path, into: &Path) -> Result<Snapshot> {
    take_all(folder, into, false).await
}

/// The same with submodules as they lie in the work tree: below `into`, in `modules/<name>`, are snapshots of
/// those that are checked out, and the commit links to theirs.
///
/// # Errors
/// As those of [`take`]. A submodule that cannot be taken is a warning.
pub async fn take_with_submodules(folder: &Path, into: &Path) -> Result<Snapshot> {
    take_all(folder, into, true).await
}

/// The same of a folder as if it were in no repository: its files, in a history of one commit.
///
/// # Errors
/// As those of [`take`].
pub async fn take_folder(folder: &Path, into: &Path) -> Result<Snapshot> {
    let source = Source { work_tree: canonical(folder).await?, repository: None };
    Taking { into, source: &source, with_submodules: false }.run().await
}

async fn canonical(folder: &Path) -> Result<PathBuf> {
    let found = tokio::fs::canonicalize(folder).await;
    found.map_err(|source| Error::Folder { path: folder.to_path_buf(), source })
}

async fn take_all(folder: &Path, into: &Path, with_submodules: bool) -> Result<Snapshot> {
    let source = Source::find(&canonical(folder).await?).await?;
    Taking { into, source: &source, with_submodules }.run().await
}

/// Where the files and the history come from.
struct Source {
    work_tree: PathBuf,
    /// `None` for a folder which is no repository.
    repository: Option<Repository>,
}

struct Repository {
    git_dir: PathBuf,
    objects: PathBuf,
    index: PathBuf,
    shallow: PathBuf,
    object_format: String,
    head: Option<String>,
    branch: Option<String>,
}

impl Source {
    async fn find(folder: &Path) -> Result<Self> {
        let mut command = source_git(folder);
        command.args(["rev-parse", "--path-format=absolute", "--show-toplevel", "--absolute-git-dir"]);
        command.args(["--git-path", "objects", "--git-path", "index", "--git-path", "shallow"]);
        command.arg("--show-object-format");
        let output = command.output().await.map_err(Error::Start)?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            // Git says "not a git repository (or any of the parent directories)". Anything else, such as
            // dubious ownership, is the user's to solve: a snapshot without history would be a surprise.
            let has_git = tokio::fs::try_exists(folder.join(".git")).await.unwrap_or(false);
            if text.contains("not a git repository") && !has_git {
                return Ok(Self { work_tree: folder.to_path_buf(), repository: None });
            }
            if text.contains("must be run in a work tree") {
                return Err(Error::Bare { path: folder.to_path_buf() });
            }
            return Err(failure("rev-parse", folder, &output.stderr));
        }
        let mut lines = output.stdout.split(|byte| *byte == b'\n').map(os_string);
        let mut next = || lines.next().unwrap_or_default();
        let work_tree = PathBuf::from(next());
        let (git_dir, objects, index, shallow) =
            (next().into(), next().into(), next().into(), PathBuf::from(next()));
        let object_format = next().to_string_lossy().into_owned();
        let head = optional(&work_tree, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await?;
        let branch = optional(&work_tree, &["symbolic-ref", "--quiet", "HEAD"]).await?;
        let branch = branch.filter(|name| name.starts_with("refs/heads/"));
        let repository = Repository { git_dir, objects, index, shallow, object_format, head, branch };
        Ok(Self { work_tree, repository: Some(repository) })
    }
}

impl Source {
    fn head(&self) -> Head {
        let folder = self.work_tree.file_name().unwrap_or_default();
        Head {
            repository: repository_name(&folder.to_string_lossy()),
            branch: self.branch(),
            commit: self.repository.as_ref().and_then(|repository| repository.head.clone()),
        }
    }

    fn branch(&self) -> String {
        match &self.repository {
            Some(Repository { branch: Some(branch), .. }) => branch.clone(),
            Some(Repository { head: Some(_), .. }) => DETACHED.to_owned(),
            _ => format!("refs/heads/{DEFAULT_BRANCH}"),
        }
    }
}

/// What is known of a snapshot before it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The repository's name, as a run's has it.
    pub repository: String,
    /// The branch that the snapshot will have, in full.
    pub branch: String,
    /// The commit of the user's HEAD: the snapshot's own if nothing differs from it.
    pub commit: Option<String>,
}

impl Head {
    /// Of a folder without a repository.
    #[must_use]
    pub fn of_folder(folder: &Path) -> Self {
        Source { work_tree: folder.to_path_buf(), repository: None }.head()
    }
}

/// What a snapshot taken of `folder` now would be called.
///
/// # Errors
/// As those of [`take`].
pub async fn head(folder: &Path) -> Result<Head> {
    Ok(Source::find(folder).await?.head())
}

/// One snapshot in the making.
struct Taking<'a> {
    into: &'a Path,
    source: &'a Source,
    with_submodules: bool,
}

impl Taking<'_> {
    async fn run(&self) -> Result<Snapshot> {
        self.create_repository().await?;
        self.copy_index().await?;
        let mut warnings = self.add_everything().await?;
        let submodules =
            if self.with_submodules { self.take_submodules().await? } else { Submodules::default() };
        warnings.extend(submodules.warnings);
        let tree = self.text(self.git(&["write-tree"]), None).await?;
        let repository = self.source.repository.as_ref();
        let head = repository.and_then(|repository| repository.head.as_deref());
        let head_tree = match head {
            Some(head) => Some(self.text(self.git(&["rev-parse", &format!("{head}^{{tree}}")]), None).await?),
            None => None,
        };
        let has_changes = head_tree.as_deref() != Some(tree.as_str());
        let commit = match head {
            Some(head) if !has_changes => head.to_owned(),
            _ => self.commit(&tree, head).await?,
        };
        let branch = self.source.branch();
        self.write_refs(&branch, &commit).await?;
        let described = head.unwrap_or(&commit);
        // It may weigh megabytes and nobody reads it again; what stays is overwritten by nobody either.
        let _ = tokio::fs::remove_file(self.index()).await;
        let about = self
            .text(self.git(&["log", "-1", "--no-show-signature", "--format=%s%n%an", described]), None)
            .await?;
        let (subject, author) = about.split_once('\n').unwrap_or((about.as_str(), ""));
        Ok(Snapshot {
            repository: self.into.to_path_buf(),
            work_tree: self.source.work_tree.clone(),
            commit,
            branch,
            subject: subject.to_owned(),
            author: author.to_owned(),
            has_changes,
            warnings,
            missing_submodules: submodules.missing,
        })
    }

    async fn create_repository(&self) -> Result<()> {
        let mut command = plain_git();
        command.args(["-c", "init.defaultBranch=main", "init", "--quiet", "--bare", "--template="]);
        if let Some(repository) = &self.source.repository {
            command.arg(format!("--object-format={}", repository.object_format));
        }
        command.arg(self.into);
        self.text(command, None).await?;
        let Some(repository) = &self.source.repository else { return Ok(()) };
        let info = self.into.join("objects/info");
        let made = tokio::fs::create_dir_all(&info).await;
        made.map_err(|source| Error::Write { path: info.clone(), source })?;
        write(info.join("alternates"), alternates_line(&repository.objects)).await?;
        let path = self.into.join("shallow");
        match tokio::fs::copy(&repository.shallow, &path).await {
            // Most repositories are not shallow.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            copied => copied.map(drop).map_err(|source| Error::Write { path, source }),
        }
    }

    /// The copy brings the cached file times along: git then reads only files which have changed. The copy
    /// needs the original's own time too, by which git knows which of those times may not be trusted.
    async fn copy_index(&self) -> Result<()> {
        let Some(repository) = &self.source.repository else { return Ok(()) };
        let (from, to) = (repository.index.clone(), self.index());
        let copied = tokio::task::spawn_blocking(move || {
            let modified = match std::fs::metadata(&from) {
                // A repository without a commit has none.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                metadata => metadata?.modified()?,
            };
            std::fs::copy(&from, &to)?;
            // It may be read-only, as the original; whose file it is may set its time all the same.
            std::fs::File::open(&to)?.set_modified(modified)
        });
        let copied = copied.await.map_err(std::io::Error::other).and_then(|copied| copied);
        copied.map_err(|source| Error::Write { path: self.index(), source })
    }

    /// Brings the copied index up to the work tree, again if files came, went or became folders meanwhile:
    /// editors and watchers make and delete temporary files all the time. Gives warnings for what cannot be
    /// taken.
    async fn add_everything(&self) -> Result<Vec<String>> {
        let mut attempt = 1;
        loop {
            match self.try_to_add_everything().await {
                Err(Error::Git { message, .. }) if attempt < MAX_ATTEMPTS => {
                    tracing::debug!(attempt, message, "the work tree changed while it was read");
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn try_to_add_everything(&self) -> Result<Vec<String>> {
        let untracked = self.git(&["ls-files", "-z", "--others", "--exclude-standard"]);
        let mut update = self.git(&["add", "--update"]);
        update.args(["--", ":/"]);
        // Another reads the index while it is rewritten: git replaces it by rename, so both see a whole one.
        let (untracked, _) = tokio::try_join!(self.output(untracked, None), self.output(update, None))?;
        let mut warnings = Vec::new();
        let mut names = Vec::with_capacity(untracked.len());
        for name in untracked.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if name.ends_with(b"/") {
                let name = String::from_utf8_lossy(name);
                warnings.push(format!(
                    "left out the repository `{name}` inside the work tree, as it is not a submodule"
                ));
            } else {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        if !names.is_empty() {
            // What is gone since it was listed is no error.
            let add = self.git(&["update-index", "-z", "--add", "--remove", "--stdin"]);
            self.output(add, Some(names)).await?;
        }
        Ok(warnings)
    }

    async fn commit(&self, tree: &str, parent: Option<&str>) -> Result<String> {
        let mut command = self.git(&["commit-tree"]);
        command.arg(tree);
        if let Some(parent) = parent {
            command.args(["-p", parent]);
        }
        command.args(["-m", "The work tree with its uncommitted changes"]);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), IDENTITY.0).env(format!("GIT_{role}_EMAIL"), IDENTITY.1);
            command.env_remove(format!("GIT_{role}_DATE"));
        }
        self.text(command, None).await
    }

    /// The branches and tags of the user's repository, and those it knows of its origin, so that a job sees
    /// what it would see on the server. Written as one file, since a repository may have thousands.
    async fn write_refs(&self, branch: &str, commit: &str) -> Result<()> {
        let mut refs = std::collections::BTreeMap::new();
        if let Some(repository) = &self.source.repository {
            let mut command = source_git(&self.source.work_tree);
            command.arg(git_dir_argument(&repository.git_dir));
            command.args(["for-each-ref", "--format=%(objectname) %(refname)"]);
            command.args(["refs/remotes/origin", "refs/heads", "refs/tags"]);
            let listed = self.output(command, None).await?;
            let listed = String::from_utf8_lossy(&listed);
            let listed = listed.lines().filter_map(|line| line.split_once(' '));
            // Sorted by name, so `refs/heads` come before `refs/remotes` and win.
            for (object, name) in listed {
                let name = match name.strip_prefix("refs/remotes/origin/") {
                    Some("HEAD") => continue,
                    Some(rest) => format!("refs/heads/{rest}"),
                    None => name.to_owned(),
                };
                if name != branch && !collides(&name, branch, &refs) {
                    refs.entry(name).or_insert_with(|| object.to_owned());
                }
            }
        }
        refs.insert(branch.to_owned(), commit.to_owned());
        let mut text = String::from("# pack-refs with: sorted \n");
        for (name, object) in &refs {
            text.push_str(&format!("{object} {name}\n"));
        }
        for (file, content) in [("packed-refs", text), ("HEAD", format!("ref: {branch}\n"))] {
            write(self.into.join(file), content).await?;
        }
        Ok(())
    }

    fn index(&self) -> PathBuf {
        self.into.join("index")
    }

    /// A git command on the user's work tree, whose index and new objects are ours.
    fn git(&self, arguments: &[&str]) -> Command {
        let mut command = source_git(&self.source.work_tree);
        match &self.source.repository {
            Some(repository) => {
                command.arg(git_dir_argument(&repository.git_dir));
                command
                    .env("GIT_OBJECT_DIRECTORY", self.into.join("objects"))
                    .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_alternate(&repository.objects));
            }
            None => {
                command.arg(git_dir_argument(self.into));
            }
        }
        let mut work_tree = OsString::from("--work-tree=");
        work_tree.push(&self.source.work_tree);
        command.arg(work_tree).env("GIT_INDEX_FILE", self.index()).args(arguments);
        command
    }

    async fn text(&self, command: Command, input: Option<Vec<u8>>) -> Result<String> {
        let output = self.output(command, input).await?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    async fn output(&self, command: Command, input: Option<Vec<u8>>) -> Result<Vec<u8>> {
        run(&self.source.work_tree, command, input).await
    }
}

async fn write(path: PathBuf, content: impl AsRef<[u8]>) -> Result<()> {
    tokio::fs::write(&path, content).await.map_err(|source| Error::Write { path, source })
}

/// Runs git to its end, feeding `input`; a failure carries git's own words.
async fn run(path: &Path, mut command: Command, input: Option<Vec<u8>>) -> Result<Vec<u8>> {
    let name = subcommand(&command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::Start)?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A git that stops reading says why by its exit code and error text.
            let _ = stdin.write_all(&input).await;
            let _ = stdin.shutdown().await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.map_err(Error::Start)?;
    if output.status.success() { Ok(output.stdout) } else { Err(failure(&name, path, &output.stderr)) }
}

/// The word after git's own options, for errors.
fn subcommand(command: &Command) -> String {
    let mut words = command.as_std().get_args();
    while let Some(word) = words.next() {
        if word == "-c" {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return word.to_string_lossy().into_owned();
        }
    }
    String::new()
}

/// A git command that reads the user's repository and writes nothing into it: no optional index refresh, no
/// hook, no file-system monitor, no shared index, no content filter of LFS.
fn source_git(folder: &Path) -> Command {
    let mut command = plain_git();
    command.current_dir(folder).env("GIT_OPTIONAL_LOCKS", "0");
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.splitIndex=false",
        "core.safecrlf=false",
        // The snapshot is thrown away after a crash: waiting for the disk would cost a millisecond per new
        // file.
        "core.fsync=none",
        "gc.auto=0",
        "maintenance.auto=false",
        "filter.lfs.clean=",
        "filter.lfs.smudge=",
        "filter.lfs.process=",
        "filter.lfs.required=false",
        "advice.addEmbeddedRepo=false",
        "core.quotePath=false",
    ] {
        command.args(["-c", setting]);
    }
    command
}

fn git_dir_argument(path: &Path) -> OsString {
    let mut argument = OsString::from("--git-dir=");
    argument.push(path);
    argument
}

/// The answer of a git command which says "there is none" by its exit code 1.
async fn optional(folder: &Path, arguments: &[&str]) -> Result<Option<String>> {
    let output = source_git(folder).args(arguments).output().await.map_err(Error::Start)?;
    match output.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())),
        Some(1) => Ok(None),
        _ => Err(failure(arguments.first().copied().unwrap_or_default(), folder, &output.stderr)),
    }
}

fn failure(command: &str, path: &Path, stderr: &[u8]) -> Error {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let start = (text.len().saturating_sub(MAX_MESSAGE)..text.len()).find(|at| text.is_char_boundary(*at));
    let message = text[start.unwrap_or(0)..].to_owned();
    Error::Git { command: command.to_owned(), path: path.to_path_buf(), message }
}

/// Git cannot hold both `a` and `a/b`: the snapshot's own branch wins, then whichever came first.
fn collides(name: &str, branch: &str, refs: &std::collections::BTreeMap<String, String>) -> bool {
    let below =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    if below(name, branch) || below(branch, name) {
        return true;
    }
    let ancestor = name.match_indices('/').any(|(at, _)| refs.contains_key(&name[..at]));
    let folder = format!("{name}/");
    ancestor || refs.range(folder.clone()..).next().is_some_and(|(other, _)| other.starts_with(&folder))
}

/// One line of `objects/info/alternates`; git unquotes a line which starts with a quotation mark.
fn alternates_line(objects: &Path) -> Vec<u8> {
    let mut line = path_bytes(objects);
    if line.contains(&b'\n') || line.first() == Some(&b'"') {
        line = quote(&line);
    }
    line.push(b'\n');
    line
}

/// The variable is a list separated by colons; an entry with one needs quotation marks.
fn quoted_alternate(objects: &Path) -> OsString {
    let bytes = path_bytes(objects);
    if bytes.contains(&b':') || bytes.contains(&b'"') { os_string(&quote(&bytes)) } else { objects.into() }
}

fn quote(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in bytes {
        match byte {
            b'\n' => quoted.extend_from_slice(b"\\n"),
            b'"' | b'\\' => quoted.extend_from_slice(&[b'\\', *byte]),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn os_string(bytes: &[u8]) -> OsString {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        OsString::from_vec(bytes.to_vec())
    }
    #[cfg(not(unix))]
    {
        OsString::from(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_git_cannot_hold_together_are_found() {
        let refs = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        assert!(collides("refs/heads/main/x", "refs/heads/main", &refs(&[])));
        assert!(collides("refs/heads/a", "refs/heads/main", &refs(&["refs/heads/a/b"])));
        assert!(collides("refs/heads/a/b", "refs/heads/main", &refs(&["refs/heads/a"])));
        assert!(!collides("refs/heads/a", "refs/heads/main", &refs(&["refs/heads/ab", "refs/heads/a-b/c"])));
    }

    #[test]
    fn odd_paths_are_quoted_for_git() {
        assert_eq!(alternates_line(Path::new("/a b/c")), b"/a b/c\n");
        assert_eq!(alternates_line(Path::new("/a\nb")), b"\"/a\\nb\"\n");
        assert_eq!(quoted_alternate(Path::new("/a:b")), OsString::from("\"/a:b\""));
    }
}
