//! Runs (builds) and what belongs to them: jobs, stages, artifacts, tags. The orchestration of each says what
//! is next; see [`super::engine`] for who asks it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use dayfly_pipelines::{Orchestration, RunContext};
use dayfly_protocol::artifact::{ArtifactResource, BuildArtifact};
use dayfly_protocol::{BuildId, ContainerId, JobId, PlanId, PoolId, ProjectId, TaskResult, TimelineId};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::secure_files::KeptFile;
use super::test_runs::{self, TestResults};
use super::{Error, Result, State, named_id};
use crate::events::JobOfRun;
use crate::stores::git::repository_name;
use crate::stores::snapshot::{Head, Snapshot};

/// Tags of one run.
const MAX_TAGS: usize = 1_000;
/// Artifacts of one run.
const MAX_ARTIFACTS: usize = 10_000;
/// Properties of one artifact. They add up over its associations.
const MAX_PROPERTIES: usize = 1_000;
/// What one artifact's place and properties may weigh together, in bytes.
const MAX_ARTIFACT_BYTES: usize = 64 << 10;

/// How git writes that there is no commit.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// The repository of a run, at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRepository {
    /// Its name, such as `app` or `shared/tools`; a repository of that name is served from now on.
    pub name: String,
    /// A bare repository, or a work tree with `.git`.
    pub directory: PathBuf,
    /// The branch or tag in full, such as `refs/heads/main`.
    pub reference: String,
    /// The commit.
    pub commit: String,
    /// The commit's author.
    pub author: String,
    /// The commit's message.
    pub message: String,
    /// Whether the folder was made for this run alone, and is deleted when the run is forgotten.
    pub is_temporary: bool,
}

impl RunRepository {
    /// The repository that a snapshot has made, called like the folder of the work tree.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Self {
        let folder = snapshot.work_tree.file_name().unwrap_or_default();
        Self {
            name: repository_name(&folder.to_string_lossy()),
            directory: snapshot.repository.clone(),
            reference: snapshot.branch.clone(),
            commit: snapshot.commit.clone(),
            author: snapshot.author.clone(),
            message: snapshot.subject.clone(),
            is_temporary: false,
        }
    }

    /// The repository of a pipeline whose jobs check nothing out, where there is no git: it has a name and
    /// nothing in it.
    #[must_use]
    pub fn without_git(head: Head, directory: PathBuf) -> Self {
        Self {
            name: head.repository,
            directory,
            reference: head.branch,
            commit: NO_COMMIT.to_owned(),
            author: String::new(),
            message: String::new(),
            is_temporary: false,
        }
    }
}

/// Which agent pool a job goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The pool that the job names, with its demands; the first pool if it names none or a hosted image.
    #[default]
    AsWritten,
    /// This pool, whatever the job says; demands count as met.
    Everything {
        /// The pool's name.
        pool: String,
    },
}

/// Why a run was queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunReason {
    /// Somebody asked for it.
    #[default]
    Manual,
    /// A push.
    IndividualCi,
    /// The clock.
    Schedule,
    /// A pull request.
    PullRequest,
}

impl RunReason {
    /// As `Build.Reason` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "Manual",
            Self::IndividualCi => "IndividualCI",
            Self::Schedule => "Schedule",
            Self::PullRequest => "PullRequest",
        }
    }

    /// As the REST interface writes it.
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::IndividualCi => "individualCI",
            Self::Schedule => "schedule",
            Self::PullRequest => "pullRequest",
        }
    }
}

/// How far a run has come, as the build API says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunStatus {
    InProgress,
    Cancelling,
    Completed,
}

impl RunStatus {
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::InProgress => "inProgress",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
        }
    }
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: BuildId,
    pub(crate) project: ProjectId,
    pub(crate) definition: i32,
    pub(crate) plan_id: PlanId,
    pub(crate) timeline: TimelineId,
    pub(crate) container: ContainerId,
    pub(crate) orchestration: Orchestration,
    /// What job messages say of the run.
    pub(crate) context: RunContext,
    pub(crate) number: String,
    pub(crate) reason: RunReason,
    pub(crate) requested_for: String,
    pub(crate) repository: RunRepository,
    /// Arguments for the file's parameters.
    pub(crate) parameters: BTreeMap<String, serde_json::Value>,
    pub(crate) placement: Placement,
    /// The pool of jobs which name none.
    pub(crate) pool: PoolId,
    pub(crate) status: RunStatus,
    pub(crate) result: Option<TaskResult>,
    pub(crate) queue_time: Timestamp,
    pub(crate) start_time: Option<Timestamp>,
    pub(crate) finish_time: Option<Timestamp>,
    pub(crate) changed_on: Timestamp,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) artifacts: Vec<BuildArtifact>,
    pub(crate) tests: TestResults,
    pub(crate) secure_files: Vec<KeptFile>,
    /// Jobs that were queued, by id.
    pub(crate) jobs: HashMap<JobId, RunJob>,
}

