//! Dotted versions, as .NET's `System.Version`.

use std::fmt;

/// A version of two to four whole numbers. A missing part is less than any given one: `1.2` comes before
/// `1.2.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
    // `None` sorts before `Some`, which is .NET's order (it stores -1 for a missing part).
    build: Option<u32>,
    revision: Option<u32>,
}

impl Version {
    /// Reads `1.2`, `1.2.3` or `1.2.3.4`. Blanks and a plus sign around each part are taken, as by
    /// `Version.TryParse`.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.');
        let major = part(parts.next()?)?;
        let minor = part(parts.next()?)?;
        let build = parts.next().map(part);
        let revision = parts.next().map(part);
        if parts.next().is_some() {
            return None;
        }
        let required = |part: Option<Option<u32>>| match part {
            Some(None) => None,
            Some(Some(number)) => Some(Some(number)),
            None => Some(None),
        };
        Some(Version { major, minor, build: required(build)?, revision: required(revision)? })
    }
}

fn part(text: &str) -> Option<u32> {
    let number: i32 = text.trim_matches(|c: char| matches!(c, '\u{9}'..='\u{d}' | ' ')).parse().ok()?;
    u32::try_from(number).ok()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        for part in [self.build, self.revision].into_iter().flatten() {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_to_four_parts() {
        for (text, expected) in [
            ("1.2", "1.2"),
            ("1.2.3", "1.2.3"),
            ("1.2.3.4", "1.2.3.4"),
            (" 01 . +2.0 ", "1.2.0"),
            ("0.0.2147483647", "0.0.2147483647"),
        ] {
            assert_eq!(
                Version::parse(text).map(|version| version.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        for text in ["", "1", "1.", ".1", "1.2.3.4.5", "1.-2", "1.x", "1.2147483648", "1..2", "1.2."] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn missing_parts_come_first() {
        let mut versions: Vec<Version> = ["1.10", "1.2.0.0", "1.2.0", "1.2", "0.9.9"]
            .iter()
            .map(|text| Version::parse(text).unwrap())
            .collect();
        versions.sort();
        let texts: Vec<String> = versions.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["0.9.9", "1.2", "1.2.0", "1.2.0.0", "1.10"]);
    }
}
