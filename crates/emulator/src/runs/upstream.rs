//! The runs that stand behind `resources.pipelines`: of pipelines that are known here, or with artifacts that
//! whoever queues the run brings.

use std::path::Path;

use dayfly_pipelines::message::PipelineContext;
use dayfly_pipelines::plan::PipelineResource;
use dayfly_protocol::artifact::{ArtifactResource, BuildArtifact};
use dayfly_protocol::{BuildId, ContainerId, ProjectId, TaskResult};

use super::compile::{Error, Result};
use crate::app::App;
use crate::runs::{RunRepository, RunRequest};
use crate::state::State;
use crate::state::engine::PastRun;
use crate::state::runs::{Run, person_id};

impl App {
    /// The runs behind the aliases of a file, as far as there are any. A step that downloads from another
    /// fails.
    pub(super) async fn upstream(
        &self,
        project: ProjectId,
        request: &RunRequest,
    ) -> Result<Vec<PipelineContext>> {
        let mut found = Vec::new();
        for resource in &request.plan.resources.pipelines {
            let is_it = |alias: &&String| alias.eq_ignore_ascii_case(&resource.alias);
            let brought = request.pipelines.keys().find(is_it).and_then(|alias| request.pipelines.get(alias));
            let run = match brought {
                Some(folder) => Some(self.past_run(project, request, resource, folder).await?),
                None => self.state().newest_run(project, resource),
            };
            let Some(run) = run else { continue };
            found.push(self.state().pipeline_context(&resource.alias, run)?);
        }
        Ok(found)
    }

    /// A run that ended elsewhere, with a folder for each of its artifacts.
    async fn past_run(
        &self,
        project: ProjectId,
        request: &RunRequest,
        resource: &PipelineResource,
        folder: &Path,
    ) -> Result<BuildId> {
        let now = self.now();
        let container = self.containers().create().await.map_err(Error::Container)?;
        let mut artifacts = Vec::new();
        for name in folders_in(folder).await? {
            let copied = self.containers().copy_from(container, &name, &folder.join(&name), now).await;
            copied.map_err(Error::Container)?;
            let data = format!("#/{container}/{name}");
            let resource = ArtifactResource {
                resource_type: "Container".to_owned(),
                data,
                ..ArtifactResource::default()
            };
            artifacts.push(BuildArtifact { name, resource, ..BuildArtifact::default() });
        }
        let past = PastRun {
            project,
            pipeline: resource.source.clone().unwrap_or_else(|| resource.alias.clone()),
            number: resource.version.clone(),
            plan: request.plan.clone(),
            // It stays when this run, which is the older one, is forgotten.
            repository: RunRepository { is_temporary: false, ..request.repository.clone() },
            requested_for: request.requested_for.clone(),
            container: ContainerId(container),
            collection: self.base().clone(),
        };
        let mut state = self.state();
        let run = state.add_past_run(past, now)?;
        for artifact in artifacts {
            state.add_artifact(project, run, artifact)?;
        }
        Ok(run)
    }
}

impl State {
    /// The newest run of a pipeline that succeeded, of the branch or with the number and tags that are
    /// wanted.
    fn newest_run(&self, project: ProjectId, resource: &PipelineResource) -> Option<BuildId> {
        let project = match resource.project.as_deref() {
            Some(name) => self.projects.find(name).ok()?.id,
            None => project,
        };
        // Pipelines have no folders here: the name is what follows the last one.
        let source = resource.source.as_deref()?;
        let definition = self.definitions.named(project, source.rsplit('\\').next().unwrap_or(source))?.id;
        let is_wanted = |run: &&Run| {
            run.definition == definition
                && matches!(run.result, Some(TaskResult::Succeeded | TaskResult::SucceededWithIssues))
                && resource.version.as_deref().is_none_or(|version| run.number.eq_ignore_ascii_case(version))
                && resource
                    .branch
                    .as_deref()
                    .is_none_or(|branch| is_branch(&run.repository.reference, branch))
                && resource.tags.iter().all(|tag| run.tags.contains(tag))
        };
        self.runs.of(project).find(is_wanted).map(|run| run.id)
    }

    fn pipeline_context(&self, alias: &str, run: BuildId) -> Result<PipelineContext> {
        let run = self.runs.any(run)?;
        let definition = self.definitions.get(run.project, run.definition)?;
        Ok(PipelineContext {
            alias: alias.to_owned(),
            project: run.project,
            project_name: self.projects.find(&run.project.to_string())?.name.clone(),
            definition_id: definition.id,
            definition_name: definition.name.clone(),
            run_id: run.id.0,
            run_name: run.number.clone(),
            source_branch: run.repository.reference.clone(),
            source_commit: run.repository.commit.clone(),
            requested_for: run.requested_for.clone(),
            requested_for_id: person_id(&run.requested_for),
        })
    }
}

/// Whether a branch in full is the one that is named, in full or not.
fn is_branch(reference: &str, branch: &str) -> bool {
    reference == branch || reference.strip_prefix("refs/heads/") == Some(branch)
}

/// The names of the folders in a folder, sorted.
async fn folders_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |source| Error::Artifacts { folder: folder.to_owned(), source };
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await.map_err(failed)?;
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        if entry.file_type().await.map_err(failed)?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
