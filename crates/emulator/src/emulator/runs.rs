//! Runs from within the process: queue, follow, cancel, and keep what they leave.

use std::path::{Path, PathBuf};

use dayfly_protocol::{BuildId, JobId, TaskResult};
use uuid::Uuid;

use super::Emulator;
use crate::runs::compile::{self, QueueRequest};
use crate::runs::{RunArtifact, RunEvents, RunLog, RunRequest, Verdict};
use crate::state::Result;
use crate::state::definitions::PipelineFile;
use crate::state::runs::container_of;
use crate::stores::containers;

impl Emulator {
    /// Queues a run. Its first jobs are in the queues of their pools when this returns.
    ///
    /// # Errors
    /// If the project does not exist, a stage or job to run does not, or the repository cannot be served.
    pub async fn queue_run(&self, request: RunRequest) -> std::result::Result<BuildId, compile::Error> {
        self.app().queue_run(request).await
    }

    /// Compiles a registered pipeline as a run would, and starts nothing. Parameters that need a
    /// value are no mistake.
    ///
    /// # Errors
    /// If the pipeline does not exist or does not compile, or its repository cannot be read.
    pub async fn check_pipeline(
        &self,
        project: &str,
        pipeline: i32,
    ) -> std::result::Result<(), compile::Error> {
        let request =
            QueueRequest { project: project.to_owned(), definition: pipeline, ..QueueRequest::default() };
        match self.app().compile_definition(&request).await {
            Ok(_) | Err(compile::Error::Compile { only_asks_for_values: true, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Cancels a run: its jobs have the time their pipeline gives them to end. A run that has ended stays as
    /// it is.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn cancel_run(&self, build: BuildId) -> Result<()> {
        self.app().state().cancel_run(build, self.app().now())
    }

    /// Answers a validation that a job waits for ([`RunEvent`](crate::runs::RunEvent) tells of them). Only
    /// the first answer counts.
    ///
    /// # Errors
    /// If no such validation waits.
    pub fn answer_validation(&self, id: Uuid, verdict: Verdict) -> Result<()> {
        self.app().state().answer_validation(id, verdict)
    }

    /// What happens in all runs from now on. Ask before a run is queued to miss nothing. While nobody takes
    /// the events, those who report lines and records wait; drop it to end that.
    #[must_use]
    pub fn run_events(&self) -> RunEvents {
        RunEvents::new(self.events())
    }

    /// How a run ended; `None` while it goes on.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn run_result(&self, build: BuildId) -> Result<Option<TaskResult>> {
        Ok(self.app().state().runs.any(build)?.result)
    }

    /// The logs of a run: each job's own, and its steps' in their order.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn run_logs(&self, build: BuildId) -> Result<Vec<RunLog>> {
        let state = self.app().state();
        let run = state.runs.any(build)?;
        let plan = state.plans.get(run.plan_id)?;
        let timeline = plan.timeline(run.timeline)?;
        let mut logs = Vec::new();
        for record in timeline.records() {
            let Some(log) = record.log.as_ref().and_then(|log| plan.log(log.id).ok()) else { continue };
            let is_job = record.record_type.as_deref() == Some("Job");
            let owner = if is_job { Some(record.id) } else { record.parent_id };
            let job = owner.and_then(|id| run.jobs.get(&JobId(id.0))).map(|job| job.shown.clone());
            let name = record.name.clone().unwrap_or_default();
            let step = (!is_job).then(|| (record.order.unwrap_or_default(), name));
            logs.push(RunLog { id: log.id, job, step, file: log.file.clone() });
        }
        logs.sort_by_key(|log| {
            let identifier = log.job.as_ref().map(|job| job.identifier.clone());
            (identifier, log.step.as_ref().map(|(order, _)| *order), log.id)
        });
        Ok(logs)
    }

    /// The artifacts of a run whose files are here.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn run_artifacts(&self, build: BuildId) -> Result<Vec<RunArtifact>> {
        let state = self.app().state();
        let artifacts = state.runs.any(build)?.artifacts.iter();
        Ok(artifacts
            .filter_map(|artifact| {
                let (container, path) = container_of(artifact)?;
                Some(RunArtifact { name: artifact.name.clone(), container, path })
            })
            .collect())
    }

    /// Copies the files of an artifact into a folder; gives their number.
    ///
    /// # Errors
    /// If the files are gone or the disk fails.
    pub async fn copy_artifact(
        &self,
        artifact: &RunArtifact,
        into: &Path,
    ) -> std::result::Result<usize, containers::Error> {
        self.app().containers().copy_to(artifact.container, &artifact.path, into).await
    }

    /// Serves a repository of a project under a name: a bare one, or a work tree with `.git`.
    ///
    /// # Errors
    /// If the project does not exist or the name cannot be part of an address.
    pub async fn add_repository(&self, project: &str, name: &str, directory: &Path) -> Result<()> {
        let branch = compile::head_branch(directory).await;
        let mut state = self.app().state();
        let project = state.projects.find(project)?.id;
        state.repositories.insert(project, name, directory.to_path_buf(), branch)?;
        Ok(())
    }

    /// Registers a pipeline whose file is on this disk. Each run gets the repository around the file as it is
    /// then.
    ///
    /// # Errors
    /// If the project does not exist or has a pipeline of that name.
    pub fn add_pipeline(&self, project: &str, name: &str, file: PathBuf) -> Result<i32> {
        let mut state = self.app().state();
        let project = state.projects.find(project)?.id;
        let file = PipelineFile::WorkTree(file);
        Ok(state.definitions.insert(project, name, file, self.app().now())?.id)
    }
}
