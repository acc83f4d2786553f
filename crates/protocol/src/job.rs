//! The job message (`AgentJobRequestMessage`): all a worker needs to run one job.
//!
//! Shape: `DTPipelines/Pipelines/AgentJobRequestMessage.cs` and its neighbours. Everything unknown is
//! ignored.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::json::known_or_none;
use crate::plan::TaskOrchestrationPlanReference;
use crate::timeline::{TaskReference, TimelineReference, VariableValue};
use crate::{DateTime, JobId, RecordId, RequestId};

/// Variables by name. Names are compared without regard to case by those who look one up.
pub type Variables = BTreeMap<String, VariableValue>;

/// One job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentJobRequestMessage {
    /// [`crate::message::PIPELINE_AGENT_JOB_REQUEST`].
    pub message_type: String,
    /// The plan it belongs to.
    pub plan: TaskOrchestrationPlanReference,
    /// The timeline it reports to.
    pub timeline: TimelineReference,
    /// The job, and its record in the timeline.
    pub job_id: JobId,
    /// What people read.
    pub job_display_name: String,
    /// The name in the YAML; `__default` when there is only one.
    pub job_name: String,
    /// The alias of the container its steps run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_container: Option<String>,
    /// Network name to alias of service containers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub job_sidecar_containers: BTreeMap<String, String>,
    /// The request of the pool it was queued as.
    pub request_id: RequestId,
    /// Until when it must be renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime>,
    /// Endpoints, repositories, containers, secure files.
    pub resources: JobResources,
    /// What to clean beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceOptions>,
    /// What to mask, beyond secret variables.
    pub mask: Vec<MaskHint>,
    /// Variables.
    pub variables: Variables,
    /// Steps in order.
    pub steps: Vec<Step>,
}

impl AgentJobRequestMessage {
    /// The value of a variable, whatever the case of its name.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.and_then(|(_, variable)| variable.value.as_deref())
    }

    /// Whether the job comes from Azure DevOps Services, which know by which name they are reached.
    pub fn is_hosted(&self) -> bool {
        self.variable("system.servertype").is_some_and(|kind| kind.eq_ignore_ascii_case("hosted"))
    }
}

/// `url` at the scheme, host and port of `server`: on premises the service may call itself by a name that
/// agents cannot reach, so they go to the one they were configured with (`JobRunner.cs`,
/// `ReplaceWithConfigUriBase`).
pub fn at_configured_server(url: &Url, server: &Url) -> Url {
    let mut configured = server.clone();
    configured.set_path(url.path());
    configured.set_query(url.query());
    configured
}

/// What a job may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobResources {
    /// Service connections; one is named [`SYSTEM_CONNECTION`].
    pub endpoints: Vec<ServiceEndpoint>,
    /// Repositories; the one with alias `self` is the pipeline's own.
    pub repositories: Vec<RepositoryResource>,
    /// Containers.
    pub containers: Vec<ContainerResource>,
    /// Secure files.
    pub secure_files: Vec<SecureFile>,
}

/// Name of the endpoint that holds the job's own token.
pub const SYSTEM_CONNECTION: &str = "SystemVssConnection";

impl JobResources {
    /// The endpoint with the job's own token.
    pub fn system_connection(&self) -> Option<&ServiceEndpoint> {
        self.endpoints.iter().find(|endpoint| {
            endpoint.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(SYSTEM_CONNECTION))
        })
    }
}

/// A service connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEndpoint {
    /// Its id; absent or zero for the system connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its type, such as `dockerregistry`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub endpoint_type: Option<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub url: Option<Url>,
    /// How to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<EndpointAuthorization>,
    /// Extras.
    pub data: BTreeMap<String, String>,
}

impl ServiceEndpoint {
    /// Whether this is its id or its name, in any case.
    pub fn is_called(&self, wanted: &str) -> bool {
        self.id.is_some_and(|id| id.to_string().eq_ignore_ascii_case(wanted))
            || self.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    }

    /// The token of the system connection.
    pub fn access_token(&self) -> Option<&str> {
        self.authorization.as_ref()?.parameter("AccessToken")
    }
}

/// Parameters of an authorization which are no secrets (`MaskingUtil.cs`).
const PUBLIC_PARAMETERS: &[&str] = &[
    "role",
    "scope",
    "tenantid",
    "issuedat",
    "expiresat",
    "audience",
    "authenticationtype",
    "authorizationtype",
    "accesstokentype",
    "accesstokenfetchingmethod",
    "usewindowssecurity",
    "unsecured",
    "oauthaccesstokenissuppliedbyuser",
    "oauthaccesstokenissupplied",
    "completecallbackpayload",
    "acceptuntrustedcertificates",
];

/// How to log in to an endpoint. Its parameters are secrets.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointAuthorization {
    /// Such as `OAuth`.
    pub scheme: String,
    /// Such as `AccessToken`.
    pub parameters: BTreeMap<String, String>,
}

