//! `AgentSet`: virtual agents of one flavour in one agent pool.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

/// Virtual agents of one flavour in one agent pool. Each job they accept runs in a pod of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "dayfly.dev",
    version = "v1alpha1",
    kind = "AgentSet",
    shortname = "aset",
    namespaced,
    status = "AgentSetStatus",
    category = "dayfly",
    validation = ("self.metadata.name.size() <= 40", "an AgentSet's name may have 40 characters at most"),
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.poolName"}"#,
    printcolumn = r#"{"name":"Online","type":"integer","jsonPath":".status.online"}"#,
    printcolumn = r#"{"name":"Running","type":"integer","jsonPath":".status.running"}"#,
    printcolumn = r#"{"name":"Pending","type":"integer","jsonPath":".status.pending"}"#,
    printcolumn = r#"{"name":"Max","type":"integer","jsonPath":".spec.agents.max"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AgentSetSpec {
    /// Name of the AzureDevOpsConnection in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self == oldSelf", "connectionRef cannot be changed: create another AgentSet"))]
    pub connection_ref: String,
    /// Name of the agent pool. It must exist.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = ("self == oldSelf", "poolName cannot be changed: create another AgentSet"))]
    pub pool_name: String,
    /// How many virtual agents.
    pub agents: Agents,
    /// Capabilities of the agents besides those that Dayfly sets, for the demands of jobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, String>,
    /// Image in which the steps run when the job names no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Image of the container that runs the worker and checks sources out. It must have git. Default:
    /// `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_image: Option<String>,
    /// Containers of the pod.
    #[serde(default)]
    pub layout: Layout,
    /// User that the steps run as.
    #[serde(default)]
    pub container_user: ContainerUser,
    /// A PodTemplateSpec that is merged over Dayfly's own pod; containers and volumes merge by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub template: Option<serde_json::Value>,
    /// What jobs may change of their pods, by variables of the pipeline. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_overrides: Option<JobOverrides>,
    /// How the binary gets into the job's container.
    #[serde(default)]
    pub delivery: Delivery,
    /// While so many jobs have waited for a node or a quota for half a minute, the idle agents are offline,
    /// so that further jobs stay in the queue of Azure DevOps, where other agents may take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_pending_jobs: Option<u16>,
    /// How long a pod may have trouble before its job fails.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// For how long the PipelineJob of a job that is over is kept, in seconds.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub ttl_seconds_after_finished: u32,
    /// True takes the idle agents offline. Running jobs go on.
    #[serde(default)]
    pub paused: bool,
}

/// How many virtual agents a set keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("!has(self.spare) || self.spare <= self.max", "agents.spare must not be greater than agents.max"))]
#[serde(rename_all = "camelCase")]
pub struct Agents {
    /// How many jobs may run at once. For more than 1000 let several sets serve the pool.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u16,
    /// How many idle agents wait for jobs. Default: all when max is at most 20, else 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub spare: Option<u16>,
    /// What the agents' names begin with. Default: the name of the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 57))]
    pub name_prefix: Option<String>,
}

/// What jobs may change of their pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobOverrides {
    /// The most CPU that the variable `dayfly.cpu` may ask for, such as "8".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub max_cpu: Option<String>,
    /// The most memory that the variable `dayfly.memory` may ask for, such as 16Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub max_memory: Option<String>,
    /// Images that the variable `dayfly.image` may name. A `*` at the end stands for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub images: Vec<String>,
    /// Labels of nodes that variables `dayfly.nodeSelector.LABEL` may ask for, and the values they may have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, Vec<String>>,
}

/// How long a pod may have trouble before its job fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// Without a node, or without room in a quota.
    #[schemars(range(min = 10, max = 86_400))]
    pub pending_seconds: u32,
    /// With an image that cannot be pulled.
    #[schemars(range(min = 10, max = 86_400))]
    pub image_seconds: u32,
    /// With a container that cannot be created.
    #[schemars(range(min = 10, max = 86_400))]
    pub create_seconds: u32,
    /// On a node that does not answer.
    #[schemars(range(min = 10, max = 86_400))]
    pub node_lost_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { pending_seconds: 900, image_seconds: 60, create_seconds: 150, node_lost_seconds: 300 }
    }
}

/// Containers of a job's pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Layout {
    /// `agent` runs the worker, `job` the steps: the worker outlives steps that run out of memory.
    #[default]
    TwoContainers,
    /// `agent` runs the worker and the steps.
    OneContainer,
}

/// User that the steps run as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContainerUser {
    /// User and group 1000.
    #[default]
    Dayfly,
    /// The image's own user, which must be numeric and not root.
    Image,
    /// Root in a user namespace of the pod's own (`hostUsers: false`).
    Root,
}

/// How the binary gets into the job's container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    /// By an image volume where the cluster can, else by copying.
    #[default]
    Auto,
    /// By an image volume (Kubernetes 1.35 and later).
    ImageVolume,
    /// Copied when the agent container starts.
    Copy,
}

/// What is known of the set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSetStatus {
    /// Virtual agents that are online.
    #[serde(default)]
    pub online: u32,
    /// Jobs that a worker has.
    #[serde(default)]
    pub running: u32,
    /// Jobs that wait for their pod.
    #[serde(default)]
    pub pending: u32,
    /// Aspects of its state: `Ready`, `TemplateValid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// In seconds.
fn an_hour() -> u32 {
    3600
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
