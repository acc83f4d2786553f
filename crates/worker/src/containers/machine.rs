//! Containers that this machine starts for a job and removes after it (`ContainerOperationProvider.cs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use dayfly_protocol::containers::{StepContainer, services};
use dayfly_protocol::job::{AgentJobRequestMessage, ContainerProperties, ContainerResource};
use serde::Deserialize;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::create::{Common, DOCKER_SOCKET, Role, Steps, User, Wanted, create};
use super::engine::{Call, Engine, Failed, Kind};
use super::program::Program;
use super::remove::{removal, remove};
use super::{Error, images};
use crate::context::{JobContext, StepContext, lock};
use crate::directories::WorkFolder;
use crate::step_host::StepHosts;
use crate::steps::expand;

/// The label of all that is made for a job. Its value says for which agent.
const LABEL: &str = "dev.dayfly.agent";

/// The label of an image that says where its own Node is (`ContainerOperationProvider.cs`).
const NODE_OF_IMAGE: &str = r#"{{index .Config.Labels "com.azure.dev.pipelines.agent.handler.node.path"}}"#;

/// Makes containers and removes them.
pub(super) struct Machine {
    /// The folders with the sockets. Not in the work folder, whose path may be too long for a socket.
    folder: TempDir,
    /// Where this program is.
    program: Option<PathBuf>,
    made: Mutex<Made>,
}

/// What there is to be removed.
#[derive(Default)]
struct Made {
    engine: Option<Engine>,
    program: Option<Program>,
    network: Option<String>,
    containers: Vec<Container>,
    /// Those that steps can run in.
    ready: BTreeSet<String>,
    /// Where Node is in them, as far as their images say.
    nodes: BTreeMap<String, PathBuf>,
}

/// A container that was asked for.
#[derive(Clone)]
struct Container {
    /// Its name before it is there, its id from then on.
    id: String,
    name: String,
}

/// What containers are made with.
pub(super) struct Making<'a> {
    pub(super) step: &'a StepContext,
    pub(super) engine: &'a Engine,
    pub(super) label: String,
    /// The images of the containers, by their aliases.
    images: BTreeMap<String, String>,
    network: String,
    hosts: Vec<(String, String)>,
    pub(super) cancel: &'a CancellationToken,
}

impl Machine {
    /// `program`: where this program is.
    pub(super) fn new(program: Option<PathBuf>) -> Result<Self, Error> {
        let folder =
            tempfile::Builder::new().prefix("dayfly-").tempdir().map_err(|source| Error::Folder {
                what: "the folder of the containers' sockets",
                path: std::env::temp_dir(),
                source,
            })?;
        Ok(Self { folder, program, made: Mutex::default() })
    }

    /// Where containers find their sockets, by their names.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether steps can run in a container.
    pub(super) fn is_ready(&self, name: &str) -> bool {
        lock(&self.made).ready.contains(name)
    }

    /// Where Node is in a container, if its image says.
    pub(super) fn node(&self, name: &str) -> Option<PathBuf> {
        lock(&self.made).nodes.get(name).cloned()
    }

    /// Starts all containers of the job.
    pub(super) async fn start(
        &self,
        step: &StepContext,
        message: &AgentJobRequestMessage,
        work: &WorkFolder,
        hosts: &StepHosts,
        containers: &[StepContainer],
    ) -> Result<(), Error> {
        let job = &step.job;
        let cancel = &job.cancel;
        let engine = Engine::find(&job.inherited, cancel).await;
        if cancel.is_cancelled() {
            return Err(Error::Canceled);
        }
        let engine = engine?;
        step.output(&format!("Containers are started by {}.", engine.program.display())).await;
        lock(&self.made).engine = Some(engine.clone());
        let services = services(message)?;
        let mut making = Making {
            step,
            engine: &engine,
            label: label(job),
            images: BTreeMap::new(),
            network: String::new(),
            hosts: Vec::new(),
            cancel,
        };
        making.remove_stale().await?;
        let of_steps = containers.iter().filter_map(|container| container.resource.as_ref());
        let all = of_steps.chain(services.iter().map(|(_, resource)| *resource));
        let logins = self.folder.path().join("logins");
        making.images = images::pull(&making, message, all, &logins).await?;
        let addresses = self.network(&mut making, &services).await?;
        let mut ids = Vec::new();
        if !containers.is_empty() {
            let shared = self.shared(work, job).await?;
            for container in containers {
                ids.extend(self.start_steps(&making, container, hosts, &shared).await?);
            }
        }
        let mut started = Vec::new();
        for (index, (name, resource)) in services.iter().enumerate() {
            let address = addresses.get(index).map(|(_, address)| address.as_str());
            let id = self.start_service(&making, name, address, resource).await?;
            ids.push((resource.alias.clone(), id.clone()));
            started.push((*name, id));
        }
        set_variables(job, message, &ids);
        for (name, id) in started {
            making.wait_for_health(name, &id).await?;
        }
        Ok(())
    }

