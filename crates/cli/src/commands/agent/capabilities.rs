//! What a machine can do, as an agent tells the service (`CapabilitiesManager.cs` and its providers):
//! environment, tools, built-ins.
//!
//! The environment is handed in, since only the command line reads it. Stricter than the official agent in
//! one point: variables that look like secrets are left out, as everybody who may see the pool may see the
//! capabilities.

use std::{collections::BTreeMap, ffi::OsStr, path::Path};

use dayfly_processes::programs;

/// Values of this many bytes and more are left out (`EnvironmentCapabilitiesProvider.cs`).
const LONGEST_VALUE_BYTES: usize = 1024;

/// Names with more variables to leave out, separated by commas.
const IGNORE_VARIABLE: &str = "VSO_AGENT_IGNORE";

/// Variables that say nothing about a machine, or are known to hold secrets
/// (`EnvironmentCapabilitiesProvider.cs`, `AgentKnobs.cs`).
const IGNORED: &[&str] = &[
    "comp_wordbreaks",
    "ls_colors",
    "LS_COLORS",
    "TERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "SHLVL",
    "PSMODULEPATH",
    "SYSTEM_ACCESSTOKEN",
    "VSTS_HTTP_PROXY_PASSWORD",
    "VSTS_HTTP_PROXY_USERNAME",
];

/// A variable whose name has one of these words in it is taken to hold a secret.
const SECRET_WORDS: &[&str] = &[
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "CREDENTIAL",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "_PAT",
];

/// Capability and the program that proves it (`NixCapabilitiesProvider.cs`); the first found wins.
const TOOLS: &[(&str, &str)] = &[
    ("AndroidSDK", "android"),
    ("ant", "ant"),
    ("AzureGuestAgent", "waagent"),
    ("bundler", "bundle"),
    ("clang", "clang"),
    ("cmake", "cmake"),
    ("curl", "curl"),
    ("docker", "docker"),
    ("dotnet", "dotnet"),
    ("git", "git"),
    ("gulp", "gulp"),
    ("java", "java"),
    ("JDK", "javac"),
    ("make", "make"),
    ("maven", "mvn"),
    ("MSBuild", "xbuild"),
    ("MSBuild", "msbuild"),
    ("node.js", "node"),
    ("node.js", "nodejs"),
    ("npm", "npm"),
    ("python", "python"),
    ("python3", "python3"),
    ("sh", "sh"),
    ("subversion", "svn"),
    ("ruby", "ruby"),
    ("rake", "rake"),
    ("svn", "svn"),
];

/// What to scan.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    /// The process environment.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Variables that must not become capabilities, beside those that look like secrets.
    pub(super) hidden: &'a [&'a str],
    /// Secrets that are known: whatever has one of them in its value is left out, under whatever name.
    pub(super) secrets: &'a [&'a str],
    /// `Agent.Name`.
    pub(super) agent_name: &'a str,
    /// `Agent.Version`.
    pub(super) agent_version: &'a str,
    /// `Agent.ComputerName`.
    pub(super) computer_name: &'a str,
    /// `Agent.HomeDirectory`.
    pub(super) home_directory: &'a Path,
    /// Capabilities the operator adds; they win over what was found, but not over the built-ins.
    pub(super) extra: &'a BTreeMap<String, String>,
}

