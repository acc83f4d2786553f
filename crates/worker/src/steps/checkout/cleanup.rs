//! The post-job part of `checkout:`: takes the credentials out of the repository again.

use dayfly_protocol::TaskResult;

use super::git::Git;
use super::{CLEANUP, REPOSITORY, StepError, remove_setting};
use crate::context::{StepContext, lock};
use crate::files;

pub(in crate::steps) async fn run(step: &StepContext) -> Result<TaskResult, StepError> {
    let (alias, cleans) = {
        let variables = lock(&step.task_variables);
        (variables.get(REPOSITORY).map(str::to_owned), variables.is_on(CLEANUP))
    };
    let Some(repository) = alias.and_then(|alias| step.job.repository(&alias)) else {
        return Ok(TaskResult::Succeeded);
    };
    let properties = &repository.resource.properties;
    step.output(&format!(
        "Cleaning any cached credential from repository: {} ({})",
        properties.name.as_deref().unwrap_or_default(),
        properties.repository_type.as_deref().unwrap_or_default()
    ))
    .await;
    // The folder may be gone, and with it the credentials.
    if cleans
        && files::is_folder(repository.path.join(".git")).await
        && let Some(url) = &properties.url
    {
        let git = Git::find(step, false).await?;
        remove_setting(step, &git, &repository.path, &format!("http.{url}.extraheader")).await?;
    }
    Ok(TaskResult::Succeeded)
}
