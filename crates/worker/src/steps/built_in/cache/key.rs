//! The key of a cache: segments, of which those that look like paths stand for the content of files
//! (`PipelineCacheTaskPluginBase.cs`, `FingerprintCreator.cs`).

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::super::super::{StepError, normalize};
use super::super::matching::{Links, Patterns, Reading, files_of};
use crate::context::StepContext;

/// The variable by which a pipeline starts with new caches.
const SALT: &str = "AZP_CACHING_SALT";

/// Letters that are wildcards in a segment.
const WILDCARDS: [char; 4] = ['*', '?', '[', ']'];

/// How much of a segment, and of a path, the log shows.
const SEGMENT_SHOWN: usize = 50;
const PATH_SHOWN: usize = 70;

/// How much of a file is read at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// A key whose files are hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) Vec<String>);

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("|"))
    }
}

/// The inputs `key` and `restoreKeys` as segments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) key: Vec<String>,
    pub(super) restore: Vec<Vec<String>>,
    /// Whether the key has a line for each segment, as it had once.
    pub(super) is_old: bool,
}

impl Keys {
    pub(super) fn parse(salt: &str, key: &str, restore: &str) -> Result<Keys, StepError> {
        let is_old = key.contains('\n');
        if is_old && !restore.is_empty() {
            return Err(StepError::failed(
                "'key' has several lines, which goes with no 'restoreKeys'. Write it in one line, its \
                 segments with '|' between them.",
            ));
        }
        let segments = |line: &str| -> Vec<String> {
            let salt = (!salt.trim().is_empty()).then(|| format!("{SALT}={salt}"));
            let parts = line.split('|').filter(|part| !part.is_empty()).map(|part| part.trim().to_owned());
            salt.into_iter().chain(parts).collect()
        };
        let lines = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect()
        };
        let keys = Keys {
            key: if is_old { lines(key) } else { segments(key) },
            restore: lines(restore).iter().map(|line| segments(line)).collect(),
            is_old,
        };
        keys.restore.iter().chain([&keys.key]).flatten().try_for_each(|segment| check(segment))?;
        Ok(keys)
    }

    /// The same with the variables of the job.
    pub(super) fn of(step: &StepContext, key: &str, restore: &str) -> Result<Keys, StepError> {
        Keys::parse(&step.job.variable_or_empty(SALT), key, restore)
    }
}

/// Refuses segments that the service keeps for itself.
fn check(segment: &str) -> Result<(), StepError> {
    let fault = match segment {
        "" => "A segment of the key is empty; take one '|' away.",
        "*" => "`*` is a reserved key segment. For path glob, use `./*`.",
        "**" => "`**` is a reserved key segment. For path glob, use `./**`.",
        _ if segment.starts_with('\'') => "A key segment cannot start with a single-quote character.",
        _ if segment.starts_with('`') => "A key segment cannot start with a backtick character.",
        _ => return Ok(()),
    };
    Err(StepError::failed(fault))
}

/// Whether a segment stands for files.
fn is_path(segment: &str) -> bool {
    let is_text = segment.starts_with('"') && segment.ends_with('"');
    !is_text && !segment.contains('\0') && segment.contains(['.', '/']) && !segment.ends_with('.')
}

/// Hashes the files of a key; the log gets each segment.
pub(super) async fn resolve(step: &StepContext, segments: &[String]) -> Result<Fingerprint, StepError> {
    let width = segments.iter().map(|segment| segment.chars().count()).max().unwrap_or(0).min(SEGMENT_SHOWN);
    let (mut resolved, mut missing) = (Vec::new(), Vec::new());
    for segment in segments {
        let shown = shown(segment, width);
        if !is_path(segment) {
            step.output(&format!(" - {shown} [string]")).await;
            resolved.push(segment.clone());
            continue;
        }
        let files = files(step, segment).await?;
        if segment.contains(WILDCARDS) || files.len() > 1 {
            step.output(&format!(" - {shown} [file pattern; matches: {}]", files.len())).await;
            let width = files.iter().map(|file| file.path.chars().count()).max().unwrap_or(0);
            for file in &files {
                let path = self::shown(&file.path, width.min(PATH_SHOWN));
                step.output(&format!("   - {path} --> {}", file.hash)).await;
            }
            if files.is_empty() {
                missing.push(format!("No matching files found for pattern: {segment}"));
            }
        } else if let Some(file) = files.first() {
            step.output(&format!(" - {shown} [file] --> {}", file.hash)).await;
        } else {
            step.output(&format!(" - {shown} [file] (not found)")).await;
            missing.push(format!("File not found: {segment}"));
        }
        resolved.push(hash_of(&files));
    }
    if missing.is_empty() { Ok(Fingerprint(resolved)) } else { Err(StepError::Failed(missing.join("\n"))) }
}

/// A text that fills a column, its end left out where it is too long for it.
fn shown(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text:width$}");
    }
    let start: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{start}...")
}

/// A file of a key.
#[derive(Debug)]
struct Hashed {
    /// Its path from the job's folder, which is the same on each machine.
    path: String,
    length: u64,
    /// SHA-256, in hexadecimal.
    hash: String,
}

