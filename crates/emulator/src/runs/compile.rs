//! From a request to queue a run to a run: reads the pipeline's file and the repository, compiles, starts.
//!
//! All waiting is here, so that the state knows none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use dayfly_pipelines::message::PipelineContext;
use dayfly_pipelines::{Compiled, FileError, Files, Inputs, Plan, Source, Style, TaskCatalog};
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{BuildId, ContainerId, ProjectId};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::predefined::Predefined;
use crate::app::App;
use crate::runs::{Placement, RunReason, RunRepository, RunRequest};
use crate::settings::Library;
use crate::state::definitions::PipelineFile;
use crate::state::engine::{NewRun, ResourceRepository};
use crate::state::garbage::Left;
use crate::state::secure_files::KeptFile;
use crate::state::{self, State};
use crate::stores::git::plain_git;
use crate::stores::snapshot;

/// The largest pipeline file that is read.
const MAX_YAML_BYTES: u64 = 8 << 20;
/// For whom runs are that were queued over HTTP.
const REQUESTED_FOR: &str = "dayfly";

/// Why no run was queued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state refused it.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The pipeline's file has mistakes.
    #[error("the pipeline `{pipeline}` does not compile:\n{report}")]
    Compile {
        /// The pipeline.
        pipeline: String,
        /// What is wrong, with places.
        report: String,
        /// Whether nothing is wrong but that parameters need a value.
        only_asks_for_values: bool,
    },
    /// The pipeline's file cannot be read.
    #[error("cannot read the pipeline file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The pipeline has no file of its own.
    #[error("the pipeline `{0}` has no file, so it cannot be queued here")]
    NoFile(String),
    /// A branch, commit or file is not in the repository.
    #[error("`{what}` was not found in the repository `{repository}`: {message}")]
    NotInRepository {
        /// What was asked for.
        what: String,
        /// The repository.
        repository: String,
        /// What git said.
        message: String,
    },
    /// No snapshot of the work tree could be taken.
    #[error("could not snapshot the work tree")]
    Snapshot(#[from] snapshot::Error),
    /// The folder with the artifacts of another pipeline cannot be read.
    #[error("cannot read the folder `{}`, which has the artifacts of another pipeline", folder.display())]
    Artifacts {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No place could be made for the run's artifacts.
    #[error("could not make room for the artifacts of the run")]
    Container(#[source] crate::stores::containers::Error),
    /// Something in the emulator broke.
    #[error("could not compile the pipeline: the compiler crashed")]
    Broken(#[source] tokio::task::JoinError),
}

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// What REST callers say to queue a run of a registered pipeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueRequest {
    pub(crate) project: String,
    pub(crate) definition: i32,
    /// The branch or tag, in full or short; the default one if absent.
    pub(crate) branch: Option<String>,
    /// The commit; the branch's last one if absent.
    pub(crate) commit: Option<String>,
    pub(crate) variables: BTreeMap<String, VariableValue>,
    pub(crate) parameters: BTreeMap<String, Value>,
    pub(crate) skip_stages: Vec<String>,
    /// Text to compile in place of the pipeline's file.
    pub(crate) yaml: Option<String>,
}

/// A pipeline's file with the repository it is from.
struct Loaded {
    project: ProjectId,
    project_name: String,
    pipeline: String,
    source: Source,
    repository: RunRepository,
    /// The snapshot that was made for it.
    snapshot: Option<NewSnapshot>,
}

/// The folder of a snapshot that no run has yet. When it is given up, whatever the reason, it is deleted.
struct NewSnapshot {
    app: App,
    folder: Option<PathBuf>,
}

impl NewSnapshot {
    fn new(app: &App) -> Self {
        Self { app: app.clone(), folder: Some(app.new_snapshot_folder()) }
    }

    fn folder(&self) -> &Path {
        self.folder.as_deref().unwrap_or(Path::new(""))
    }

    /// It is a run's from now on.
    fn keep(mut self) {
        self.folder = None;
    }
}

impl Drop for NewSnapshot {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            let mut state = self.app.state();
            state.repositories.forget(&folder);
            state.garbage.push(Left::Folder(folder));
        }
    }
}

