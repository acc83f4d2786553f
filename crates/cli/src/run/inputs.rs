//! What a user hands to a run: `NAME=VALUE` pairs, and secrets from files or the environment, never from the
//! command line.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use secrecy::SecretString;

use crate::secret_files;

/// The longest secret read from a file, in bytes: that of a Kubernetes Secret's value.
const MAX_SECRET_BYTES: u64 = 1024 * 1024;

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        if name.trim().is_empty() {
            return Err("the name before `=` is empty".to_owned());
        }
        Ok(Self { name: name.trim().to_owned(), value: value.to_owned() })
    }
}

/// Where a secret variable's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretSource {
    pub(crate) name: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Environment(String),
}

impl FromStr for SecretSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "expected NAME=@FILE, NAME=env or NAME=env:VARIABLE";
        let Pair { name, value } = text.parse().map_err(|_| FORMS)?;
        let place = match (value.strip_prefix('@'), value.strip_prefix("env:")) {
            (Some(file), _) if !file.is_empty() => Place::File(PathBuf::from(file)),
            (_, Some(variable)) if !variable.is_empty() => Place::Environment(variable.to_owned()),
            _ if value == "env" => Place::Environment(name.clone()),
            // The value itself would be readable by everybody in the list of processes.
            _ => return Err(format!("{FORMS}; never put the value itself on the command line")),
        };
        Ok(Self { name, place })
    }
}

impl SecretSource {
    /// A secret in a file.
    pub(crate) fn in_file(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), place: Place::File(path) }
    }

    /// A secret in an environment variable.
    pub(crate) fn in_environment(name: &str, variable: &str) -> Self {
        Self { name: name.to_owned(), place: Place::Environment(variable.to_owned()) }
    }

    /// The environment variable it comes from, which steps must not inherit.
    pub(crate) fn environment_variable(&self) -> Option<&str> {
        match &self.place {
            Place::Environment(variable) => Some(variable),
            Place::File(_) => None,
        }
    }

    /// Reads the value. One line end at the end of a file is not part of it.
    pub(crate) fn read(&self) -> anyhow::Result<SecretString> {
        let name = &self.name;
        let value = match &self.place {
            Place::Environment(variable) => std::env::var(variable).with_context(|| {
                format!("secret `{name}`: environment variable `{variable}` is not set, or is not text")
            })?,
            Place::File(path) => {
                let shown = path.display();
                let text = secret_files::read(path, MAX_SECRET_BYTES)
                    .with_context(|| format!("secret `{name}`: cannot read the file `{shown}` as text"))?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
        };
        if value.is_empty() {
            bail!("secret `{name}` is empty, so there is nothing to mask");
        }
        Ok(SecretString::from(value))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!("a=b=c".parse(), Ok(Pair { name: "a".to_owned(), value: "b=c".to_owned() }));
        assert!("a".parse::<Pair>().is_err());
        assert!("=b".parse::<Pair>().is_err());
    }

    #[test]
    fn secrets_never_stand_on_the_command_line() {
        assert!("token=hunter2".parse::<SecretSource>().is_err_and(|error| !error.contains("hunter2")));
        assert_eq!("token=env".parse::<SecretSource>().unwrap().environment_variable(), Some("token"));
        assert_eq!(
            "token=env:MY_TOKEN".parse::<SecretSource>().unwrap().environment_variable(),
            Some("MY_TOKEN")
        );
    }

    #[test]
    fn a_secret_is_read_from_a_file_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        let source: SecretSource = format!("token=@{}", path.display()).parse().unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "hunter2");

        std::fs::write(&path, "\n").unwrap();
        assert_eq!(
            source.read().unwrap_err().to_string(),
            "secret `token` is empty, so there is nothing to mask"
        );
    }
}