/// A job of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunJob {
    pub(crate) shown: JobOfRun,
    /// How long it may take to end when it is cancelled.
    pub(crate) cancel_timeout: Duration,
    /// When an agent had it, or it began in the service.
    pub(crate) started: Option<Timestamp>,
    /// What cancels it if the service runs it itself.
    pub(crate) on_server: Option<CancellationToken>,
}

impl Run {
    /// The result as builds have it.
    pub(crate) fn wire_result(&self) -> Option<&'static str> {
        self.result.map(|result| match result {
            TaskResult::Succeeded | TaskResult::Skipped => "succeeded",
            TaskResult::SucceededWithIssues => "partiallySucceeded",
            TaskResult::Canceled => "canceled",
            TaskResult::Failed | TaskResult::Abandoned => "failed",
        })
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.status == RunStatus::Completed
    }
}

/// All runs that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    by_id: BTreeMap<BuildId, Run>,
    by_plan: HashMap<PlanId, BuildId>,
    by_container: HashMap<ContainerId, BuildId>,
    /// Completed ones, the oldest first.
    completed: VecDeque<BuildId>,
    last_id: i32,
}

impl Runs {
    pub(crate) fn next_id(&mut self) -> BuildId {
        self.last_id += 1;
        BuildId(self.last_id)
    }

    pub(crate) fn insert(&mut self, run: Run) {
        self.by_plan.insert(run.plan_id, run.id);
        self.by_container.insert(run.container, run.id);
        self.by_id.insert(run.id, run);
    }

    /// A run of a project.
    pub(crate) fn get(&self, project: ProjectId, id: BuildId) -> Result<&Run> {
        self.by_id.get(&id).filter(|run| run.project == project).ok_or(Error::BuildNotFound(id))
    }

    pub(crate) fn get_mut(&mut self, project: ProjectId, id: BuildId) -> Result<&mut Run> {
        self.by_id.get_mut(&id).filter(|run| run.project == project).ok_or(Error::BuildNotFound(id))
    }

    /// A run, whatever its project.
    pub(crate) fn any(&self, id: BuildId) -> Result<&Run> {
        self.by_id.get(&id).ok_or(Error::BuildNotFound(id))
    }

    pub(crate) fn any_mut(&mut self, id: BuildId) -> Result<&mut Run> {
        self.by_id.get_mut(&id).ok_or(Error::BuildNotFound(id))
    }

    pub(crate) fn of_plan(&self, plan: PlanId) -> Option<BuildId> {
        self.by_plan.get(&plan).copied()
    }

    pub(crate) fn of_container(&self, container: ContainerId) -> Option<&Run> {
        self.by_id.get(self.by_container.get(&container)?)
    }

    /// The runs of a project, the latest first.
    pub(crate) fn of(&self, project: ProjectId) -> impl Iterator<Item = &Run> {
        self.by_id.values().rev().filter(move |run| run.project == project)
    }

    /// Runs that are not completed.
    pub(crate) fn unfinished(&self) -> usize {
        self.by_id.len() - self.completed.len()
    }

    /// Notes that a run is completed; gives those which are forgotten for it.
    pub(crate) fn complete(&mut self, id: BuildId, keep: usize) -> Vec<Run> {
        self.completed.push_back(id);
        let mut forgotten = Vec::new();
        while self.completed.len() > keep.max(1) {
            let oldest = self.completed.pop_front().and_then(|oldest| self.by_id.remove(&oldest));
            if let Some(run) = oldest {
                self.by_plan.remove(&run.plan_id);
                self.by_container.remove(&run.container);
                forgotten.push(run);
            }
        }
        forgotten
    }
}

/// New ids for a run's plan and its timeline.
pub(crate) fn new_ids() -> (PlanId, TimelineId) {
    // The service gives the main timeline the id of its plan.
    let id = uuid::Uuid::new_v4();
    (PlanId(id), TimelineId(id))
}

