//! The run number (`Build.BuildNumber`): `name:` of a pipeline with its tokens put in.

use dayfly_protocol::job::Variables;
use jiff::civil::DateTime;

use crate::variable_set::VariableSet;

/// The format of pipelines without `name:`.
pub const DEFAULT_FORMAT: &str = "$(Date:yyyyMMdd).$(Rev:r)";
/// The most characters a run number may have.
const MAX_LENGTH: usize = 255;
/// Characters a run number may not have, as the service lists them when it refuses one (TF209010).
const FORBIDDEN: &[char] = &['"', '/', ':', '<', '>', '\\', '|', '?', '@', '*'];

/// Where a run number goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunNumberError {
    /// A character that is not allowed.
    #[error(
        "the run number `{number}` holds `{character}`, which is not allowed; change `name:` of the pipeline"
    )]
    Forbidden {
        /// The number.
        number: String,
        /// The character.
        character: char,
    },
    /// Too long, or ending in a point.
    #[error(
        "the run number `{number}` is empty, ends in a point or has more than 255 characters; change \
            `name:` of the pipeline"
    )]
    Malformed {
        /// The number, cut.
        number: String,
    },
}

/// Puts the tokens in. `now` is the time of the run in UTC, `variables` the run's variables; `revision` is
/// asked for the next number of runs with the same text before it (from 1 on) when the format holds
/// `$(Rev:r)`.
///
/// # Errors
/// A result that the service would refuse.
pub fn format(
    name: Option<&str>,
    variables: &Variables,
    now: DateTime,
    revision: impl FnOnce(&str) -> u32,
) -> Result<String, RunNumberError> {
    let template = name.filter(|name| !name.trim().is_empty()).unwrap_or(DEFAULT_FORMAT).trim();
    let set = VariableSet::new(variables);
    let (before, digits, after) = split_revision(template);
    let text = |part: &str| set.expand(&tokens(part, &set, now));
    let mut number = text(&before);
    if let Some(digits) = digits {
        let revision = revision(&number);
        number.push_str(&format!("{revision:0digits$}"));
    }
    number.push_str(&text(after));
    check(number)
}

fn check(number: String) -> Result<String, RunNumberError> {
    if let Some(character) = number.chars().find(|c| FORBIDDEN.contains(c) || c.is_control()) {
        return Err(RunNumberError::Forbidden {
            number: number.chars().take(MAX_LENGTH).collect(),
            character,
        });
    }
    if number.is_empty() || number.ends_with('.') || number.chars().count() > MAX_LENGTH {
        return Err(RunNumberError::Malformed { number: number.chars().take(MAX_LENGTH).collect() });
    }
    Ok(number)
}

/// Cuts the format at `$(Rev:rr)`; the number of `r` is the number of digits. `$(Rev:.r)` brings its point
/// along.
fn split_revision(template: &str) -> (String, Option<usize>, &str) {
    let lower = template.to_ascii_lowercase();
    let Some(start) = lower.find("$(rev:") else { return (template.to_owned(), None, "") };
    let rest = &lower[start + 6..];
    let Some(length) = rest.find(')') else { return (template.to_owned(), None, "") };
    let digits = rest[..length].trim_start_matches('.');
    if digits.is_empty() || digits.bytes().any(|byte| byte != b'r') {
        return (template.to_owned(), None, "");
    }
    let points = ".".repeat(length - digits.len());
    (format!("{}{points}", &template[..start]), Some(digits.len()), &template[start + 6 + length + 1..])
}

/// Puts dates and the tokens that are no variables in.
fn tokens(text: &str, set: &VariableSet, now: DateTime) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        let Some(length) = rest[start + 2..].find(')') else { break };
        let token = &rest[start + 2..start + 2 + length];
        result.push_str(&rest[..start]);
        match token_value(token, now) {
            Some(value) => result.push_str(&value),
            // The names from the days before YAML.
            None => match token.to_ascii_lowercase().as_str() {
                "buildid" => result.push_str(&set.expand("$(Build.BuildId)")),
                "builddefinitionname" => result.push_str(&set.expand("$(Build.DefinitionName)")),
                "sourcebranchname" => result.push_str(&set.expand("$(Build.SourceBranchName)")),
                "teamproject" => result.push_str(&set.expand("$(System.TeamProject)")),
                _ => result.push_str(&rest[start..start + 2 + length + 1]),
            },
        }
        rest = &rest[start + 2 + length + 1..];
    }
    result.push_str(rest);
    result
}

