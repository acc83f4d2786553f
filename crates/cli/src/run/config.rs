//! `dayfly.toml`: what Azure DevOps has beside a pipeline and a run on this machine has not: variable groups,
//! service connections, secure files and environments. Secrets are only referred to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use url::Url;

use dayfly_emulator::Library;
use dayfly_pipelines::message::EnvironmentContext;
use dayfly_protocol::job::{EndpointAuthorization, ServiceEndpoint};
use dayfly_protocol::timeline::VariableValue;

use super::environments::{self, Environment, Resource, Used};
use super::inputs::SecretSource;
use super::pipeline::PipelineFile;

/// The file's name beside a pipeline.
const NAME: &str = "dayfly.toml";
/// The largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The ids of service connections are made from their names, so that they stay the same.
const CONNECTIONS: uuid::Uuid = uuid::uuid!("0c5f1b3e-6f0b-5d0e-9a57-9c1b6a1d4e27");

/// Variables of groups, by the group's name.
type Groups = BTreeMap<String, BTreeMap<String, String>>;

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// The file, as people call it.
    name: String,
    text: String,
    /// What paths in it are relative to.
    folder: PathBuf,
    content: Content,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Content {
    #[serde(default)]
    variable_groups: BTreeMap<String, BTreeMap<String, Spanned<Given>>>,
    #[serde(default)]
    service_connections: BTreeMap<String, Connection>,
    #[serde(default)]
    secure_files: BTreeMap<String, Spanned<PathBuf>>,
    #[serde(default)]
    environments: BTreeMap<String, Environment>,
}

/// A service connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Connection {
    #[serde(rename = "type", default = "generic")]
    kind: String,
    url: Url,
    #[serde(default = "no_login")]
    scheme: String,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<Given>>,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

fn generic() -> String {
    "generic".to_owned()
}

fn no_login() -> String {
    "None".to_owned()
}

