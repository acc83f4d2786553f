//! `checkout:` steps (`RepositoryPlugin.cs`, `GitSourceProvider.cs`).

pub(super) mod cleanup;
mod credentials;
mod git;
mod local;
mod reuse;
mod submodules;
mod verify;
mod wishes;

use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use dayfly_protocol::job::Step;

use super::{Inputs, Prepared, StepError, normalize};
use crate::context::{JobContext, Repository, StepContext, lock};
use crate::directories::{clone_folder, remove_all};
use crate::files;
use crate::variables::Flags;
use credentials::Header;
use git::{Configuration, Git};
use wishes::{Submodules, Wishes, wishes};

/// Task variable which tells the post-job part that the header is in the repository's configuration.
const CLEANUP: &str = "cleanupcreds";
/// Task variable with the repository's alias.
const REPOSITORY: &str = "repository";

/// The display name of a checkout step which has none of its own: `Checkout project@main to s`.
pub(crate) fn display_name(job: &JobContext, step: &Step) -> Option<String> {
    let own = step.display_name.as_deref().unwrap_or_default();
    let is_default = own.is_empty()
        || own.eq_ignore_ascii_case("Checkout")
        || step.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(own));
    if !is_default {
        return None;
    }
    let repository = job.repository(step.inputs.get("repository")?)?;
    let properties = &repository.resource.properties;
    let reference = properties.reference.as_deref().unwrap_or_default();
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    let workspace = PathBuf::from(job.variable_or_empty("pipeline.workspace"));
    let path = step.inputs.get("path").cloned().unwrap_or_else(|| {
        repository.path.strip_prefix(&workspace).unwrap_or(&repository.path).to_string_lossy().into_owned()
    });
    Some(format!("Checkout {}@{branch} to {path}", properties.name.as_deref().unwrap_or_default()))
}

pub(super) async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let job = &step.job;
    let skips = job.with_variables(|variables| {
        variables.is_on("agent.source.skip")
            || variables
                .get("build.syncsources")
                .is_some_and(|text| !crate::variables::convert_to_boolean(text))
    });
    if skips {
        step.output("Skip sync source for repository.").await;
        return Ok(TaskResult::Succeeded);
    }
    let alias =
        prepared.inputs.get("repository").ok_or_else(|| StepError::failed("Input required: repository"))?;
    let repository = job.repository(alias).ok_or_else(|| {
        StepError::Failed(format!(
            "The checkout step names the repository '{alias}', which the job does not have."
        ))
    })?;
    let wishes = wishes(job, &repository, &prepared.inputs)?;
    lock(&step.task_variables).set(REPOSITORY, repository.alias(), Flags::default());
    let folder = place(step, &repository, &prepared.inputs).await?;
    get_sources(step, &repository, &folder, &wishes).await?;
    Ok(TaskResult::Succeeded)
}

/// Decides where the repository belongs and moves it there if it is elsewhere.
async fn place(step: &StepContext, repository: &Repository, inputs: &Inputs) -> Result<PathBuf, StepError> {
    let job = &step.job;
    let build_directory = PathBuf::from(job.variable_or_empty("agent.builddirectory"));
    let wanted = if let Some(path) = inputs.get("path") {
        if Path::new(path).is_absolute() {
            // (`IOUtil.ResolvePath`)
            return Err(StepError::Failed(format!(
                "The input `path: {path}` is absolute; it must be relative to '{}'.",
                build_directory.display()
            )));
        }
        let wanted = normalize(&build_directory.join(path));
        let root = if job.with_variables(|v| v.is_on("AZP_AGENT_ALLOW_WORK_DIRECTORY_REPOSITORIES")) {
            PathBuf::from(job.variable_or_empty("agent.workfolder"))
        } else {
            build_directory
        };
        if wanted == root || !wanted.starts_with(&root) {
            return Err(StepError::Failed(format!(
                "Input path '{path}' should resolve to a directory under '{}', current resolved path '{}'.",
                root.display(),
                wanted.display()
            )));
        }
        wanted
    } else if job.multiple_checkouts {
        build_directory.join("s").join(clone_folder(&repository.resource))
    } else {
        build_directory.join("s")
    };
    let present = normalize(&repository.path);
    job.set_repository_path(repository.alias(), wanted.clone());
    if present == wanted {
        return Ok(wanted);
    }
    if !job.multiple_checkouts {
        // These are about the only repository (`PluginInternalCommandExtension.cs`).
        for name in ["Build.SourcesDirectory", "Build.Repository.LocalPath", "System.DefaultWorkingDirectory"]
        {
            job.set_variable(name, &wanted.to_string_lossy());
        }
    }
    if !files::exists(present.join(".git")).await {
        // There is nothing to move. An earlier job may have moved it, and so it is used again where it is.
        return Ok(wanted);
    }
    step.output(&format!(
        "Repository is current at '{}', move to '{}'.",
        present.display(),
        wanted.display()
    ))
    .await;
    if let Err(error) = move_folder(&present, &wanted).await {
        step.debug(&format!("Catch exception during repository move: {error}")).await;
        step.warning("Unable move and reuse existing repository to required location.").await;
        remove_folder(&wanted).await?;
    }
    step.output(&format!("Repository will be located at '{}'.", wanted.display())).await;
    Ok(wanted)
}