/// What stands for files in a fingerprint.
fn hash_of(files: &[Hashed]) -> String {
    let text: String =
        files.iter().map(|file| format!("\nSHA256({})=[{}]{}", file.path, file.length, file.hash)).collect();
    BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

/// The files of a segment: patterns with `,` between them, `!` excludes.
async fn files(step: &StepContext, segment: &str) -> Result<Vec<Hashed>, StepError> {
    let root = PathBuf::from(step.job.variable_or_empty("System.DefaultWorkingDirectory"));
    let workspace = step.job.variable("Pipeline.Workspace").map(PathBuf::from);
    let rules = segment.split(',').filter(|rule| !rule.is_empty()).map(str::trim);
    let (without, with): (Vec<&str>, Vec<&str>) = rules.partition(|rule| rule.starts_with('!'));
    if with.is_empty() {
        return Err(StepError::Failed(format!("The segment '{segment}' of the key includes no file.")));
    }
    let mut paths = Vec::new();
    for rule in with {
        let lines = [&[rule], without.as_slice()].concat().join("\n");
        let found =
            files_of(step, Patterns::new(&lines, &root, Reading::DEFAULT)?, root.clone(), Links::Followed);
        let only_in = only_in(rule, &root);
        let is_meant = |path: &PathBuf| only_in.as_deref().is_none_or(|folder| path.parent() == Some(folder));
        paths.extend(found.await?.into_iter().filter(is_meant));
    }
    paths.sort();
    paths.dedup();
    let hashing = move || -> Result<Vec<Hashed>, StepError> {
        let hash = |path: PathBuf| {
            let display = workspace.as_deref().map_or_else(|| path.clone(), |from| relative(&path, from));
            hashed(&path, display.to_string_lossy().into_owned())
                .map_err(|error| StepError::Failed(format!("Could not read {}: {error}", path.display())))
        };
        paths.into_iter().map(hash).collect()
    };
    tokio::task::spawn_blocking(hashing)
        .await
        .map_err(|error| StepError::Failed(format!("The hashing ended unexpectedly: {error}")))?
}

/// The one folder in which a pattern without `**` finds files: that before its first wildcard.
fn only_in(rule: &str, root: &Path) -> Option<PathBuf> {
    let start = rule.find(WILDCARDS)?;
    (!rule.contains("**"))
        .then(|| normalize(&root.join(rule[..start].rsplit_once('/').map_or("", |(to, _)| to))))
}

fn hashed(path: &Path, display: String) -> io::Result<Hashed> {
    let (mut file, mut context, mut length) = (File::open(path)?, Context::new(&SHA256), 0);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            break;
        }
        context.update(&block[..read]);
        length += read as u64;
    }
    let hash = context.finish().as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(Hashed { path: display, length, hash })
}

/// A path as seen from a folder (`Path.GetRelativePath`).
fn relative(path: &Path, from: &Path) -> PathBuf {
    let same = path.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(same).map(|_| Component::ParentDir);
    up.chain(path.components().skip(same)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_segments() {
        let keys = Keys::parse("", "npm | \"Linux\" | package-lock.json", "npm | \"Linux\"\nnpm")
            .expect("it is one");
        assert_eq!(keys.key, ["npm", "\"Linux\"", "package-lock.json"]);
        assert_eq!(keys.restore, [vec!["npm", "\"Linux\""], vec!["npm"]]);
        assert!(!keys.is_old);
        let salted = Keys::parse("2", "a", "b").expect("it is one");
        assert_eq!(salted.key, ["AZP_CACHING_SALT=2", "a"]);
        assert_eq!(salted.restore, [["AZP_CACHING_SALT=2", "b"]]);
        let old = Keys::parse("", "a\nb.txt\n", "").expect("it is one");
        assert!(old.is_old && old.key == ["a", "b.txt"], "{old:?}");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        for (key, restore, expected) in [
            ("a | | b", "", "is empty"),
            ("a | **", "", "`**` is a reserved key segment"),
            ("a | *", "", "`*` is a reserved key segment"),
            ("'a'", "", "single-quote"),
            ("a", "`b", "backtick"),
            ("a\nb", "a", "has several lines"),
        ] {
            let error = Keys::parse("", key, restore).expect_err(key).to_string();
            assert!(error.contains(expected), "{key}: {error}");
        }
    }

    #[test]
    fn paths_are_told_from_texts() {
        for (segment, expected) in [
            ("package.json", true),
            ("**/*.csproj,!**/bin/**", true),
            ("./*", true),
            ("src/x", true),
            ("v1.", false),
            ("\"a.b\"", false),
            ("Linux", false),
            ("*", false),
        ] {
            assert_eq!(is_path(segment), expected, "{segment}");
        }
    }

    #[test]
    fn files_are_hashed_as_the_agent_does() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "abc").expect("it is written");
        let hashed = hashed(file.path(), "s/abc.txt".to_owned()).expect("it is read");
        assert_eq!(hashed.hash, "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
        // printf '\nSHA256(s/abc.txt)=[3]BA78...' | openssl dgst -sha256 -binary | base64
        assert_eq!(hash_of(&[hashed]), "f0JESppP4bqQamoT/5K7Av7NkuTtF+GlhbO4wQJmOd8=");
    }

    #[test]
    fn paths_are_seen_from_the_workspace() {
        for (path, from, expected) in
            [("/w/1/s/a", "/w/1", "s/a"), ("/home/a", "/w/1", "../../home/a"), ("/w/1", "/w/1", "")]
        {
            assert_eq!(relative(Path::new(path), Path::new(from)), Path::new(expected));
        }
    }

    #[test]
    fn a_wildcard_without_two_stars_stays_in_its_folder() {
        let root = Path::new("/r");
        assert_eq!(only_in("a/*.txt", root), Some("/r/a".into()));
        assert_eq!(only_in("*.txt", root), Some("/r".into()));
        assert_eq!(only_in("/x/y?.txt", root), Some("/x".into()));
        assert_eq!(only_in("a/**/*.txt", root), None);
        assert_eq!(only_in("a.txt", root), None);
    }

    #[test]
    fn columns_are_filled() {
        assert_eq!((shown("ab", 4), shown("abcdefgh", 6)), ("ab  ".to_owned(), "abc...".to_owned()));
    }
}