impl App {
    /// Queues a run of a registered pipeline.
    pub(crate) async fn queue_definition(&self, request: QueueRequest) -> Result<BuildId> {
        let loaded = self.load(&request).await?;
        let compiled = self.compile(&loaded, &request).await?;
        let plan = Arc::new(compiled.plan);
        let skipped =
            |name: &str| request.skip_stages.iter().any(|skipped| skipped.eq_ignore_ascii_case(name));
        let stages: Vec<_> = match request.skip_stages.is_empty() {
            true => Vec::new(),
            false => {
                plan.stages.iter().map(|stage| stage.name.clone()).filter(|name| !skipped(name)).collect()
            }
        };
        // No names stand for all stages further on.
        if stages.is_empty() && !request.skip_stages.is_empty() {
            let reason = "it skips every stage of the pipeline".to_owned();
            return Err(state::Error::Invalid { what: "the choice of stages", reason }.into());
        }
        let library = &self.settings().library;
        let run = RunRequest {
            parameters: request.parameters,
            variables: with_group_secrets(library, &plan, request.variables),
            endpoints: library.service_connections.clone(),
            secure_files: library.secure_files.clone(),
            stages,
            reason: RunReason::Manual,
            placement: Placement::AsWritten,
            requested_for: REQUESTED_FOR.to_owned(),
            ..RunRequest::new(loaded.project.to_string(), loaded.pipeline, plan, loaded.repository)
        };
        let id = self.queue_run(run).await?;
        if let Some(snapshot) = loaded.snapshot {
            snapshot.keep();
        }
        Ok(id)
    }

    /// Compiles a registered pipeline as a run would.
    pub(crate) async fn compile_definition(&self, request: &QueueRequest) -> Result<Plan> {
        let loaded = self.load(request).await?;
        Ok(self.compile(&loaded, request).await?.plan)
    }

    /// Queues a run of a compiled pipeline. Its repository is served from now on.
    pub(crate) async fn queue_run(&self, request: RunRequest) -> Result<BuildId> {
        let project = self.state().projects.find(&request.project)?.id;
        let resources = self.resources(project, &request).await?;
        self.serve(project, &request)?;
        let pipelines = self.upstream(project, &request).await?;
        let container = ContainerId(self.containers().create().await.map_err(Error::Container)?);
        let started = self.start(project, request, resources, pipelines, container);
        if started.is_err() {
            self.containers().remove(container.0).await;
        }
        Ok(started?)
    }

    /// Serves the pipeline's own repository.
    fn serve(&self, project: ProjectId, request: &RunRequest) -> state::Result<()> {
        let mut state = self.state();
        let repository = &request.repository;
        if state.repositories.find(project, &repository.name).is_err() || repository.is_temporary {
            let branch = repository.reference.clone();
            state.repositories.insert(project, &repository.name, repository.directory.clone(), branch)?;
        }
        Ok(())
    }

    fn start(
        &self,
        project: ProjectId,
        request: RunRequest,
        mut resources: Vec<ResourceRepository>,
        pipelines: Vec<PipelineContext>,
        container: ContainerId,
    ) -> state::Result<BuildId> {
        let now = self.now();
        let mut state = self.state();
        for (alias, repository) in &request.repositories {
            let served_as = state.repositories.insert_beside(project, repository)?;
            resources.push(ResourceRepository {
                alias: alias.clone(),
                repository: repository.clone(),
                served_as,
                checkout: checkout_options(&request.plan, alias),
            });
        }
        let definition = state.definitions.named_or_insert(project, &request.pipeline, now)?.id;
        state.start_run(
            NewRun {
                project,
                definition,
                plan: request.plan,
                repository: request.repository,
                resources,
                pipelines,
                variables: request.variables,
                parameters: request.parameters,
                stages: request.stages,
                jobs: request.jobs,
                placement: request.placement,
                reason: request.reason,
                requested_for: request.requested_for,
                container,
                endpoints: request.endpoints,
                environments: request.environments,
                secure_files: request.secure_files.into_iter().map(KeptFile::new).collect(),
                collection: self.base().clone(),
            },
            now,
        )
    }

