//! The tasks that publish and download artifacts (`PipelineArtifactPluginV1.cs`,
//! `PipelineArtifactPluginV2.cs`, `BuildArtifactPluginV1.cs`,
//! `PublishBuildArtifactsV1/publishbuildartifacts.ts`).
//!
//! What the official tasks keep in the deduplicating blob store goes to the build's file container here, so
//! both kinds of artifact are the same to later jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dayfly_client::describe;
use dayfly_protocol::TaskResult;
use dayfly_protocol::artifact::BuildArtifact;
use tokio::sync::mpsc;

use super::artifacts_of::{first, of_this_run, wanted};
use super::{Inputs, Prepared, StepError, normalize};
use crate::artifacts::{self, Artifacts, Downloaded, Kind, NewArtifact, Patterns};
use crate::context::StepContext;

/// Lines of an upload or download that wait for the step's log.
const LINES_AHEAD: usize = 16;

/// `publish:` steps, the task PublishPipelineArtifact.
pub(super) async fn publish_pipeline(
    step: &StepContext,
    prepared: &Prepared,
) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let kind = first(inputs, &["artifactType", "publishLocation"]).unwrap_or("pipeline");
    if !kind.eq_ignore_ascii_case("pipeline") {
        return Err(StepError::Failed(format!(
            "Artifacts of type '{kind}' cannot be published by Dayfly's native worker. Publish to \
                'pipeline', or run this job on Microsoft's agent."
        )));
    }
    let name = match first(inputs, &["artifactName", "artifact"]) {
        Some(name) => name.to_owned(),
        None => name_of_job(&step.job.variable_or_empty("system.jobIdentifier")),
    };
    let path = match first(inputs, &["targetPath", "path"]) {
        Some(path) => path.to_owned(),
        None => step.job.variable_or_empty("pipeline.workspace"),
    };
    publish(step, Kind::Pipeline, &name, &rooted(step, &path)).await
}

/// The task PublishBuildArtifacts.
pub(super) async fn publish_build(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let kind = first(inputs, &["ArtifactType", "publishLocation"]).unwrap_or("Container");
    if !kind.eq_ignore_ascii_case("container") {
        return Err(StepError::failed("File share artifacts are not supported on Linux and macOS."));
    }
    if inputs.flag("StoreAsTar") {
        return Err(StepError::failed(
            "The input StoreAsTar is not known to Dayfly's native worker. Make the archive by a script and \
                publish that, or run this job on Microsoft's agent.",
        ));
    }
    let name = first(inputs, &["ArtifactName"]).unwrap_or("drop").to_owned();
    let path = match first(inputs, &["PathtoPublish"]) {
        Some(path) => path.to_owned(),
        None => step.job.variable_or_empty("build.artifactStagingDirectory"),
    };
    publish(step, Kind::Build, &name, &rooted(step, &path)).await
}

async fn publish(step: &StepContext, kind: Kind, name: &str, path: &Path) -> Result<TaskResult, StepError> {
    if !is_valid_name(name) {
        return Err(StepError::Failed(format!(
            "Artifact name is not valid: {name}. It cannot contain '\\', '/', '\"', ':', '<', '>', '|', \
                '*', and '?'"
        )));
    }
    let artifacts = of_this_run(step)?;
    let properties = BTreeMap::from([("localpath".to_owned(), path.display().to_string())]);
    let new = NewArtifact { kind, name, folder: name, source: path, properties };
    let uploaded = telling(step, |log| artifacts.upload(new, &step.cancel, log)).await;
    match uploaded {
        Ok(Some(_)) => {}
        Ok(None) => step.warning(&artifacts::nothing_in(path, name)).await,
        Err(error) => return Err(step_error(&error)),
    }
    Ok(TaskResult::Succeeded)
}

/// Does work that tells lines to the step's log meanwhile.
async fn telling<W: Future>(step: &StepContext, work: impl FnOnce(mpsc::Sender<String>) -> W) -> W::Output {
    let (log, mut lines) = mpsc::channel::<String>(LINES_AHEAD);
    let telling = async {
        while let Some(line) = lines.recv().await {
            step.output(&line).await;
        }
    };
    tokio::join!(work(log), telling).0
}

/// `download:` steps, the task DownloadPipelineArtifact.
pub(super) async fn download_pipeline(
    step: &StepContext,
    prepared: &Prepared,
) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let artifacts = wanted(step, inputs).await?;
    let target = match first(inputs, &["targetPath", "downloadPath", "path"]) {
        Some(path) => path.to_owned(),
        None => step.job.variable_or_empty("pipeline.workspace"),
    };
    let name = first(inputs, &["artifactName", "artifact"]);
    let patterns = patterns(inputs)?;
    download(step, &artifacts, name, &patterns, &rooted(step, &target), Layout::ByName).await
}

