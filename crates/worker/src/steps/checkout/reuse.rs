//! What a checkout takes over from an earlier job: objects, references and files, never configuration, and
//! nothing that says what is in them: the index may call a changed file unchanged, and a replacement, a graft
//! or the commit graph one object another.
//!
//! The configuration of a repository names programs that git runs (`core.fsmonitor`, `credential.helper`,
//! `filter.*`, hooks), and where git goes with the login (`url.*.insteadOf`, `http.proxy`, `include.path`).
//! Steps of an earlier job may have written it, so it is made anew before git does anything. What the user or
//! the machine configures stays in force. (The official agent takes headers and proxies out and keeps the
//! rest: `GitSourceProvider.cs`.)

use std::path::Path;

use super::git::{Configuration, Git};
use super::wishes::Wishes;
use super::{StepError, remove_folder};
use crate::context::StepContext;
use crate::files;

/// Files below `.git` that are not taken over: configuration, what describes objects and files, and locks of
/// a git that was killed.
const FORGOTTEN_FILES: &[&str] = &[
    "config",
    "config.lock",
    "config.worktree",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "index",
    "index.lock",
    "shallow.lock",
    "objects/info/alternates",
    "objects/info/http-alternates",
    "objects/info/commit-graph",
    "objects/pack/multi-pack-index",
];

/// Folders below `.git` that are not taken over: programs, addresses of remotes, and what describes objects.
const FORGOTTEN_FOLDERS: &[&str] = &[
    "hooks",
    "remotes",
    "branches",
    "refs/replace",
    "objects/info/commit-graphs",
    "objects/pack/multi-pack-index.d",
];

/// How a reference begins that puts one object in the place of another.
const REPLACEMENTS: &str = " refs/replace/";

/// Keeps a repository that came from the same place, cleaned if asked; anything else is deleted. Then there
/// is an initialised one. Answers whether there is something left in it.
pub(super) async fn prepare_folder(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
) -> Result<bool, StepError> {
    if is_same_repository(git, folder, wishes).await? {
        match take_over(git, folder, wishes).await {
            Ok(true) => return Ok(true),
            Ok(false) => {
                step.warning(
                    "Unable to run \"git clean -ffdx\" and \"git reset --hard HEAD\" successfully, delete \
                     source folder instead.",
                )
                .await
            }
            Err(StepError::Canceled) => return Err(StepError::Canceled),
            Err(error) => step.warning(&format!("{error}; delete source folder instead.")).await,
        }
    }
    start_anew(git, folder, wishes).await?;
    Ok(false)
}

/// Deletes what is there, and initialises a repository.
pub(super) async fn start_anew(git: &Git<'_>, folder: &Path, wishes: &Wishes) -> Result<(), StepError> {
    remove_folder(folder).await?;
    tokio::fs::create_dir_all(folder).await.map_err(|error| {
        StepError::Failed(format!("Could not make the folder '{}': {error}", folder.display()))
    })?;
    initialize(git, folder, wishes).await
}

/// Makes the configuration anew and cleans if asked; false if it cannot be cleaned.
async fn take_over(git: &Git<'_>, folder: &Path, wishes: &Wishes) -> Result<bool, StepError> {
    forget_configuration(folder).await?;
    forget_replacements(folder).await?;
    initialize(git, folder, wishes).await?;
    keep_extent(git, folder).await?;
    look_anew(git, folder).await?;
    Ok(!wishes.clean || clean(git, folder).await?)
}

async fn initialize(git: &Git<'_>, folder: &Path, wishes: &Wishes) -> Result<(), StepError> {
    let none = Configuration::default();
    git.must("'git init'", folder, &["init", &folder.to_string_lossy()], &none).await?;
    git.must("'git remote add'", folder, &["remote", "add", "origin", &wishes.url], &none).await
}

/// Makes the index anew: git compares every file with the commit and leaves alone what is unchanged, so that
/// its time stays.
async fn look_anew(git: &Git<'_>, folder: &Path) -> Result<(), StepError> {
    // A repository without a commit has none to compare with; files that changed are seen to by the checkout.
    if git.quiet(folder, &["read-tree", "HEAD"]).await?.0 == 0 {
        git.quiet(folder, &["update-index", "-q", "--refresh"]).await?;
    }
    Ok(())
}

