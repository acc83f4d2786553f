//! The containers of a job's pod.

use std::collections::BTreeMap;

use dayfly_protocol::{
    containers::{JOB_CONTAINER, Port, services, step_containers},
    job::{AgentJobRequestMessage, ContainerResource},
};
use serde_json::{Value, json};

use super::{Facts, PullLogins, ShapeError, registries::Registries};
use crate::api::{AgentSetSpec, Delivery, Layout};

/// The container that runs the worker.
pub(crate) const AGENT_CONTAINER: &str = "agent";

/// Where the work volume is mounted, in all containers that run steps.
pub(crate) const WORK_DIRECTORY: &str = "/work";

/// The container that copies the program into the pod.
pub(crate) const DELIVERER: &str = "dayfly";

// The volumes.
pub(super) const DAYFLY: &str = "dayfly";
pub(super) const CHANNEL: &str = "channel";
pub(super) const WORK: &str = "work";
pub(super) const STEP_HOSTS: &str = "step-hosts";
pub(super) const TRUST: &str = "trust";

/// Where the authorities of the connection are mounted.
const TRUST_DIRECTORY: &str = "/var/run/dayfly-trust";

/// Where the folder with the sockets of the step hosts is mounted: all of it for the worker, its own part
/// for each container.
const STEP_HOSTS_DIRECTORY: &str = "/var/run/dayfly-step-hosts";

/// Longest name of a container.
const LABEL_LENGTH: usize = 63;

/// The containers of a pod.
pub(super) struct Containers {
    /// Those that start before the worker and, where they are services, end after it.
    pub(super) first: Vec<Value>,
    /// The worker and where steps run.
    pub(super) regular: Vec<Value>,
    /// The names by which steps find the services.
    pub(super) service_names: Vec<String>,
    /// How their images are pulled.
    pub(super) pull_logins: Option<PullLogins>,
}

/// How the binary gets into a pod of this set.
pub(super) fn delivery(set: &AgentSetSpec, facts: &Facts) -> Delivery {
    match set.delivery {
        Delivery::Auto => facts.delivery,
        chosen => chosen,
    }
}

/// The container in which the steps of a job run that names none.
pub(super) fn of_steps(set: &AgentSetSpec) -> &'static str {
    match set.layout {
        Layout::TwoContainers => JOB_CONTAINER,
        Layout::OneContainer => AGENT_CONTAINER,
    }
}

/// The containers for a job, and what the pipeline asks for beyond them. `job_image` is the image of the
/// steps where the job wants another one than the set's.
pub(super) fn of(
    set: &AgentSetSpec,
    set_name: &str,
    job_image: Option<&str>,
    message: &AgentJobRequestMessage,
    facts: &Facts,
) -> Result<(Containers, Vec<String>), ShapeError> {
    let image = set.image.as_deref().ok_or_else(|| ShapeError::NoImage(set_name.to_owned()))?;
    let steps = step_containers(message)?;
    let services = services(message)?;
    have_ports_of_their_own(&services)?;
    let (mut left_out, mut registries) = (Vec::new(), Registries::new(message));
    let mut first = Vec::new();
    if delivery(set, facts) == Delivery::Copy {
        first.push(deliverer(facts));
    }
    for (name, resource) in &services {
        note_left_out(&mut left_out, resource);
        first.push(service(name, resource, registries.image(resource)?, message)?);
    }
    let job_image = job_image.unwrap_or(image);
    let agent_image = match set.layout {
        Layout::TwoContainers => set.agent_image.as_deref().unwrap_or(image),
        Layout::OneContainer => job_image,
    };
    let mut regular = vec![agent(set, agent_image, facts)];
    match set.layout {
        Layout::TwoContainers => {
            for container in &steps {
                let image = match &container.resource {
                    Some(resource) => {
                        note_left_out(&mut left_out, resource);
                        registries.image(resource)?
                    }
                    None => job_image.to_owned(),
                };
                regular.push(step_host(&container.name, &image, facts));
            }
        }
        Layout::OneContainer if steps.iter().any(|container| container.resource.is_some()) => {
            return Err(ShapeError::OneContainer(set_name.to_owned()));
        }
        Layout::OneContainer => {}
    }
    let (host_names, others): (Vec<_>, Vec<_>) = services.iter().partition(|(name, _)| is_host_name(name));
    let service_names = host_names.into_iter().map(|(name, _)| (*name).to_owned()).collect();
    left_out.extend(others.into_iter().map(|(name, _)| {
        format!("the name `{name}` of a service, which no host may have: find it under `localhost`")
    }));
    let pull_logins = registries.logins();
    left_out.extend(registries.left_out);
    Ok((Containers { first, regular, service_names, pull_logins }, left_out))
}

