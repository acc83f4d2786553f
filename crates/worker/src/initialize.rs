//! "Initialize job": folders, predefined variables, and the list of what will run (`JobExtension.cs`,
//! `BuildJobExtension.cs`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dayfly_protocol::RecordId;
use dayfly_protocol::job::{AgentJobRequestMessage, Step};
use dayfly_protocol::task;
use uuid::Uuid;

use crate::AGENT_VERSION;
use crate::commands::Restrictions;
use crate::conditions::Condition;
use crate::context::{JobContext, StepContext};
use crate::directories::{Clean, PipelineFolders, Sets, WorkFolder, clone_folder};
use crate::files;
use crate::report::NewRecord;
use crate::steps::{self, Packages, Part, expand};
use crate::variables::{Flags, Variables, parse_boolean};

/// The environment variable by which processes that outlive the job are found (`VSTS_PROCESS_LOOKUP_ID`).
const LOOKUP_ID: &str = "VSTS_PROCESS_LOOKUP_ID";

/// One part of a step with its record.
pub(crate) struct Entry {
    pub(crate) step: Arc<Step>,
    pub(crate) part: Part,
    pub(crate) display_name: String,
    pub(crate) condition: Condition,
    pub(crate) context: StepContext,
}

impl Entry {
    /// The step's own timeout; none if it has none.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        u64::try_from(self.step.timeout_in_minutes)
            .ok()
            .filter(|minutes| *minutes > 0)
            .map(|minutes| Duration::from_secs(minutes.saturating_mul(60)))
    }
}

/// What the initialisation leaves for the end of the job.
pub(crate) struct Initialized {
    /// What runs, in order: steps, then post-job parts, last step first.
    pub(crate) entries: Vec<Entry>,
    /// The order of the record after theirs.
    pub(crate) next_order: i32,
    /// The mark of this job's processes; none if processes which outlive the job are to be left alone.
    pub(crate) lookup_id: Option<String>,
}

/// Sets what is known before the job's own record is told anything (`JobRunner.cs`).
pub(crate) async fn set_agent_variables(
    job: &JobContext,
    message: &AgentJobRequestMessage,
    work: &WorkFolder,
) {
    let settings = &job.settings;
    let work_folder = settings.work_directory.to_string_lossy();
    let flag = |on: bool| if on { "1" } else { "0" };
    let agent_id = settings.agent_id.to_string();
    let in_docker = files::exists("/.dockerenv").await;
    for (name, value) in [
        ("Agent.Id", agent_id.as_str()),
        ("Agent.HomeDirectory", &settings.home_directory.to_string_lossy()),
        ("Agent.JobName", &message.job_display_name),
        ("Agent.IsSelfHosted", "1"),
        ("Agent.MachineName", &settings.machine_name),
        ("Agent.Name", &settings.agent_name),
        ("Agent.OS", operating_system()),
        ("Agent.OSArchitecture", architecture()),
        ("Agent.RootDirectory", &work_folder),
        ("Agent.AcceptTeeEula", "False"),
        ("Agent.WorkFolder", &work_folder),
        ("System.WorkFolder", &work_folder),
        ("System.IsAzureVM", "0"),
        ("System.IsDockerContainer", flag(in_docker)),
        ("Agent.ToolsDirectory", &work.tools().to_string_lossy()),
        ("Agent.TempDirectory", &work.temporary().to_string_lossy()),
        ("Agent.Version", AGENT_VERSION),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        job.set_variable(name, value);
    }
    if settings.run_once {
        job.set_variable("Agent.RunMode", "once");
    }
    if let Some(file) = settings.ca_files.first() {
        job.set_variable("Agent.CAInfo", &file.to_string_lossy());
    }
    if job.with_variables(|variables| variables.is_on("VSTS_OVERWRITE_TEMP")) {
        job.set_variable("TMPDIR", &work.temporary().to_string_lossy());
    }
}

fn operating_system() -> &'static str {
    if cfg!(target_os = "macos") { "Darwin" } else { "Linux" }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "x86" => "X86",
        "aarch64" => "ARM64",
        "arm" => "ARM",
        other => other,
    }
}

