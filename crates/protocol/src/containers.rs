//! In which container of a pod each step of a job runs.
//!
//! Whoever makes the pod and the worker in it must agree on that, so it is decided here, from the message
//! alone.

use crate::job::{AgentJobRequestMessage, ContainerResource, Step};

/// The container in which the steps run that do not say otherwise.
pub const JOB_CONTAINER: &str = "job";

/// How a step says that it runs beside the worker (`PipelineConstants.cs`).
const HOST: &str = "host";

/// A container in which steps run.
#[derive(Debug, Clone, PartialEq)]
pub struct StepContainer {
    /// Its name in the pod, a DNS label.
    pub name: String,
    /// What the pipeline says of it; none where the job names no container.
    pub resource: Option<ContainerResource>,
}

impl StepContainer {
    fn is_called(&self, alias: &str) -> bool {
        self.resource.as_ref().is_some_and(|resource| resource.alias.eq_ignore_ascii_case(alias))
    }
}

/// A container that the job names and its message does not describe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job uses the container '{0}', which its message does not describe")]
pub struct UnknownContainer(pub String);

/// The containers in which steps of a job run: first the job's own, then those that single steps name, in
/// their order.
///
/// # Errors
///
/// The job or a step names a container that the message lacks.
pub fn step_containers(message: &AgentJobRequestMessage) -> Result<Vec<StepContainer>, UnknownContainer> {
    let own = named(message.job_container.as_deref()).map(|alias| resource(message, alias)).transpose()?;
    let mut containers = vec![StepContainer { name: JOB_CONTAINER.to_owned(), resource: own.cloned() }];
    for alias in message.steps.iter().filter(|step| step.enabled).filter_map(target) {
        let found = resource(message, alias)?;
        if !containers.iter().any(|container| container.is_called(alias)) {
            let name = format!("step-{}", containers.len());
            containers.push(StepContainer { name, resource: Some(found.clone()) });
        }
    }
    Ok(containers)
}

/// The name of the container among `containers` in which a step runs; none: beside the worker.
pub fn container_of<'a>(containers: &'a [StepContainer], step: &Step) -> Option<&'a str> {
    let asked = named(step.target.as_ref().and_then(|target| target.target.as_deref()));
    if asked.is_some_and(|asked| asked.eq_ignore_ascii_case(HOST)) {
        return None;
    }
    let found = asked.and_then(|alias| containers.iter().find(|container| container.is_called(alias)));
    Some(found.map_or(JOB_CONTAINER, |container| container.name.as_str()))
}

/// The containers beside the job, by the names under which it finds them.
///
/// # Errors
///
/// The job names a container that the message lacks.
pub fn services(
    message: &AgentJobRequestMessage,
) -> Result<Vec<(&str, &ContainerResource)>, UnknownContainer> {
    let services = message.job_sidecar_containers.iter();
    services.map(|(name, alias)| Ok((name.as_str(), resource(message, alias)?))).collect()
}

/// A port of a service, as the pipeline writes it: `CONTAINER` or `HOST:CONTAINER`, perhaps with an address
/// before it and a protocol behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Where the job's steps find it.
    pub host: u16,
    /// Where the service listens.
    pub container: u16,
}

impl Port {
    /// Reads one. None where it is no TCP port.
    pub fn parse(text: &str) -> Option<Self> {
        let (ports, protocol) = text.trim().split_once('/').unwrap_or((text.trim(), "tcp"));
        if !protocol.eq_ignore_ascii_case("tcp") {
            return None;
        }
        let mut parts = ports.rsplit(':');
        let container = parts.next()?.trim().parse().ok()?;
        let host = match parts.next().map(str::trim) {
            None | Some("") => container,
            Some(host) => host.parse().ok()?,
        };
        Some(Self { host, container })
    }
}

fn target(step: &Step) -> Option<&str> {
    named(step.target.as_ref()?.target.as_deref()).filter(|alias| !alias.eq_ignore_ascii_case(HOST))
}

fn named(alias: Option<&str>) -> Option<&str> {
    alias.map(str::trim).filter(|alias| !alias.is_empty())
}

fn resource<'a>(
    message: &'a AgentJobRequestMessage,
    alias: &str,
) -> Result<&'a ContainerResource, UnknownContainer> {
    let mut containers = message.resources.containers.iter();
    containers
        .find(|container| container.alias.eq_ignore_ascii_case(alias))
        .ok_or_else(|| UnknownContainer(alias.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::StepTarget;

    fn step(target: &str) -> Step {
        let target = StepTarget { target: Some(target.to_owned()), ..StepTarget::default() };
        Step { enabled: true, target: Some(target), ..Step::default() }
    }

    fn message() -> AgentJobRequestMessage {
        let mut message = AgentJobRequestMessage {
            job_container: Some("Node".to_owned()),
            steps: vec![step("host"), step("python"), step("node"), step("Python"), Step::default()],
            ..AgentJobRequestMessage::default()
        };
        for alias in ["node", "python", "redis"] {
            let resource = ContainerResource { alias: alias.to_owned(), ..ContainerResource::default() };
            message.resources.containers.push(resource);
        }
        message
    }

    #[test]
    fn steps_run_in_the_jobs_container_unless_they_name_another_or_the_host() {
        let message = message();
        let containers = step_containers(&message).expect("all are there");
        let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["job", "step-1"]);
        let places: Vec<_> = message.steps.iter().map(|step| container_of(&containers, step)).collect();
        assert_eq!(places, [None, Some("step-1"), Some("job"), Some("step-1"), Some("job")]);
    }

    #[test]
    fn a_container_that_nobody_describes_is_named() {
        let mut message = message();
        message.job_sidecar_containers.insert("cache".to_owned(), "memcached".to_owned());
        assert_eq!(services(&message), Err(UnknownContainer("memcached".to_owned())));
        message.job_container = Some("other".to_owned());
        assert_eq!(step_containers(&message), Err(UnknownContainer("other".to_owned())));
    }

    #[test]
    fn ports_are_read_in_all_their_forms() {
        let of = |host, container| Some(Port { host, container });
        for (text, port) in [
            ("6379", of(6379, 6379)),
            ("8080:80", of(8080, 80)),
            ("127.0.0.1:8080:80/tcp", of(8080, 80)),
            ("127.0.0.1::80", of(80, 80)),
            ("53:53/udp", None),
            ("8000-9000:80", None),
            ("", None),
        ] {
            assert_eq!(Port::parse(text), port, "{text}");
        }
    }
}