fn agent(set: &AgentSetSpec, image: &str, facts: &Facts) -> Value {
    let mut command = json!([
        "/dayfly/dayfly",
        "worker",
        "--connect",
        format!("tls:{}", facts.channel),
        "--ca-file",
        "/var/run/dayfly/ca.crt",
        "--claim-file",
        "/var/run/dayfly/token",
    ]);
    let mut mounts = mounts();
    add_trust(AGENT_CONTAINER, facts, &mut command, &mut mounts);
    mounts.push(json!({ "name": CHANNEL, "mountPath": "/var/run/dayfly", "readOnly": true }));
    if set.layout == Layout::TwoContainers {
        let more = ["--step-hosts", STEP_HOSTS_DIRECTORY].map(Value::from);
        command.as_array_mut().into_iter().for_each(|command| command.extend(more.clone()));
        mounts.push(json!({ "name": STEP_HOSTS, "mountPath": STEP_HOSTS_DIRECTORY }));
    }
    json!({
        "name": AGENT_CONTAINER,
        "image": image,
        "command": command,
        "env": environment(),
        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" } },
        "securityContext": security(),
        "volumeMounts": mounts,
    })
}

/// A container in which steps run. Its own environment stays what its image says.
fn step_host(name: &str, image: &str, facts: &Facts) -> Value {
    let mut command =
        json!(["/dayfly/dayfly", "step-host", "--connect", format!("{STEP_HOSTS_DIRECTORY}/socket")]);
    let mut mounts = mounts();
    add_trust(name, facts, &mut command, &mut mounts);
    mounts.push(json!({ "name": STEP_HOSTS, "mountPath": STEP_HOSTS_DIRECTORY, "subPath": name }));
    json!({
        "name": name,
        "image": image,
        "command": command,
        "env": environment(),
        "securityContext": security(),
        "volumeMounts": mounts,
    })
}

/// Has a container trust the authorities of the connection.
fn add_trust(container: &str, facts: &Facts, command: &mut Value, mounts: &mut Vec<Value>) {
    if facts.ca_bundle.is_some() {
        let more = format!("{TRUST_DIRECTORY}/ca.crt");
        let bundle = ca_bundle_file(container);
        let options = ["--add-ca", &more, "--ca-bundle", &bundle].map(Value::from);
        command.as_array_mut().into_iter().for_each(|command| command.extend(options.clone()));
        mounts.push(json!({ "name": TRUST, "mountPath": TRUST_DIRECTORY, "readOnly": true }));
    }
}

/// The file with all authorities that a container trusts, where the connection names some. Images differ, so
/// each container has its own.
pub(crate) fn ca_bundle_file(container: &str) -> String {
    format!("{WORK_DIRECTORY}/.ca-{container}.pem")
}

/// Brings the binary into the pod where the cluster cannot mount an image.
fn deliverer(facts: &Facts) -> Value {
    json!({
        "name": DELIVERER,
        "image": facts.dayfly_image,
        "command": ["/dayfly", "deliver", "/delivered/dayfly"],
        "securityContext": security(),
        "volumeMounts": [{ "name": DAYFLY, "mountPath": "/delivered" }],
    })
}

/// A service: it runs from before the worker's start until after its end.
fn service(
    name: &str,
    resource: &ContainerResource,
    image: String,
    message: &AgentJobRequestMessage,
) -> Result<Value, ShapeError> {
    let ports = resource.properties.ports.iter().filter_map(|text| Port::parse(text));
    let ports: Vec<Value> =
        ports.map(|port| json!({ "containerPort": port.container, "protocol": "TCP" })).collect();
    let mut environment = Vec::new();
    for (key, value) in &resource.properties.env {
        let value = expand(name, value, message)?;
        environment.push(json!({ "name": key, "value": value }));
    }
    let mut container = json!({
        "name": service_container(name),
        "image": image,
        "restartPolicy": "Always",
        "securityContext": security(),
    });
    if !ports.is_empty() {
        container["ports"] = ports.into();
    }
    if !environment.is_empty() {
        container["env"] = environment.into();
    }
    Ok(container)
}

