//! Cache (a plugin of the agent, `SavePipelineCacheV0` and `RestorePipelineCacheV0`). What it keeps is in
//! Azure DevOps, so here it is always a miss and the steps make the files anew.

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::text;
use super::super::{Definition, Prepared, StepError};
use super::Task;
use crate::context::StepContext;
use crate::variables::Flags;

pub(super) static CACHE: Task = Task {
    definition: Definition {
        friendly_name: "Cache",
        description: "Cache files between runs",
        author: "Microsoft Corporation",
        help: "https://aka.ms/pipeline-caching-docs",
        inputs: &[text("key", ""), text("path", ""), text("cacheHitVar", ""), text("restoreKeys", "")],
    },
    works_where_scripts_do: false,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    inputs.required("path")?;
    step.output(&format!("There is a cache miss: no cache is kept here for '{}'.", inputs.required("key")?))
        .await;
    if let Some(variable) = inputs.get("cacheHitVar") {
        step.set_variable(variable, "false", false, Flags::default());
    }
    Ok(TaskResult::Succeeded)
}
