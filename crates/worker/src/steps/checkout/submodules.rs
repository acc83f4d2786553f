//! Submodules of a checkout; with `dayfly run`, those that lie in the user's work tree.

use std::path::{Path, PathBuf};

use super::credentials::Header;
use super::git::{Configuration, Git};
use super::wishes::{Submodules, Wishes};
use super::{StepError, local, network};
use crate::context::StepContext;
use crate::files;

/// How deep submodules may lie in each other, with the parts of their names, to be put in place.
const MAX_DEPTH: usize = 32;

/// Brings the submodules that were asked for. Those of `local`, a bare repository on this disk, are put in
/// place before, so that git has nothing to fetch for them.
pub(super) async fn update(
    step: &StepContext,
    git: &Git<'_>,
    folder: &Path,
    wishes: &Wishes,
    header: Option<&Header>,
    local: Option<&Path>,
) -> Result<(), StepError> {
    let recursive = wishes.submodules == Submodules::Recursive;
    let mut sync = vec!["submodule", "sync"];
    let mut update = vec!["submodule", "update", "--init", "--force"];
    let depth = format!("--depth={}", wishes.depth);
    if wishes.depth > 0 {
        update.push(&depth);
    }
    if recursive {
        sync.push("--recursive");
        update.push("--recursive");
    }
    let none = Configuration::default();
    let has_local = match local {
        Some(from) => put_in_place(step, git, from, folder, recursive).await?,
        None => false,
    };
    git.must("Git submodule sync", folder, &sync, &none).await?;
    // The header goes to the whole host, since submodules are other repositories there.
    let configuration = network(&format!("http.{}.extraheader", wishes.authority), wishes, header);
    git.must("Git submodule update", folder, &update, &configuration).await?;
    if has_local {
        // Their remote is where they were copied from; steps shall find the one of `.gitmodules`.
        git.must("Git submodule sync", folder, &sync, &none).await?;
    }
    Ok(())
}

/// Makes the repositories of submodules where git looks for them before it clones: `.git/modules/<name>`.
/// Answers whether there are any.
async fn put_in_place(
    step: &StepContext,
    git: &Git<'_>,
    from: &Path,
    folder: &Path,
    recursive: bool,
) -> Result<bool, StepError> {
    let mut any = false;
    for place in places(from, recursive).await {
        let target = folder.join(".git").join(&place);
        if files::exists(&target).await {
            continue;
        }
        match clone(step, git, &from.join(&place), folder, &target).await {
            Ok(()) => any = true,
            Err(StepError::Canceled) => return Err(StepError::Canceled),
            // Git tries its URL then.
            Err(error) => {
                step.debug(&format!("No submodule is taken from '{}': {error}", place.display())).await
            }
        }
    }
    Ok(any)
}

/// Clones `source` without files beside `target`, and moves it there when it is whole.
async fn clone(
    step: &StepContext,
    git: &Git<'_>,
    source: &Path,
    folder: &Path,
    target: &Path,
) -> Result<(), StepError> {
    let failed = |error: std::io::Error| StepError::Failed(error.to_string());
    let none = Configuration::default();
    let staging = folder.join(".git").join(format!("submodule-{}", uuid::Uuid::new_v4().simple()));
    tokio::fs::create_dir_all(&staging).await.map_err(failed)?;
    let source_text = source.to_string_lossy();
    // Repositories of SHA-256 and SHA-1 do not mix, so the kind is that of the source.
    let (_, format) = git.quiet(source, &["rev-parse", "--show-object-format"]).await?;
    let format = format!("--object-format={}", format.trim());
    git.must("Git init", &staging, &["init", "--quiet", "--template=", &format], &none).await?;
    git.must("Git remote add", &staging, &["remote", "add", "origin", &source_text], &none).await?;
    local::copy_objects(step, source, &staging).await?;
    git.must("Git fetch", &staging, &["fetch", "--quiet", "--tags", "origin"], &none).await?;
    if let Some(above) = target.parent() {
        tokio::fs::create_dir_all(above).await.map_err(failed)?;
    }
    tokio::fs::rename(staging.join(".git"), target).await.map_err(failed)?;
    tokio::fs::remove_dir(&staging).await.map_err(failed)
}

/// Where submodules are below a repository, outer ones first: `modules/lib`, `modules/lib/modules/inner`.
async fn places(from: &Path, recursive: bool) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut folders = vec![PathBuf::from("modules")];
    while let Some(folder) = folders.pop() {
        // A repository without submodules has no such folder.
        let Ok(mut entries) = tokio::fs::read_dir(from.join(&folder)).await else { continue };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let place = folder.join(entry.file_name());
            if files::exists(from.join(&place).join("HEAD")).await {
                if recursive && place.components().count() < MAX_DEPTH {
                    folders.push(place.join("modules"));
                }
                places.push(place);
            } else if place.components().count() < MAX_DEPTH {
                // A part of a name such as `libs/lib`.
                folders.push(place);
            }
        }
    }
    places.sort();
    places
}
