//! Reads one logging command out of a line: `##vso[area.event name=value;name=value]data`.
//!
//! Follows Microsoft's `Command.cs` and `CommandStringConvertor.cs`, oddities included.

use std::collections::BTreeMap;

const PREFIX: &str = "##vso[";

/// A logging command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the command is about, such as `task`; compared without regard to case.
    pub area: String,
    /// What to do, such as `setvariable`; compared without regard to case.
    pub event: String,
    /// Properties by lower-case name.
    properties: BTreeMap<String, Property>,
    /// The text after the bracket.
    pub data: String,
    /// The same as it was written, with its escapes.
    pub written: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Property {
    name: String,
    value: String,
}

impl Command {
    /// The first command in the line, or none if the line holds none that is well formed.
    pub fn parse(line: &str, decode_percents: bool) -> Option<Command> {
        let start = line.find(PREFIX)? + PREFIX.len();
        let end = start + line[start..].find(']')?;
        let information = &line[start..end];
        let (name, properties) = match information.split_once(' ') {
            // A command that begins with a space has no name, which the check below refuses.
            Some((name, properties)) => (name, properties),
            None => (information, ""),
        };
        let mut parts = name.split('.').filter(|part| !part.is_empty());
        let (area, event) = (parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Command {
            area: area.to_owned(),
            event: event.to_owned(),
            properties: properties
                .split(';')
                .filter_map(|text| parse_property(text, decode_percents))
                .collect(),
            data: unescape(&line[end + 1..], decode_percents),
            written: line[end + 1..].to_owned(),
        })
    }

    /// A property's value, if the command has it.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(&name.to_ascii_lowercase()).map(|property| property.value.as_str())
    }

    /// A property's value unless it is missing or empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.property(name).filter(|value| !value.is_empty())
    }

    /// A flag: only `true` in any case turns it on.
    pub fn flag(&self, name: &str) -> bool {
        self.property(name).and_then(crate::variables::parse_boolean).unwrap_or(false)
    }

    /// All properties with their names as written.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.values().map(|property| (property.name.as_str(), property.value.as_str()))
    }
}

/// `name=value`; text without a value is dropped. Leading `=` are skipped on both sides, as .NET's `Split`
/// does when it removes empty entries.
fn parse_property(text: &str, decode_percents: bool) -> Option<(String, Property)> {
    let (name, value) = text.trim_start_matches('=').split_once('=')?;
    let value = value.trim_start_matches('=');
    if value.is_empty() {
        return None;
    }
    let property = Property { name: name.to_owned(), value: unescape(value, decode_percents) };
    Some((name.to_ascii_lowercase(), property))
}

/// Turns `%3B`, `%0D`, `%0A`, `%5D` and then `%AZP25` back.
pub(crate) fn unescape(text: &str, decode_percents: bool) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let text = text.replace("%3B", ";").replace("%0D", "\r").replace("%0A", "\n").replace("%5D", "]");
    if decode_percents { text.replace("%AZP25", "%") } else { text }
}

/// Writes `;`, line ends and `]` (and `%`, if `encode_percents`) so that the text may be a property or the
/// data of a command.
pub fn escape(text: &str, encode_percents: bool) -> String {
    let text = if encode_percents { text.replace('%', "%AZP25") } else { text.to_owned() };
    text.replace(';', "%3B").replace('\r', "%0D").replace('\n', "%0A").replace(']', "%5D")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Expected<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

    fn check(line: &str, expected: Option<Expected<'_>>) {
        let command = Command::parse(line, true);
        let Some((area, event, properties, data)) = expected else {
            assert_eq!(command, None, "{line}");
            return;
        };
        let command = command.unwrap_or_else(|| panic!("no command in {line}"));
        assert_eq!(
            (command.area.as_str(), command.event.as_str(), command.data.as_str()),
            (area, event, data),
            "{line}"
        );
        assert_eq!(command.properties().count(), properties.len(), "{line}");
        for (name, value) in properties {
            assert_eq!(command.property(name), Some(*value), "{line}");
        }
    }

    #[test]
    fn well_formed_commands() {
        check("##vso[task.debug]text", Some(("task", "debug", &[], "text")));
        check("before ##vso[task.debug]text", Some(("task", "debug", &[], "text")));
        check(
            "##vso[task.setvariable variable=a.b;isSecret=true;isOutput=true]va]lue",
            Some((
                "task",
                "setvariable",
                &[("variable", "a.b"), ("issecret", "true"), ("ISOUTPUT", "true")],
                "va]lue",
            )),
        );
        check("##vso[task.logissue type=error;]m", Some(("task", "logissue", &[("type", "error")], "m")));
        check("##vso[.task..debug.]x", Some(("task", "debug", &[], "x")));
        check(
            "##vso[task.x a=1=2;b;c=;=d=5;e==6]",
            Some(("task", "x", &[("a", "1=2"), ("d", "5"), ("e", "6")], "")),
        );
        check("##vso[task.x a=1]##vso[task.y b=2]", Some(("task", "x", &[("a", "1")], "##vso[task.y b=2]")));
        check("##vso[task.x  a=1]", Some(("task", "x", &[(" a", "1")], "")));
    }

    #[test]
    fn escapes_are_decoded_in_properties_and_data() {
        check(
            "##vso[task.x a=1%3B2%5D%0A3%AZP253B]d%0D%0Ae%AZP25",
            Some(("task", "x", &[("a", "1;2]\n3%3B")], "d\r\ne%")),
        );
        let command = Command::parse("##vso[task.x a=%AZP25]%AZP25", false).expect("well formed");
        assert_eq!(command.property("a"), Some("%AZP25"));
        assert_eq!(command.data, "%AZP25");
    }

    #[test]
    fn malformed_commands_are_none() {
        for line in [
            "",
            "plain",
            "##vso[",
            "##vso[task.debug",
            "##vso[task]x",
            "##vso[a.b.c]x",
            "##vso[]x",
            "##VSO[task.debug]x",
            "##vso[ task.debug]x",
        ] {
            check(line, None);
        }
    }

    proptest! {
        #[test]
        fn escaping_round_trips(value in "[^\u{0}]*") {
            let line = format!("##vso[task.setvariable variable=x{}]{}", escape(&value, true), escape(&value, true));
            let command = Command::parse(&line, true).expect("escaped text cannot break the command");
            let property = format!("x{value}");
            prop_assert_eq!(command.property("variable"), Some(property.as_str()));
            prop_assert_eq!(command.data, value);
        }

        #[test]
        fn any_line_is_read_without_panic(line in ".*") {
            let _ = Command::parse(&line, true);
            let _ = Command::parse(&format!("##vso[{line}"), true);
        }
    }
}
