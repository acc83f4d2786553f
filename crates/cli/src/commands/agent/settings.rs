//! What `dayfly agent` was told, by flags and by variables, and what that means. Pure: the environment is
//! handed in.
//!
//! A flag wins over a variable, `AZ_*` over `AZP_*`, and that over `VSTS_AGENT_INPUT_*` of Microsoft's
//! `config.sh` (`CommandSettings.cs`). A token is taken by a flag too, for images built round that script,
//! but with a warning: everybody on the machine can read it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use dayfly_client::ProxySettings;
use dayfly_listener::OnExisting;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{AgentArgs, proxy};
use crate::secret_files;

/// Variables that hold, or lead to, the token; steps never see them.
pub(super) const TOKEN_VARIABLES: [&str; 4] =
    ["AZ_PAT", "AZP_TOKEN", "AZP_TOKEN_FILE", "VSTS_AGENT_INPUT_TOKEN"];

/// The pool of an agent that was told none, as with Microsoft's container script.
const DEFAULT_POOL: &str = "Default";

/// The work folder of an agent that was told none.
const DEFAULT_WORK: &str = "_work";

/// Who the agent is.
#[derive(Debug)]
pub(super) enum Identity {
    /// It registers itself.
    New(NewAgent),
    /// It was registered before; the folder holds its three files.
    Registered { folder: PathBuf },
    /// What must outlive this process is in the folder. If no agent is there yet, this one registers itself,
    /// if it was told enough for that.
    Kept { folder: PathBuf, new: Result<NewAgent, Mistake> },
}

/// An agent that registers itself.
#[derive(Debug)]
pub(super) struct NewAgent {
    pub(super) url: Url,
    pub(super) token: SecretString,
    /// Where it came from, for people.
    pub(super) token_origin: String,
    pub(super) pool: String,
    pub(super) name: String,
    pub(super) replace: bool,
    pub(super) keep: bool,
}

impl NewAgent {
    /// What happens to an agent of the same name.
    pub(super) fn on_existing(&self) -> OnExisting {
        if self.replace { OnExisting::Replace } else { OnExisting::Adopt }
    }
}

/// Everything `dayfly agent` needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) identity: Identity,
    /// Absolute; `None` leaves it to the registered agent's own file.
    pub(super) work: Option<PathBuf>,
    pub(super) once: bool,
    pub(super) ca_files: Vec<PathBuf>,
    pub(super) proxy: ProxySettings,
    /// The proxy for all addresses that was not given by the well-known variables: workers must be told of
    /// it.
    pub(super) given_proxy: Option<SecretString>,
    pub(super) capabilities: BTreeMap<String, String>,
    pub(super) stop_within: Duration,
    pub(super) finish_on_signal: bool,
    /// Where health and metrics are served.
    pub(super) listen: Option<SocketAddr>,
    /// What the user should know about how this was given.
    pub(super) warnings: Vec<&'static str>,
}

/// A setting that is missing or wrong, for people.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(super) struct Mistake(String);

pub(super) fn mistake<T>(text: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake(text.into()))
}

/// Where the process is and what it inherited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) folder: &'a Path,
    pub(super) host_name: &'a str,
    pub(super) is_root: bool,
}