/// Refuses services that listen on the same port: whoever comes first would be taken for the other as well.
fn have_ports_of_their_own(services: &[(&str, &ContainerResource)]) -> Result<(), ShapeError> {
    let mut taken = BTreeMap::new();
    for (name, resource) in services {
        for port in resource.properties.ports.iter().filter_map(|text| Port::parse(text)) {
            let one = *taken.entry(port.container).or_insert(*name);
            if one != *name {
                let (one, other) = (one.to_owned(), (*name).to_owned());
                return Err(ShapeError::SamePort { one, other, port: port.container });
            }
        }
    }
    Ok(())
}

/// `service-<name>`, a DNS label by which a template finds the container.
fn service_container(name: &str) -> String {
    let mut label: String = format!("service-{name}")
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    label.truncate(LABEL_LENGTH);
    label.trim_end_matches('-').to_owned()
}

/// Whether Kubernetes takes a name for that of a host (RFC 1123). Docker also takes others.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_LENGTH
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Expands the job's variables in the environment of a service. `$(` of anything else is kept from the
/// kubelet, which has the same signs for variables of its own.
fn expand(service: &str, text: &str, message: &AgentJobRequestMessage) -> Result<String, ShapeError> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        expanded.push_str(before);
        let found = after.split_once(')').and_then(|(name, after)| {
            let mut variables = message.variables.iter();
            let (name, value) = variables.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
            Some((name, value, after))
        });
        rest = match found {
            Some((variable, value, _)) if value.is_secret => {
                return Err(ShapeError::SecretInService {
                    service: service.to_owned(),
                    variable: variable.clone(),
                });
            }
            Some((_, value, after)) => {
                expanded.push_str(&value.value.as_deref().unwrap_or_default().replace("$(", "$$("));
                after
            }
            None => {
                expanded.push_str("$$(");
                after
            }
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What a container of the pipeline asks of Docker and a pod does not give.
fn note_left_out(left_out: &mut Vec<String>, resource: &ContainerResource) {
    let (alias, properties) = (&resource.alias, &resource.properties);
    let options = properties.options.as_deref().map(str::trim).filter(|options| !options.is_empty());
    if let Some(options) = options {
        left_out.push(format!("the `options` of the container `{alias}`: {options}"));
    }
    if !properties.volumes.is_empty() {
        let volumes = properties.volumes.join(", ");
        left_out.push(format!("the `volumes` of the container `{alias}`: {volumes}"));
    }
    let others = properties.ports.iter().filter(|text| Port::parse(text).is_none());
    let others: Vec<&str> = others.map(String::as_str).collect();
    if !others.is_empty() {
        left_out.push(format!("these `ports` of the container `{alias}`: {}", others.join(", ")));
    }
}

fn environment() -> Value {
    json!([
        { "name": "HOME", "value": "/work/home" },
        { "name": "TMPDIR", "value": "/work/tmp" },
    ])
}

fn security() -> Value {
    json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } })
}

/// What all containers have that run anything of the job. The kubelet makes the directories that are mounted
/// by `subPath`, so that both exist.
fn mounts() -> Vec<Value> {
    vec![
        json!({ "name": DAYFLY, "mountPath": "/dayfly", "readOnly": true }),
        json!({ "name": WORK, "mountPath": WORK_DIRECTORY }),
        json!({ "name": WORK, "mountPath": format!("{WORK_DIRECTORY}/home"), "subPath": "home" }),
        json!({ "name": WORK, "mountPath": format!("{WORK_DIRECTORY}/tmp"), "subPath": "tmp" }),
    ]
}

/// Whether a container is one that only starts steps, so that the worker outlives it.
pub(crate) fn is_step_host(name: &str) -> bool {
    name == JOB_CONTAINER || name.starts_with("step-")
}