/// Initialises the job. An error is for the log of "Initialize job" and fails the job.
pub(crate) async fn initialize(
    job: &Arc<JobContext>,
    record: &StepContext,
    message: &AgentJobRequestMessage,
    work: &Arc<WorkFolder>,
) -> Result<Initialized, String> {
    record.output(&format!("Agent name: '{}'", job.settings.agent_name)).await;
    record.output(&format!("Agent machine name: '{}'", job.settings.machine_name)).await;
    record
        .output(&format!("Current agent version: '{AGENT_VERSION}' (Dayfly {})", env!("CARGO_PKG_VERSION")))
        .await;
    record.output(&format!("Agent running as: '{}'", user_name().await)).await;
    // The official worker takes the steps that are tasks (`OfType<TaskStep>` in `JobExtension.cs`).
    let (mut steps, others): (Vec<_>, Vec<_>) = message.steps.iter().cloned().partition(Step::is_task);
    for step in &others {
        let kind = step.step_type.as_deref().unwrap_or_default();
        let name = name_of(step);
        record
            .output(&format!("The step '{name}' is left out: it is of the type '{kind}', not a task."))
            .await;
    }
    if job.with_variables(|variables| variables.get_boolean("build.syncsources")).unwrap_or(true) {
        prepare_pipeline(job, record, message, &mut steps, work).await?;
    } else {
        // Jobs without sources have no pipeline folder, so their scripts start in the work folder.
        job.set_variable("System.DefaultWorkingDirectory", &job.settings.work_directory.to_string_lossy());
    }
    let is_wanted = |task: &_| steps::is_downloaded(job, task);
    job.set_packages(Packages::get(record, &job.service, &work.tasks(), &steps, is_wanted).await);
    // "Initialize job" is the first, and containers have a record of their own.
    let has_containers = job.containers.as_ref().is_some_and(|containers| containers.begins(message));
    let first = if has_containers { 3 } else { 2 };
    let entries = entries(job, steps, first)?;
    let next_order = first + i32::try_from(entries.len()).unwrap_or(i32::MAX - first);
    record.output("Checking job knob settings.").await;
    record.output("Finished checking job knob settings.").await;
    let cleans = job.with_variables(|variables| variables.get_boolean("process.clean")).unwrap_or(true);
    let lookup_id = cleans.then(|| format!("vsts_{}", Uuid::new_v4()));
    if let Some(lookup_id) = &lookup_id {
        job.set_variable(LOOKUP_ID, lookup_id);
        record.output("Start tracking orphan processes.").await;
    }
    job.first_environment();
    Ok(Initialized { entries, next_order, lookup_id })
}

/// The machine may ask a directory service, which may take its time.
async fn user_name() -> String {
    let id = nix::unistd::geteuid();
    let user = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(id)).await;
    user.ok().and_then(Result::ok).flatten().map_or_else(|| id.to_string(), |user| user.name)
}

/// Prepares the pipeline's folders and sets the variables about them and the repository.
async fn prepare_pipeline(
    job: &Arc<JobContext>,
    record: &StepContext,
    message: &AgentJobRequestMessage,
    steps: &mut [Step],
    work: &Arc<WorkFolder>,
) -> Result<(), String> {
    if let Some(repository) = job.triggering_repository() {
        set_repository_variables(job, &repository.resource);
    } else if steps.iter().any(is_checkout) {
        return Err(
            "Unable to match any source repository endpoints with any of the supported source providers."
                .to_owned(),
        );
    }
    record.output("Prepare build directory.").await;
    let folders = {
        let work = Arc::clone(work);
        let collection = job.variable_or_empty("system.collectionid");
        let definition = job.variable_or_empty("system.definitionid");
        let repositories = message.resources.repositories.clone();
        let clean = clean_option(job, message);
        let by_set =
            job.with_variables(|variables| variables.get_boolean("agent.useworkspaceid")) == Some(true);
        let sets = if by_set { Sets::FolderEach } else { Sets::OneFolder };
        tokio::task::spawn_blocking(move || {
            work.prepare(&collection, &definition, &repositories, sets, clean)
        })
        .await
        .map_err(|error| format!("Could not prepare the job's folders: {error}"))?
        .map_err(|error| dayfly_client::describe(&error))?
    };
    for repository in job.repositories() {
        let path = if job.multiple_checkouts {
            folders.sources.join(clone_folder(&repository.resource))
        } else {
            folders.sources.clone()
        };
        job.set_repository_path(repository.alias(), path);
    }
    job.set_variable("Pipeline.Workspace", &folders.build.to_string_lossy());
    update_checkouts(job, steps);
    record.output("Set build variables.").await;
    set_folder_variables(job, steps, &folders);
    Ok(())
}

fn is_checkout(step: &Step) -> bool {
    step.reference.as_ref().is_some_and(|reference| reference.id.0 == task::CHECKOUT)
}

/// Variables win over the YAML's `workspace: clean`.
fn clean_option(job: &JobContext, message: &AgentJobRequestMessage) -> Clean {
    let from_variable = |name: &str| job.variable(name).and_then(|value| Clean::from_variable(value.trim()));
    from_variable("agent.clean.builddirectory").or_else(|| from_variable("build.clean")).unwrap_or_else(
        || {
            let clean = message
                .workspace
                .as_ref()
                .and_then(|workspace| workspace.clean.as_deref())
                .unwrap_or_default();
            Clean::from_workspace(&expand(job, clean))
        },
    )
}

