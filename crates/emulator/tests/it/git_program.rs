//! The real git program, as a user runs it, in folders of the test's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A git command which reads no settings of this machine.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-c", "init.defaultBranch=main"]);
    command.args(["-c", "protocol.file.allow=always"]);
    command
}

/// Runs git and gives what it did, whatever that is.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder).args(arguments).output().expect("git is installed")
}

/// Runs git, which must succeed, and gives its output without the last line's end.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?} failed: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A repository with one commit of `readme`, `src/a` and `.gitignore` (which ignores `target`).
pub(crate) fn repository(folder: &Path) {
    git(folder, &["init", "--quiet"]);
    write(folder, "readme", "one\n");
    write(folder, "src/a", "a\n");
    write(folder, ".gitignore", "target\n");
    commit(folder, "First");
}

/// Commits everything.
pub(crate) fn commit(folder: &Path, message: &str) -> String {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", message]);
    git(folder, &["rev-parse", "HEAD"])
}

/// Writes a file and the folders above it.
pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The files of a commit, by path.
pub(crate) fn files(repository: &Path, commit: &str) -> BTreeMap<String, String> {
    let names = git(repository, &["ls-tree", "-r", "-z", "--name-only", commit]);
    let names = names.split('\0').filter(|name| !name.is_empty());
    names.map(|name| (name.to_owned(), git(repository, &["show", &format!("{commit}:{name}")]))).collect()
}

/// Everything below a folder that a snapshot must leave alone: names, contents, and times but for git's
/// object files.
pub(crate) fn state(folder: &Path) -> BTreeMap<PathBuf, (Option<std::time::SystemTime>, Vec<u8>)> {
    let mut state = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let is_object = path.components().any(|part| part.as_os_str() == "objects");
            let modified = if is_object { None } else { metadata.modified().ok() };
            state.insert(path, (modified, content));
        }
    }
    state
}