    /// Makes the network of the job, and answers where its services will be if they are not found by name.
    async fn network(
        &self,
        making: &mut Making<'_>,
        services: &[(&str, &ContainerResource)],
    ) -> Result<Vec<(String, String)>, Error> {
        let network = format!("vsts_network_{}", Uuid::new_v4().simple());
        lock(&self.made).network = Some(network.clone());
        let mut call = Call::from(["network", "create", "--label", &making.label]);
        if making.engine.kind == Kind::Podman {
            // Its server for names is one process for all networks, and would be the first job's.
            call.arguments.push("--disable-dns".into());
        }
        call.arguments.push((&network).into());
        making.run(call).await?;
        making.step.job.set_variable("agent.containernetwork", &network);
        let addresses = match making.engine.kind {
            Kind::Podman if !services.is_empty() => making.addresses(&network, services).await?,
            _ => Vec::new(),
        };
        making.network = network;
        making.hosts.clone_from(&addresses);
        Ok(addresses)
    }

    /// What all containers have in which steps run.
    async fn shared(&self, work: &WorkFolder, job: &JobContext) -> Result<Shared, Error> {
        let (from, at) = (self.program.clone(), work.temporary());
        let copied = tokio::task::spawn_blocking(move || match from {
            Some(from) => Program::copy(&from, &at),
            None => Err(io::Error::other("it is not known where this program is")),
        });
        let program = copied.await.map_err(io::Error::other).flatten().map_err(|source| Error::Folder {
            what: "the program of the containers",
            path: work.temporary(),
            source,
        })?;
        let shared = Shared {
            program: program.path().to_owned(),
            workspace: job
                .variable("pipeline.workspace")
                .filter(|path| !path.is_empty())
                .map_or_else(|| job.settings.work_directory.clone(), PathBuf::from),
            temporary: work.temporary(),
            tasks: work.tasks(),
            tools: work.tools(),
            user: user().await,
            maps_socket: maps_socket_by_default(job),
        };
        lock(&self.made).program = Some(program);
        Ok(shared)
    }

    /// What may be wrong where the program does not start.
    fn hint(&self) -> String {
        lock(&self.made).program.as_ref().map(Program::hint).unwrap_or_default()
    }

    /// Starts a container for steps, and answers its alias and id once steps can run there.
    async fn start_steps(
        &self,
        making: &Making<'_>,
        container: &StepContainer,
        hosts: &StepHosts,
        shared: &Shared,
    ) -> Result<Option<(String, String)>, Error> {
        let Some(resource) = &container.resource else { return Ok(None) };
        let properties = expanded(&making.step.job, &resource.properties);
        let folders = shared.folders(&properties);
        let is_mapped = properties.map_docker_socket.unwrap_or(shared.maps_socket);
        let has_docker_socket = is_mapped && crate::files::exists(DOCKER_SOCKET).await;
        let steps = Steps {
            program: &shared.program,
            sockets: &self.folder.path().join(&container.name),
            folders: &folders,
            user: &shared.user,
            has_docker_socket,
        };
        let id = self.make(making, resource, &properties, Role::Steps(steps)).await?;
        if !making.has_step_host(&container.name, &id, hosts).await? {
            let (container, image) = (resource.alias.clone(), properties.image);
            return Err(Error::Ended { container, image, hint: self.hint() });
        }
        let image = making.images.get(&resource.alias).unwrap_or(&properties.image);
        let node =
            making.engine.ask(["image", "inspect", "--format", NODE_OF_IMAGE, image], making.cancel).await?;
        let node =
            Some(node.trim()).filter(|node| !node.is_empty() && *node != "<no value>").map(PathBuf::from);
        let mut made = lock(&self.made);
        made.nodes.extend(node.map(|node| (container.name.clone(), node)));
        made.ready.insert(container.name.clone());
        drop(made);
        Ok(Some((resource.alias.clone(), id)))
    }

    /// Starts a service, makes its ports known, and answers its id.
    async fn start_service(
        &self,
        making: &Making<'_>,
        name: &str,
        address: Option<&str>,
        resource: &ContainerResource,
    ) -> Result<String, Error> {
        let job = &making.step.job;
        let properties = expanded(job, &resource.properties);
        let id = self.make(making, resource, &properties, Role::Service { alias: name, address }).await?;
        making.check_runs(&id).await?;
        let ports = making.run(["port", &id].into()).await?;
        for (container, host) in ports.lines().filter_map(port) {
            job.set_variable(&format!("agent.services.{name}.ports.{container}"), host);
        }
        Ok(id)
    }