/// The task DownloadBuildArtifacts and `downloadBuild:` steps.
pub(super) async fn download_build(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let artifacts = wanted(step, inputs).await?;
    let target = match first(inputs, &["downloadPath", "path"]) {
        Some(path) => path.to_owned(),
        None => step.job.variable_or_empty("system.artifactsDirectory"),
    };
    let target = rooted(step, &target);
    if inputs.flag("cleanDestinationFolder") {
        crate::directories::empty(target.clone()).await;
    }
    let single = first(inputs, &["downloadType"]).unwrap_or("single").eq_ignore_ascii_case("single");
    let name = first(inputs, &["artifactName", "artifact"]).filter(|_| single);
    if single && name.is_none() {
        return Err(StepError::failed("Input required: artifactName"));
    }
    let patterns = patterns(inputs)?;
    download(step, &artifacts, name, &patterns, &target, Layout::AlwaysByName).await
}

/// Which files are downloaded; all of them if nothing is said.
fn patterns(inputs: &Inputs) -> Result<Patterns, StepError> {
    Patterns::new(first(inputs, &["itemPattern", "patterns"]).unwrap_or("**")).map_err(StepError::Failed)
}

/// Whether an artifact gets a folder of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Only if all artifacts are downloaded.
    ByName,
    AlwaysByName,
}

async fn download(
    step: &StepContext,
    artifacts: &Artifacts,
    name: Option<&str>,
    patterns: &Patterns,
    target: &Path,
    layout: Layout,
) -> Result<TaskResult, StepError> {
    step.output(&format!("Download from the specified build: #{}", artifacts.build)).await;
    step.output(&format!("Download artifact to: {}", target.display())).await;
    let chosen = match name {
        Some(name) => vec![artifacts.find(name).await.map_err(|error| step_error(&error))?],
        None => artifacts.list().await.map_err(|error| step_error(&error))?,
    };
    if chosen.is_empty() {
        // No warning: the service puts a download before each deployment, whether there are artifacts or not.
        step.output(&format!("There are no artifacts associated with build {}.", artifacts.build)).await;
    }
    let mut sum = Downloaded::default();
    for artifact in &chosen {
        let folder = match (name, layout) {
            (Some(_), Layout::ByName) => target.to_owned(),
            _ => target.join(folder_of(artifact)?),
        };
        let is_wanted = |path: &str| patterns.matches(&artifact.name, path);
        let downloading = |log| artifacts.download(artifact, &folder, is_wanted, &step.cancel, log);
        let downloaded = telling(step, downloading).await;
        let downloaded = downloaded.map_err(|error| step_error(&error))?;
        step.output(&format!("Downloaded {} files of artifact '{}'", downloaded.files, artifact.name)).await;
        sum.files += downloaded.files;
        sum.bytes += downloaded.bytes;
    }
    step.output(&format!("Total: {} files, {} bytes", sum.files, sum.bytes)).await;
    step.output("Downloading artifact finished.").await;
    Ok(TaskResult::Succeeded)
}

fn rooted(step: &StepContext, path: &str) -> PathBuf {
    let root = step.job.variable_or_empty("system.defaultWorkingDirectory");
    normalize(&Path::new(&root).join(path))
}

/// The artifact's name if none is given: the job's identifier without what a name must not have.
fn name_of_job(identifier: &str) -> String {
    let name: String = identifier
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || " -.".contains(*letter))
        .collect();
    name.replace(".default", "")
}

/// As `PipelineArtifactPathHelper` in `PipelineArtifactPluginUtil.cs`; and a name that would be a folder
/// above is none.
fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|letter: char| letter.is_control() || "\\/\":<>|*?".contains(letter))
        && !name.trim_matches('.').is_empty()
}

/// A folder for the artifact; its name comes from the service and must not lead elsewhere.
fn folder_of(artifact: &BuildArtifact) -> Result<&str, StepError> {
    if is_valid_name(&artifact.name) {
        Ok(&artifact.name)
    } else {
        Err(StepError::Failed(format!("Artifact name is not valid: {}", artifact.name)))
    }
}

fn step_error(error: &artifacts::Error) -> StepError {
    match error {
        artifacts::Error::Cancelled => StepError::Canceled,
        _ => StepError::Failed(describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_from_the_job() {
        assert_eq!(name_of_job("Build.Compile.__default"), "Build.Compile");
        assert_eq!(name_of_job("Build.Compile.linux_x64"), "Build.Compile.linuxx64");
        assert!(!is_valid_name("..") && !is_valid_name("a/b") && is_valid_name("drop 1.2"));
    }
}
