//! Which files of an artifact are downloaded (`ArtifactItemFilters.cs`).

use globset::{GlobBuilder, GlobMatcher};

/// One pattern a line; of those that match a file, the last decides. `!` takes files out, `#` starts a
/// comment.
#[derive(Debug)]
pub(crate) struct Patterns(Vec<(bool, GlobMatcher)>);

impl Patterns {
    /// Reads patterns; else says which is not valid, and why.
    pub(crate) fn new(text: &str) -> Result<Patterns, String> {
        let mut patterns = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let pattern = line.trim_start_matches('!');
            let takes = (line.len() - pattern.len()) % 2 == 0;
            let pattern = pattern.trim();
            if pattern.is_empty() {
                continue;
            }
            let invalid = |reason: String| format!("The pattern '{line}' is not valid: {reason}");
            let glob = translate(&pattern.replace('\\', "/")).map_err(invalid)?;
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .empty_alternates(true)
                .build()
                .map_err(|error| invalid(error.kind().to_string()))?;
            patterns.push((takes, glob.compile_matcher()));
        }
        Ok(Patterns(patterns))
    }

    /// Patterns are written with the artifact's name in front, or without.
    pub(crate) fn matches(&self, artifact: &str, path: &str) -> bool {
        let named = format!("{artifact}/{path}");
        let last = self.0.iter().rfind(|(_, pattern)| pattern.is_match(path) || pattern.is_match(&named));
        last.is_some_and(|(takes, _)| *takes)
    }
}

/// From minimatch to our matcher: braces mean nothing (`NoBrace`), and `@(a|b)` or `?(a|b)` are alternatives.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut glob = String::with_capacity(pattern.len());
    // For each group that is open, whether it may be missing.
    let mut groups: Vec<bool> = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '@' | '?' | '+' | '*' | '!' if letters.peek() == Some(&'(') => {
                if !matches!(letter, '@' | '?') {
                    return Err(format!(
                        "'{letter}(...)' is not supported; write a pattern for each alternative, one a line"
                    ));
                }
                letters.next();
                groups.push(letter == '?');
                glob.push('{');
            }
            '|' if !groups.is_empty() => glob.push(','),
            ')' if !groups.is_empty() => glob.push_str(if groups.pop() == Some(true) { ",}" } else { "}" }),
            '{' | '}' | ',' => glob.extend(['\\', letter]),
            _ => glob.push(letter),
        }
    }
    if groups.is_empty() { Ok(glob) } else { Err("a parenthesis is not closed".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_files_and_leave_files() {
        let cases = [
            ("**", "a/b.txt", true),
            ("**", ".hidden/b", true),
            ("*.txt", "b.txt", true),
            ("*.txt", "a/b.txt", false),
            ("**/*.txt", "a/b.txt", true),
            ("**/*.txt", "b.txt", true),
            ("drop/**", "a/b.txt", true),
            ("other/**", "a/b.txt", false),
            ("**\n!**/*.txt", "a/b.txt", false),
            ("**\n!**/*.txt\n**/b.*", "a/b.txt", true),
            ("**\n!!**/*.txt", "a/b.txt", true),
            ("# all\n**\n\n  ! a/** ", "a/b.txt", false),
            ("!**", "a", false),
            ("*_chd", "x.cfg_some-scratched_chd", true),
            ("*.@(bin|fw)", "a.fw", true),
            ("*.@(bin|fw)", "a.txt", false),
            ("a?(.min).js", "a.js", true),
            ("a?(.min).js", "a.min.js", true),
            ("{a,b}", "a", false),
            ("{a,b}", "{a,b}", true),
            ("x(1)", "x(1)", true),
        ];
        for (patterns, path, expected) in cases {
            assert_eq!(Patterns::new(patterns).unwrap().matches("drop", path), expected, "{patterns} {path}");
        }
        for invalid in ["a[", "+(a|b)", "@(a"] {
            let reason = Patterns::new(invalid).unwrap_err();
            assert!(reason.starts_with(&format!("The pattern '{invalid}' is not valid: ")), "{reason}");
        }
    }
}
