//! Tasks that the worker knows by heart, and what a task definition says.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

use crate::TaskId;

/// CmdLine, behind `script:`.
pub const CMD_LINE: Uuid = uuid!("d9bafed4-0b18-4f58-968d-86655b4d2ce9");
/// Bash, behind `bash:`. Version 2 of the same id is the task ShellScript.
pub const BASH: Uuid = uuid!("6c731c3c-3c68-459a-a5c9-bde6e6595b5b");
/// PowerShell, behind `pwsh:` and `powershell:`.
pub const POWERSHELL: Uuid = uuid!("e213ff0f-5d5c-4791-802d-52ea3e7be1f1");
/// Checkout, behind `checkout:`; lives in the agent.
pub const CHECKOUT: Uuid = uuid!("6d15af64-176c-496d-b583-fd2ae21d4df4");
/// PublishPipelineArtifact, behind `publish:`.
pub const PUBLISH_PIPELINE_ARTIFACT: Uuid = uuid!("ecdc45f6-832d-4ad9-b52b-ee49e94659be");
/// DownloadPipelineArtifact, behind `download:`.
pub const DOWNLOAD_PIPELINE_ARTIFACT: Uuid = uuid!("61f2a582-95ae-4948-b34d-a1b3c4f6a737");
/// PublishBuildArtifacts.
pub const PUBLISH_BUILD_ARTIFACTS: Uuid = uuid!("2ff763a7-ce83-4e1f-bc89-0ae63477cebe");
/// DownloadBuildArtifacts.
pub const DOWNLOAD_BUILD_ARTIFACTS: Uuid = uuid!("a433f589-fce1-4460-9ee6-44a624aeb1fb");
/// DownloadSecureFile.
pub const DOWNLOAD_SECURE_FILE: Uuid = uuid!("2a6ca863-f2ce-4f4d-8bcb-15e64608ec4b");

/// Delay: the service runs it itself.
pub const DELAY: Uuid = uuid!("28782b92-5e8e-4458-9751-a71cd1492bae");
/// InvokeRESTAPI: the service runs it itself.
pub const INVOKE_REST_API: Uuid = uuid!("9c3e8943-130d-4c78-ac63-8af81df62dfb");
/// ManualValidation: the service runs it itself.
pub const MANUAL_VALIDATION: Uuid = uuid!("2003ad3a-104a-451a-9238-60474ab294e6");

/// A task of an organization, in one version (`TaskDefinition.cs`); what is not asked for is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskDefinition {
    /// All versions have the same.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: TaskVersion,
    /// Whether no pipeline may use it.
    pub disabled: bool,
}

/// A task's exact version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskVersion {
    /// What a pipeline names after `@`.
    pub major: u32,
    /// The sprint, for Microsoft's own tasks.
    pub minor: u32,
    /// Counts within the minor version.
    pub patch: u32,
    /// Whether it is for its author's tests only.
    pub is_test: bool,
}

impl fmt::Display for TaskVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