impl State {
    /// Adds tags to a run; gives all it has.
    pub(crate) fn add_tags(
        &mut self,
        project: ProjectId,
        id: BuildId,
        tags: &[String],
    ) -> Result<Vec<String>> {
        let run = self.runs.get_mut(project, id)?;
        for tag in tags {
            let tag = tag.trim();
            if tag.is_empty() || tag.len() > 256 || tag.contains(char::is_control) {
                return Err(Error::Invalid {
                    what: "the tag",
                    reason: format!("`{tag}` is not a valid tag"),
                });
            }
            if run.tags.len() >= MAX_TAGS {
                return Err(Error::LimitReached { what: "tags of this build", limit: MAX_TAGS as u64 });
            }
            run.tags.insert(tag.to_owned());
        }
        Ok(run.tags.iter().cloned().collect())
    }

    /// Takes a tag off a run; gives those which are left.
    pub(crate) fn remove_tag(&mut self, project: ProjectId, id: BuildId, tag: &str) -> Result<Vec<String>> {
        let run = self.runs.get_mut(project, id)?;
        run.tags.remove(tag);
        Ok(run.tags.iter().cloned().collect())
    }

    /// The run (build) that a test run belongs to.
    pub(crate) fn run_of_test_run(&self, project: ProjectId, id: i32) -> Result<&Run> {
        self.runs.get(project, test_runs::build_of(id)).map_err(|_| Error::TestRunNotFound(id))
    }

    /// Adds an artifact. One that is the same in all but its properties is the same; another of its name is
    /// refused.
    pub(crate) fn add_artifact(
        &mut self,
        project: ProjectId,
        id: BuildId,
        artifact: BuildArtifact,
    ) -> Result<BuildArtifact> {
        let run = self.runs.get_mut(project, id)?;
        let same_name = |other: &&mut BuildArtifact| other.name.eq_ignore_ascii_case(&artifact.name);
        if let Some(other) = run.artifacts.iter_mut().find(same_name) {
            if other.resource.resource_type.eq_ignore_ascii_case(&artifact.resource.resource_type)
                && other.resource.data == artifact.resource.data
            {
                let mut resource = other.resource.clone();
                resource.properties.extend(artifact.resource.properties);
                check_resource(&resource)?;
                other.resource = resource;
                return Ok(other.clone());
            }
            return Err(Error::ArtifactExists { build: id, name: artifact.name });
        }
        let is_bad = |letter: char| letter.is_control() || "\\/:*?\"<>|".contains(letter);
        if artifact.name.trim().is_empty() || artifact.name.len() > 256 || artifact.name.contains(is_bad) {
            let reason = format!("`{}` is not a valid name", artifact.name);
            return Err(Error::Invalid { what: "the artifact's name", reason });
        }
        check_resource(&artifact.resource)?;
        if run.artifacts.len() >= MAX_ARTIFACTS {
            return Err(Error::LimitReached { what: "artifacts of this build", limit: MAX_ARTIFACTS as u64 });
        }
        let id = i32::try_from(run.artifacts.len() + 1).unwrap_or(i32::MAX);
        // Its addresses are ours to say.
        let resource = ArtifactResource { url: None, download_url: None, ..artifact.resource };
        let artifact = BuildArtifact { id, resource, ..artifact };
        run.artifacts.push(artifact.clone());
        Ok(artifact)
    }
}

/// Refuses an artifact that says too much of itself.
fn check_resource(resource: &ArtifactResource) -> Result<()> {
    let properties = &resource.properties;
    if properties.len() > MAX_PROPERTIES {
        return Err(Error::LimitReached {
            what: "properties of this artifact",
            limit: MAX_PROPERTIES as u64,
        });
    }
    let bytes: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
    if resource.resource_type.len() + resource.data.len() + bytes > MAX_ARTIFACT_BYTES {
        return Err(Error::LimitReached {
            what: "bytes of this artifact's description",
            limit: MAX_ARTIFACT_BYTES as u64,
        });
    }
    Ok(())
}

/// Container and path of an artifact's files, if they are in a container: `#/12/drop`.
pub(crate) fn container_of(artifact: &BuildArtifact) -> Option<(i64, String)> {
    let (container, path) = artifact.resource.data.strip_prefix("#/")?.split_once('/')?;
    Some((container.parse().ok()?, path.to_owned()))
}

/// A stable id for a person by name.
pub(crate) fn person_id(name: &str) -> uuid::Uuid {
    named_id("person", name)
}