    /// Makes a container and starts it.
    async fn make(
        &self,
        making: &Making<'_>,
        resource: &ContainerResource,
        properties: &ContainerProperties,
        role: Role<'_>,
    ) -> Result<String, Error> {
        let alias = &resource.alias;
        let image = making.images.get(alias).unwrap_or(&properties.image);
        let name = display_name(alias, &properties.image);
        let hint = if matches!(role, Role::Steps(_)) { self.hint() } else { String::new() };
        let common = Common {
            engine: making.engine,
            label: &making.label,
            network: &making.network,
            hosts: &making.hosts,
        };
        let wanted = Wanted { name: name.clone(), properties, image, role };
        let call =
            create(&common, &wanted).map_err(|reason| Error::Wrong { container: alias.clone(), reason })?;
        // Before it is there: from here on it is removed, whatever happens.
        let index = {
            let mut made = lock(&self.made);
            made.containers.push(Container { id: name.clone(), name });
            made.containers.len() - 1
        };
        let failed = |reason, hint| match reason {
            Failed::Canceled => Error::Canceled,
            reason => Error::Start { container: alias.clone(), reason, hint },
        };
        let said = making.run_plainly(call).await.map_err(|reason| failed(reason, String::new()))?;
        let id = said.lines().rfind(|line| !line.is_empty()).unwrap_or_default().trim().to_owned();
        lock(&self.made).containers[index].id.clone_from(&id);
        making.run_plainly(["start", &id].into()).await.map_err(|reason| failed(reason, hint))?;
        Ok(id)
    }

    /// Removes what was made. Neither a cancellation nor a failure ends that.
    pub(super) async fn stop(&self, step: Option<&StepContext>) {
        let made = std::mem::take(&mut *lock(&self.made));
        let Some(engine) = made.engine else { return };
        for container in made.containers {
            if let Some(step) = step {
                step.output(&format!("Stop and remove container: {}", container.name)).await;
            }
            remove(&engine, step, removal(engine.kind, &container.id)).await;
        }
        if let Some(network) = made.network {
            if let Some(step) = step {
                step.output(&format!("Remove container network: {network}")).await;
                step.job.change_variables(|variables| variables.unset("agent.containernetwork"));
            }
            remove(&engine, step, vec!["network".into(), "rm".into(), network.into()]).await;
        }
    }
}

/// What the containers of one job have in common.
struct Shared {
    program: PathBuf,
    workspace: PathBuf,
    temporary: PathBuf,
    tasks: PathBuf,
    tools: PathBuf,
    user: User,
    maps_socket: bool,
}

impl Shared {
    /// The folders of the job, and which cannot be written in the container.
    fn folders(&self, properties: &ContainerProperties) -> Vec<(PathBuf, bool)> {
        let is_read_only = |name| properties.read_only_mounts.iter().any(|mount| mount == name);
        vec![
            (self.workspace.clone(), is_read_only("work")),
            (self.temporary.clone(), false),
            (self.tasks.clone(), is_read_only("tasks")),
            (self.tools.clone(), is_read_only("tools")),
        ]
    }
}

impl Making<'_> {
    pub(super) async fn run(&self, call: Call) -> Result<String, Error> {
        Ok(self.run_plainly(call).await?)
    }

    pub(super) async fn run_plainly(&self, call: Call) -> Result<String, Failed> {
        self.engine.run(self.step, call, self.cancel).await
    }

    /// Addresses in the network for the services, from its end, since the engine gives those at its begin.
    async fn addresses(
        &self,
        network: &str,
        services: &[(&str, &ContainerResource)],
    ) -> Result<Vec<(String, String)>, Error> {
        let answer = self.engine.ask(["network", "inspect", network], self.cancel).await?;
        let last = last_address(&answer).ok_or_else(|| {
            Error::Engine(Failed::Answer {
                command: "podman network inspect".to_owned(),
                answer: answer.clone(),
            })
        })?;
        let addresses = (0..).map(|index| Ipv4Addr::from(last - index).to_string());
        Ok(services.iter().map(|(name, _)| (*name).to_owned()).zip(addresses).collect())
    }
}

/// Tells this agent's containers from others' (`IOUtil.GetPathHash`).
fn label(job: &JobContext) -> String {
    let settings = &job.settings;
    let place = format!("{}\0{}", settings.machine_name, settings.work_directory.display());
    let hash = digest(&SHA256, place.as_bytes());
    let hash: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{LABEL}={hash}")
}

