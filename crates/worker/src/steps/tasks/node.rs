//! Runs a part of a task by Node (`NodeHandler.cs`).
//!
//! The official agent brings a Node of each version with it. Here there is one, that of the machine, so the
//! newest handler is taken that it is new enough for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;

use super::manifest::{Handler, Runner};
use super::run::Part;
use crate::context::StepContext;
use crate::process::{self, Command};
use crate::steps::StepError;
use crate::steps::program::which;

/// The oldest Node by which a task for a newer one is tried, with a warning: the official agent falls back as
/// far (`GetNodeFolderWithFallback`).
const OLDEST_STAND_IN: u32 = 16;

/// How much Node may say about its version.
const MAX_SAID_BYTES: usize = 4 * 1024;

/// Runs a part that has these handlers, the preferred one at first.
pub(super) async fn run(part: Part<'_>, handlers: &[Handler<'_>]) -> Result<TaskResult, StepError> {
    let (step, task) = (part.step, &part.package.manifest.name);
    let node = find(&part).await.ok_or_else(|| {
        StepError::Failed(format!(
            "The task {task} runs on Node.js (handler {}), and there is no `node` on the PATH. Install \
             Node.js {} or newer on this agent, or use an image that has it.",
            handlers[0].name,
            oldest(handlers)
        ))
    })?;
    let handler = match version(step, &part, &node).await? {
        // It may still do: what it is called does not matter.
        None => handlers[0],
        Some(version) => match choose(handlers, version) {
            Choice::Fits(handler) => handler,
            Choice::StandsIn(handler) => {
                step.warning(&too_old(task, &handler, &node, version, " It is tried with that.")).await;
                handler
            }
            Choice::TooOld(handler) => {
                return Err(StepError::Failed(too_old(task, &handler, &node, version, "")));
            }
        },
    };
    step.debug(&format!("Handler {} by {}", handler.name, node.display())).await;
    let target = part.target(&handler).await?;
    let directory = part.expanded(&handler, "workingDirectory");
    let directory =
        if directory.is_empty() { part.default_directory() } else { part.package.folder.join(directory) };
    part.start(node, vec![OsString::from(target)], directory).await
}

/// How a part runs by the Node that there is.
#[derive(Debug)]
enum Choice<'a> {
    Fits(Handler<'a>),
    /// By an older Node than the handler is for.
    StandsIn(Handler<'a>),
    /// That Node is too old to be tried.
    TooOld(Handler<'a>),
}

fn choose<'a>(handlers: &[Handler<'a>], installed: u32) -> Choice<'a> {
    let of_node = || handlers.iter().filter_map(|handler| Some((*handler, node_of(handler)?)));
    if let Some((handler, _)) = of_node().find(|(_, wanted)| *wanted <= installed) {
        return Choice::Fits(handler);
    }
    let oldest = of_node().next_back().map_or(handlers[0], |(handler, _)| handler);
    if installed >= OLDEST_STAND_IN { Choice::StandsIn(oldest) } else { Choice::TooOld(oldest) }
}

fn node_of(handler: &Handler<'_>) -> Option<u32> {
    match handler.runner {
        Runner::Node(version) => Some(version),
        Runner::PowerShell | Runner::Process => None,
    }
}

/// The oldest version that one of the handlers is for.
fn oldest(handlers: &[Handler<'_>]) -> u32 {
    handlers.iter().filter_map(node_of).min().unwrap_or_default()
}

fn too_old(task: &str, handler: &Handler<'_>, node: &Path, installed: u32, what: &str) -> String {
    let wanted = node_of(handler).unwrap_or_default();
    format!(
        "The task {task} runs on Node.js {wanted} or newer (handler {}), and `{}` is Node.js \
         {installed}.{what} Install Node.js {wanted} on this agent, or use an image that has it.",
        handler.name,
        node.display()
    )
}

/// The Node that an image names by its label, else Node as the job began with it: a step that puts an old one
/// on the path means its own scripts.
async fn find(part: &Part<'_>) -> Option<PathBuf> {
    if let Some(node) = crate::containers::node_of_image(part.step, &part.prepared.place) {
        return Some(node);
    }
    let first = crate::containers::inherited(part.step, &part.prepared.place);
    for values in [&first, &part.environment] {
        if values.contains_key(OsStr::new("PATH"))
            && let Some(node) = which("node", values, &part.prepared.place).await
        {
            return Some(node);
        }
    }
    None
}

/// Which major version a Node is; none if it does not say.
async fn version(step: &StepContext, part: &Part<'_>, node: &Path) -> Result<Option<u32>, StepError> {
    let mut command = Command::new(node, part.package.folder.clone());
    command.environment = part.environment.clone();
    command.arguments = vec!["--version".into()];
    command.place = part.prepared.place.clone();
    let said = process::capture(command, &step.cancel, MAX_SAID_BYTES).await?;
    if said.ended.cancelled {
        return Err(StepError::Canceled);
    }
    Ok(major(&said.stdout))
}

/// `v20.11.1` is 20.
fn major(said: &str) -> Option<u32> {
    said.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::tasks::manifest::{Manifest, Stage};

    fn chosen(names: &[&str], installed: u32) -> String {
        let handlers: Vec<_> = names.iter().map(|name| format!(r#""{name}":{{"target":"a.js"}}"#)).collect();
        let text = format!(r#"{{"execution":{{{}}}}}"#, handlers.join(","));
        let manifest: Manifest = dayfly_protocol::json::from_str(&text).expect("it is a manifest");
        match choose(&manifest.runnable(Stage::Execution), installed) {
            Choice::Fits(handler) => handler.name.to_owned(),
            Choice::StandsIn(handler) => format!("tries {}", handler.name),
            Choice::TooOld(handler) => format!("not {}", handler.name),
        }
    }

    #[test]
    fn the_newest_handler_that_fits_is_taken() {
        let all = ["Node", "Node10", "Node16", "Node20_1", "Node24", "PowerShell3"];
        for (installed, expected) in
            [(26, "Node24"), (22, "Node20_1"), (20, "Node20_1"), (18, "Node16"), (12, "Node10"), (8, "Node")]
        {
            assert_eq!(chosen(&all, installed), expected, "Node {installed}");
        }
        assert_eq!(chosen(&["Node24", "Node20_1"], 18), "tries Node20_1");
        assert_eq!(chosen(&["Node24", "PowerShell3"], 14), "not Node24");
    }

    #[test]
    fn node_says_its_version() {
        for (said, expected) in [("v20.11.1\n", Some(20)), ("20.11.1", None), ("vNext", None), ("", None)] {
            assert_eq!(major(said), expected, "{said}");
        }
    }
}