impl Settings {
    pub(super) fn resolve(args: &AgentArgs, surroundings: Surroundings<'_>) -> Result<Self, Mistake> {
        let variable = |names: &[&str]| first(surroundings.environment, names);
        if let Some((name, reason)) = &args.config_sh.refused {
            return mistake(format!("--{name} is not supported: {reason}"));
        }
        let given_proxy = proxy::given(&args.config_sh, surroundings.environment)?;
        check_authentication(args.auth.as_deref().or_else(|| variable(&["VSTS_AGENT_INPUT_AUTH"])))?;
        if surroundings.is_root && !args.allow_root && variable(&["AGENT_ALLOW_RUNASROOT"]).is_none() {
            return mistake(
                "the agent does not run as root, because jobs would too; use another user, or pass \
                 --allow-root",
            );
        }
        let absolute = |path: &Path| surroundings.folder.join(path);
        let work =
            args.work.clone().or_else(|| variable(&["AZP_WORK", "VSTS_AGENT_INPUT_WORK"]).map(PathBuf::from));
        let identity = match (&args.agent_dir, &args.state_dir) {
            (Some(folder), _) => Identity::Registered { folder: absolute(folder) },
            (None, Some(folder)) => {
                Identity::Kept { folder: absolute(folder), new: new_agent(args, surroundings) }
            }
            (None, None) => Identity::New(new_agent(args, surroundings)?),
        };
        let work = match identity {
            Identity::New(_) | Identity::Kept { .. } => {
                Some(absolute(&work.unwrap_or_else(|| DEFAULT_WORK.into())))
            }
            Identity::Registered { .. } => work.map(|work| absolute(&work)),
        };
        Ok(Self {
            identity,
            work,
            once: args.once,
            warnings: [
                (args.token.is_some() && args.agent_dir.is_none()).then_some(TOKEN_IN_ARGUMENTS),
                args.config_sh.proxy_password.is_some().then_some(PASSWORD_IN_ARGUMENTS),
            ]
            .into_iter()
            .flatten()
            .collect(),
            ca_files: args.ca_file.iter().map(|file| absolute(file)).collect(),
            proxy: proxy::settings(given_proxy.as_ref(), surroundings.environment),
            given_proxy,
            capabilities: capabilities(&args.capability)?,
            stop_within: Duration::from_secs(args.stop_within),
            finish_on_signal: args.finish_on_signal,
            listen: listen(args.listen.as_deref().or_else(|| variable(&["DAYFLY_AGENT_LISTEN"])))?,
        })
    }
}

fn new_agent(args: &AgentArgs, surroundings: Surroundings<'_>) -> Result<NewAgent, Mistake> {
    let variable = |names: &[&str]| first(surroundings.environment, names);
    let Some(url) = args.url.as_deref().or_else(|| variable(&["AZ_URL", "AZP_URL", "VSTS_AGENT_INPUT_URL"]))
    else {
        return mistake(
            "no address: give --url, AZ_URL or AZP_URL, for example https://dev.azure.com/my-organization",
        );
    };
    let url = match Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => {
            return mistake(format!(
                "`{url}` is not a URL; expected for example https://dev.azure.com/my-organization"
            ));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return mistake("the address must not hold a user or a password");
    }
    let name = args
        .name
        .as_deref()
        .or_else(|| variable(&["AZ_AGENT_NAME", "AZP_AGENT_NAME", "VSTS_AGENT_INPUT_AGENT"]))
        .unwrap_or(surroundings.host_name)
        .to_owned();
    if name.is_empty() {
        return mistake("no name: give --name, AZ_AGENT_NAME or AZP_AGENT_NAME");
    }
    let (token_origin, token) = token(args, surroundings)?;
    Ok(NewAgent {
        url,
        token,
        token_origin,
        pool: args
            .pool
            .as_deref()
            .or_else(|| variable(&["AZ_AGENT_POOL", "AZP_POOL", "VSTS_AGENT_INPUT_POOL"]))
            .unwrap_or(DEFAULT_POOL)
            .to_owned(),
        name,
        replace: args.replace || variable(&["VSTS_AGENT_INPUT_REPLACE"]).is_some_and(is_true),
        keep: args.keep,
    })
}

/// What is said about a token among the arguments.
const TOKEN_IN_ARGUMENTS: &str = "a token on the command line can be read by everybody on this machine; \
                                  better use --token-file, AZ_PAT or AZP_TOKEN";

/// What is said about a password among the arguments.
const PASSWORD_IN_ARGUMENTS: &str = "a password on the command line can be read by everybody on this \
                                     machine; better use VSTS_HTTP_PROXY_PASSWORD";

/// As the official agent reads it (`StringUtil.ConvertToBoolean`).
fn is_true(text: &str) -> bool {
    ["1", "true", "$true"].iter().any(|known| text.eq_ignore_ascii_case(known))
}