/// Moves a folder over an old one. The new place may lie within the old one (`s` to `s/sub`), so it goes
/// through a sibling.
async fn move_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    if !files::is_folder(from).await {
        return Ok(());
    }
    let staging = from.with_file_name(format!("_move_{}", uuid::Uuid::new_v4().simple()));
    tokio::fs::rename(from, &staging).await?;
    if files::exists(to).await {
        tokio::fs::remove_dir_all(to).await?;
    }
    if let Some(parent) = to.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    tokio::fs::rename(&staging, to).await
}

async fn remove_folder(folder: &Path) -> Result<(), StepError> {
    let removed = tokio::task::spawn_blocking({
        let folder = folder.to_owned();
        move || remove_all(&folder)
    });
    removed.await.map_err(std::io::Error::other).flatten().map_err(|error| {
        StepError::Failed(format!("Could not delete the folder '{}': {error}", folder.display()))
    })
}

async fn get_sources(
    step: &StepContext,
    repository: &Repository,
    folder: &Path,
    wishes: &Wishes,
) -> Result<(), StepError> {
    let properties = &repository.resource.properties;
    step.output(&format!(
        "Syncing repository: {} ({})",
        properties.name.as_deref().unwrap_or_default(),
        properties.repository_type.as_deref().unwrap_or_default()
    ))
    .await;
    let manages_own = step.job.with_variables(|variables| variables.is_on("system.selfmanagegitcreds"));
    let header = if manages_own {
        step.output(
            "You are in self manage git creds mode. Make sure your agent host machine can bypass any git \
             authentication challenge.",
        )
        .await;
        None
    } else {
        Header::of(&repository.resource, &step.job.endpoints, &step.job.masker)?
    };
    let git = Git::find(step, wishes.lfs).await?;
    git.require_secret_passing(header.as_ref())?;
    let mut is_reused = reuse::prepare_folder(step, &git, folder, wishes).await?;
    let is_self = repository.alias().eq_ignore_ascii_case("self");
    let mut target = obtain(step, &git, folder, wishes, header.as_ref(), is_self && !is_reused).await?;
    if is_reused && wishes.clean && !verify::is_whole(&git, folder, &target).await? {
        step.warning(
            "Objects of this repository were changed by an earlier job, delete source folder and clone anew.",
        )
        .await;
        reuse::start_anew(&git, folder, wishes).await?;
        is_reused = false;
        target = obtain(step, &git, folder, wishes, header.as_ref(), is_self).await?;
    }
    step.record.progress(Some(80), Some("Starting checkout...".to_owned()));
    check_out(step, &git, folder, wishes, &target, header.as_ref()).await?;
    if wishes.lfs && is_reused {
        // Git takes files for checked out which a job without large files left as pointers.
        let none = Configuration::default();
        git.must("Git lfs checkout", folder, &["lfs", "checkout"], &none).await?;
    }
    if wishes.submodules != Submodules::None {
        step.record.progress(Some(90), Some("Updating submodules...".to_owned()));
        if is_reused {
            reuse::forget_submodules(&git, folder).await?;
        }
        let local = step.job.settings.self_repository.as_deref().filter(|_| is_self);
        submodules::update(step, &git, folder, wishes, header.as_ref(), local).await?;
    }
    if wishes.persist_credentials
        && let Some(header) = &header
    {
        // Before it is done: half of it, when the step is cancelled, must be taken out as well.
        lock(&step.task_variables).set(CLEANUP, "true", Flags::default());
        persist(&git, folder, wishes, header).await?;
    }
    Ok(())
}

/// Fetches into a repository that is there; answers what to check out. `copies` says whether objects on this
/// disk may be taken for the fetched ones.
async fn obtain(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
    header: Option<&Header>,
    copies: bool,
) -> Result<String, StepError> {
    configure(step, git, folder, wishes).await?;
    if let Some(from) = &step.job.settings.self_repository
        && wishes.depth == 0
        && wishes.filters.is_empty()
        && copies
    {
        local::copy_objects(step, from, folder).await?;
    }
    step.record.progress(Some(0), Some("Starting fetch...".to_owned()));
    fetch(git, folder, wishes, header).await
}

