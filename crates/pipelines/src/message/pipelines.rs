//! Runs of other pipelines, whose artifacts a run uses (`resources.pipelines`): their variables, and from
//! which run a `download:` step takes.

use std::collections::BTreeMap;

use dayfly_protocol::{ProjectId, task::DOWNLOAD_PIPELINE_ARTIFACT};
use uuid::Uuid;

use crate::plan;

/// The run that stands behind an alias of `resources.pipelines`.
#[derive(Debug, Clone)]
pub struct PipelineContext {
    /// Its name in the pipeline.
    pub alias: String,
    /// The project of the other pipeline.
    pub project: ProjectId,
    /// The project's name.
    pub project_name: String,
    /// The other pipeline.
    pub definition_id: i32,
    /// The other pipeline's name.
    pub definition_name: String,
    /// The run's number within the organization.
    pub run_id: i32,
    /// The run number.
    pub run_name: String,
    /// The branch that it was for, in full.
    pub source_branch: String,
    /// The commit that it was for.
    pub source_commit: String,
    /// Who started it.
    pub requested_for: String,
    /// The id of who started it.
    pub requested_for_id: Uuid,
}

impl PipelineContext {
    /// `resources.pipeline.ALIAS.*`, as Microsoft documents them (`resources-pipelines-pipeline`).
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let rows = [
            ("projectName", self.project_name.clone()),
            ("projectID", self.project.to_string()),
            ("pipelineName", self.definition_name.clone()),
            ("pipelineID", self.definition_id.to_string()),
            ("runName", self.run_name.clone()),
            ("runID", self.run_id.to_string()),
            ("runURI", format!("vstfs:///Build/Build/{}", self.run_id)),
            ("sourceBranch", self.source_branch.clone()),
            ("sourceCommit", self.source_commit.clone()),
            ("sourceProvider", "TfsGit".to_owned()),
            ("requestedFor", self.requested_for.clone()),
            ("requestedForID", self.requested_for_id.to_string()),
        ];
        rows.into_iter().map(|(name, value)| (format!("resources.pipeline.{}.{name}", self.alias), value))
    }

    /// What a `download:` step of this alias says in place of it.
    pub(super) fn inputs(&self) -> BTreeMap<String, String> {
        let rows = [
            ("project", self.project.to_string()),
            ("pipeline", self.definition_id.to_string()),
            ("runVersion", "specific".to_owned()),
            ("runId", self.run_id.to_string()),
        ];
        rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The pipeline whose artifacts a step downloads by its alias.
#[must_use]
pub fn downloaded_alias(step: &plan::Step) -> Option<&str> {
    let is_download = step.task.id == DOWNLOAD_PIPELINE_ARTIFACT;
    step.inputs.get("alias").filter(|_| is_download).map(String::as_str)
}
