//! What a deployment job gets of its environment: variables, and the cluster for the steps that name none.

use std::collections::BTreeMap;

use dayfly_protocol::job::ServiceEndpoint;

use crate::{orchestration::JobInstance, plan, variable_set::VariableSet};

/// An environment that deployment jobs may name.
#[derive(Debug, Clone)]
pub struct EnvironmentContext {
    /// Its name.
    pub name: String,
    /// Its number (`Environment.Id`).
    pub id: u32,
    /// What it deploys to.
    pub resources: Vec<EnvironmentResource>,
}

/// A namespace of a cluster, which is a resource of an environment.
#[derive(Debug, Clone)]
pub struct EnvironmentResource {
    /// Its name.
    pub name: String,
    /// Its number (`Environment.ResourceId`).
    pub id: u32,
    /// The name of the service connection that leads to the cluster.
    pub connection: String,
    /// The namespace. Nothing: the one of the connection.
    pub namespace: Option<String>,
}

/// The environment of one job, and the resource that the job names.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) environment: &'a EnvironmentContext,
    pub(super) resource: Option<&'a EnvironmentResource>,
}

impl<'a> Target<'a> {
    /// The environment of a deployment job, if it is one of these.
    pub(super) fn of(
        instance: &JobInstance,
        environments: &'a [EnvironmentContext],
        set: &VariableSet,
    ) -> Option<Self> {
        let written = instance.deployment.as_ref()?.environment.as_ref()?;
        let name = set.expand(&written.name);
        let environment = environments.iter().find(|known| known.name.eq_ignore_ascii_case(name.trim()))?;
        let resource = written.resource_name.as_deref().map(|name| set.expand(name)).and_then(|name| {
            environment.resources.iter().find(|known| known.name.eq_ignore_ascii_case(name.trim()))
        });
        Some(Self { environment, resource })
    }

    /// The inputs that a step gets beside its own. A step that has no connection gets that of the resource,
    /// as Microsoft documents it for KubernetesManifest (`jobs.deployment.environment`).
    pub(super) fn inputs(
        self,
        step: &plan::Step,
        connections: &[ServiceEndpoint],
    ) -> Option<BTreeMap<String, String>> {
        let resource = self.resource?;
        let name = connection_input(step)?;
        let connection = connections.iter().find(|known| known.is_called(&resource.connection))?;
        let mut inputs = BTreeMap::from([(name.to_owned(), connection.id?.to_string())]);
        if let Some(namespace) = resource.namespace.clone().filter(|_| value(step, "namespace").is_none()) {
            inputs.insert("namespace".to_owned(), namespace);
        }
        Some(inputs)
    }
}

/// The input in which a step names its cluster, if it does not name one yet.
fn connection_input(step: &plan::Step) -> Option<&'static str> {
    const KUBERNETES: &str = "kubernetes service connection";
    let names = ["kubernetesServiceEndpoint", "kubernetesServiceConnection"];
    if names.iter().any(|name| value(step, name).is_some()) {
        return None;
    }
    let kind = value(step, "connectionType").map(str::to_lowercase);
    let is_kubernetes = |kind: &str| kind == KUBERNETES || kind == KUBERNETES.replace(' ', "");
    match step.task.name.as_str() {
        // Version 0 has no other name for it.
        "KubernetesManifest" if kind.as_deref().is_none_or(is_kubernetes) => Some(names[1]),
        "Kubernetes" if kind.as_deref().is_none_or(is_kubernetes) => Some(names[0]),
        // Its other kind is the default.
        "HelmDeploy" if kind.as_deref().is_some_and(is_kubernetes) => Some(names[0]),
        _ => None,
    }
}

/// An input that is not empty.
fn value<'s>(step: &'s plan::Step, name: &str) -> Option<&'s str> {
    let mut inputs = step.inputs.iter();
    let (_, value) = inputs.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(value.trim()).filter(|value| !value.is_empty())
}
