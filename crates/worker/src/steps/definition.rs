//! What the definitions of the built-in tasks say: the header of their logs, their inputs with defaults.
//!
//! Taken from the `task.json` of each task; for checkout, which has none, from what the official worker
//! prints.

use dayfly_protocol::task;
use uuid::Uuid;

use super::inputs::Known;
use crate::context::StepContext;

/// A built-in task.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(super) friendly_name: &'static str,
    pub(super) description: &'static str,
    pub(super) author: &'static str,
    pub(super) help: &'static str,
    /// Inputs in the order of the definition.
    pub(super) inputs: &'static [Input],
}

/// An input of a task.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: &'static str,
    /// Other names that files may use.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) default: &'static str,
    /// Whether a relative path is completed by the repository's folder, and an empty one replaced by it.
    pub(crate) is_path: bool,
}

/// An input that is a text.
pub(super) const fn text(name: &'static str, default: &'static str) -> Input {
    aliased(name, &[], default)
}

/// An input that is a text and has other names.
pub(super) const fn aliased(
    name: &'static str,
    aliases: &'static [&'static str],
    default: &'static str,
) -> Input {
    Input { name, aliases, default, is_path: false }
}

/// An input that is a path.
pub(super) const fn path(name: &'static str) -> Input {
    Input { name, aliases: &[], default: "", is_path: true }
}

impl Input {
    /// The same input with a default.
    pub(super) const fn or(self, default: &'static str) -> Input {
        Input { name: self.name, aliases: self.aliases, default, is_path: self.is_path }
    }

    /// The same input with other names.
    pub(super) const fn called(self, aliases: &'static [&'static str]) -> Input {
        Input { name: self.name, aliases, default: self.default, is_path: self.is_path }
    }
}

static CMD_LINE: Definition = Definition {
    friendly_name: "Command line",
    description: "Run a command line script using Bash on Linux and macOS and cmd.exe on Windows",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/command-line",
    inputs: &[
        text("script", "echo Write your commands here\n\necho Hello world"),
        path("workingDirectory"),
        text("failOnStderr", "false"),
    ],
};

static BASH: Definition = Definition {
    friendly_name: "Bash",
    description: "Run a Bash script on macOS, Linux, or Windows",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/bash",
    inputs: &[
        text("targetType", "filePath"),
        path("filePath"),
        text("arguments", ""),
        text("script", "# Write your commands here\n\necho 'Hello world'"),
        path("workingDirectory"),
        text("failOnStderr", "false"),
        text("bashEnvValue", ""),
    ],
};

static POWERSHELL: Definition = Definition {
    friendly_name: "PowerShell",
    description: "Run a PowerShell script on Linux, macOS, or Windows",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/powershell",
    inputs: &[
        text("targetType", "filePath"),
        path("filePath"),
        text("arguments", ""),
        text("script", "# Write your PowerShell commands here.\n\nWrite-Host \"Hello World\""),
        text("errorActionPreference", "stop"),
        text("warningPreference", "default"),
        text("informationPreference", "default"),
        text("verbosePreference", "default"),
        text("debugPreference", "default"),
        text("progressPreference", "silentlyContinue"),
        text("failOnStderr", "false"),
        text("showWarnings", "false"),
        text("ignoreLASTEXITCODE", "false"),
        text("pwsh", "false"),
        path("workingDirectory"),
        text("runScriptInSeparateScope", "false"),
    ],
};

static CHECKOUT: Definition = Definition {
    friendly_name: "Get sources",
    description: "Get sources from a repository. Supports Git, TfsVC, and SVN repositories.",
    author: "Microsoft",
    help: "[More Information](https://go.microsoft.com/fwlink/?LinkId=798199)",
    inputs: &[],
};

// These tasks know some inputs by several names, so their defaults are applied where they are read.
static PUBLISH_PIPELINE_ARTIFACT: Definition = Definition {
    friendly_name: "Publish Pipeline Artifacts",
    description: "Publish (upload) a file or directory as a named artifact for the current run",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/publish-pipeline-artifact",
    inputs: &[],
};

static DOWNLOAD_PIPELINE_ARTIFACT: Definition = Definition {
    friendly_name: "Download Pipeline Artifacts",
    description: "Download build and pipeline artifacts",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/download-pipeline-artifact",
    inputs: &[],
};

static PUBLISH_BUILD_ARTIFACTS: Definition = Definition {
    friendly_name: "Publish build artifacts",
    description: "Publish build artifacts to Azure Pipelines or a Windows file share",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/publish-build-artifacts",
    inputs: &[],
};

static DOWNLOAD_BUILD_ARTIFACTS: Definition = Definition {
    friendly_name: "Download build artifacts",
    description: "Download files that were saved as artifacts of a completed build",
    author: "Microsoft Corporation",
    help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/download-build-artifacts",
    inputs: &[],
};

impl Definition {
    /// The task with an id that the agent itself has, or that is behind a shortcut.
    pub(crate) fn of(id: Uuid) -> Option<&'static Definition> {
        match id {
            task::CMD_LINE => Some(&CMD_LINE),
            task::BASH => Some(&BASH),
            task::POWERSHELL => Some(&POWERSHELL),
            task::CHECKOUT => Some(&CHECKOUT),
            task::PUBLISH_PIPELINE_ARTIFACT => Some(&PUBLISH_PIPELINE_ARTIFACT),
            task::DOWNLOAD_PIPELINE_ARTIFACT => Some(&DOWNLOAD_PIPELINE_ARTIFACT),
            task::PUBLISH_BUILD_ARTIFACTS => Some(&PUBLISH_BUILD_ARTIFACTS),
            task::DOWNLOAD_BUILD_ARTIFACTS => Some(&DOWNLOAD_BUILD_ARTIFACTS),
            _ => None,
        }
    }

    /// Its inputs.
    pub(super) fn known(&self) -> impl Iterator<Item = Known<'_>> + Clone {
        let known = |input: &'static Input| {
            let Input { name, aliases, default, is_path } = *input;
            Known { name, default, is_path, aliases: aliases.to_vec() }
        };
        self.inputs.iter().map(known)
    }

    /// Prints the header of a step's log.
    pub(crate) async fn print(&self, step: &StepContext, version: &str) {
        let Definition { friendly_name, description, author, help, .. } = self;
        print_header(step, [friendly_name, description, version, author, help]).await;
    }
}

/// Prints the header of a step's log (`TaskRunner.cs`, `PrintTaskMetaData`): name, description, version,
/// author and help of its task.
pub(super) async fn print_header(step: &StepContext, [name, description, version, author, help]: [&str; 5]) {
    const RULE: &str = "==============================================================================";
    step.output(RULE).await;
    step.output(&format!("Task         : {name}")).await;
    step.output(&format!("Description  : {description}")).await;
    step.output(&format!("Version      : {version}")).await;
    step.output(&format!("Author       : {author}")).await;
    step.output(&format!("Help         : {help}")).await;
    step.output(RULE).await;
}
