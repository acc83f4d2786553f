//! `.artifactignore`: which files of a folder do not go into a pipeline artifact
//! (<https://learn.microsoft.com/azure/devops/artifacts/reference/artifactignore>).
//!
//! The lines are those of a `.gitignore`, with one difference that Microsoft's own examples need: `!` takes a
//! file back in although a folder above it is left out (`**/*` and then `!out/**`). So the last line that
//! matches a file, or a folder it is in, decides. Without such a file, `.git` is left out.

use std::fs;
use std::io;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::{Error, Result};

/// The file's name, in lower case only.
pub(super) const NAME: &str = ".artifactignore";

/// Largest such file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is left out.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    rules: Vec<Rule>,
    /// Whether a rule takes files back in.
    has_exceptions: bool,
    /// Whether the rules are those of a file.
    pub(super) is_of_file: bool,
}

#[derive(Debug)]
struct Rule {
    glob: GlobMatcher,
    /// Whether it names folders only.
    folders_only: bool,
    takes_in: bool,
}

impl Ignored {
    /// The rules of a folder's file, or those which hold where there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a line of it is not valid.
    pub(super) fn of_folder(folder: &Path) -> Result<Ignored> {
        let path = folder.join(NAME);
        let failed = |source| Error::File { action: "read", path: path.clone(), source };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_BYTES => {
                let text = fs::read(&path).map_err(failed)?;
                let text = String::from_utf8_lossy(&text);
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                match Ignored::new(text) {
                    Ok(ignored) => Ok(Ignored { is_of_file: true, ..ignored }),
                    Err((line, reason)) => Err(Error::Pattern { path, line, reason }),
                }
            }
            Ok(_) => {
                let reason = format!("it is not a file of at most {MAX_BYTES} bytes");
                Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Ignored::new(".git").expect("the rule is valid"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The rules of a text; else the number of the line that is none, and why.
    fn new(text: &str) -> Result<Ignored, (usize, String)> {
        let mut ignored = Ignored::default();
        for (at, line) in text.lines().enumerate() {
            if let Some(rule) = rule(line).map_err(|error| (at + 1, error.kind().to_string()))? {
                ignored.has_exceptions |= rule.takes_in;
                ignored.rules.push(rule);
            }
        }
        Ok(ignored)
    }

    /// Whether a file is left out.
    pub(super) fn file(&self, relative: &str) -> bool {
        self.is_left_out(relative, false)
    }

    /// Whether a folder is left out with all that is in it.
    pub(super) fn whole_folder(&self, relative: &str) -> bool {
        !self.has_exceptions && self.is_left_out(relative, true)
    }

    fn is_left_out(&self, relative: &str, is_folder: bool) -> bool {
        let deciding = self.rules.iter().rfind(|rule| rule.matches(relative, is_folder));
        deciding.is_some_and(|rule| !rule.takes_in)
    }
}

impl Rule {
    /// Whether it matches a path or a folder above it.
    fn matches(&self, relative: &str, is_folder: bool) -> bool {
        let itself = (is_folder || !self.folders_only) && self.glob.is_match(relative);
        itself || relative.match_indices('/').any(|(at, _)| self.glob.is_match(&relative[..at]))
    }
}

/// The rule of a line, if it has one.
fn rule(line: &str) -> Result<Option<Rule>, globset::Error> {
    let line = trim(line);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (takes_in, pattern) = line.strip_prefix('!').map_or((false, line), |pattern| (true, pattern));
    let (folders_only, pattern) =
        pattern.strip_suffix('/').map_or((false, pattern), |pattern| (true, pattern));
    if pattern.is_empty() {
        return Ok(None);
    }
    // A slash that is not at the end ties the pattern to the folder of the file.
    let mut glob = match pattern.strip_prefix('/') {
        Some(pattern) => pattern.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
    };
    // What is in a folder, and not the folder itself.
    if glob.ends_with("/**") {
        glob.push_str("/*");
    }
    // Braces mean nothing in these files.
    let glob = glob.replace('{', "\\{").replace('}', "\\}");
    let glob = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build()?;
    Ok(Some(Rule { glob: glob.compile_matcher(), folders_only, takes_in }))
}

/// The line without spaces at its end, but for one that is escaped.
fn trim(line: &str) -> &str {
    let trimmed = line.trim_end_matches([' ', '\t', '\r']);
    let escapes = trimmed.len() - trimmed.trim_end_matches('\\').len();
    if escapes % 2 == 1 && trimmed.len() < line.len() { &line[..=trimmed.len()] } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the files that stay.
    fn kept<'a>(text: &str, files: &[&'a str]) -> Vec<&'a str> {
        let ignored = Ignored::new(text).unwrap();
        files.iter().copied().filter(|file| !ignored.file(file)).collect()
    }

