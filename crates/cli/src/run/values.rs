//! `--variables-file` and `--variable-group`: many values at once, from a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use secrecy::SecretString;

use dayfly_pipelines::{GivenVariable, Source, variables_file};

use super::inputs::Pair;

/// The largest file of values, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// `NAME=@FILE`: a variable group and the file with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupSource {
    name: String,
    file: PathBuf,
}

impl FromStr for GroupSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "expected NAME=@FILE";
        let Pair { name, value } = text.parse().map_err(|_| FORM)?;
        match value.strip_prefix('@') {
            Some(file) if !file.is_empty() => Ok(Self { name, file: PathBuf::from(file) }),
            _ => Err(FORM.to_owned()),
        }
    }
}

/// What was given by files, beside the options for single values.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// Public variables of the run.
    pub(crate) variables: Vec<Pair>,
    /// Secret ones.
    pub(crate) secrets: Vec<(String, SecretString)>,
    /// The public variables of groups, by the group's name.
    pub(crate) groups: BTreeMap<String, BTreeMap<String, String>>,
    /// The secret ones. They become variables of the run if the pipeline uses the group.
    pub(crate) group_secrets: Vec<(String, String, SecretString)>,
}

impl Values {
    /// Reads all files. A later file wins over an earlier one.
    pub(crate) fn read(files: &[PathBuf], groups: &[GroupSource]) -> anyhow::Result<Self> {
        let mut values = Self::default();
        for file in files {
            for GivenVariable { name, value, is_secret } in read_file(file)? {
                values.variables.retain(|pair| !pair.name.eq_ignore_ascii_case(&name));
                values.secrets.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
                if is_secret {
                    values.secrets.push((name, SecretString::from(value)));
                } else {
                    values.variables.push(Pair { name, value });
                }
            }
        }
        for GroupSource { name: group, file } in groups {
            let known = values.groups.entry(group.clone()).or_default();
            for GivenVariable { name, value, is_secret } in read_file(file)? {
                if is_secret {
                    values.group_secrets.push((group.clone(), name, SecretString::from(value)));
                } else {
                    known.insert(name, value);
                }
            }
        }
        Ok(values)
    }

    /// The secrets of the groups that the pipeline names, and a sentence for each given group that it does
    /// not.
    pub(crate) fn of_used_groups(&mut self, used: &[String]) -> (Vec<(String, SecretString)>, Vec<String>) {
        let is_used = |group: &str| used.iter().any(|name| name.eq_ignore_ascii_case(group));
        let unused = self.groups.keys().filter(|group| !is_used(group));
        let sentences =
            unused.map(|group| format!("the pipeline does not use the variable group `{group}`")).collect();
        let secrets = std::mem::take(&mut self.group_secrets).into_iter();
        (
            secrets.filter(|(group, ..)| is_used(group)).map(|(_, name, value)| (name, value)).collect(),
            sentences,
        )
    }
}

/// Reads a file of variables: YAML or JSON if its name ends so, else `NAME=VALUE` lines. Errors quote none of
/// it, as it may hold secrets.
fn read_file(path: &Path) -> anyhow::Result<Vec<GivenVariable>> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read the variables in `{shown}`"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        bail!("`{shown}` is larger than 4 MiB");
    }
    let text = text.trim_start_matches('\u{feff}');
    let is_yaml = path.extension().is_some_and(|extension| {
        ["yml", "yaml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    if !is_yaml {
        return lines(text).map_err(|(line, reason)| anyhow::anyhow!("{shown}:{line}: {reason}"));
    }
    variables_file(&Source { name: shown.to_string(), text: text.to_owned() }).map_err(|diagnostics| {
        let reports = diagnostics.reports().into_iter();
        let said = reports.map(|report| {
            format!(
                "{}:{}:{}: {}",
                report.location.file, report.location.line, report.location.column, report.message
            )
        });
        anyhow::anyhow!("{}", said.collect::<Vec<_>>().join("\n"))
    })
}

/// `NAME=VALUE` lines as dotenv has them: `#` comments, `export`, values in quotes. Nothing in a value is
/// expanded.
fn lines(text: &str) -> Result<Vec<GivenVariable>, (usize, &'static str)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or((number, "expected NAME=VALUE"))?;
        let name = name.trim();
        if name.is_empty() {
            return Err((number, "the name before `=` is empty"));
        }
        let value = value_of(value.trim()).ok_or((number, "the value's quotation mark is not closed"))?;
        found.push(GivenVariable { name: name.to_owned(), value, is_secret: false });
    }
    Ok(found)
}

