//! What a job asks of its pod by variables, within what its set allows.
//!
//! Demands cannot say it: the service compares them with the agents' capabilities, each of which has one
//! value.

use std::collections::BTreeMap;

use dayfly_protocol::job::AgentJobRequestMessage;
use serde_json::{Value, json};

use super::{ShapeError, quantity};
use crate::api::{AgentSetSpec, JobOverrides};

const CPU: &str = "dayfly.cpu";
const MEMORY: &str = "dayfly.memory";
const IMAGE: &str = "dayfly.image";
const NODE_SELECTOR: &str = "dayfly.nodeSelector.";

/// What a job asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Overrides {
    /// The image of its steps.
    pub(super) image: Option<String>,
    cpu: Option<String>,
    memory: Option<String>,
    node_selector: BTreeMap<String, String>,
}

impl Overrides {
    /// What the job's variables ask for, if the set allows it.
    pub(super) fn of(
        set: &AgentSetSpec,
        set_name: &str,
        message: &AgentJobRequestMessage,
    ) -> Result<Self, ShapeError> {
        let allowed = set.job_overrides.clone().unwrap_or_default();
        let refuse = |variable: &str, value: &str, reason: String| ShapeError::Override {
            set: set_name.to_owned(),
            variable: variable.to_owned(),
            value: value.to_owned(),
            reason,
        };
        let mut found = Self::default();
        for (name, variable) in &message.variables {
            let value = variable.value.as_deref().unwrap_or_default().trim();
            let checked = match name.to_ascii_lowercase().as_str() {
                _ if value.is_empty() || variable.is_secret => continue,
                CPU => within(value, allowed.max_cpu.as_deref(), "maxCpu")
                    .map(|()| found.cpu = Some(value.to_owned())),
                MEMORY => within(value, allowed.max_memory.as_deref(), "maxMemory")
                    .map(|()| found.memory = Some(value.to_owned())),
                IMAGE => image(value, &allowed).map(|()| found.image = Some(value.to_owned())),
                other if other.starts_with(&NODE_SELECTOR.to_ascii_lowercase()) => {
                    let label = &name[NODE_SELECTOR.len()..];
                    label_value(label, value, &allowed)
                        .map(|()| drop(found.node_selector.insert(label.to_owned(), value.to_owned())))
                }
                _ => continue,
            };
            checked.map_err(|reason| refuse(name, value, reason))?;
        }
        Ok(found)
    }

    /// Puts it into a pod; the steps run in `container`.
    pub(super) fn apply(&self, pod: &mut Value, container: &str) {
        for (label, value) in &self.node_selector {
            pod["spec"]["nodeSelector"][label] = json!(value);
        }
        let containers = pod["spec"]["containers"].as_array_mut().into_iter().flatten();
        for steps in containers.filter(|other| other["name"] == container) {
            if let Some(cpu) = &self.cpu {
                steps["resources"]["requests"]["cpu"] = json!(cpu);
                // A limit of the template's that is lower would make the pod invalid.
                raise(&mut steps["resources"], "cpu", cpu);
            }
            if let Some(memory) = &self.memory {
                steps["resources"]["requests"]["memory"] = json!(memory);
                steps["resources"]["limits"]["memory"] = json!(memory);
            }
        }
    }
}

/// Raises a limit, if there is one, to what is requested.
fn raise(resources: &mut Value, resource: &str, wanted: &str) {
    let limit =
        resources.pointer(&format!("/limits/{resource}")).and_then(Value::as_str).and_then(quantity::parse);
    if limit.is_some_and(|limit| quantity::parse(wanted).is_some_and(|wanted| limit < wanted)) {
        resources["limits"][resource] = json!(wanted);
    }
}

/// Whether a quantity is not greater than the most that is allowed.
fn within(value: &str, most: Option<&str>, field: &str) -> Result<(), String> {
    let most = most.ok_or_else(|| format!("its `jobOverrides.{field}` is not set"))?;
    let limit = quantity::parse(most);
    let limit = limit.ok_or_else(|| format!("its `jobOverrides.{field}`, {most:?}, is no quantity"))?;
    match quantity::parse(value) {
        Some(wanted) if wanted <= limit => Ok(()),
        Some(_) => Err(format!("its `jobOverrides.{field}` is {most}")),
        None => Err("it is no quantity such as 500m, 4 or 8Gi".to_owned()),
    }
}

fn image(value: &str, allowed: &JobOverrides) -> Result<(), String> {
    let is_allowed = allowed.images.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value == pattern,
    });
    match (is_allowed, allowed.images.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err("its `jobOverrides.images` is empty".to_owned()),
        (false, false) => Err(format!("its `jobOverrides.images` allows only {}", allowed.images.join(", "))),
    }
}

fn label_value(label: &str, value: &str, allowed: &JobOverrides) -> Result<(), String> {
    let values = allowed.node_selector.get(label);
    let values = values.ok_or_else(|| format!("its `jobOverrides.nodeSelector` has no {label}"))?;
    if values.iter().any(|allowed| allowed == value) {
        return Ok(());
    }
    Err(format!("its `jobOverrides.nodeSelector` allows only {}", values.join(", ")))
}