fn set_repository_variables(job: &JobContext, repository: &dayfly_protocol::job::RepositoryResource) {
    let properties = &repository.properties;
    let pipeline_repository = job.variable_or_empty("build.repository.name");
    job.set_variable("Pipeline.Repository.Name", &pipeline_repository);
    if let Some(id) = properties.id.as_deref().filter(|id| !id.is_empty()) {
        job.set_variable("Build.Repository.Id", id);
    }
    job.set_variable("Build.Repository.Name", properties.name.as_deref().unwrap_or_default());
    job.set_variable(
        "Build.Repository.Provider",
        provider(properties.repository_type.as_deref().unwrap_or_default()),
    );
    let url = properties.url.as_ref().map(ToString::to_string).unwrap_or_default();
    job.set_variable("Build.Repository.Uri", &url);
}

/// How `Build.Repository.Provider` calls a type of repository.
fn provider(repository_type: &str) -> &str {
    match repository_type {
        text if text.eq_ignore_ascii_case("Git") => "TfsGit",
        text if text.eq_ignore_ascii_case("ExternalGit") => "Git",
        text if text.eq_ignore_ascii_case("Tfvc") => "TfsVersionControl",
        other => other,
    }
}

/// `Build.Repository.Clean` of the service wins over the steps' own `clean`; names of checkout steps are
/// completed.
fn update_checkouts(job: &JobContext, steps: &mut [Step]) {
    let from_service = job.with_variables(|variables| variables.get_boolean("build.repository.clean"));
    let only_one = steps.iter().filter(|step| is_checkout(step)).count() == 1;
    let mut of_self = None;
    for step in steps.iter_mut().filter(|step| is_checkout(step)) {
        let Some(alias) = step.inputs.get("repository").cloned() else { continue };
        if let Some(clean) = from_service {
            step.inputs.insert("clean".to_owned(), clean.to_string());
        }
        if only_one || alias.eq_ignore_ascii_case("self") {
            let submodules = step.inputs.contains_key("submodules");
            job.set_variable(
                "Build.Repository.Git.SubmoduleCheckout",
                if submodules { "True" } else { "False" },
            );
            of_self = step.inputs.get("clean").map(|clean| parse_boolean(clean).unwrap_or(true));
        }
        if let Some(name) = steps::checkout_display_name(job, step) {
            step.display_name = Some(name);
        }
    }
    let clean = from_service.or(of_self).unwrap_or(false);
    job.set_variable("Build.Repository.Clean", if clean { "True" } else { "False" });
}

fn set_folder_variables(job: &JobContext, steps: &[Step], folders: &PipelineFolders) {
    let sources = &folders.sources;
    for (name, path) in [
        ("Agent.BuildDirectory", &folders.build),
        ("System.ArtifactsDirectory", &folders.artifacts),
        ("System.DefaultWorkingDirectory", &default_working_directory(job, steps, folders)),
        ("Common.TestResultsDirectory", &folders.test_results),
        ("Build.BinariesDirectory", &folders.binaries),
        ("Build.SourcesDirectory", sources),
        ("Build.StagingDirectory", &folders.artifacts),
        ("Build.ArtifactStagingDirectory", &folders.artifacts),
        ("Build.Repository.LocalPath", &local_path_of_self(job, steps, folders)),
        ("Pipeline.Workspace", &folders.build),
    ] {
        job.set_variable(name, &path.to_string_lossy());
    }
}

/// The sources, or the repository whose checkout says `workspaceRepo: true` when there are several.
fn default_working_directory(job: &JobContext, steps: &[Step], folders: &PipelineFolders) -> PathBuf {
    if job.multiple_checkouts {
        let marked = steps.iter().filter(|step| is_checkout(step)).find(|step| {
            step.inputs.get("workspaceRepo").is_some_and(|text| crate::variables::convert_to_boolean(text))
        });
        if let Some(path) = marked.and_then(|step| checkout_path(job, step, folders)) {
            return path;
        }
    }
    folders.sources.clone()
}

/// The sources, unless one of several checkouts puts `self` into a folder of its own choice
/// (`GetDefaultRepoLocalPathValue`).
fn local_path_of_self(job: &JobContext, steps: &[Step], folders: &PipelineFolders) -> PathBuf {
    if job.multiple_checkouts {
        let of_self = steps.iter().filter(|step| is_checkout(step)).find(|step| {
            step.inputs.get("repository").is_some_and(|alias| alias.eq_ignore_ascii_case("self"))
                && step.inputs.contains_key("path")
        });
        if let Some(path) = of_self.and_then(|step| checkout_path(job, step, folders)) {
            return path;
        }
    }
    folders.sources.clone()
}

fn checkout_path(job: &JobContext, step: &Step, folders: &PipelineFolders) -> Option<PathBuf> {
    match step.inputs.get("path") {
        Some(path) => Some(steps::normalize(&folders.build.join(expand(job, path)))),
        None => job.repository(step.inputs.get("repository")?).map(|repository| repository.path),
    }
}

