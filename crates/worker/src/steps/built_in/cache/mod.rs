//! Cache (a plugin of Microsoft's agent, `RestorePipelineCacheV0.cs` and `SavePipelineCacheV0.cs`).
//!
//! Azure DevOps keeps caches in its store of deduplicated blobs, which has no public interface. So a job of
//! an organization always has a miss, and says so. What runs by an emulator keeps its caches on this machine.

mod key;
mod store;

use std::path::Path;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::{Definition, Prepared, StepError};
use super::program::{Program, arguments};
use super::{Task, is_local};
use crate::context::{JobContext, StepContext, lock};
use crate::files;
use crate::variables::Flags;
use key::{Fingerprint, Keys};
use store::{Found, MAX_BYTES, Store};

/// By these variables of the step its second part knows what the first one did.
const RESTORE_RAN: &str = "RESTORE_STEP_RAN";
const RESOLVED: &str = "RESTORE_STEP_RESOLVED_FINGERPRINT";

pub(super) static CACHE: Task = Task {
    definition: Definition {
        friendly_name: "Cache",
        description: "Cache files between runs",
        author: "Microsoft Corporation",
        help: "https://aka.ms/pipeline-caching-docs",
        inputs: &[
            text("key", ""),
            path("path"),
            text("cacheHitVar", ""),
            text("restoreKeys", ""),
            text("saveOnPartialSuccess", "false"),
        ],
    },
    works_where_scripts_do: false,
    run: |step, prepared| restore(step, prepared).boxed(),
};

/// Brings back what an earlier run kept.
async fn restore(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let keys = Keys::of(step, inputs.required("key")?, inputs.text("restoreKeys"))?;
    if keys.is_old {
        step.warning("'key' format is changing to a single line: https://aka.ms/pipeline-caching-docs").await;
    }
    let fingerprint = resolved(step, "key", &keys.key).await?;
    {
        let mut variables = lock(&step.task_variables);
        variables.set(RESTORE_RAN, "true", Flags::default());
        variables.set(RESOLVED, &fingerprint.to_string(), Flags::default());
    }
    let mut wanted = Vec::new();
    for restore_key in &keys.restore {
        wanted.push(resolved(step, "restore key", restore_key).await?);
    }
    let folder = inputs.required("path")?;
    let found = match store(&step.job) {
        Some(store) => {
            let key = fingerprint.clone();
            in_background(move || store.find(&key, &wanted)).await?
        }
        None => {
            step.output(no_store(&step.job)).await;
            None
        }
    };
    let hit = match &found {
        None => {
            step.output("There is a cache miss.").await;
            "false"
        }
        Some(found) => {
            step.output(&format!("There is a cache hit: `{}`", found.fingerprint)).await;
            unpack(step, prepared, found, folder).await?;
            step.output("Cache restored.").await;
            if found.fingerprint == fingerprint { "true" } else { "inexact" }
        }
    };
    if let Some(variable) = inputs.get("cacheHitVar") {
        step.set_variable(variable, hit, false, Flags::default());
    }
    Ok(TaskResult::Succeeded)
}

/// Keeps the folder for later runs, after all steps of the job.
pub(super) async fn save(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let takes_issues = inputs.flag("saveOnPartialSuccess");
    let is_good = match step.job.status() {
        TaskResult::Succeeded => true,
        TaskResult::SucceededWithIssues => takes_issues,
        _ => false,
    };
    if !is_good {
        let or = if takes_issues { " or 'SucceededWithIssues'" } else { "" };
        step.output(&format!("Skipping because the job status was not 'Succeeded'{or}.")).await;
        return Ok(TaskResult::Succeeded);
    }
    let noted = |name| lock(&step.task_variables).get(name).map(str::to_owned);
    if noted(RESTORE_RAN).is_none() {
        step.output("Skipping because restore step did not run.").await;
        return Ok(TaskResult::Succeeded);
    }
    let Some(store) = store(&step.job) else {
        step.output(no_store(&step.job)).await;
        return Ok(TaskResult::Succeeded);
    };
    let keys = Keys::of(step, inputs.required("key")?, inputs.text("restoreKeys"))?;
    let fingerprint = resolved(step, "key", &keys.key).await?;
    if let Some(before) = noted(RESOLVED).filter(|before| *before != fingerprint.to_string()) {
        step.warning(&format!(
            "The given cache key has changed in its resolved value between restore and save steps;\noriginal \
             key: {before}\nmodified key: {fingerprint}\n"
        ))
        .await;
    }
    let (known, key) = (store.clone(), fingerprint.clone());
    if in_background(move || Ok(known.has(&key))).await? {
        step.output(&format!("Cache with fingerprint `{fingerprint}` already exists.")).await;
        return Ok(TaskResult::Succeeded);
    }
    pack(step, prepared, store, fingerprint).await
}

