//! The Kubernetes API of Dayfly, `dayfly.dev/v1alpha1`.
//!
//! Fields say what they mean in words for `kubectl explain`. Whatever cannot be right is refused by the API
//! server with a message, not found out later by the controller.

mod agent_set;
mod connection;
mod pipeline_job;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::{CustomResourceExt as _, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::agent_set::{
    AgentSet, AgentSetSpec, AgentSetStatus, Agents, ContainerUser, Delivery, JobOverrides, Layout, Timeouts,
};
pub use self::connection::{
    Authentication, AzureDevOpsConnection, AzureDevOpsConnectionSpec, AzureDevOpsConnectionStatus, CaBundle,
    ManagedIdentity, PersonalAccessToken, Proxy, SecretName, ServicePrincipal, Tls, WorkloadIdentity,
};
pub use self::pipeline_job::{Phase, PipelineJob, PipelineJobSpec, PipelineJobStatus};

/// The definitions of all kinds, in the order in which they are to be applied.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![AzureDevOpsConnection::crd(), AgentSet::crd(), PipelineJob::crd()];
    let versions = definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions);
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        with_known_formats(schema);
    }
    definitions
}

/// Takes the formats of Rust's numbers away, of which the API server warns: the bounds say more.
fn with_known_formats(schema: &mut JSONSchemaProps) {
    schema.format.take_if(|format| format.starts_with("uint"));
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        with_known_formats(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        with_known_formats(items);
    }
}

/// The definitions as YAML, one document for each.
///
/// # Errors
///
/// They have no form in YAML.
pub fn definitions_yaml() -> Result<String, serde_saphyr::ser::Error> {
    definitions().iter().try_fold(String::new(), |text, definition| {
        let document = serde_saphyr::to_string(definition)?;
        Ok(format!("{text}---\n{}\n", document.trim_end()))
    })
}

/// One key of a Secret or ConfigMap in the namespace of the object that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// Name of the Secret or ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key whose value is used.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One aspect of an object's state, as `metav1.Condition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect, in CamelCase.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// Why, as one word in CamelCase for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation of the object that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}