    #[test]
    fn microsofts_examples_do_what_is_said_of_them() {
        let files = ["a.dll", "src/MyApp/bin/Release/a.dll", "src/MyApp/bin/Debug/a.dll", ".artifactignore"];
        assert_eq!(kept("**/*\n!src/MyApp/bin/Release/**.*", &files), ["src/MyApp/bin/Release/a.dll"]);
        let files = ["package.json", ".npmrc", "dist/a.js", "dist/b/c.js", "src/d.js", ".env"];
        let text = "# Exclude everything\n**/*\n\n# Re-include\n!dist/\n!dist/**\n!package.json\n!.npmrc\n";
        assert_eq!(kept(text, &files), ["package.json", ".npmrc", "dist/a.js", "dist/b/c.js"]);
        assert_eq!(kept("**/*\n!*.zip", &["a.zip", "b/c.zip", "d"]), ["a.zip", "b/c.zip"]);
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        let files = [
            "a.log",
            "x/a.log",
            "x/y/a.log",
            "build/o",
            "x/build/o",
            "x/build",
            "#note",
            "!bang",
            "sp ",
            "{a}",
            "B.LOG",
            "doc/a.txt",
            "doc/b/a.txt",
        ];
        let left_out = |text| {
            let stays = kept(text, &files);
            files.iter().copied().filter(|file| !stays.contains(file)).collect::<Vec<_>>()
        };
        assert_eq!(left_out("*.log"), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(left_out("/*.log  \r"), ["a.log"]);
        assert_eq!(left_out("build/"), ["build/o", "x/build/o"]);
        assert_eq!(left_out("build"), ["build/o", "x/build/o", "x/build"]);
        assert_eq!(left_out("/build"), ["build/o"]);
        assert_eq!(left_out("x/build/"), ["x/build/o"]);
        assert_eq!(left_out("**/y"), ["x/y/a.log"]);
        assert_eq!(left_out("x/**"), ["x/a.log", "x/y/a.log", "x/build/o", "x/build"]);
        assert_eq!(left_out("x/*.log"), ["x/a.log"]);
        assert_eq!(left_out("doc/**/a.txt"), ["doc/a.txt", "doc/b/a.txt"]);
        assert_eq!(left_out("\\#note\n\\!bang\nsp\\ \n{a}"), ["#note", "!bang", "sp ", "{a}"]);
        assert_eq!(left_out("[ab].log"), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(left_out("*.log\n!x/*.log"), ["a.log", "x/y/a.log"]);
        assert_eq!(left_out("!x/*.log\n*.log"), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(left_out("x/\n!x/build"), ["x/a.log", "x/y/a.log"]);
        assert_eq!(left_out("\n# note\n/\n!"), [""; 0]);
        assert_eq!(Ignored::new("ok\na[").unwrap_err().0, 2);
    }

    #[test]
    fn the_repository_is_left_out_unless_there_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let without = Ignored::of_folder(folder.path()).unwrap();
        assert!(
            without.whole_folder(".git") && without.whole_folder("sub/.git") && without.file("sub/.git/x")
        );
        assert!(!without.file(".gitignore") && !without.whole_folder("git"));
        fs::write(folder.path().join(NAME), "").unwrap();
        assert!(!Ignored::of_folder(folder.path()).unwrap().file(".git/config"));
    }

    #[test]
    fn folders_are_walked_only_if_something_in_them_can_be_taken_back() {
        assert!(Ignored::new("node_modules").unwrap().whole_folder("a/node_modules"));
        assert!(!Ignored::new("node_modules\n!keep").unwrap().whole_folder("a/node_modules"));
    }
}
