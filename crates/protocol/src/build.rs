//! The parts of the build API that workers use, and those who queue a run and follow it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::timeline::VariableValue;
use crate::{BuildId, ProjectId};

/// A change of a build, as `build.updatebuildnumber` sends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildUpdate {
    /// The build.
    pub id: BuildId,
    /// Its new number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_number: Option<String>,
    /// `cancelling` cancels it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// A build, as those who follow one see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// Its number, such as `20261126.1`.
    pub build_number: String,
    /// `inProgress`, `cancelling`, `completed`, …
    pub status: String,
    /// `succeeded`, `partiallySucceeded`, `failed` or `canceled`, when it is completed.
    pub result: Option<String>,
    /// Addresses: `web` is the page for people.
    #[serde(rename = "_links")]
    pub links: BTreeMap<String, serde_json::Value>,
}

impl Build {
    /// The address of the page for people.
    pub fn web_page(&self) -> Option<&str> {
        self.links.get("web")?.get("href")?.as_str()
    }
}

/// A project, by its two names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
}

/// A pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pipeline {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
}

/// What a run of a pipeline is started with (`RunPipelineParameters`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunPipelineParameters {
    /// Arguments for the file's parameters.
    pub template_parameters: BTreeMap<String, String>,
    /// Variables of this run.
    pub variables: BTreeMap<String, VariableValue>,
}