impl EndpointAuthorization {
    /// A parameter, its name in any case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The values of the parameters that must be masked: all but those known to be no secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .filter(|(name, _)| !PUBLIC_PARAMETERS.iter().any(|public| name.eq_ignore_ascii_case(public)))
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for EndpointAuthorization {
    /// Parameters are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointAuthorization").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// A repository. What describes it is within `properties`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryResource {
    /// How steps call it; `self` is the pipeline's own.
    pub alias: String,
    /// How to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointReference>,
    /// All else.
    pub properties: RepositoryProperties,
}

/// An endpoint by id or name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointReference {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a repository is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryProperties {
    /// Its id, a guid for Azure Repos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `Git` (Azure Repos), `GitHub`, `ExternalGit`, ...
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub repository_type: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its default branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// The branch or tag, in full.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Where to fetch it.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub url: Option<Url>,
    /// Author and message of the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_info: Option<VersionInfo>,
    /// Defaults for checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkout_options: Option<CheckoutOptions>,
}

/// Who made a commit, and what they said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionInfo {
    /// The author.
    pub author: String,
    /// The message.
    pub message: String,
}

/// Defaults for checkout; all text as in YAML.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckoutOptions {
    /// Clean before fetching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<String>,
    /// How many commits; 0 or absent = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_depth: Option<String>,
    /// Fetch tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_tags: Option<String>,
    /// Fetch large files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lfs: Option<String>,
    /// `true` or `recursive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submodules: Option<String>,
    /// Leave the token for later steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist_credentials: Option<String>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerResource {
    /// How jobs and steps call it.
    pub alias: String,
    /// Its registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointReference>,
    /// All else.
    pub properties: ContainerProperties,
}

/// What a container is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerProperties {
    /// The image.
    pub image: String,
    /// Options for `docker create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// Its environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Whether to give it the Docker socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_docker_socket: Option<bool>,
    /// The agent's folders that it cannot write: `work`, `tasks`, `tools`, `externals` (`ContainerInfo.cs`).
    #[serde(
        alias = "mountReadOnly",
        deserialize_with = "names_of_mounts",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub read_only_mounts: Vec<String>,
    /// Whether the image is on the machine already, so that it is not pulled.
    #[serde(alias = "localimage", skip_serializing_if = "Option::is_none")]
    pub local_image: Option<bool>,
}

/// Reads a list of names, or the names that are true in an object. All else is none.
fn names_of_mounts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let is_true = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.eq_ignore_ascii_case("true"),
        value => value.as_bool() == Some(true),
    };
    Ok(match value {
        serde_json::Value::Array(names) => {
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        }
        serde_json::Value::Object(mounts) => {
            mounts.into_iter().filter(|(_, value)| is_true(value)).map(|(name, _)| name).collect()
        }
        _ => Vec::new(),
    })
}

/// A secure file of the library. The ticket is a secret.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecureFile {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Lets the holder download it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

impl SecureFile {
    /// Whether this is its id or its name, in any case.
    pub fn is_called(&self, wanted: &str) -> bool {
        self.name.eq_ignore_ascii_case(wanted) || self.id.to_string().eq_ignore_ascii_case(wanted)
    }
}

impl fmt::Debug for SecureFile {
    /// The ticket is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureFile").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What to clean before the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkspaceOptions {
    /// `outputs`, `resources` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<String>,
}

/// Something to mask.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MaskHint {
    /// `regex` or `variable`; only the former is acted on.
    #[serde(rename = "type")]
    pub hint_type: String,
    /// The pattern.
    pub value: String,
}

impl fmt::Debug for MaskHint {
    /// The value may be a secret itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskHint").field("hint_type", &self.hint_type).finish_non_exhaustive()
    }
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Step {
    /// `task`; also when absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub step_type: Option<String>,
    /// Its id, and its record in the timeline.
    pub id: RecordId,
    /// Prefix of its output variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What people read; may hold macros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<TaskReference>,
    /// When to run it; empty = `succeeded()`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Whether its failure counts as an issue only.
    pub continue_on_error: bool,
    /// Whether it runs at all; absent = it does.
    #[serde(default = "enabled_when_absent")]
    pub enabled: bool,
    /// In minutes; 0 = none of its own.
    pub timeout_in_minutes: i32,
    /// How often to try again, 10 at the most.
    pub retry_count_on_task_failure: i32,
    /// Inputs of the task; may hold macros.
    pub inputs: BTreeMap<String, String>,
    /// Its environment; may hold macros.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<StepTarget>,
}

impl Step {
    /// Whether it runs a task. The service knows other kinds, such as groups of steps.
    pub fn is_task(&self) -> bool {
        self.step_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("task"))
    }
}

fn enabled_when_absent() -> bool {
    true
}

/// Where a step runs, and what it may tell the worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepTarget {
    /// `host`, or a container's alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `any` or `restricted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<String>,
    /// Which variables it may set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settable_variables: Option<SettableVariables>,
}

/// Which variables a step may set; absent = all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SettableVariables {
    /// Names.
    pub allowed: Vec<String>,
}