    /// The repositories which a file names as resources, as far as they are served here and the run does not
    /// bring them. A job that checks out another fails when it starts.
    async fn resources(&self, project: ProjectId, request: &RunRequest) -> Result<Vec<ResourceRepository>> {
        let mut found = Vec::new();
        let is_brought = |alias: &str| request.repositories.keys().any(|key| key.eq_ignore_ascii_case(alias));
        for resource in &request.plan.resources.repositories {
            if is_brought(&resource.alias) {
                continue;
            }
            let name = resource.name.as_deref().unwrap_or_default();
            let name = name.rsplit('/').next().unwrap_or(name);
            if resource.alias.eq_ignore_ascii_case("self") || name.is_empty() {
                continue;
            }
            let served = self.state().repositories.find(project, name).ok().cloned();
            let Some(served) = served else { continue };
            let branch = resource.reference.clone().unwrap_or_else(|| served.default_branch.clone());
            found.push(ResourceRepository {
                alias: resource.alias.clone(),
                repository: at_commit(&served.name, &served.directory, &branch, None).await?,
                served_as: served.name.clone(),
                checkout: resource.checkout.clone(),
            });
        }
        Ok(found)
    }

    async fn load(&self, request: &QueueRequest) -> Result<Loaded> {
        let (project, pipeline, file, served) =
            self.state().pipeline_file(&request.project, request.definition)?;
        let (repository, source, snapshot) = match file {
            PipelineFile::None => return Err(Error::NoFile(pipeline)),
            PipelineFile::WorkTree(path) => {
                let text = read_file(&path).await?;
                let folder = path.parent().unwrap_or(Path::new("."));
                let new = NewSnapshot::new(self);
                let taken = snapshot::take(folder, new.folder()).await?;
                let mut repository = RunRepository::of_snapshot(&taken);
                repository.is_temporary = true;
                let relative = tokio::fs::canonicalize(&path).await.ok();
                let relative = relative.as_deref().and_then(|path| path.strip_prefix(&taken.work_tree).ok());
                let name = relative.unwrap_or(&path).to_string_lossy().into_owned();
                (repository, Source { name, text }, Some(new))
            }
            PipelineFile::Repository { repository, path } => {
                let served = served.ok_or(state::Error::RepositoryNotFound(repository))?;
                let branch = request.branch.as_deref().unwrap_or(&served.default_branch);
                let at =
                    at_commit(&served.name, &served.directory, branch, request.commit.as_deref()).await?;
                let text = file_at(&at, &path).await?;
                (at, Source { name: path, text }, None)
            }
        };
        let project_name = self.state().projects.find(&request.project)?.name.clone();
        let source = match &request.yaml {
            Some(text) => Source { text: text.clone(), ..source },
            None => source,
        };
        Ok(Loaded { project, project_name, pipeline, source, repository, snapshot })
    }