/// Makes the records of all steps, in the order they will run.
fn entries(job: &Arc<JobContext>, steps: Vec<Step>, first: i32) -> Result<Vec<Entry>, String> {
    let (mut pre, mut main, mut post) = (Vec::new(), Vec::new(), Vec::new());
    let has = |step: &Step, part| steps::has(job.packages(), step, part);
    // The service leaves disabled steps out; one that comes anyway is left out here.
    for step in steps.into_iter().filter(|step| step.enabled) {
        let condition = Condition::parse(step.condition.as_deref())
            .map_err(|message| format!("Step '{}': {message}", name_of(&step)))?;
        let display_name = job.with_variables(|variables| variables.expand(&name_of(&step)));
        let task_variables = Arc::new(Mutex::new(Variables::new(job.masker.clone())));
        let part = |part, name: String, condition| Planned {
            step: Arc::new(step.clone()),
            part,
            display_name: name,
            condition,
            task_variables: Arc::clone(&task_variables),
        };
        if has(&step, Part::PreJob) {
            pre.push(part(Part::PreJob, format!("Pre-job: {display_name}"), Condition::parse(None)?));
        }
        if has(&step, Part::PostJob) {
            post.push(part(Part::PostJob, format!("Post-job: {display_name}"), Condition::always()));
        }
        if has(&step, Part::Main) {
            main.push(part(Part::Main, display_name, condition));
        }
    }
    let all = pre.into_iter().chain(main).chain(post.into_iter().rev());
    Ok(all.zip(first..).map(|(planned, order)| entry(job, planned, order)).collect())
}

/// A part of a step, before it has a record.
struct Planned {
    step: Arc<Step>,
    part: Part,
    display_name: String,
    condition: Condition,
    task_variables: Arc<Mutex<Variables>>,
}

fn name_of(step: &Step) -> String {
    let named = step.display_name.as_deref().filter(|name| !name.is_empty()).or(step.name.as_deref());
    named
        .map(str::to_owned)
        .or_else(|| step.reference.as_ref().map(|reference| reference.name.clone()))
        .unwrap_or_default()
}

fn entry(job: &Arc<JobContext>, planned: Planned, order: i32) -> Entry {
    let Planned { step, part, display_name, condition, task_variables } = planned;
    let ref_name = step.name.clone().unwrap_or_default();
    let record = job.reporter.record(NewRecord {
        // The record of the main part is the step itself.
        id: if part == Part::Main { step.id } else { RecordId(Uuid::new_v4()) },
        parent: Some(job.record.id()),
        kind: "Task".to_owned(),
        name: display_name.clone(),
        ref_name: Some(ref_name.clone()),
        order: Some(order),
        task: step.reference.clone(),
    });
    let mut restrictions = Restrictions::of(&step);
    if let Some((is_restricted, settable)) = steps::restrictions(job.packages(), &step) {
        restrictions = restrictions.and(is_restricted, settable);
    }
    let context = StepContext::new(Arc::clone(job), record, &ref_name, task_variables, restrictions);
    Entry { step, part, display_name, condition, context }
}

/// Sets the variables that exist only while a part of a step runs (`TaskRunner.cs`); [`unset_step_variables`]
/// takes them away.
pub(crate) fn set_step_variables(entry: &Entry) {
    let job = &entry.context.job;
    let id = entry.step.id.to_string();
    let display_name = &entry.display_name;
    job.change_variables(|variables| {
        for (name, value) in [
            (STEP_VARIABLES[0], display_name.as_str()),
            (STEP_VARIABLES[1], "True"),
            (STEP_VARIABLES[2], &id),
            (STEP_VARIABLES[3], display_name),
            (STEP_VARIABLES[4], entry.step.name.as_deref().unwrap_or_default()),
        ] {
            variables.set(name, value, Flags::default());
        }
    });
}

/// Takes the variables of a step away again.
pub(crate) fn unset_step_variables(job: &JobContext) {
    job.change_variables(|variables| STEP_VARIABLES.iter().for_each(|name| variables.unset(name)));
}

const STEP_VARIABLES: [&str; 5] = [
    "Task.DisplayName",
    "Task.PublishTelemetry",
    "System.TaskInstanceId",
    "System.TaskDisplayName",
    "System.TaskInstanceName",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_called_by_their_old_names() {
        for (kind, expected) in
            [("Git", "TfsGit"), ("ExternalGit", "Git"), ("Tfvc", "TfsVersionControl"), ("GitHub", "GitHub")]
        {
            assert_eq!(provider(kind), expected);
        }
    }

    #[test]
    fn architectures_are_those_of_dotnet() {
        assert!(["X64", "X86", "ARM", "ARM64"].contains(&architecture()));
    }
}
