//! Finds paths and matches them with patterns, as the task library does (`azure-pipelines-task-lib`, `find`
//! and `match`, with minimatch).

use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use tokio_util::sync::CancellationToken;

use super::super::{StepError, normalize};
use crate::artifacts::translate;
use crate::context::StepContext;

/// How many paths a step may find.
const MAX_PATHS: usize = 1_000_000;

/// A path that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// Whether it is a folder, or a link to one that is followed.
    pub(super) is_folder: bool,
}

/// Which links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// All; folders that contain themselves are entered once.
    Followed,
    /// None but the root itself.
    Kept,
}

/// A folder and all below it, parents first, in the order of their names. Nothing if it is not there.
pub(super) fn find(root: &Path, links: Links, cancel: &CancellationToken) -> Result<Vec<Entry>, StepError> {
    let mut found = Vec::new();
    let Ok(metadata) = fs::metadata(root) else { return Ok(found) };
    let mut open =
        vec![(Entry { path: root.to_owned(), is_folder: metadata.is_dir() }, Vec::<PathBuf>::new())];
    while let Some((entry, above)) = open.pop() {
        if cancel.is_cancelled() {
            return Err(StepError::Canceled);
        }
        if found.len() == MAX_PATHS {
            return Err(StepError::Failed(format!(
                "There are more than {MAX_PATHS} files and folders in {}.",
                root.display()
            )));
        }
        if entry.is_folder {
            let real = fs::canonicalize(&entry.path).map_err(|error| unreadable(&entry.path, &error))?;
            if above.contains(&real) {
                // A link to a folder that contains it.
                continue;
            }
            let mut children = children(&entry.path, links)?;
            children.sort_by(|left, right| right.path.cmp(&left.path));
            let above: Vec<PathBuf> = above.into_iter().chain([real]).collect();
            open.extend(children.into_iter().map(|child| (child, above.clone())));
        }
        found.push(entry);
    }
    Ok(found)
}

fn children(folder: &Path, links: Links) -> Result<Vec<Entry>, StepError> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
        // A link that leads nowhere is no folder.
        let leads_to_folder =
            || links == Links::Followed && fs::metadata(entry.path()).is_ok_and(|target| target.is_dir());
        let is_folder = kind.is_dir() || kind.is_symlink() && leads_to_folder();
        children.push(Entry { path: entry.path(), is_folder });
    }
    Ok(children)
}

fn unreadable(path: &Path, error: &std::io::Error) -> StepError {
    StepError::Failed(format!("Cannot read {}: {error}", path.display()))
}

/// The files that match lines of patterns (`findMatch`), in the order of their paths. Relative patterns are
/// below a folder, which may be one of the sources.
pub(super) async fn files_in(
    step: &StepContext,
    folder: &str,
    lines: &str,
    links: Links,
) -> Result<Vec<PathBuf>, StepError> {
    let root = step.job.variable_or_empty("system.defaultWorkingDirectory");
    let folder = normalize(&Path::new(&root).join(folder));
    let patterns = Patterns::new(lines, &folder, Reading::DEFAULT)?;
    files_of(step, patterns, folder, links).await
}

/// The files that patterns with this root match.
pub(super) async fn files_of(
    step: &StepContext,
    patterns: Patterns,
    root: PathBuf,
    links: Links,
) -> Result<Vec<PathBuf>, StepError> {
    let entries = entries_of(step, patterns, root, links).await?;
    Ok(entries.into_iter().filter(|entry| !entry.is_folder).map(|entry| entry.path).collect())
}

/// The files and folders that patterns with this root match.
pub(super) async fn entries_of(
    step: &StepContext,
    patterns: Patterns,
    root: PathBuf,
    links: Links,
) -> Result<Vec<Entry>, StepError> {
    let cancel = step.cancel.clone();
    let work = move || {
        let mut entries = Vec::new();
        for start in patterns.starts() {
            entries.extend(patterns.part(find(start, links, &cancel)?, &root).0);
        }
        Ok(entries)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StepError::Failed(format!("The search ended unexpectedly: {error}")))?
}

/// Patterns, one a line: `!` excludes.
pub(super) struct Patterns(Vec<Pattern>);

/// One of them.
struct Pattern {
    takes: bool,
    /// The last of its folders that is named without wildcards, or its file: what it matches is there.
    start: PathBuf,
    glob: GlobMatcher,
    /// Its names that begin with a dot, where only those match such names.
    dots: Option<Vec<GlobMatcher>>,
}

/// How patterns are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Whether `#` starts a comment, and a pattern that begins with `/` is not below the root.
    pub(super) of_library: bool,
    /// Whether `{a,b}` are alternatives.
    pub(super) braces: bool,
    /// Whether names that begin with a dot are like others.
    pub(super) dots: bool,
}

impl Reading {
    /// `match` with the task library's default options.
    pub(super) const DEFAULT: Reading = Reading { of_library: true, braces: false, dots: true };
}

