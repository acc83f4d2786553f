//! File containers and build artifacts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ContainerId;

/// A named artifact of a build (`BuildArtifact`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildArtifact {
    /// Its number; 0 in the request that makes it.
    pub id: i32,
    /// Its name, unique in the build.
    pub name: String,
    /// The job that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where its files are.
    pub resource: ArtifactResource,
}

/// Where an artifact's files are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactResource {
    /// `Container`, `FilePath`, `PipelineArtifact`, ...
    #[serde(rename = "type")]
    pub resource_type: String,
    /// For a container: `#/<container>/<folder>`.
    pub data: String,
    /// `artifactsize`, `localpath`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where a zip of it can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_url: Option<String>,
}

/// A file or folder of a container (`FileContainerItem`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileContainerItem {
    /// The container.
    pub container_id: ContainerId,
    /// The path in it, with `/`.
    pub path: String,
    /// `folder` or `file`.
    pub item_type: String,
    /// `created` or `pendingUpload`.
    pub status: String,
    /// Its size in bytes.
    pub file_length: i64,
}