    async fn compile(&self, loaded: &Loaded, request: &QueueRequest) -> Result<Compiled> {
        let public = request.variables.iter().filter(|(_, variable)| !variable.is_secret);
        let predefined = Predefined {
            project: &loaded.project_name,
            pipeline: &loaded.pipeline,
            reason: RunReason::Manual,
            repository: &loaded.repository.name,
            reference: &loaded.repository.reference,
            commit: Some(&loaded.repository.commit),
            collection: Some(self.base().as_str()),
        };
        let inputs = Inputs {
            parameters: request.parameters.clone(),
            variables: public
                .map(|(name, variable)| (name.clone(), variable.value.clone().unwrap_or_default()))
                .collect(),
            variable_groups: public_groups(&self.settings().library),
            system: predefined.variables(),
            tasks: Arc::clone(self.tasks()) as Arc<dyn TaskCatalog + Send + Sync>,
            files: Arc::new(CommitFiles {
                repository: loaded.repository.clone(),
                runtime: tokio::runtime::Handle::current(),
            }),
            path: loaded.source.name.clone(),
        };
        let source = loaded.source.clone();
        // A large file with many expressions may take a while.
        let compiled = tokio::task::spawn_blocking(move || dayfly_pipelines::compile(&source, &inputs)).await;
        compiled.map_err(Error::Broken)?.map_err(|diagnostics| Error::Compile {
            pipeline: loaded.pipeline.clone(),
            report: diagnostics.render(Style::Plain),
            only_asks_for_values: diagnostics.only_asks_for_values(),
        })
    }
}

/// What the compiler may see of the variable groups.
fn public_groups(library: &Library) -> BTreeMap<String, BTreeMap<String, String>> {
    let public = |group: &BTreeMap<String, VariableValue>| {
        let public = group.iter().filter(|(_, variable)| !variable.is_secret);
        public.map(|(name, variable)| (name.clone(), variable.value.clone().unwrap_or_default())).collect()
    };
    library.variable_groups.iter().map(|(name, group)| (name.clone(), public(group))).collect()
}

/// The variables of a run with the secret ones of the groups that its pipeline uses. What is given for the
/// run counts, in whatever case its name is.
fn with_group_secrets(
    library: &Library,
    plan: &Plan,
    mut given: BTreeMap<String, VariableValue>,
) -> BTreeMap<String, VariableValue> {
    let is_used = |group: &str| plan.variable_groups.iter().any(|used| used.eq_ignore_ascii_case(group));
    let groups = library.variable_groups.iter().filter(|(name, _)| is_used(name));
    for (name, variable) in groups.flat_map(|(_, group)| group).filter(|(_, variable)| variable.is_secret) {
        if !given.keys().any(|known| known.eq_ignore_ascii_case(name)) {
            given.insert(name.clone(), variable.clone());
        }
    }
    given
}

/// The files of a repository at a run's commit, for templates. Read from a thread that may wait.
struct CommitFiles {
    repository: RunRepository,
    runtime: tokio::runtime::Handle,
}

impl Files for CommitFiles {
    fn read(&self, path: &str) -> Result<String, FileError> {
        self.runtime.block_on(file_at(&self.repository, path)).map_err(|error| match error {
            Error::NotInRepository { message, .. } if message.contains("does not exist") => {
                FileError::NotFound
            }
            Error::NotInRepository { message, .. } => FileError::Unreadable(message),
            Error::Read { source, .. } => FileError::Unreadable(source.to_string()),
            other => FileError::Unreadable(other.to_string()),
        })
    }
}

impl State {
    /// A pipeline's project, name and file, and the repository which holds the file if it is served here.
    fn pipeline_file(
        &self,
        project: &str,
        definition: i32,
    ) -> state::Result<(ProjectId, String, PipelineFile, Option<state::repositories::Repository>)> {
        let project = self.projects.find(project)?.id;
        let definition = self.definitions.get(project, definition)?;
        let served =
            definition.repository().and_then(|name| self.repositories.find(project, name).ok()).cloned();
        Ok((project, definition.name.clone(), definition.file.clone(), served))
    }
}

/// What a file's resource says of all checkouts of it.
fn checkout_options(plan: &Plan, alias: &str) -> BTreeMap<String, String> {
    let mut resources = plan.resources.repositories.iter();
    let resource = resources.find(|resource| resource.alias.eq_ignore_ascii_case(alias));
    resource.map(|resource| resource.checkout.clone()).unwrap_or_default()
}

