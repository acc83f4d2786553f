//! Whether the connections and agent sets of a cluster work, by what the controller says of them.

use std::fmt;

use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::{AgentSet, AzureDevOpsConnection, Condition, ConditionStatus};
use crate::cluster::bounded;

/// How `kubectl` names an agent set.
const AGENT_SET: &str = "agentset";

/// What the controller says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// As `kubectl` names it: `agentset`.
    kind: &'static str,
    namespace: String,
    name: String,
    /// Its condition `Ready`, of the generation that is there. None: the controller has not seen it yet.
    ready: Option<Condition>,
}

impl Checked {
    /// Namespace and name, if it is an agent set.
    pub fn agent_set(&self) -> Option<(&str, &str)> {
        (self.kind == AGENT_SET).then_some((&self.namespace, &self.name))
    }

    /// Whether it works.
    pub fn is_ready(&self) -> bool {
        self.ready.as_ref().is_some_and(|condition| condition.status == ConditionStatus::True)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_ready() { "✓" } else { "✗" };
        write!(formatter, "{mark} {}/{} in {}: ", self.kind, self.name, self.namespace)?;
        match &self.ready {
            Some(condition) => write!(formatter, "{}: {}", condition.reason, condition.message),
            None => {
                formatter.write_str("no controller has looked at it yet; is one running for this namespace?")
            }
        }
    }
}

/// Asks for all connections and agent sets of some namespaces, or of all if none is named.
///
/// # Errors
///
/// The API server refuses the question or does not answer; most often Dayfly's custom resources are not
/// installed, or the caller may not list them.
pub async fn check(client: &Client, namespaces: &[String]) -> Result<Vec<Checked>, kube::Error> {
    let mut checked = of(client, namespaces, "azuredevopsconnection", |object: &AzureDevOpsConnection| {
        object.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
    })
    .await?;
    checked.extend(
        of(client, namespaces, AGENT_SET, |object: &AgentSet| {
            object.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
        })
        .await?,
    );
    Ok(checked)
}

async fn of<K>(
    client: &Client,
    namespaces: &[String],
    kind: &'static str,
    conditions: impl Fn(&K) -> Vec<Condition>,
) -> Result<Vec<Checked>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let apis = match namespaces {
        [] => vec![Api::<K>::all(client.clone())],
        namespaces => namespaces.iter().map(|name| Api::namespaced(client.clone(), name)).collect(),
    };
    let mut checked = Vec::new();
    for api in apis {
        let objects = bounded(api.list(&ListParams::default())).await?;
        checked.extend(objects.iter().map(|object| Checked {
            kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            ready: conditions(object).into_iter().find(|condition| {
                let generation = object.meta().generation;
                condition.type_ == "Ready" && condition.observed_generation == generation
            }),
        }));
    }
    Ok(checked)
}
