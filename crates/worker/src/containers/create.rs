//! The command line by which a container is made (`DockerCommandManager.DockerCreate`, `MountVolume.cs`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dayfly_protocol::job::ContainerProperties;

use super::engine::{Call, Engine, Kind};

/// Where the program is in a container, as in pods.
const PROGRAM: &str = "/dayfly/dayfly";

/// Where the folder with the socket is in a container, as in pods.
const SOCKETS: &str = "/var/run/dayfly-step-hosts";

/// The socket of Docker's daemon.
pub(super) const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// What all containers of a job have in common.
pub(super) struct Common<'a> {
    pub(super) engine: &'a Engine,
    /// By which a later job of the same agent finds what is left of this one.
    pub(super) label: &'a str,
    pub(super) network: &'a str,
    /// Names and addresses of the services, where the network has no names of its own.
    pub(super) hosts: &'a [(String, String)],
}

/// One container.
pub(super) struct Wanted<'a> {
    /// As the engine shows it.
    pub(super) name: String,
    /// As the pipeline has it, with its variables expanded.
    pub(super) properties: &'a ContainerProperties,
    /// The image with its registry.
    pub(super) image: &'a str,
    pub(super) role: Role<'a>,
}

/// What a container is for.
pub(super) enum Role<'a> {
    /// It runs its own program, under this name, at this address if it is given one.
    Service { alias: &'a str, address: Option<&'a str> },
    /// Steps run in it.
    Steps(Steps<'a>),
}

/// What a container has in which steps run.
pub(super) struct Steps<'a> {
    /// The program on this machine.
    pub(super) program: &'a Path,
    /// The folder with the socket on this machine.
    pub(super) sockets: &'a Path,
    /// Folders that have the same path there as here, and which of them cannot be written there.
    pub(super) folders: &'a [(PathBuf, bool)],
    /// Who steps run as.
    pub(super) user: &'a User,
    pub(super) has_docker_socket: bool,
}

/// Who steps run as: the user of this process.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) name: String,
    pub(super) group_name: String,
}

/// The call that makes a container.
pub(super) fn create(common: &Common<'_>, wanted: &Wanted<'_>) -> Result<Call, String> {
    let mut line = Line(vec!["create".into(), "--name".into(), (&wanted.name).into()]);
    line.pair("--label", common.label);
    let options = words(wanted.properties.options.as_deref().unwrap_or_default())?;
    // One of the pipeline's own cannot be had beside ours.
    if !options.iter().any(|option| is_network(option)) {
        line.network(common, &wanted.role);
    }
    for port in &wanted.properties.ports {
        line.pair("-p", port);
    }
    if let Role::Steps(steps) = &wanted.role {
        line.user(common.engine, steps.user);
    }
    line.0.extend(options.into_iter().map(OsString::from));
    for volume in &wanted.properties.volumes {
        line.pair("-v", volume.trim_start_matches(':'));
    }
    let mut environment = Vec::new();
    match &wanted.role {
        Role::Service { .. } => environment = line.environment(&wanted.properties.env),
        // Steps get it from the worker.
        Role::Steps(steps) => line.mounts(common.engine, steps),
    }
    line.0.push(wanted.image.into());
    if let Role::Steps(steps) = &wanted.role {
        line.step_host(common.engine, steps.user);
    }
    Ok(Call { arguments: line.0, environment, input: None })
}

/// Whether the engine's own program heeds a variable.
fn steers_engine(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "PATH",
        "HOME",
        "TMPDIR",
        "GODEBUG",
        "REGISTRY_AUTH_FILE",
        "CONTAINER_HOST",
        "CONTAINERS_CONF",
        "CONTAINERS_STORAGE_CONF",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "DOCKER_CONTEXT",
        "DOCKER_API_VERSION",
        "DOCKER_CERT_PATH",
        "DOCKER_TLS",
        "DOCKER_TLS_VERIFY",
    ];
    NAMES.contains(&name) || ["LD_", "XDG_"].iter().any(|prefix| name.starts_with(prefix))
}