/// Settings before the fetch.
async fn configure(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
) -> Result<(), StepError> {
    let none = Configuration::default();
    if let Some(sparse) = &wishes.sparse {
        let mode = if sparse.cone { "--cone" } else { "--no-cone" };
        git.must("Git sparse checkout", folder, &["sparse-checkout", "init", mode], &none).await?;
        let mut set = vec!["sparse-checkout", "set"];
        set.extend(sparse.patterns.iter().map(String::as_str));
        git.must("Git sparse checkout", folder, &set, &none).await?;
    } else if files::exists(folder.join(".git/info/sparse-checkout")).await {
        git.must("Git sparse checkout disable", folder, &["sparse-checkout", "disable"], &none).await?;
    }
    if git.run(folder, &["config", "gc.auto", "0"], &none).await? != 0 {
        step.warning(
            "Unable turn off git auto garbage collection, git fetch operation may trigger auto garbage \
             collection which will affect the performance of fetching.",
        )
        .await;
    }
    let code = git.run(folder, &["config", "http.version", "HTTP/1.1"], &none).await?;
    if code != 0 {
        step.warning(&format!("Forcing Git to HTTP/1.1 failed with exit code: {code}")).await;
    }
    Ok(())
}

/// Takes a setting out of the repository's configuration.
async fn remove_setting(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    key: &str,
) -> Result<(), StepError> {
    if git.quiet(folder, &["config", "--unset-all", key]).await?.0 != 0 {
        step.warning(&format!(
            "Unable to remove \"{key}\" from the git config. To remove the credential, execute \"git config \
             --unset-all {key}\" from the repository root \"{}\".",
            folder.display()
        ))
        .await;
    }
    Ok(())
}

/// What a command needs that talks to the repository's host: the login, and the certificate authority if the
/// agent has one for it.
fn network(key: &str, wishes: &Wishes, header: Option<&Header>) -> Configuration {
    Configuration::default()
        .with_header(key, header)
        .with_setting(format!("http.{}.sslcainfo", wishes.authority), wishes.ca_file.as_deref())
}

/// Fetches and answers what to check out.
async fn fetch(
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
    header: Option<&Header>,
) -> Result<String, StepError> {
    let configuration = network("http.extraheader", wishes, header);
    let is_pull_request = is_pull_request(&wishes.branch);
    let shallow_commit = wishes.by_commit && !wishes.commit.is_empty() && wishes.depth > 0;
    let mut specs = Vec::new();
    let mut target = if is_pull_request || wishes.commit.is_empty() {
        remote_reference(&wishes.branch)
    } else {
        wishes.commit.clone()
    };
    if shallow_commit {
        target = format!("refs/remotes/origin/{}", wishes.commit);
        specs.push(format!("+{}:{target}", wishes.commit));
    } else if is_pull_request {
        specs.push("+refs/heads/*:refs/remotes/origin/*".to_owned());
        specs.push(format!("+{}:{}", wishes.branch, remote_reference(&wishes.branch)));
    }
    let mut arguments = fetch_arguments(git, folder, wishes).await;
    arguments.extend(specs);
    let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    git.fetch(folder, &borrowed, &configuration).await?;
    if wishes.by_commit && !wishes.commit.is_empty() {
        // A commit which no branch reaches any more comes only if asked for by its id.
        let mut arguments = fetch_arguments(git, folder, wishes).await;
        arguments.push(format!("+{}", wishes.commit));
        let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
        git.fetch(folder, &borrowed, &configuration).await?;
    }
    Ok(target)
}

/// The fetch without its refspecs.
async fn fetch_arguments(git: &Git<'_>, folder: &Path, wishes: &Wishes) -> Vec<String> {
    let mut arguments = vec!["fetch".to_owned()];
    let mut push = |text: &str| arguments.push(text.to_owned());
    if git.version >= (2, 20, 0) {
        push("--force");
    }
    push(if wishes.tags { "--tags" } else { "--no-tags" });
    push("--prune");
    if git.version >= (2, 17, 0) {
        push("--prune-tags");
    }
    push("--progress");
    push("--no-recurse-submodules");
    push("origin");
    if wishes.depth > 0 {
        push(&format!("--depth={}", wishes.depth));
    } else if files::exists(folder.join(".git/shallow")).await {
        push("--unshallow");
    }
    for filter in &wishes.filters {
        push(&format!("--filter={filter}"));
    }
    arguments
}