/// The capabilities of a machine. Looks for files on `PATH`, so it blocks, shortly.
pub(super) fn scan(machine: &Machine<'_>) -> BTreeMap<String, String> {
    let ignored = |name: &str| {
        let custom = machine.environment.get(IGNORE_VARIABLE).map(String::as_str).unwrap_or_default();
        IGNORED.contains(&name)
            || machine.hidden.contains(&name)
            || looks_secret(name)
            || custom.split(',').any(|other| other.trim() == name)
    };
    let mut capabilities: BTreeMap<String, String> = machine
        .environment
        .iter()
        .filter(|(name, value)| {
            !name.is_empty()
                && value.len() < LONGEST_VALUE_BYTES
                && !ignored(name)
                && !has_login(value)
                && !machine.secrets.iter().any(|secret| value.contains(secret))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let path = machine.environment.get("PATH").map(String::as_str).unwrap_or_default();
    for (name, program) in TOOLS {
        // A variable of the same name is overridden by the tool, an earlier program for the same tool is not.
        let is_found = capabilities
            .get(*name)
            .is_some_and(|value| !machine.environment.contains_key(*name) && !value.is_empty());
        if !is_found && let Some(file) = programs::find(program, OsStr::new(path)) {
            capabilities.insert((*name).to_owned(), file.to_string_lossy().into_owned());
        }
    }
    capabilities.extend(machine.extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    let home = machine.home_directory.to_string_lossy();
    for (name, value) in [
        ("Agent.Name", machine.agent_name),
        ("Agent.OS", operating_system()),
        ("Agent.OSArchitecture", architecture()),
        ("Agent.Version", machine.agent_version),
        ("Agent.ComputerName", machine.computer_name),
        ("Agent.HomeDirectory", &home),
        ("InteractiveSession", "False"),
    ] {
        capabilities.insert(name.to_owned(), value.to_owned());
    }
    capabilities
}

/// True for names such as `GITHUB_TOKEN` or `NPM_PASSWORD`.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// True when a value is an address with a user's login in it, such as a proxy's.
fn has_login(value: &str) -> bool {
    value.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    })
}

/// `Agent.OS` (`VarUtil.cs`).
fn operating_system() -> &'static str {
    if cfg!(target_os = "macos") { "Darwin" } else { "Linux" }
}

/// `Agent.OSArchitecture` (`VarUtil.cs`).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        "x86" => "X86",
        "arm" => "ARM",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_is_told_but_for_secrets_and_noise() {
        let long = "x".repeat(1024);
        let environment = map(&[
            ("JAVA_HOME", "/jdk"),
            ("AZP_URL", "https://dev.azure.com/o"),
            ("AZP_TOKEN", "pat"),
            ("MY_PASSWORD", "p"),
            ("TERM", "xterm"),
            ("LONG", &long),
            ("VSO_AGENT_IGNORE", "ONE, TWO"),
            ("ONE", "1"),
            ("TWO", "2"),
            ("THREE", "3"),
            ("HTTPS_PROXY", "http://user:pass@proxy:3128"),
            ("NO_LOGIN", "http://proxy:3128/@x"),
            ("HIDDEN", "h"),
            ("INNOCENT", "a hunter2"),
            ("github_token", "g"),
        ]);
        let machine = Machine {
            environment: &environment,
            hidden: &["HIDDEN"],
            secrets: &["hunter2"],
            agent_name: "a-1",
            agent_version: "4.260.0",
            computer_name: "machine",
            home_directory: Path::new("/agent"),
            extra: &map(&[("flavour", "small"), ("Agent.Name", "not this")]),
        };
        let found = scan(&machine);
        let told: Vec<_> =
            environment.keys().filter(|name| found.contains_key(*name)).map(String::as_str).collect();
        assert_eq!(told, ["AZP_URL", "JAVA_HOME", "NO_LOGIN", "THREE", "VSO_AGENT_IGNORE"]);
        assert_eq!(found["flavour"], "small");
        assert_eq!(found["Agent.Name"], "a-1", "built-ins win");
        assert_eq!(found["Agent.Version"], "4.260.0");
    }

    #[test]
    fn tools_are_found_on_the_path_only_when_they_can_be_run() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, mode) in [("git", 0o755), ("cmake", 0o644), ("nodejs", 0o755)] {
            let file = folder.path().join(name);
            std::fs::write(&file, "").expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let environment = map(&[("PATH", &format!("relative:/nowhere:{}", folder.path().display()))]);
        let machine = Machine {
            environment: &environment,
            hidden: &[],
            secrets: &[],
            agent_name: "",
            agent_version: "",
            computer_name: "",
            home_directory: Path::new("/"),
            extra: &BTreeMap::new(),
        };
        let found = scan(&machine);
        assert_eq!(found["git"], folder.path().join("git").to_string_lossy());
        assert_eq!(found["node.js"], folder.path().join("nodejs").to_string_lossy());
        assert!(!found.contains_key("cmake"), "not executable");
    }
}