/// A value: text, or where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Text(String),
    Environment(String),
    File(PathBuf),
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or for a secret { env = \"NAME\" } or { file = \"PATH\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Given, E> {
                Ok(Given::Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Given, E> {
                Ok(Given::Text(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Given, E> {
                Ok(Given::Text(value.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let given = match map.next_key::<String>()?.as_deref() {
                    Some("env") => Given::Environment(map.next_value()?),
                    Some("file") => Given::File(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_field(other, &["env", "file"])),
                    None => return Err(de::Error::custom("expected `env` or `file`")),
                };
                match map.next_key::<String>()? {
                    None => Ok(given),
                    Some(_) => Err(de::Error::custom("expected either `env` or `file`, and nothing else")),
                }
            }
        }
        deserializer.deserialize_any(Wanted)
    }
}

impl Config {
    /// Reads the file that is named, or the one beside the pipeline, or at the top of its repository.
    pub(crate) fn read(named: Option<&Path>, pipeline: &PipelineFile) -> anyhow::Result<Self> {
        let usual = [pipeline.path.with_file_name(NAME), pipeline.root.join(NAME)];
        if let Some(path) = named {
            return Self::at(path);
        }
        match usual.iter().find(|path| path.exists()) {
            Some(path) => Self::load(NAME.to_owned(), path),
            None => Ok(Self::default()),
        }
    }

    /// Reads this file.
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        Self::load(path.display().to_string(), path)
    }

    fn load(name: String, path: &Path) -> anyhow::Result<Self> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .with_context(|| format!("cannot read `{name}` as text"))?;
        if text.len() as u64 > MAX_BYTES {
            bail!("`{name}` is larger than 1 MiB");
        }
        let config = Self::parse(name, text, path.parent().unwrap_or(Path::new("")))?;
        config.refuse_open_secrets()?;
        config.refuse_lost_resources()?;
        Ok(config)
    }

    fn parse(name: String, text: String, folder: &Path) -> anyhow::Result<Self> {
        let content = toml::from_str(&text).map_err(|error| {
            let place = error.span().map(|span| place(&text, &span)).unwrap_or_default();
            anyhow::anyhow!("{name}{place}: {}", error.message())
        })?;
        Ok(Self { name, text, folder: folder.to_owned(), content })
    }

    /// Secrets do not belong into a file that lies beside a pipeline.
    fn refuse_open_secrets(&self) -> anyhow::Result<()> {
        for (name, connection) in &self.content.service_connections {
            for (parameter, given) in &connection.parameters {
                let word = parameter.to_lowercase();
                let is_secret = ["password", "token", "key", "secret"].iter().any(|part| word.contains(part));
                if is_secret && !given.as_ref().is_secret() {
                    bail!(
                        "{}{}: the parameter `{parameter}` of the service connection `{name}` is a secret: \
                         write {{ env = \"NAME\" }} or {{ file = \"PATH\" }} for where it is",
                        self.name,
                        place(&self.text, &given.span())
                    );
                }
            }
        }
        Ok(())
    }

    /// Resources of environments say which cluster they are.
    fn refuse_lost_resources(&self) -> anyhow::Result<()> {
        let is_connection = |wanted: &str| {
            let mut connections = self.content.service_connections.keys();
            connections.any(|name| name.eq_ignore_ascii_case(wanted))
        };
        for (environment, written) in &self.content.environments {
            for (name, resource) in &written.resources {
                if let Some(mistake) = resource.as_ref().mistake(is_connection) {
                    let place = place(&self.text, &resource.span());
                    bail!(
                        "{}{place}: the resource `{name}` of the environment `{environment}` {mistake}",
                        self.name
                    );
                }
            }
        }
        Ok(())
    }

    /// The environment variables that hold secrets, which steps must not inherit.
    pub(crate) fn environment_variables(&self) -> impl Iterator<Item = &str> {
        let of_groups = self.content.variable_groups.values().flat_map(BTreeMap::values);
        let connections = self.content.service_connections.values();
        let of_connections = connections.flat_map(|connection| connection.parameters.values());
        of_groups.chain(of_connections).filter_map(|given| match given.as_ref() {
            Given::Environment(variable) => Some(variable.as_str()),
            Given::Text(_) | Given::File(_) => None,
        })
    }

    /// The public variables of all groups, below those which were given for the run.
    pub(crate) fn groups_below(&self, given: &Groups) -> Groups {
        let mut groups = Groups::new();
        for (name, group) in &self.content.variable_groups {
            let public = group.iter().filter_map(|(name, value)| match value.as_ref() {
                Given::Text(text) => Some((name.clone(), text.clone())),
                Given::Environment(_) | Given::File(_) => None,
            });
            groups.insert(name.clone(), public.collect());
        }
        for (name, variables) in given {
            let known = groups.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned();
            let group = groups.entry(known.unwrap_or_else(|| name.clone())).or_default();
            group.retain(|known, _| !variables.keys().any(|name| name.eq_ignore_ascii_case(known)));
            group.extend(variables.clone());
        }
        groups
    }

    /// The secret variables of the groups that a pipeline uses.
    pub(crate) fn group_secrets(&self, used: &[String]) -> anyhow::Result<Vec<(String, SecretString)>> {
        let is_used = |group: &str| used.iter().any(|name| name.eq_ignore_ascii_case(group));
        let groups = self.content.variable_groups.iter().filter(|(name, _)| is_used(name));
        let secrets = groups.flat_map(|(_, group)| group).filter(|(_, given)| given.as_ref().is_secret());
        secrets.map(|(name, given)| Ok((name.clone(), self.value(name, given)?))).collect()
    }

    /// The service connections. One whose secrets cannot be read is missing, unless it `is_named` by a step.
    pub(crate) fn connections(
        &self,
        is_named: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<ServiceEndpoint>> {
        let mut endpoints = Vec::new();
        for (name, connection) in &self.content.service_connections {
            match self.connection(name, connection) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) if is_named(name) => return Err(error),
                Err(error) => tracing::debug!(name, error = format!("{error:#}"), "a connection is left out"),
            }
        }
        Ok(endpoints)
    }

    fn connection(&self, name: &str, connection: &Connection) -> anyhow::Result<ServiceEndpoint> {
        let mut parameters = BTreeMap::new();
        for (parameter, given) in &connection.parameters {
            let value = self.value(parameter, given)?;
            parameters.insert(parameter.clone(), value.expose_secret().to_owned());
        }
        let id = uuid::Uuid::new_v5(&CONNECTIONS, name.to_lowercase().as_bytes());
        Ok(ServiceEndpoint {
            id: Some(id),
            name: Some(name.to_owned()),
            endpoint_type: Some(connection.kind.clone()),
            url: Some(connection.url.clone()),
            authorization: Some(EndpointAuthorization { scheme: connection.scheme.clone(), parameters }),
            data: connection.data.clone(),
        })
    }

    /// The environments, as jobs get them.
    pub(crate) fn environments(&self) -> Vec<EnvironmentContext> {
        environments::contexts(&self.content.environments)
    }

    /// Whether somebody has to approve what deploys to an environment.
    pub(crate) fn needs_approval(&self, environment: &str) -> bool {
        let mut known = self.content.environments.iter();
        known.any(|(name, written)| written.approval && environments::may_be(environment, name))
    }

    /// The names of the service connections by which these environments are reached. Those that lead to a
    /// kubeconfig of the user's own are made here.
    pub(crate) fn connections_of_environments(
        &self,
        used: &[Used<'_>],
    ) -> anyhow::Result<(Vec<String>, Vec<ServiceEndpoint>)> {
        environments::check(&self.content.environments, used, &self.name)?;
        let (mut named, mut own) = (Vec::new(), Vec::new());
        for (environment, written) in &self.content.environments {
            let resources = used.iter().filter(|used| environments::may_be(used.environment, environment));
            let resources: Vec<_> = resources.filter_map(|used| used.resource).collect();
            let is_used = |name: &str| resources.iter().any(|used| environments::may_be(used, name));
            for (name, resource) in written.resources.iter().filter(|(name, _)| is_used(name)) {
                match &resource.as_ref().service_connection {
                    Some(connection) => named.push(connection.as_ref().clone()),
                    None => own.push(self.own_cluster(environment, name, resource)?),
                }
            }
        }
        Ok((named, own))
    }

    /// The service connection of a resource that is reached by a kubeconfig of the user's own.
    fn own_cluster(
        &self,
        environment: &str,
        name: &str,
        resource: &Spanned<Resource>,
    ) -> anyhow::Result<ServiceEndpoint> {
        let read = || {
            let path = resource.as_ref().kubeconfig(&self.folder)?;
            SecretSource::in_file("kubeconfig", path).read()
        };
        let kubeconfig = read().with_context(|| {
            let place = place(&self.text, &resource.span());
            format!("{}{place}: the resource `{name}` of the environment `{environment}`", self.name)
        })?;
        let kubeconfig = kubeconfig.expose_secret().to_owned();
        let parameters = [("kubeconfig".to_owned(), kubeconfig)].into();
        // Not among the parameters, which are masked: a context may be called as half of what is printed.
        let context = resource.as_ref().context.clone().map(|context| ("clusterContext".to_owned(), context));
        let kind = ("authorizationType".to_owned(), "Kubeconfig".to_owned());
        let name = environments::connection_of(environment, name, resource.as_ref());
        Ok(ServiceEndpoint {
            id: Some(uuid::Uuid::new_v5(&CONNECTIONS, name.to_lowercase().as_bytes())),
            name: Some(name),
            endpoint_type: Some("kubernetes".to_owned()),
            url: None,
            authorization: Some(EndpointAuthorization { scheme: "Kubernetes".to_owned(), parameters }),
            data: context.into_iter().chain([kind]).collect(),
        })
    }

    /// A value, wherever it is.
    fn value(&self, name: &str, given: &Spanned<Given>) -> anyhow::Result<SecretString> {
        let source = match given.as_ref() {
            Given::Text(text) => return Ok(SecretString::from(text.as_str())),
            Given::Environment(variable) => SecretSource::in_environment(name, variable),
            Given::File(path) => SecretSource::in_file(name, self.folder.join(path)),
        };
        source.read().with_context(|| format!("{}{}", self.name, place(&self.text, &given.span())))
    }

    /// The secure files: names, and where they are.
    pub(crate) fn secure_files(&self) -> Vec<(String, PathBuf)> {
        let files = self.content.secure_files.iter();
        files.map(|(name, path)| (name.clone(), self.folder.join(path.as_ref()))).collect()
    }

    /// All that it holds, with its secrets, for the emulator.
    ///
    /// # Errors
    ///
    /// If a secret cannot be read, or a secure file is not there.
    pub(crate) fn library(&self) -> anyhow::Result<Library> {
        self.check_secure_files(|_| true)?;
        let mut variable_groups = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (name, group) in &self.content.variable_groups {
            let variables = variable_groups.entry(name.clone()).or_default();
            for (name, given) in group {
                let value = self.value(name, given)?;
                let text = value.expose_secret();
                let variable = match given.as_ref().is_secret() {
                    true => VariableValue::secret(text),
                    false => VariableValue::public(text),
                };
                variables.insert(name.clone(), variable);
            }
        }
        Ok(Library {
            variable_groups,
            service_connections: self.connections(|_| true)?,
            secure_files: self.secure_files(),
        })
    }

    /// What is wrong if a step names a secure file that is not there.
    pub(crate) fn check_secure_files(&self, is_named: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        for (name, path) in self.content.secure_files.iter().filter(|(name, _)| is_named(name)) {
            let whole = self.folder.join(path.as_ref());
            if !whole.is_file() {
                let place = place(&self.text, &path.span());
                bail!("{}{place}: the secure file `{name}` is not there: `{}`", self.name, whole.display());
            }
        }
        Ok(())
    }
}

impl Given {
    fn is_secret(&self) -> bool {
        !matches!(self, Self::Text(_))
    }
}

/// Where a part of the file stands: `:3:7`.
fn place(text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Config> {
        let config = Config::parse("dayfly.toml".to_owned(), text.to_owned(), Path::new(""))?;
        config.refuse_open_secrets()?;
        config.refuse_lost_resources().map(|()| config)
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        const CONNECTION: &str = "[service-connections.api]\nurl = 'https://api'\n";
        for (text, expected) in [
            ("x = 1", "dayfly.toml:1:1: unknown field `x`"),
            ("[variable-groups.g]\na = [1]", "dayfly.toml:2:5: invalid type: sequence, expected a text, or"),
            ("[variable-groups.g]\na = { en = 'x' }", "dayfly.toml:2:5: unknown field `en`"),
            ("[variable-groups.g]\na = { env = 'x', file = 'y' }", "expected either `env` or `file`"),
            ("[service-connections.api]", "dayfly.toml:1:1: missing field `url`"),
            ("[service-connections.api]\nurl = 'nowhere'", "dayfly.toml:2:7: relative URL"),
            ("[secure-files]\nkey = 1", "dayfly.toml:2:7: invalid type: integer"),
            ("[environments.prod]\nowner = 'ada'", "dayfly.toml:2:1: unknown field `owner`"),
            (
                "[environments.prod.resources.web]\ntype = 'virtualMachine'",
                "dayfly.toml:2:8: unknown variant `virtualMachine`, expected `kubernetes`",
            ),
            (
                "[environments.prod.resources.web]\nnamespace = 'web'",
                "dayfly.toml:1:1: the resource `web` of the environment `prod` does not say which cluster",
            ),
            (
                "[environments.prod.resources]\nweb = { service-connection = 'nowhere' }",
                "dayfly.toml:2:7: the resource `web` of the environment `prod` names the service connection \
                 `nowhere`",
            ),
            (
                &format!(
                    "{CONNECTION}[environments.p.resources]\nw = {{ service-connection = 'API', context = 'a' }}"
                ),
                "dayfly.toml:4:5: the resource `w` of the environment `p` has a `service-connection`, so",
            ),
            ("a = ", "dayfly.toml:1:"),
            (
                &format!("{CONNECTION}parameters = {{ username = 'ada', Password = 'hunter2' }}"),
                "dayfly.toml:3:45: the parameter `Password` of the service connection `api` is a secret",
            ),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_given_for_the_run_comes_before_the_file() {
        let config = parse("[variable-groups.Prod]\na = 1\nb = true\nc = { env = 'X' }").unwrap();
        let given = Groups::from([("prod".to_owned(), [("B".to_owned(), "2".to_owned())].into())]);
        let expected = [("a".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
        assert_eq!(config.groups_below(&given), Groups::from([("Prod".to_owned(), expected.into())]));
        assert_eq!(config.environment_variables().collect::<Vec<_>>(), ["X"]);
        assert!(config.group_secrets(&[]).unwrap().is_empty());
    }
}