impl Patterns {
    /// Reads patterns; else says which is not valid, and why.
    pub(super) fn new(lines: &str, root: &Path, reading: Reading) -> Result<Patterns, StepError> {
        let mut patterns = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if reading.of_library && line.starts_with('#') {
                continue;
            }
            let bare = line.trim_start_matches('!');
            let takes = (line.len() - bare.len()).is_multiple_of(2);
            let pattern = Pattern::new(takes, bare.trim(), root, reading);
            patterns.push(
                pattern
                    .map_err(|why| StepError::Failed(format!("The pattern '{line}' is not valid: {why}")))?,
            );
        }
        Ok(Patterns(patterns))
    }

    /// The places below which all paths are that may be taken (`getFindPathFromPattern`), none in another.
    fn starts(&self) -> Vec<&Path> {
        let mut starts: Vec<&Path> =
            self.0.iter().filter(|pattern| pattern.takes).map(|pattern| pattern.start.as_path()).collect();
        // A folder comes before what is in it.
        starts.sort_unstable();
        starts.dedup_by(|next, first| next.starts_with(first));
        starts
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them excludes.
    pub(super) fn exclude(&self) -> bool {
        self.0.iter().any(|pattern| !pattern.takes)
    }

    /// Tells the paths that are taken from the others, both in the order in which they were found. Patterns
    /// are applied one after the other, so the last one that matches a path decides.
    pub(super) fn part(&self, paths: Vec<Entry>, root: &Path) -> (Vec<Entry>, Vec<Entry>) {
        paths.into_iter().partition(|entry| {
            let last = self.0.iter().rfind(|pattern| pattern.is_match(&entry.path, root));
            last.is_some_and(|pattern| pattern.takes)
        })
    }
}

impl Pattern {
    fn new(takes: bool, pattern: &str, root: &Path, reading: Reading) -> Result<Pattern, String> {
        let pattern = if reading.braces { pattern.to_owned() } else { translate(pattern)? };
        let is_whole = pattern.starts_with('/') && reading.of_library;
        let full = if is_whole {
            pattern.clone()
        } else {
            let root = globset::escape(&root.to_string_lossy());
            format!("{}/{pattern}", root.trim_end_matches('/'))
        };
        let full = normalize(Path::new(&full));
        let literal = pattern.split('/').take_while(|name| !name.contains(['*', '?', '[', '{', '\\']));
        let start = literal.collect::<Vec<_>>().join("/");
        let start = if is_whole { PathBuf::from(format!("/{start}")) } else { root.join(&start) };
        let names =
            || pattern.split('/').filter(|name| name.starts_with('.') && !matches!(*name, "." | ".."));
        let dots = (!reading.dots).then(|| names().map(compile).collect::<Result<_, _>>()).transpose()?;
        Ok(Pattern { takes, start: normalize(&start), glob: compile(&full.to_string_lossy())?, dots })
    }

    fn is_match(&self, path: &Path, root: &Path) -> bool {
        let may_have_dots = || {
            let Some(dots) = &self.dots else { return true };
            let below = path.strip_prefix(root).unwrap_or(path);
            let mut dotted = below.iter().filter(|name| name.to_string_lossy().starts_with('.'));
            dotted.all(|name| dots.iter().any(|dot| dot.is_match(name)))
        };
        self.glob.is_match(path) && may_have_dots()
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .empty_alternates(true)
        .build()
        .map_err(|error| error.kind().to_string())?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(patterns: &str, reading: Reading, paths: &[&str]) -> Vec<String> {
        let root = Path::new("/r[1]");
        let paths =
            paths.iter().map(|path| Entry { path: root.join(path), is_folder: false }).collect::<Vec<_>>();
        let patterns = Patterns::new(patterns, root, reading).unwrap();
        let (taken, _) = patterns.part(paths, root);
        let relative = |entry: &Entry| entry.path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        taken.iter().map(relative).collect()
    }

    #[test]
    fn what_is_searched_is_where_the_patterns_begin() {
        let lines = "src/**/*.csproj\n/tmp/[ab]/**\nsrc/deep/x.csproj\n!**/obj/**\n/tmp/[ab]/c\n/tmpfile";
        let patterns = Patterns::new(lines, Path::new("/r[1]"), Reading::DEFAULT).unwrap();
        assert_eq!(patterns.starts(), ["/r[1]/src", "/tmp", "/tmpfile"].map(Path::new));
    }

    #[test]
    fn patterns_match_as_those_of_the_task_library() {
        let all = ["a.txt", "b/a.txt", "b/.hidden/c.txt", "b/x.dll", "obj/x.dll"];
        let cases: [(&str, &[&str]); 9] = [
            ("**", &all),
            ("*.txt", &["a.txt"]),
            ("**/*.txt", &["a.txt", "b/a.txt", "b/.hidden/c.txt"]),
            ("**/*.dll\n!obj/**", &["b/x.dll"]),
            ("!**\n*.txt", &["a.txt"]),
            ("# no\n  b/*  ", &["b/a.txt", "b/x.dll"]),
            ("**/*.{dll,exe}", &[]),
            ("**/*.@(dll|exe)", &["b/x.dll", "obj/x.dll"]),
            ("./b/../a.txt", &["a.txt"]),
        ];
        for (patterns, expected) in cases {
            assert_eq!(selected(patterns, Reading::DEFAULT, &all), expected, "{patterns}");
        }
        assert!(Patterns::new("a[", Path::new("/"), Reading::DEFAULT).is_err());
    }

    #[test]
    fn names_with_a_dot_need_a_pattern_with_one_unless_told_otherwise() {
        let reading = Reading { of_library: false, braces: true, dots: false };
        let all = ["a/b", ".git", ".git/c", "#d"];
        assert_eq!(selected("**", reading, &all), ["a/b", "#d"]);
        assert_eq!(selected(".git", reading, &all), [".git"]);
        assert_eq!(selected("{a,x}/*\n#d", reading, &all), ["a/b", "#d"]);
        assert_eq!(selected("/a/b", reading, &all), ["a/b"]);
        assert_eq!(selected("**", Reading { dots: true, ..reading }, &all), all);
    }

    #[test]
    fn a_link_to_a_folder_above_is_entered_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/f"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("broken")).unwrap();
        let names = |links| {
            let found = find(folder.path(), links, &CancellationToken::new()).unwrap();
            found
                .iter()
                .map(|entry| entry.path.strip_prefix(folder.path()).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Links::Followed), ["", "a", "a/f", "broken"]);
        assert_eq!(names(Links::Kept), ["", "a", "a/f", "a/loop", "broken"]);
    }
}