/// A value without its quotation marks, or without the comment after it.
fn value_of(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        return rest.split_once('\'').map(|(value, _)| value.to_owned());
    }
    let Some(rest) = text.strip_prefix('"') else {
        let end = text.find(" #").unwrap_or(text.len());
        return Some(text[..end].trim_end().to_owned());
    };
    let (mut value, mut letters) = (String::new(), rest.chars());
    loop {
        match letters.next()? {
            '"' => return Some(value),
            '\\' => match letters.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                quoted @ ('"' | '\\' | '$') => value.push(quoted),
                other => value.extend(['\\', other]),
            },
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn lines_are_read_as_dotenv_reads_them() {
        let text = "# a comment\n\nA=1\n export B = two words # a comment\nC='# $x \\n'\nD=\"a\\n\\\"b\\\" \\w\"\nE=\nF=a=b#c\r\n";
        let read: Vec<_> = lines(text).unwrap().into_iter().map(|given| (given.name, given.value)).collect();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "# $x \\n"),
            ("D", "a\n\"b\" \\w"),
            ("E", ""),
            ("F", "a=b#c"),
        ];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(lines("A=1\nhunter2").unwrap_err(), (2, "expected NAME=VALUE"));
        assert!(lines("A='open").is_err() && lines("A=\"open").is_err() && lines("=x").is_err());
    }

    #[test]
    fn files_of_values_are_read_by_their_names_and_later_ones_win() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [
            write(".env", "first=env\nSecond=env\n"),
            write("a.yml", "variables:\n- {name: second, value: list}\n- {name: v, value: '1.0'}\n"),
            write(
                "b.json",
                r#"{"variables": {"key": {"isSecret": true, "value": "s3"}, "hidden": {"isSecret": true, "value": null}, "b": {"isSecret": null, "value": "x"}}}"#,
            ),
        ];
        let group =
            format!("prod=@{}", write("c.yaml", "x: 1\ntoken: {value: t, isSecret: true}\n").display());
        let mut values = Values::read(&files, &[group.parse().unwrap()]).unwrap();
        let pair = |name: &str, value: &str| Pair { name: name.to_owned(), value: value.to_owned() };
        assert_eq!(
            values.variables,
            [pair("first", "env"), pair("second", "list"), pair("v", "1.0"), pair("b", "x")]
        );
        let secrets = |secrets: &[(String, SecretString)]| -> Vec<String> {
            secrets.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect()
        };
        assert_eq!(secrets(&values.secrets), ["key=s3"]);
        assert_eq!(values.groups["prod"], [("x".to_owned(), "1".to_owned())].into());
        let (of_group, unused) = values.of_used_groups(&["PROD".to_owned()]);
        assert_eq!((secrets(&of_group), unused.len()), (vec!["token=t".to_owned()], 0));

        for (name, text) in
            [("d.yml", "- hunter2"), ("e.yml", "a: [hunter2]"), ("f.yml", "hunter2: {{"), ("g", "hunter2")]
        {
            let error = format!("{:#}", Values::read(&[write(name, text)], &[]).unwrap_err());
            assert!(error.contains(&format!("{name}:1:")) && !error.contains("hunter2: {{"), "{error}");
        }
    }
}
