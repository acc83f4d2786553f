//! Demands of jobs and capabilities of agents (`DistributedTask/WebApi/Demand*.cs`).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::Error;

/// One demand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Demand {
    /// `name`: the capability is there.
    Exists(String),
    /// `name -equals value`: it has this value, in any case.
    Equals(String, String),
    /// `name -gtVersion 1.2.3`: it is this version or a newer one.
    Version(String, Vec<u64>, String),
}

impl Demand {
    /// Reads a demand as it is written in YAML and in job requests.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Invalid { what: "demand", reason: format!("`{text}` {reason}") };
        let (name, rest) = first_word(text);
        let (operator, value) = first_word(rest);
        if name.is_empty() {
            return Err(invalid("has no name"));
        }
        if operator.is_empty() {
            return Ok(Self::Exists(name.to_owned()));
        }
        if operator.eq_ignore_ascii_case("-equals") && !value.is_empty() {
            return Ok(Self::Equals(name.to_owned(), value.to_owned()));
        }
        if operator.eq_ignore_ascii_case("-gtVersion") && !value.is_empty() {
            let version = parse_version(value).ok_or_else(|| invalid("has no valid version"))?;
            return Ok(Self::Version(name.to_owned(), version, value.to_owned()));
        }
        Err(invalid("is neither `name`, `name -equals value` nor `name -gtVersion version`"))
    }

    fn is_met_by(&self, capabilities: &Capabilities<'_>) -> bool {
        match self {
            Self::Exists(name) => capabilities.get(name).is_some(),
            Self::Equals(name, wanted) => {
                capabilities.get(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
            }
            Self::Version(name, wanted, _) => capabilities
                .get(name)
                .and_then(parse_version)
                .is_some_and(|version| compare_versions(&version, wanted) != Ordering::Less),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(name) => f.write_str(name),
            Self::Equals(name, value) => write!(f, "{name} -equals {value}"),
            Self::Version(name, _, text) => write!(f, "{name} -gtVersion {text}"),
        }
    }
}

/// The first word of a text, and what comes after it, trimmed.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// The demands of a job: sorted, without doubles, so that equal sets are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demands(Vec<Demand>);

impl Demands {
    pub(crate) fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Error> {
        let mut demands =
            texts.iter().map(|text| Demand::parse(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        demands.sort();
        demands.dedup();
        Ok(Self(demands))
    }

    /// Whether an agent with these capabilities can run the job.
    pub(crate) fn are_met_by(&self, capabilities: &Capabilities<'_>) -> bool {
        self.0.iter().all(|demand| demand.is_met_by(capabilities))
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(Demand::to_string).collect()
    }
}

/// What an agent offers: what it says of itself, what people say of it, and its version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities<'a> {
    pub(crate) system: &'a BTreeMap<String, String>,
    pub(crate) user: &'a BTreeMap<String, String>,
    pub(crate) version: Option<&'a str>,
}

/// The capability every agent has through its version.
const AGENT_VERSION: &str = "Agent.Version";

impl<'a> Capabilities<'a> {
    /// A capability by its name in any case; the user's word wins.
    fn get(&self, name: &str) -> Option<&'a str> {
        let find = |map: &'a BTreeMap<String, String>| {
            map.get(name)
                .or_else(|| {
                    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
                })
                .map(String::as_str)
        };
        let version = || self.version.filter(|_| name.eq_ignore_ascii_case(AGENT_VERSION));
        find(self.user).or_else(|| find(self.system)).or_else(version)
    }
}

/// The numbers of a version; text after the numbers (`-preview`) is left out.
fn parse_version(text: &str) -> Option<Vec<u64>> {
    let text = text.trim().trim_start_matches(['v', 'V']);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text[..end].split('.').map(|part| part.parse().ok()).collect()
}

/// Compares number by number; numbers that are not there count as 0.
fn compare_versions(left: &[u64], right: &[u64]) -> Ordering {
    let length = left.len().max(right.len());
    let padded = |version: &[u64]| {
        version.iter().copied().chain(std::iter::repeat(0)).take(length).collect::<Vec<_>>()
    };
    padded(left).cmp(&padded(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(demand: &str) -> bool {
        let system = BTreeMap::from([
            ("Agent.OS".to_owned(), "Linux".to_owned()),
            ("java".to_owned(), "/usr/bin/java".to_owned()),
            ("node.version".to_owned(), "v20.11.1".to_owned()),
        ]);
        let user = BTreeMap::from([("Rack".to_owned(), "left hand".to_owned())]);
        let capabilities = Capabilities { system: &system, user: &user, version: Some("4.250.1") };
        Demands::parse(&[demand]).unwrap().are_met_by(&capabilities)
    }

    #[test]
    fn demands_are_met_by_capabilities() {
        for (demand, expected) in [
            ("java", true),
            ("JAVA", true),
            ("python", false),
            ("agent.os -equals linux", true),
            ("Agent.OS -equals Darwin", false),
            ("rack -EQUALS Left Hand", true),
            ("Agent.Version -gtVersion 4.250.1", true),
            ("Agent.Version -gtVersion 4.251", false),
            ("Agent.Version -gtVersion 4.9.9", true),
            ("node.version -gtVersion 20", true),
            ("java -gtVersion 1", false),
        ] {
            assert_eq!(met(demand), expected, "{demand}");
        }
    }

    #[test]
    fn malformed_demands_are_refused_by_name() {
        for text in ["", "a -like b", "a -equals", "a -gtVersion x"] {
            let error = Demand::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn order_and_doubles_do_not_matter() {
        assert_eq!(Demands::parse(&["b", "a", "b"]).unwrap(), Demands::parse(&["a", "b"]).unwrap());
        assert_eq!(Demand::parse("a  -equals  b c").unwrap().to_string(), "a -equals b c");
    }
}