fn token_value(token: &str, now: DateTime) -> Option<String> {
    let (name, argument) =
        token.split_once(':').map_or((token, None), |(name, argument)| (name, Some(argument)));
    Some(match (name.to_ascii_lowercase().as_str(), argument) {
        ("date", argument) => date(argument.unwrap_or("yyyyMMdd"), now),
        ("year", Some(width)) if width.len() == 2 => format!("{:02}", now.year() % 100),
        ("year", _) => format!("{:04}", now.year()),
        ("month", None) => now.month().to_string(),
        ("dayofmonth", None) => now.day().to_string(),
        ("dayofyear", None) => now.day_of_year().to_string(),
        ("hours", None) => now.hour().to_string(),
        ("minutes", None) => now.minute().to_string(),
        ("seconds", None) => now.second().to_string(),
        _ => return None,
    })
}

/// A date in .NET's custom format, as far as numbers and names of months and days go.
fn date(format: &str, now: DateTime) -> String {
    let mut result = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        let run = rest.chars().take_while(|c| *c == first).count();
        let value = match (first, run) {
            ('y', 1..=2) => format!("{:02}", now.year() % 100),
            ('y', _) => format!("{:04}", now.year()),
            ('M', 1) => now.month().to_string(),
            ('M', 2) => format!("{:02}", now.month()),
            ('M', 3) => now.strftime("%b").to_string(),
            ('M', _) => now.strftime("%B").to_string(),
            ('d', 1) => now.day().to_string(),
            ('d', 2) => format!("{:02}", now.day()),
            ('d', 3) => now.strftime("%a").to_string(),
            ('d', _) => now.strftime("%A").to_string(),
            ('H', 1) => now.hour().to_string(),
            ('H', _) => format!("{:02}", now.hour()),
            ('h', 1) => (((now.hour() + 11) % 12) + 1).to_string(),
            ('h', _) => format!("{:02}", ((now.hour() + 11) % 12) + 1),
            ('m', 1) => now.minute().to_string(),
            ('m', _) => format!("{:02}", now.minute()),
            ('s', 1) => now.second().to_string(),
            ('s', _) => format!("{:02}", now.second()),
            _ => first.to_string().repeat(run),
        };
        result.push_str(&value);
        rest = &rest[first.len_utf8() * run..];
    }
    result
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::timeline::VariableValue;

    use super::*;

    fn check(name: Option<&str>, expected: Result<&str, &str>) {
        let variables = Variables::from([
            ("Build.BuildId".to_owned(), VariableValue::public("7")),
            ("Build.DefinitionName".to_owned(), VariableValue::public("hello")),
            ("major".to_owned(), VariableValue::public("2")),
        ]);
        let now = jiff::civil::date(2026, 1, 4).at(15, 5, 9, 0);
        let result = format(name, &variables, now, |before| u32::try_from(before.len()).unwrap());
        assert_eq!(
            result.as_deref().map_err(ToString::to_string),
            expected.map_err(str::to_owned),
            "{name:?}"
        );
    }

    #[test]
    fn tokens_are_put_in() {
        check(None, Ok("20260104.9"));
        check(Some(""), Ok("20260104.9"));
        check(Some("$(Build.DefinitionName)-$(BuildID)"), Ok("hello-7"));
        check(Some("$(major).0.$(Rev:rr)"), Ok("2.0.04"));
        check(Some("$(Year:yy).$(Month).$(DayOfMonth)$(Rev:.r)"), Ok("26.1.4.7"));
        check(Some("$(Hours)_$(Minutes)_$(Seconds)_$(DayOfYear)"), Ok("15_5_9_4"));
        check(Some("$(Date:yyyy-MM-dd-HH-mm)"), Ok("2026-01-04-15-05"));
        check(Some("$(Date:d MMM yy)"), Ok("4 Jan 26"));
        check(Some("$(unknown)"), Ok("$(unknown)"));
    }

    #[test]
    fn bad_numbers_are_refused() {
        let long = "x".repeat(256);
        assert!(matches!(
            format(Some(&long), &Variables::new(), jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0), |_| 1),
            Err(RunNumberError::Malformed { .. })
        ));
        for (name, character) in [("a\\b", "\\"), ("refs/heads", "/"), ("12:30", ":")] {
            let reason = format!(
                "the run number `{name}` holds `{character}`, which is not allowed; change `name:` of the pipeline"
            );
            check(Some(name), Err(&reason));
        }
        check(Some("Ada's build"), Ok("Ada's build"));
        check(
            Some("ends."),
            Err(
                "the run number `ends.` is empty, ends in a point or has more than 255 characters; change `name:` of the pipeline",
            ),
        );
    }
}