/// Of the official agent's ways to log in, the one there is here.
fn check_authentication(kind: Option<&str>) -> Result<(), Mistake> {
    match kind {
        None => Ok(()),
        Some(kind) if kind.eq_ignore_ascii_case("pat") => Ok(()),
        Some(kind) => mistake(format!(
            "authentication by `{kind}` is not supported; use `--auth pat` with a personal access token, or \
             --agent-dir with an agent that config.sh has registered"
        )),
    }
}

/// The token, and where it came from.
fn token(args: &AgentArgs, surroundings: Surroundings<'_>) -> Result<(String, SecretString), Mistake> {
    let variable = |name: &'static str| first(surroundings.environment, &[name]).map(|value| (name, value));
    let read = |file: &Path| read_token(&surroundings.folder.join(file));
    // Microsoft's container script takes the file before the variable.
    let (origin, token) = if let Some(file) = &args.token_file {
        (format!("the token file {}", file.display()), read(file)?)
    } else if let Some(token) = &args.token {
        ("--token".to_owned(), SecretString::from(token.trim()))
    } else if let Some((name, value)) = variable("AZ_PAT") {
        (name.to_owned(), SecretString::from(value))
    } else if let Some((name, file)) = variable("AZP_TOKEN_FILE") {
        (format!("the token file {file} of {name}"), read(Path::new(file))?)
    } else if let Some((name, value)) = variable("AZP_TOKEN") {
        (name.to_owned(), SecretString::from(value))
    } else if let Some((name, value)) = variable("VSTS_AGENT_INPUT_TOKEN") {
        (name.to_owned(), SecretString::from(value))
    } else {
        return mistake("no token: give --token-file, AZ_PAT, AZP_TOKEN_FILE or AZP_TOKEN");
    };
    if token.expose_secret().is_empty() {
        return mistake(format!("no token: {origin} is empty"));
    }
    if !token.expose_secret().chars().all(|character| character.is_ascii_graphic()) {
        return mistake(format!(
            "{origin} has characters that no token has: spaces, line breaks or non-ASCII"
        ));
    }
    Ok((origin, token))
}

fn read_token(file: &Path) -> Result<SecretString, Mistake> {
    secret_files::read_token(file)
        .or_else(|error| mistake(format!("the token file {} cannot be read: {error}", file.display())))
}

fn listen(address: Option<&str>) -> Result<Option<SocketAddr>, Mistake> {
    match address.map(str::parse) {
        None => Ok(None),
        Some(Ok(parsed)) => Ok(Some(parsed)),
        Some(Err(_)) => mistake(format!(
            "`{}` is not an address to listen on; expected for example 127.0.0.1:9090, or 0.0.0.0:9090 for \
             other machines",
            address.unwrap_or_default()
        )),
    }
}

fn capabilities(pairs: &[String]) -> Result<BTreeMap<String, String>, Mistake> {
    let mut capabilities = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.trim().is_empty() {
            return mistake(format!("`{pair}` is not a capability; expected NAME=VALUE"));
        }
        capabilities.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(capabilities)
}