fn is_network(option: &str) -> bool {
    ["--network", "--net"]
        .iter()
        .any(|name| option.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
}

struct Line(Vec<OsString>);

impl Line {
    fn pair(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.0.push(option.into());
        self.0.push(value.as_ref().into());
    }

    fn network(&mut self, common: &Common<'_>, role: &Role<'_>) {
        self.pair("--network", common.network);
        if let Role::Service { alias, address } = role {
            match address {
                Some(address) => self.pair("--ip", address),
                None => self.pair("--network-alias", alias),
            }
        }
        for (name, address) in common.hosts {
            self.pair("--add-host", format!("{name}:{address}"));
        }
    }

    /// The step host makes the user in the container first, which root alone can, and then becomes it.
    fn user(&mut self, engine: &Engine, user: &User) {
        self.pair("--user", "0:0");
        match (engine.kind, engine.is_rootless) {
            // Root there is the user here.
            (Kind::Docker, true) => {}
            // A daemon may give its containers other users than the machine's.
            (Kind::Docker, false) => self.pair("--userns", "host"),
            (Kind::Podman, true) if user.id != 0 => self.pair("--userns", "keep-id"),
            (Kind::Podman, _) => {}
        }
    }

    /// By name only, since command lines can be read by everybody on the machine: the engine takes the values
    /// from its own environment. None of the few that would steer the engine itself holds a secret.
    fn environment(&mut self, variables: &BTreeMap<String, String>) -> Vec<(OsString, OsString)> {
        let mut values = Vec::new();
        for (name, value) in variables {
            if steers_engine(name) {
                self.pair("--env", format!("{name}={value}"));
                continue;
            }
            self.pair("--env", name);
            // One without a value is the machine's own.
            if !value.is_empty() {
                values.push((name.into(), value.into()));
            }
        }
        values
    }

    fn mounts(&mut self, engine: &Engine, steps: &Steps<'_>) {
        if engine.kind == Kind::Podman {
            // Where SELinux is on, nothing of the machine could be read otherwise.
            self.pair("--security-opt", "label=disable");
        }
        self.mount(steps.program, Path::new(PROGRAM), true);
        self.mount(steps.sockets, Path::new(SOCKETS), false);
        for (folder, is_read_only) in steps.folders {
            self.mount(folder, folder, *is_read_only);
        }
        if steps.has_docker_socket {
            self.mount(Path::new(DOCKER_SOCKET), Path::new(DOCKER_SOCKET), false);
        }
        self.pair("--entrypoint", PROGRAM);
    }

    /// What is not there is an error. (With `-v` Docker would make an empty folder.)
    fn mount(&mut self, from: &Path, to: &Path, is_read_only: bool) {
        let mut mount = OsString::from("type=bind,");
        mount.push(field("src=", from));
        mount.push(",");
        mount.push(field("dst=", to));
        if is_read_only {
            mount.push(",readonly");
        }
        self.pair("--mount", mount);
    }

    fn step_host(&mut self, engine: &Engine, user: &User) {
        self.pair("step-host", "--connect");
        self.0.push(format!("{SOCKETS}/socket").into());
        if engine.kind == Kind::Docker && engine.is_rootless {
            return;
        }
        self.pair("--user", format!("{}:{}", user.id, user.group));
        self.pair("--user-name", &user.name);
        self.pair("--group-name", &user.group_name);
    }
}

/// A field of a list that is read as CSV.
fn field(key: &str, path: &Path) -> OsString {
    match path.to_str().filter(|text| text.contains([',', '"'])) {
        Some(text) => format!("\"{key}{}\"", text.replace('"', "\"\"")).into(),
        None => {
            let mut field = OsString::from(key);
            field.push(path);
            field
        }
    }
}

/// The words of `options`, as a shell would take them apart.
fn words(line: &str) -> Result<Vec<String>, String> {
    shlex::split(line).ok_or_else(|| format!("the `options` `{line}` have a quote that does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_apart_as_a_shell_does() {
        for (line, expected) in [
            ("", vec![]),
            ("  --cpus 2\n --init ", vec!["--cpus", "2", "--init"]),
            (r#"--label a="b c" --entrypoint """#, vec!["--label", "a=b c", "--entrypoint", ""]),
            (
                r"--health-cmd 'pg_isready -U \me' -e A=\ b",
                vec!["--health-cmd", r"pg_isready -U \me", "-e", "A= b"],
            ),
            (r#""say \"hi\" \n""#, vec![r#"say "hi" \n"#]),
        ] {
            assert_eq!(
                words(line).as_deref(),
                Ok(&expected.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..]),
                "{line}"
            );
        }
        assert!(words("--label 'a").is_err_and(|error| error.contains("a quote that does not end")));
    }

    #[test]
    fn paths_are_fields_of_a_list() {
        assert_eq!(field("src=", Path::new("/a b")), "src=/a b");
        assert_eq!(field("dst=", Path::new("/a,\"b")), "\"dst=/a,\"\"b\"");
    }
}