/// Makes the containers known to steps.
fn set_variables(job: &JobContext, message: &AgentJobRequestMessage, ids: &[(String, String)]) {
    let own = message.job_container.as_deref();
    if let Some((_, id)) =
        ids.iter().find(|(alias, _)| own.is_some_and(|own| own.eq_ignore_ascii_case(alias)))
    {
        job.set_variable("agent.containerid", id);
    }
    let mapping: serde_json::Map<_, _> =
        ids.iter().map(|(alias, id)| (alias.clone(), serde_json::json!({ "id": id }))).collect();
    let mapping = serde_json::Value::Object(mapping);
    job.set_variable("agent.containermapping", &format!("{mapping:#}"));
}

/// What the pipeline says of a container, with the job's variables in it (`JobRunner.ExpandProperties`).
fn expanded(job: &JobContext, properties: &ContainerProperties) -> ContainerProperties {
    let one = |text: &String| expand(job, text);
    ContainerProperties {
        image: one(&properties.image),
        options: properties.options.as_ref().map(one),
        env: properties.env.iter().map(|(name, value)| (name.clone(), one(value))).collect(),
        volumes: properties.volumes.iter().map(one).collect(),
        ports: properties.ports.iter().map(one).collect(),
        ..properties.clone()
    }
}

/// `ALIAS_IMAGE_NUMBER`, of letters that names of containers may have.
fn display_name(alias: &str, image: &str) -> String {
    let kept = |text: &str| text.chars().filter(|one| one.is_ascii_alphanumeric() || *one == '_').collect();
    let (alias, image): (String, String) = (kept(alias), kept(image));
    let number = Uuid::new_v4().simple().to_string();
    format!("c_{alias}_{image}_{}", &number[..6])
}

/// A line of `docker port`: the port in the container, and that of the machine.
fn port(line: &str) -> Option<(&str, &str)> {
    let (container, host) = line.split_once(" -> ")?;
    let (container, _) = container.split_once('/')?;
    let (_, host) = host.trim().rsplit_once(':')?;
    Some((container, host))
}

/// The last address that a host of a network may have, from what Podman says of it.
fn last_address(answer: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Network {
        subnets: Vec<Subnet>,
    }
    #[derive(Deserialize)]
    struct Subnet {
        subnet: String,
    }
    let networks: Vec<Network> = serde_json::from_str(answer).ok()?;
    let (network, length) = networks.first()?.subnets.first()?.subnet.split_once('/')?;
    let (network, length): (Ipv4Addr, u32) = (network.parse().ok()?, length.parse().ok()?);
    let hosts = u32::MAX.checked_shr(length)?;
    (u32::from(network) | hosts).checked_sub(1)
}

/// Whether containers have Docker's socket if the pipeline does not say (`DefaultMapDockerSocketToFalse`).
fn maps_socket_by_default(job: &JobContext) -> bool {
    const KNOB: &str = "AZP_AGENT_DEFAULT_MAP_DOCKER_SOCKET_TO_FALSE";
    let value = job.inherited.get(OsStr::new(KNOB)).and_then(|value| value.to_str());
    value.is_some_and(|value| !crate::variables::convert_to_boolean(value))
}

async fn user() -> User {
    let (id, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let names = tokio::task::spawn_blocking(move || {
        let user = nix::unistd::User::from_uid(id).ok().flatten().map(|user| user.name);
        let group = nix::unistd::Group::from_gid(group).ok().flatten().map(|group| group.name);
        (user, group)
    });
    let (name, group_name) = names.await.unwrap_or_default();
    let plain = |name: Option<String>, id: u32| match name {
        Some(name) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) => name,
        _ => format!("user{id}"),
    };
    User {
        id: id.as_raw(),
        group: group.as_raw(),
        name: plain(name, id.as_raw()),
        group_name: plain(group_name, group.as_raw()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_the_engines_print_them() {
        assert_eq!(port("80/tcp -> 0.0.0.0:18080"), Some(("80", "18080")));
        assert_eq!(port("80/tcp -> [::]:18080"), Some(("80", "18080")));
        assert_eq!(port("nothing"), None);
    }

    #[test]
    fn services_have_the_last_addresses() {
        let answer =
            |subnet| format!(r#"[{{"name":"n","subnets":[{{"subnet":"{subnet}","gateway":"x"}}]}}]"#);
        let last = |subnet| last_address(&answer(subnet)).map(Ipv4Addr::from);
        assert_eq!(last("10.89.3.0/24"), Some(Ipv4Addr::new(10, 89, 3, 254)));
        assert_eq!(last("10.88.0.0/16"), Some(Ipv4Addr::new(10, 88, 255, 254)));
        assert_eq!(last("fd00::/64"), None);
        assert_eq!(last_address("[]"), None);
    }

    #[test]
    fn names_have_only_letters_that_they_may_have() {
        let name = display_name("my-tools", "mcr.microsoft.com/a/b:1.0");
        assert!(name.starts_with("c_mytools_mcrmicrosoftcomab10_") && name.len() == 36, "{name}");
    }
}