/// Takes references that replace objects out of the file of packed ones.
async fn forget_replacements(folder: &Path) -> Result<(), StepError> {
    let file = folder.join(".git/packed-refs");
    let failed = |error: std::io::Error| {
        StepError::Failed(format!("Could not change the file '{}': {error}", file.display()))
    };
    let text = match tokio::fs::read_to_string(&file).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(failed)?,
    };
    if !text.contains(REPLACEMENTS) {
        return Ok(());
    }
    let mut kept = String::new();
    let mut is_kept = true;
    for line in text.lines() {
        // A line with `^` belongs to the one before.
        if !line.starts_with('^') {
            is_kept = !line.contains(REPLACEMENTS);
        }
        if is_kept {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    tokio::fs::write(&file, kept).await.map_err(failed)
}

async fn is_same_repository(git: &Git<'_>, folder: &Path, wishes: &Wishes) -> Result<bool, StepError> {
    let repository = folder.join(".git");
    // A link, or this file, would lead to configuration that lies elsewhere.
    let is_folder = tokio::fs::symlink_metadata(&repository).await.is_ok_and(|metadata| metadata.is_dir());
    let leads_away = tokio::fs::symlink_metadata(repository.join("commondir")).await.is_ok();
    if !is_folder || leads_away || !has_plain_parts(&repository).await {
        return Ok(false);
    }
    if wishes.filters.is_empty() && is_partial(&repository).await {
        // What it lacks would be fetched in the midst of the checkout, which does not log in.
        return Ok(false);
    }
    let (code, url) = git.quiet(folder, &["config", "--local", "--get", "remote.origin.url"]).await?;
    Ok(code == 0 && url.trim() == wishes.url)
}

/// Whether folders and files which are taken over are what they are called: links, and pipes which nobody
/// writes to, are left by no git.
async fn has_plain_parts(repository: &Path) -> bool {
    let kind = async |name: &str| tokio::fs::symlink_metadata(repository.join(name)).await.ok();
    for folder in ["objects", "objects/info", "objects/pack", "refs", "info"] {
        if kind(folder).await.is_some_and(|metadata| !metadata.is_dir()) {
            return false;
        }
    }
    for file in ["config", "HEAD", "packed-refs", "shallow"] {
        if kind(file).await.is_some_and(|metadata| !metadata.is_file()) {
            return false;
        }
    }
    true
}

async fn forget_configuration(folder: &Path) -> Result<(), StepError> {
    let repository = folder.join(".git");
    for name in FORGOTTEN_FILES.iter().chain(FORGOTTEN_FOLDERS) {
        remove_folder(&repository.join(name)).await?;
    }
    Ok(())
}

/// Says again which objects and files the repository does not have on purpose.
async fn keep_extent(git: &Git<'_>, folder: &Path) -> Result<(), StepError> {
    let repository = folder.join(".git");
    let none = Configuration::default();
    if is_partial(&repository).await {
        git.must("Git config", folder, &["config", "remote.origin.promisor", "true"], &none).await?;
    }
    if files::exists(repository.join("info/sparse-checkout")).await {
        git.must("Git config", folder, &["config", "core.sparseCheckout", "true"], &none).await?;
    }
    Ok(())
}

/// Whether objects were left out when they were fetched.
async fn is_partial(repository: &Path) -> bool {
    let Ok(mut packs) = tokio::fs::read_dir(repository.join("objects/pack")).await else { return false };
    while let Ok(Some(pack)) = packs.next_entry().await {
        if Path::new(&pack.file_name()).extension().is_some_and(|extension| extension == "promisor") {
            return true;
        }
    }
    false
}

async fn clean(git: &Git<'_>, folder: &Path) -> Result<bool, StepError> {
    let none = Configuration::default();
    for command in [&["clean", "-ffdx"][..], &["reset", "--hard", "HEAD"]] {
        if git.run(folder, command, &none).await? != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Forgets the submodules, each of which has a configuration of its own: they are cloned anew.
pub(super) async fn forget_submodules(git: &Git<'_>, folder: &Path) -> Result<(), StepError> {
    let modules = folder.join(".git/modules");
    remove_folder(&modules).await?;
    let deinit = ["submodule", "deinit", "--all", "--force"];
    git.must("Git submodule deinit", folder, &deinit, &Configuration::default()).await?;
    // Git moves repositories there that lay within the work tree.
    remove_folder(&modules).await
}