async fn resolved(step: &StepContext, what: &str, segments: &[String]) -> Result<Fingerprint, StepError> {
    step.output(&format!("Resolving {what}:")).await;
    let fingerprint = key::resolve(step, segments).await?;
    step.output(&format!("Resolved to: {fingerprint}")).await;
    Ok(fingerprint)
}

/// Where the caches of this job's pipeline are, if any are kept.
fn store(job: &JobContext) -> Option<Store> {
    let caches = job.settings.caches.as_ref().filter(|_| is_local(job))?;
    let of_service = || {
        let names = ["System.CollectionUri", "System.TeamProjectId", "System.DefinitionId"];
        names.map(|name| job.variable_or_empty(name)).join(" ")
    };
    let pipeline = caches.pipeline.clone().unwrap_or_else(of_service);
    Some(Store { folder: caches.folder.clone(), pipeline })
}

fn no_store(job: &JobContext) -> &'static str {
    if is_local(job) {
        "No caches are kept where this job runs."
    } else {
        "Azure DevOps keeps caches in a store without a public interface, so Dayfly has none of them: the \
         steps make their files anew."
    }
}

async fn unpack(step: &StepContext, prepared: &Prepared, found: &Found, to: &str) -> Result<(), StepError> {
    let unusable = |error| StepError::Failed(format!("Could not restore the cache to {to}: {error}"));
    found.touch().map_err(unusable)?;
    tokio::fs::create_dir_all(to).await.map_err(unusable)?;
    let words = arguments([&"-xf", &found.archive, &"-C", &"."]);
    let unpacked = Program::new("tar", words, to).must(step, prepared).await;
    if unpacked.is_err() && !step.cancel.is_cancelled() {
        found.discard().map_err(unusable)?;
        step.output("The cache is damaged and was removed; the next run makes it anew.").await;
    }
    unpacked
}

async fn pack(
    step: &StepContext,
    prepared: &Prepared,
    store: Store,
    fingerprint: Fingerprint,
) -> Result<TaskResult, StepError> {
    let folder = prepared.inputs.required("path")?;
    if !files::is_folder(folder).await {
        return Err(StepError::Failed(format!(
            "There is no folder {folder} to keep. The input `path` of Cache is one folder, which the steps \
             of the job fill."
        )));
    }
    let (begun, place) = (store.clone(), store.folder.clone());
    let archive = in_background(move || begun.begin()).await?;
    let words = arguments([&"-cf", &&*archive, &"-C", &folder, &"."]);
    Program::new("tar", words, place).must(step, prepared).await?;
    let length = length(&archive).await?;
    if length > MAX_BYTES {
        step.warning(&format!(
            "{folder} makes a cache of {length} bytes, and at most {MAX_BYTES} are kept on this machine, so \
             it is not."
        ))
        .await;
        return Ok(TaskResult::Succeeded);
    }
    in_background(move || store.keep(&fingerprint, archive)).await?;
    step.output("Saved item.").await;
    Ok(TaskResult::Succeeded)
}

async fn length(archive: &Path) -> Result<u64, StepError> {
    let metadata = tokio::fs::metadata(archive).await;
    metadata
        .map(|metadata| metadata.len())
        .map_err(|error| StepError::Failed(format!("Could not read {}: {error}", archive.display())))
}

/// Work with the folder of caches, which waits for the disk.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StepError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten();
    done.map_err(|error| StepError::Failed(format!("Could not use the folder of caches: {error}")))
}
