//! `##vso[build.…]` (`BuildCommandExtension.cs`).

use std::sync::Arc;

use dayfly_client::describe;
use dayfly_protocol::logs::ATTACHMENT_SUMMARY;

use super::command::Command;
use super::task::{attach, file_name};
use super::{CommandResult, local_path};
use crate::context::{Said, StepContext};
use crate::files;
use crate::variables::Flags;

/// A file of the step becomes a further log of its record.
pub(super) async fn upload_log(step: &StepContext, command: &Command) -> CommandResult {
    let path = local_path(step, &command.data);
    if command.data.is_empty() || !files::is_file(&path).await {
        return Err(format!("Log file path is not provided or file doesn't exist: '{}'", command.data));
    }
    step.record.upload_log(path).await.map_err(|error| error.to_string())
}

pub(super) async fn upload_summary(step: &StepContext, command: &Command) -> CommandResult {
    if command.data.is_empty() || !files::is_file(local_path(step, &command.data)).await {
        return Err(format!(
            "Markdown summary file path is not provided or file doesn't exist: '{}'",
            command.data
        ));
    }
    let name = format!("CustomMarkDownSummary-{}", file_name(&command.data));
    attach(step, ATTACHMENT_SUMMARY, &name, &command.data).await
}

pub(super) async fn update_build_number(step: &StepContext, command: &Command) -> CommandResult {
    if command.data.is_empty() {
        return Err("Build number is required.".to_owned());
    }
    let number = command.data.clone();
    step.job.change_variables(|variables| variables.set("build.buildNumber", &number, Flags::default()));
    let service = Arc::clone(&step.job.service);
    let build = service.build().map_err(|error| describe(&error))?;
    warn_of_secret(step, "build number", &number).await;
    step.debug(&format!("Update build number for build: {build} to: {number} at backend.")).await;
    step.start_pending("Update Build Number", || {
        // Only what is under way has a turn, so whoever is waited for can go on.
        let turn = service.take_turn();
        async move {
            service.update_build_number(turn, &number).await.map_err(|error| describe(&error))?;
            Ok(vec![Said::Line(format!("Update build number to {number} for build {build}"))])
        }
    })
    .await
}

/// The service shows these as they are, and the official worker says nothing.
async fn warn_of_secret(step: &StepContext, what: &str, text: &str) {
    if step.job.masker.mask(text) != text {
        step.warning(&format!(
            "The {what} contains a secret. Azure DevOps shows it unmasked to everyone who can see this \
                pipeline."
        ))
        .await;
    }
}

pub(super) async fn add_build_tag(step: &StepContext, command: &Command) -> CommandResult {
    let tag = command.data.trim().to_owned();
    if tag.is_empty() {
        return Err("Build tag is required.".to_owned());
    }
    let service = Arc::clone(&step.job.service);
    let build = service.build().map_err(|error| describe(&error))?;
    warn_of_secret(step, "build tag", &tag).await;
    step.debug(&format!("Add build tag: {tag} to build: {build} at backend.")).await;
    step.start_pending("Add Build Tag", || async move {
        let tags = service.add_build_tag(&tag).await.map_err(|error| describe(&error))?;
        if !tags.iter().any(|present| present.eq_ignore_ascii_case(&tag)) {
            return Err(format!("Build tag '{tag}' was not added successfully.").into());
        }
        Ok(vec![Said::Line(format!("Build '{build}' has following tags now: {}", tags.join(", ")))])
    })
    .await
}