/// The first of the variables that is set and not empty. Spaces around it are not meant: a secret or a
/// configuration that was made by `echo` ends with a line break.
pub(super) fn first<'a>(environment: &'a BTreeMap<String, String>, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .filter_map(|name| environment.get(*name))
        .map(|value| value.trim())
        .find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        agent: AgentArgs,
    }

    fn resolve(line: &[&str], variables: &[(&str, &str)], is_root: bool) -> Result<Settings, Mistake> {
        let line = Line::try_parse_from(["agent"].iter().chain(line)).expect("it parses");
        let environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let surroundings = Surroundings {
            environment: &environment,
            folder: Path::new("/home/agent"),
            host_name: "machine",
            is_root,
        };
        Settings::resolve(&line.agent, surroundings)
    }

    fn identity(line: &[&str], variables: &[(&str, &str)]) -> (String, String, String, String) {
        match resolve(line, variables, false).expect("it resolves").identity {
            Identity::New(new) => {
                (new.url.to_string(), new.token.expose_secret().to_owned(), new.pool, new.name)
            }
            other => panic!("it is a new one: {other:?}"),
        }
    }

    #[test]
    fn microsofts_variables_suffice() {
        let found = identity(
            &[],
            &[
                ("AZP_URL", "https://dev.azure.com/o"),
                ("AZP_TOKEN", "t"),
                ("AZP_POOL", "p\n"),
                ("AZP_AGENT_NAME", "n"),
            ],
        );
        assert_eq!(found, ("https://dev.azure.com/o".into(), "t".into(), "p".into(), "n".into()));
    }

    #[test]
    fn the_flags_and_variables_of_config_sh_suffice() {
        let line = "--unattended --acceptTeeEula --url https://dev.azure.com/o --auth PAT --token t --pool p --agent n --replace --work w --once";
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(
            identity(&words, &[]),
            ("https://dev.azure.com/o".into(), "t".into(), "p".into(), "n".into())
        );
        let settings = resolve(&words, &[], false).expect("it resolves");
        assert_eq!((settings.once, settings.work), (true, Some("/home/agent/w".into())));
        assert_eq!(settings.warnings, [TOKEN_IN_ARGUMENTS]);
        let variables = [
            ("VSTS_AGENT_INPUT_URL", "http://a/"),
            ("VSTS_AGENT_INPUT_AUTH", "pat"),
            ("VSTS_AGENT_INPUT_TOKEN", "t"),
            ("VSTS_AGENT_INPUT_POOL", "p"),
            ("VSTS_AGENT_INPUT_AGENT", "n"),
            ("VSTS_AGENT_INPUT_REPLACE", "True"),
            ("VSTS_AGENT_INPUT_WORK", "/w"),
        ];
        assert_eq!(identity(&[], &variables), ("http://a/".into(), "t".into(), "p".into(), "n".into()));
        let settings = resolve(&[], &variables, false).expect("it resolves");
        assert!(matches!(settings.identity, Identity::New(NewAgent { replace: true, .. })));
        assert_eq!((settings.work, settings.warnings.len()), (Some("/w".into()), 0));
        let ours = [&variables[..], &[("AZP_POOL", "q")]].concat();
        assert_eq!(identity(&[], &ours).2, "q");
    }

    #[test]
    fn a_flag_wins_over_ours_and_ours_over_microsofts() {
        let variables = [
            ("AZP_URL", "http://a/"),
            ("AZ_URL", "http://b/"),
            ("AZP_TOKEN", "a"),
            ("AZ_PAT", "b"),
            ("AZ_AGENT_POOL", "b"),
            ("AZP_POOL", "a"),
            ("AZ_AGENT_NAME", ""),
        ];
        assert_eq!(identity(&[], &variables), ("http://b/".into(), "b".into(), "b".into(), "machine".into()));
        assert_eq!(
            identity(&["--url", "http://c/", "--pool", "c", "--name", "c"], &variables),
            ("http://c/".into(), "b".into(), "c".into(), "c".into())
        );
    }

    #[test]
    fn a_token_file_is_trimmed_and_wins_over_the_variable() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "from-file\n").expect("it is written");
        let path = file.path().to_string_lossy().into_owned();
        assert_eq!(
            identity(&["--token-file", &path], &[("AZ_URL", "http://a/"), ("AZ_PAT", "no")]).1,
            "from-file"
        );
        let url = ("AZ_URL", "http://a/");
        let file = ("AZP_TOKEN_FILE", path.as_str());
        assert_eq!(identity(&[], &[url, file]).1, "from-file");
        assert_eq!(identity(&[], &[url, file, ("AZP_TOKEN", "no")]).1, "from-file");
        assert_eq!(identity(&[], &[url, file, ("AZ_PAT", "ours")]).1, "ours");
    }

    #[test]
    fn a_token_that_is_none_is_blamed_on_where_it_came_from() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_string_lossy().into_owned();
        let complaint = |content: &str, line: &[&str], variables: &[(&str, &str)]| {
            std::fs::write(file.path(), content).expect("it is written");
            let variables = [&[("AZ_URL", "http://a/")], variables].concat();
            resolve(line, &variables, false).expect_err("a mistake").to_string()
        };
        assert_eq!(
            complaint("\r\n", &["--token-file", &path], &[]),
            format!("no token: the token file {path} is empty")
        );
        let text = complaint("two\nlines", &[], &[("AZP_TOKEN_FILE", &path)]);
        assert!(
            text.starts_with(&format!("the token file {path} of AZP_TOKEN_FILE has characters")),
            "{text}"
        );
        let text = complaint("", &[], &[("AZP_TOKEN", "two words")]);
        assert!(text.starts_with("AZP_TOKEN has characters"), "{text}");
    }

    #[test]
    fn work_folders_become_absolute() {
        let variables = [("AZ_URL", "http://a/"), ("AZ_PAT", "t")];
        let work = |line: &[&str]| resolve(line, &variables, false).expect("it resolves").work;
        assert_eq!(work(&[]), Some("/home/agent/_work".into()));
        assert_eq!(work(&["--work", "/w"]), Some("/w".into()));
        assert_eq!(work(&["--agent-dir", "a"]), None);
    }

    #[test]
    fn with_a_state_folder_a_token_is_needed_only_for_the_first_time() {
        let kept = |variables: &[(&str, &str)]| {
            let settings = resolve(&["--state-dir", "state"], variables, false).expect("it resolves");
            match settings.identity {
                Identity::Kept { folder, new } => (folder, new.map(|new| new.name)),
                other => panic!("its state is kept: {other:?}"),
            }
        };
        let folder = PathBuf::from("/home/agent/state");
        let (found, new) = kept(&[]);
        assert_eq!(found, folder);
        assert!(new.expect_err("it was not told enough").to_string().contains("give --url"));
        let told = kept(&[("AZ_URL", "http://a/"), ("AZ_PAT", "t")]);
        assert_eq!(told, (folder, Ok("machine".to_owned())));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let check = |line: &[&str], variables: &[(&str, &str)], is_root: bool, expected: &str| {
            let text = resolve(line, variables, is_root).expect_err("a mistake").to_string();
            assert!(text.contains(expected), "{text}");
        };
        let good = [("AZ_URL", "http://a/"), ("AZ_PAT", "t")];
        check(&[], &[], false, "give --url");
        check(&[], &[("AZ_URL", "http://a/")], false, "give --token-file");
        check(&[], &[("AZ_URL", "dev.azure.com/o"), ("AZ_PAT", "t")], false, "is not a URL");
        check(
            &[],
            &[("AZ_URL", "https://u:p@dev.azure.com/o"), ("AZ_PAT", "t")],
            false,
            "must not hold a user",
        );
        check(
            &[],
            &[("AZ_URL", "http://a/"), ("AZ_PAT", "two words")],
            false,
            "AZ_PAT has characters that no token has",
        );
        check(&["--token-file", "/nowhere"], &good, false, "/nowhere cannot be read");
        check(&["--auth", "negotiate"], &good, false, "authentication by `negotiate` is not supported");
        check(&[], &[("VSTS_AGENT_INPUT_AUTH", "SP")], false, "authentication by `SP` is not supported");
        check(&[], &good, true, "--allow-root");
        check(&["--capability", "=x"], &good, false, "is not a capability");
        check(
            &["--listen", "9090"],
            &good,
            false,
            "`9090` is not an address to listen on; expected for example",
        );
        assert!(resolve(&["--allow-root"], &good, true).is_ok());
        assert!(
            resolve(&[], &[("AZ_URL", "http://a/"), ("AZ_PAT", "t"), ("AGENT_ALLOW_RUNASROOT", "1")], true)
                .is_ok()
        );
    }
}
