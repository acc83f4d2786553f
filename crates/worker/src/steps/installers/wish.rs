//! The version that a step asks for, as the tool library understands it: the ranges of npm.

use semver::{Comparator, Version, VersionReq};

/// Ranges, one of which must hold; none: any version.
#[derive(Debug)]
pub(super) struct Wish(Vec<VersionReq>);

impl Wish {
    /// Reads `3.x`, `>=3.9`, `18`, `1.2`, `^14 || ^16`, `>= 1.0 < 2.0`, `latest`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let is_any = ["", "*", "x", "latest", "lts", "lts/*", "stable", "node"];
        if is_any.iter().any(|any| any.eq_ignore_ascii_case(text)) {
            return Ok(Self(Vec::new()));
        }
        text.split("||").map(range).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_satisfied_by(&self, version: &Version) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.matches(version))
    }

    /// How far a version is from what is wished; none if any will do.
    pub(super) fn distance(&self, version: &Version) -> Option<Distance> {
        let named = self.0.iter().flat_map(|range| &range.comparators);
        named.map(|named| Distance::between(version, named)).min()
    }
}

/// How far a version is from the nearest one that a wish names: by its major number, then by its minor one,
/// then by its patch. A newer one is nearer than any older one, as it most likely does what that did.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Distance([Steps; 3]);

/// How far a number is from another: whether it is another one at all, whether it is below, and by how much.
type Steps = (bool, bool, u64);

impl Distance {
    fn between(version: &Version, named: &Comparator) -> Self {
        let steps = |have: u64, named: u64| (have != named, have < named, have.abs_diff(named));
        let major = steps(version.major, named.major);
        // With another major or minor number what follows says nothing.
        let minor = named.minor.filter(|_| !major.0).map(|minor| steps(version.minor, minor));
        let patch = named.patch.filter(|_| minor.is_some_and(|minor| !minor.0));
        let patch = patch.map(|patch| steps(version.patch, patch));
        Self([major, minor.unwrap_or_default(), patch.unwrap_or_default()])
    }
}

/// One range: parts that stand side by side must all hold. A bare version stands for itself and what begins
/// with it.
fn range(text: &str) -> Result<VersionReq, String> {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        match parts.last_mut() {
            // `>= 1.0` is one part.
            Some(last) if last.chars().all(|letter| "<>=~^".contains(letter)) => last.push_str(word),
            _ => parts.push(word.to_owned()),
        }
    }
    let parts: Vec<String> = parts.iter().map(|part| bare(part)).collect();
    VersionReq::parse(&parts.join(", ")).map_err(|error| error.to_string())
}

fn bare(part: &str) -> String {
    let part = part.trim_start_matches('v');
    if !part.starts_with(|letter: char| letter.is_ascii_digit()) || part.contains(['x', 'X', '*']) {
        return part.to_owned();
    }
    match part.matches('.').count() {
        0 | 1 => format!("{part}.*"),
        _ => format!("={part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_those_of_npm() {
        for (wish, version, expected) in [
            ("3.x", "3.11.2", true),
            ("3.x", "2.7.18", false),
            ("18", "18.4.0", true),
            ("18", "19.0.0", false),
            ("1.2", "1.2.9", true),
            ("1.2", "1.3.0", false),
            ("3.11.2", "3.11.2", true),
            ("3.11.2", "3.11.3", false),
            ("v20.1.0", "20.1.0", true),
            (">= 3.9", "3.11.2", true),
            (">=1.0 <2.0", "1.9.0", true),
            (">=1.0 <2.0", "2.0.0", false),
            ("^14 || ^16", "16.2.0", true),
            ("^14 || ^16", "15.0.0", false),
            ("8.0.x", "8.0.100", true),
            ("latest", "0.0.1", true),
            ("", "1.0.0", true),
        ] {
            let version = Version::parse(version).expect("a version");
            assert_eq!(
                Wish::parse(wish).expect("a wish").is_satisfied_by(&version),
                expected,
                "{wish} {version}"
            );
        }
        assert!(Wish::parse("the newest").is_err());
    }

    #[test]
    fn the_nearest_version_is_that_of_the_nearest_major_and_minor_number() {
        for (wish, nearest) in [
            ("10.x", "12.22.12"),
            ("14.15.x", "14.21.3"),
            ("15", "16.20.2"),
            ("19", "20.20.2"),
            ("13.x", "14.6.1"),
            ("17.x || 23.x", "18.20.8"),
            ("97", "20.20.2"),
            ("14.21.5", "14.21.3"),
            (">=14.0 <14.5", "14.6.1"),
        ] {
            let wish = Wish::parse(wish).expect("a wish");
            let here = ["12.22.12", "14.6.1", "14.21.3", "16.20.2", "18.20.8", "20.20.2"];
            let here = here.map(|version| Version::parse(version).expect("a version"));
            let found = here.iter().min_by_key(|version| wish.distance(version)).expect("one is nearest");
            assert_eq!(found.to_string(), nearest, "{wish:?}");
        }
    }
}