impl RunRepository {
    /// A repository on this disk at a branch or tag; without one, at the branch that its HEAD names.
    ///
    /// # Errors
    /// If git cannot be run, or the repository has no such branch or tag.
    pub async fn at(name: &str, directory: &Path, reference: Option<&str>) -> Result<Self> {
        let reference = match reference {
            Some(reference) => reference.to_owned(),
            None => head_branch(directory).await,
        };
        at_commit(name, directory, &reference, None).await
    }
}

async fn read_file(path: &Path) -> Result<String> {
    let failed = |source| Error::Read { path: path.to_path_buf(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_YAML_BYTES + 1).read_to_string(&mut text).await.map_err(failed)?;
    if text.len() as u64 > MAX_YAML_BYTES { Err(too_large(path)) } else { Ok(text) }
}

/// A repository at a branch, tag or commit.
pub(crate) async fn at_commit(
    name: &str,
    directory: &Path,
    branch: &str,
    commit: Option<&str>,
) -> Result<RunRepository> {
    let full = match branch {
        branch if branch.starts_with("refs/") => branch.to_owned(),
        branch => format!("refs/heads/{branch}"),
    };
    let object = commit.unwrap_or(&full);
    let missing = |message: String| Error::NotInRepository {
        what: object.to_owned(),
        repository: name.to_owned(),
        message,
    };
    let mut command = repository_git(directory);
    command.args([
        "log",
        "-1",
        "--no-show-signature",
        "--format=%H%n%an%n%s",
        "--end-of-options",
        object,
        "--",
    ]);
    let text = output(command).await.map_err(missing)?;
    let mut lines = text.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    Ok(RunRepository {
        name: name.to_owned(),
        directory: directory.to_path_buf(),
        reference: full.clone(),
        commit: next(),
        author: next(),
        message: next(),
        is_temporary: false,
    })
}

/// The branch that HEAD names, in full; `refs/heads/main` if it names none.
pub(crate) async fn head_branch(directory: &Path) -> String {
    let mut command = repository_git(directory);
    command.args(["symbolic-ref", "--quiet", "HEAD"]);
    let name = output(command).await.map(|name| name.trim().to_owned()).unwrap_or_default();
    if name.is_empty() { "refs/heads/main".to_owned() } else { name }
}

async fn file_at(repository: &RunRepository, path: &str) -> Result<String> {
    let mut command = repository_git(&repository.directory);
    command.args(["cat-file", "blob", &format!("{}:{path}", repository.commit)]);
    let text = output(command).await.map_err(|message| Error::NotInRepository {
        what: path.to_owned(),
        repository: repository.name.clone(),
        message,
    })?;
    if text.len() as u64 > MAX_YAML_BYTES { Err(too_large(Path::new(path))) } else { Ok(text) }
}

fn too_large(path: &Path) -> Error {
    Error::Read { path: path.to_path_buf(), source: std::io::Error::other("it is larger than 8 MiB") }
}

/// The operator named the folder: whose it is does not matter, and nothing that is run here obeys its
/// settings.
fn repository_git(directory: &Path) -> Command {
    let mut command = plain_git();
    command.current_dir(directory).args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]);
    command
}

/// What git wrote, or what it said when it failed. Of more than [`MAX_YAML_BYTES`] the rest is not read.
async fn output(mut command: Command) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("could not start git: {error}"))?;
    let (written, said) = tokio::join!(
        read_some(child.stdout.take(), MAX_YAML_BYTES + 1),
        read_some(child.stderr.take(), MAX_YAML_BYTES)
    );
    let status = child.wait().await.map_err(|error| format!("git did not end: {error}"))?;
    // A git whose output is not taken is ended by that.
    if status.success() || written.len() as u64 > MAX_YAML_BYTES {
        return Ok(String::from_utf8_lossy(&written).into_owned());
    }
    Err(String::from_utf8_lossy(&said).trim().chars().take(500).collect())
}

/// The first bytes of a pipe, which is closed then.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>, bytes: u64) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(pipe) = pipe {
        // What cannot be read is missing; git's exit code says whether that matters.
        let _ = pipe.take(bytes).read_to_end(&mut read).await;
    }
    read
}
