//! `##vso[artifact.…]` (`ArtifactCommandExtension.cs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dayfly_client::describe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::{CommandResult, local_path};
use crate::artifacts::{Artifacts, Kind, NewArtifact, nothing_in};
use crate::context::{PendingFailure, Said, StepContext};
use crate::files;

/// Tells the service of an artifact that is elsewhere.
pub(super) async fn associate(step: &StepContext, command: &Command) -> CommandResult {
    let name = command.non_empty("artifactname").ok_or("Artifact Name is required.")?;
    let kind = match command.property("artifacttype") {
        Some("") => return Err("Artifact Type is required.".to_owned()),
        Some(kind) => kind.to_owned(),
        None => infer_type(&command.data)
            .ok_or_else(|| format!("Can't infer artifact type from artifact location: {}.", command.data))?
            .to_owned(),
    };
    let needs_location =
        ["container", "filepath", "versioncontrol"].iter().any(|known| kind.eq_ignore_ascii_case(known));
    if needs_location && command.data.is_empty() {
        return Err("Artifact location is required.".to_owned());
    }
    let (name, data, properties) = (name.to_owned(), command.data.clone(), properties(command));
    let artifacts = step.job.service.artifacts().map_err(|error| describe(&error))?;
    let build = artifacts.build;
    step.debug(&format!("Associate artifact: {name} with build: {build} at backend.")).await;
    step.start_pending("Associate Artifact", || async move {
        let associated = artifacts.associate(&name, &kind, &data, properties).await;
        let artifact = associated.map_err(|error| describe(&error))?;
        Ok(vec![Said::Line(format!("Associated artifact {} with build {build}", artifact.id))])
    })
    .await
}

/// Uploads a file or folder to the build's container and makes an artifact of it.
pub(super) async fn upload(step: &StepContext, command: &Command) -> CommandResult {
    let name = command.non_empty("artifactname").ok_or("Artifact Name is required.")?.to_owned();
    let folder = command.non_empty("containerfolder").unwrap_or(&name).to_owned();
    if command.data.is_empty() {
        return Err("Artifact location is required.".to_owned());
    }
    let path = local_path(step, &command.data);
    if !files::exists(&path).await {
        return Err(format!("Path does not exist: {}", command.data));
    }
    if is_empty_folder(path.clone()).await {
        step.warning(&nothing_in(&path, &name)).await;
        return Ok(());
    }
    let properties = properties(command);
    let artifacts = step.job.service.artifacts().map_err(|error| describe(&error))?;
    let build = artifacts.build;
    step.debug(&format!("Upload artifact: {} to server for build: {build} at backend.", path.display()))
        .await;
    let cancel = step.cancel.clone();
    step.start_pending("Upload Artifact", || async move {
        let new = NewArtifact { kind: Kind::Build, name: &name, folder: &folder, source: &path, properties };
        upload_new(&artifacts, new, &cancel).await
    })
    .await
}

/// Uploads an artifact; answers what the log is to say.
pub(super) async fn upload_new(
    artifacts: &Artifacts,
    new: NewArtifact<'_>,
    cancel: &CancellationToken,
) -> Result<Vec<Said>, PendingFailure> {
    let nothing = nothing_in(new.source, new.name);
    let (log, mut told) = mpsc::channel(1);
    let mut said = Vec::new();
    let telling = async {
        while let Some(line) = told.recv().await {
            said.push(Said::Line(line));
        }
    };
    match tokio::join!(artifacts.upload(new, cancel, log), telling).0 {
        Ok(Some(_)) => {}
        Ok(None) => said.push(Said::Line(nothing)),
        Err(error) => return Err(PendingFailure { said, message: describe(&error) }),
    }
    Ok(said)
}

/// What kind of place a location is: a server path of TFVC or a path in a file container.
fn infer_type(location: &str) -> Option<&'static str> {
    if location.starts_with("\\\\") {
        Some("FilePath")
    } else if location.starts_with("$/") || location.starts_with("$\\") {
        Some("VersionControl")
    } else if location.starts_with('#') {
        Some("Container")
    } else {
        None
    }
}

/// Properties that go with the artifact: all but those which the command itself means.
fn properties(command: &Command) -> BTreeMap<String, String> {
    const OWN: [&str; 3] = ["containerfolder", "artifactname", "artifacttype"];
    command
        .properties()
        .filter(|(name, _)| !OWN.iter().any(|own| name.eq_ignore_ascii_case(own)))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether a path is of a folder without a file in it or below it.
async fn is_empty_folder(path: PathBuf) -> bool {
    let look = tokio::task::spawn_blocking(move || path.is_dir() && !holds_a_file(&path));
    // If that does not end, the upload finds out.
    look.await.unwrap_or(false)
}

/// Whether there is a file in a folder or below it.
fn holds_a_file(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    // Links are taken for files, so that a link to a parent does not lead in circles.
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => holds_a_file(&entry.path()),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_inferred_from_locations() {
        for (location, expected) in [
            ("#/4/drop", Some("Container")),
            ("$/project/folder", Some("VersionControl")),
            ("\\\\server\\share", Some("FilePath")),
            ("/home/drop", None),
            ("", None),
        ] {
            assert_eq!(infer_type(location), expected, "{location}");
        }
    }

    #[test]
    fn an_empty_tree_holds_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("a/b")).expect("made");
        assert!(!holds_a_file(folder.path()));
        std::fs::write(folder.path().join("a/b/c"), "").expect("written");
        assert!(holds_a_file(folder.path()));
    }
}
