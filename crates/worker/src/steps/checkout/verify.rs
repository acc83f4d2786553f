//! Whether a repository that steps of an earlier job could write holds what its names promise.
//!
//! Git believes its own object files: what is written over one is checked out under the old name, and `git
//! status` finds nothing. Here all objects of one commit go into a pack, whose names git then computes from
//! the contents (`verify-pack`). That costs about what it costs to read the commit's files once, and no
//! network. The history before the commit is not looked at.

use std::path::Path;

use super::git::Git;
use super::{StepError, remove_folder};

/// Whether all objects of a commit are what their names promise. Those that a partial clone lacks come later
/// and are checked then.
pub(super) async fn is_whole(git: &Git<'_>, folder: &Path, commit: &str) -> Result<bool, StepError> {
    let scratch = folder.join(".git/dayfly-verify");
    remove_folder(&scratch).await?;
    tokio::fs::create_dir(&scratch).await.map_err(|error| {
        StepError::Failed(format!("Could not make the folder '{}': {error}", scratch.display()))
    })?;
    let is_whole = in_scratch(git, folder, commit, &scratch).await;
    remove_folder(&scratch).await?;
    is_whole
}

async fn in_scratch(git: &Git<'_>, folder: &Path, commit: &str, scratch: &Path) -> Result<bool, StepError> {
    let list = ["rev-list", "--objects", "--max-count=1", "--missing=allow-promisor", commit];
    let Some(objects) = git.list(folder, &list).await? else { return Ok(false) };
    let pack = scratch.join("commit");
    let pack = pack.to_string_lossy();
    let store = ["-c", "pack.compression=0", "pack-objects", "-q", "--window=0", &pack];
    let Some(name) = git.feed(folder, &store, objects).await? else { return Ok(false) };
    let index = format!("{pack}-{}.idx", name.trim());
    Ok(git.quiet(folder, &["verify-pack", &index]).await?.0 == 0)
}
