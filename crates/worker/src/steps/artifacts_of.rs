//! From which run artifacts are downloaded: this one, or another (`PipelineArtifactPluginV2.cs`,
//! `DownloadBuildArtifactsV1/main.ts`).

use dayfly_client::{BuildQuery, describe};
use dayfly_protocol::{BuildId, ProjectId};

use super::{Inputs, StepError};
use crate::artifacts::Artifacts;
use crate::context::StepContext;
use crate::variables::Flags;

/// The branch of `latestFromBranch` if none is given.
const USUAL_BRANCH: &str = "refs/heads/master";

/// The artifacts of the run that the inputs of a step name. Its number is the variable `BuildNumber` from
/// then on.
pub(super) async fn wanted(step: &StepContext, inputs: &Inputs) -> Result<Artifacts, StepError> {
    let own = of_this_run(step)?;
    let artifacts = match first(inputs, &["buildType", "source"]).unwrap_or("current") {
        current if current.eq_ignore_ascii_case("current") => own,
        specific if specific.eq_ignore_ascii_case("specific") => of_other_run(step, inputs, own).await?,
        other => return Err(StepError::Failed(format!("Build type '{other}' is not recognized."))),
    };
    step.set_variable("BuildNumber", &artifacts.build.to_string(), false, Flags::default());
    Ok(artifacts)
}

/// The artifacts of the run that the job belongs to.
pub(super) fn of_this_run(step: &StepContext) -> Result<Artifacts, StepError> {
    step.job.service.artifacts().map_err(|error| StepError::Failed(describe(&error)))
}

async fn of_other_run(step: &StepContext, inputs: &Inputs, own: Artifacts) -> Result<Artifacts, StepError> {
    let project = project(inputs, &own).await?;
    let definition = first(inputs, &["definition", "pipeline"]);
    // The service puts the run in its place when it queues a run of this pipeline.
    if let (None, Some(alias)) = (definition, first(inputs, &["alias"])) {
        let reason =
            format!("The pipeline resource '{alias}' has no run whose artifacts could be downloaded.");
        return Err(StepError::Failed(reason));
    }
    let build = match triggering_run(step, inputs, definition) {
        Some(build) => build,
        None => chosen_run(inputs, &own, project, definition).await?,
    };
    Ok(Artifacts { project, build, container: None, ..own })
}

/// The project that is named, by name or id; else that of the job.
async fn project(inputs: &Inputs, own: &Artifacts) -> Result<ProjectId, StepError> {
    let Some(name) = first(inputs, &["project"]) else { return Ok(own.project) };
    match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => {
            let found = own.connection.project(name).await;
            found.map(|project| project.id).map_err(|error| {
                StepError::Failed(format!("Get project failed for project: {name}. {}", describe(&error)))
            })
        }
    }
}

/// The run that triggered this one, if it is to be preferred and is of that pipeline.
fn triggering_run(step: &StepContext, inputs: &Inputs, definition: Option<&str>) -> Option<BuildId> {
    let is_preferred = first(inputs, &["preferTriggeringPipeline", "specificBuildWithTriggering"])
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let triggered_by = step.job.variable_or_empty("build.triggeredBy.definitionId");
    if !is_preferred || definition.is_none_or(|definition| !definition.eq_ignore_ascii_case(&triggered_by)) {
        return None;
    }
    step.job.variable_or_empty("build.triggeredBy.buildId").parse().ok().map(BuildId)
}

/// The run that is named by its number, or the newest of the pipeline.
async fn chosen_run(
    inputs: &Inputs,
    own: &Artifacts,
    project: ProjectId,
    definition: Option<&str>,
) -> Result<BuildId, StepError> {
    let version = first(inputs, &["buildVersionToDownload", "runVersion"]).unwrap_or("latest");
    let branch = match version.to_ascii_lowercase().as_str() {
        "specific" => {
            let id = first(inputs, &["buildId", "pipelineId", "runId"]).unwrap_or_default();
            let number = id.parse().map(BuildId);
            return number.map_err(|_| StepError::Failed(format!("Run Id is not valid: {id}")));
        }
        "latest" => None,
        "latestfrombranch" => Some(first(inputs, &["branchName", "runBranch"]).unwrap_or(USUAL_BRANCH)),
        _ => {
            return Err(StepError::Failed(format!(
                "The version '{version}' is not recognized; it is one of: latest, latestFromBranch, specific"
            )));
        }
    };
    let definition = number_of(own, project, definition).await?;
    let tags: Vec<_> = inputs.text("tags").split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
    let wanted = BuildQuery { definition, results: &results(inputs), tags: &tags, branch };
    let newest = own.connection.newest_build(project, &wanted).await;
    match newest.map_err(|error| StepError::Failed(describe(&error)))? {
        Some(build) => Ok(build.id),
        None => Err(StepError::failed("No builds currently exist in the pipeline definition supplied.")),
    }
}

/// Which results the newest run may have.
fn results(inputs: &Inputs) -> Vec<&'static str> {
    let more = [
        ("allowPartiallySucceededBuilds", "partiallySucceeded"),
        ("allowFailedBuilds", "failed"),
        ("allowCanceledBuilds", "canceled"),
    ];
    let allowed = more.into_iter().filter(|(input, _)| inputs.flag(input)).map(|(_, result)| result);
    std::iter::once("succeeded").chain(allowed).collect()
}

/// The number of a pipeline that is given by number or name.
async fn number_of(own: &Artifacts, project: ProjectId, definition: Option<&str>) -> Result<i32, StepError> {
    let name = definition.ok_or(StepError::failed("Pipeline Definition cannot be null or empty."))?;
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = own.connection.definitions(project, name).await;
    let found = found.map_err(|error| StepError::Failed(describe(&error)))?;
    found.first().map(|pipeline| pipeline.id).ok_or_else(|| {
        StepError::Failed(format!(
            "The following pipeline does not exist: {name}. Please verify the name of the pipeline."
        ))
    })
}

/// The first of these inputs that is given. Tasks know some of their inputs by several names.
pub(super) fn first<'a>(inputs: &'a Inputs, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| inputs.get(name))
}