fn is_pull_request(branch: &str) -> bool {
    let branch = branch.to_ascii_lowercase();
    branch.starts_with("refs/pull/") || branch.starts_with("refs/remotes/pull/")
}

/// A branch of the repository as it is called after the fetch.
fn remote_reference(branch: &str) -> String {
    if branch.is_empty() {
        "refs/remotes/origin/master".to_owned()
    } else if branch.eq_ignore_ascii_case("master") {
        format!("refs/remotes/origin/{branch}")
    } else if let Some(name) = strip_prefix_ignoring_case(branch, "refs/heads/") {
        format!("refs/remotes/origin/{name}")
    } else if let Some(name) = strip_prefix_ignoring_case(branch, "refs/pull/") {
        format!("refs/remotes/pull/{name}")
    } else {
        branch.to_owned()
    }
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

async fn check_out(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
    target: &str,
    header: Option<&Header>,
) -> Result<(), StepError> {
    if wishes.lfs {
        fetch_large_files(step, git, folder, wishes, target, header).await?;
    }
    // A partial clone fetches what it lacks while it checks out, so it must be able to log in.
    let configuration = if wishes.filters.is_empty() {
        Configuration::default()
    } else {
        network("http.extraheader", wishes, header)
    };
    let code = git.run(folder, &["checkout", "--progress", "--force", target], &configuration).await?;
    if code == 0 {
        return Ok(());
    }
    if wishes.depth > 0 {
        step.warning(&format!(
            "Git checkout failed on shallow repository, this might because of git fetch with depth '{}' \
             doesn't include the checkout commit '{target}'. Please reference documentation \
             (http://go.microsoft.com/fwlink/?LinkId=829603)",
            wishes.depth
        ))
        .await;
    }
    Err(StepError::Failed(format!("Git checkout failed with exit code: {code}")))
}

async fn fetch_large_files(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
    target: &str,
    header: Option<&Header>,
) -> Result<(), StepError> {
    let none = Configuration::default();
    git.must("Git-lfs installation", folder, &["lfs", "install", "--local"], &none).await?;
    let configuration = network(&format!("http.{}.extraheader", wishes.authority), wishes, header);
    git.run(folder, &["checkout", target, "--", ".lfsconfig"], &configuration).await?;
    let code = git.run(folder, &["lfs", "fetch", "origin", target], &configuration).await?;
    if code != 0 {
        if wishes.depth > 0 {
            step.warning(&format!(
                "Git lfs fetch failed on shallow repository, this might because of git fetch with depth \
                 '{}' doesn't include the lfs fetch commit '{target}'. Please reference documentation \
                 (http://go.microsoft.com/fwlink/?LinkId=829603)",
                wishes.depth
            ))
            .await;
        }
        step.output(&format!("Git lfs fetch failed with exit code: {code}.")).await;
        step.output(
            "Checkout will continue.  \"git checkout\" will fetch lfs files, however this could \
             cause poor performance on old versions of git.",
        )
        .await;
    }
    Ok(())
}

/// Leaves the header in the repository's configuration for later steps. Git is given a placeholder, since
/// arguments can be seen by others.
async fn persist(git: &Git<'_>, folder: &Path, wishes: &Wishes, header: &Header) -> Result<(), StepError> {
    let key = format!("http.{}.extraheader", wishes.url);
    let placeholder = format!("AUTHORIZATION: placeholder_{}", uuid::Uuid::new_v4());
    git.must("Git config", folder, &["config", &key, &placeholder], &Configuration::default()).await?;
    let file = folder.join(".git/config");
    let failed =
        |error: std::io::Error| StepError::Failed(format!("Could not change '{}': {error}", file.display()));
    // Before the token is in it: nobody but this user reads it.
    let only_mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    tokio::fs::set_permissions(&file, only_mine).await.map_err(failed)?;
    let text = tokio::fs::read_to_string(&file).await.map_err(failed)?;
    tokio::fs::write(&file, text.replace(&placeholder, header.value())).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_named_as_after_the_fetch() {
        for (branch, expected) in [
            ("", "refs/remotes/origin/master"),
            ("master", "refs/remotes/origin/master"),
            ("refs/heads/feature/x", "refs/remotes/origin/feature/x"),
            ("refs/pull/7/merge", "refs/remotes/pull/7/merge"),
            ("refs/tags/v1", "refs/tags/v1"),
        ] {
            assert_eq!(remote_reference(branch), expected);
        }
        assert!(is_pull_request("refs/pull/1/merge"));
        assert!(!is_pull_request("refs/heads/pull/1"));
    }
}
