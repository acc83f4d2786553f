//! Tasks: from `Name@2` in a file to an id and an exact version.

use uuid::{Uuid, uuid};

use crate::plan::TaskReference;

/// `Checkout`, which lives in the agent.
pub const CHECKOUT: Uuid = uuid!("6d15af64-176c-496d-b583-fd2ae21d4df4");
/// The version of `Checkout`.
pub const CHECKOUT_VERSION: &str = "1.0.0";
/// `CmdLine`: what `script:` stands for.
pub const CMD_LINE: Uuid = uuid!("d9bafed4-0b18-4f58-968d-86655b4d2ce9");
/// `Bash`: what `bash:` stands for.
pub const BASH: Uuid = uuid!("6c731c3c-3c68-459a-a5c9-bde6e6595b5b");
/// `PowerShell`: what `pwsh:` and `powershell:` stand for.
pub const POWER_SHELL: Uuid = uuid!("e213ff0f-5d5c-4791-802d-52ea3e7be1f1");

/// Knows which tasks exist.
pub trait TaskCatalog {
    /// The task that a file calls `name@major`. `name` is a task's name (any case), `publisher.extension.name`, or an
    /// id in text form. `None`: no such task, or no such major version.
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference>;

    /// Names of tasks that exist, for suggestions in messages.
    fn names(&self) -> Vec<String>;
}

/// The tasks that the YAML shortcuts stand for and those that Microsoft's agent handles itself: known without a
/// service. Ids and versions are those of each `task.json` in microsoft/azure-pipelines-tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltinTasks;

/// name, id, version
const BUILTINS: &[(&str, Uuid, &str)] = &[
    ("Checkout", CHECKOUT, CHECKOUT_VERSION),
    ("CmdLine", CMD_LINE, "2.279.1"),
    ("Bash", BASH, "3.278.0"),
    ("PowerShell", POWER_SHELL, "2.279.0"),
    ("PublishPipelineArtifact", uuid!("ecdc45f6-832d-4ad9-b52b-ee49e94659be"), "0.242.0"),
    ("PublishPipelineArtifact", uuid!("ecdc45f6-832d-4ad9-b52b-ee49e94659be"), "1.242.0"),
    ("DownloadPipelineArtifact", uuid!("61f2a582-95ae-4948-b34d-a1b3c4f6a737"), "2.198.0"),
    ("DownloadBuildArtifacts", uuid!("a433f589-fce1-4460-9ee6-44a624aeb1fb"), "0.275.3"),
    ("DownloadBuildArtifacts", uuid!("a433f589-fce1-4460-9ee6-44a624aeb1fb"), "1.220.0"),
    ("PublishBuildArtifacts", uuid!("2ff763a7-ce83-4e1f-bc89-0ae63477cebe"), "1.274.0"),
    ("Cache", uuid!("d53ccab4-555e-4494-9d06-11db043fb4a9"), "2.274.0"),
    ("PublishTestResults", uuid!("0b0f01ed-7dde-43ff-9cbb-e48954daf9b1"), "2.277.0"),
    ("PublishCodeCoverageResults", uuid!("2a7ebc54-c13e-490e-81a5-d7561ab7cd97"), "2.276.0"),
    ("CopyFiles", uuid!("5bfb729a-a7c8-4a78-a7c3-8d717bb7c13c"), "2.276.0"),
    ("DeleteFiles", uuid!("b7e8b412-0437-4065-9371-edc5881de25b"), "1.274.1"),
    ("ArchiveFiles", uuid!("d8b84976-e99a-4b86-b885-4849694435b0"), "2.279.0"),
    ("ExtractFiles", uuid!("5e1e3830-fbfb-11e5-aab1-090c92bc4988"), "1.274.0"),
    ("Docker", uuid!("e28912f1-0114-4464-802a-a3a35437fd16"), "2.279.0"),
    ("UseNode", uuid!("31c75bbb-bcdf-4706-8d7c-4da6a1959bc2"), "1.274.1"),
    ("NodeTool", uuid!("31c75bbb-bcdf-4706-8d7c-4da6a1959bc2"), "0.274.0"),
    ("Npm", uuid!("fe47e961-9fa8-4106-8639-368c022d43ad"), "1.275.0"),
    ("UsePythonVersion", uuid!("33c63b11-352b-45a2-ba1b-54cb568a29ca"), "0.276.0"),
    ("UseDotNet", uuid!("b0ce7256-7898-45d3-9cb5-176b752bfea6"), "2.274.2"),
    ("DotNetCoreCLI", uuid!("5541a522-603c-47ad-91fc-a4b1d163081b"), "2.275.0"),
    ("DownloadPackage", uuid!("8d6e8f7e-267d-442d-8c92-1f586864c62f"), "1.275.0"),
    ("ReviewApp", uuid!("deeafed4-0b18-4f58-968d-86655b4d2ce9"), "0.275.0"),
    ("DownloadSecureFile", uuid!("2a6ca863-f2ce-4f4d-8bcb-15e64608ec4b"), "1.274.0"),
    ("ShellScript", BASH, "2.274.0"),
    ("PythonScript", uuid!("6392f95f-7e76-4a18-b3c7-7f078d2f7700"), "0.274.1"),
    ("GoTool", uuid!("334727f4-9495-4f9d-a391-fc621d671474"), "0.275.0"),
    ("Maven", uuid!("ac4ee482-65da-4485-a532-7b085873e532"), "4.279.0"),
    ("Gradle", uuid!("8d8eebd8-2b94-4c97-85af-839254cc6da4"), "3.276.0"),
    ("Delay", uuid!("28782b92-5e8e-4458-9751-a71cd1492bae"), "1.241.0"),
    ("ManualValidation", uuid!("2003ad3a-104a-451a-9238-60474ab294e6"), "0.244.0"),
    ("ManualValidation", uuid!("2003ad3a-104a-451a-9238-60474ab294e6"), "1.274.0"),
    ("InvokeRESTAPI", uuid!("9c3e8943-130d-4c78-ac63-8af81df62dfb"), "1.274.1"),
];

impl TaskCatalog for BuiltinTasks {
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference> {
        let id = Uuid::try_parse(name).ok();
        let short = name.rsplit('.').next().unwrap_or(name);
        BUILTINS
            .iter()
            .find(|(known, known_id, version)| {
                (id == Some(*known_id) || known.eq_ignore_ascii_case(short))
                    && major_of(version) == Some(major)
            })
            .map(|(name, id, version)| TaskReference {
                id: *id,
                name: (*name).to_owned(),
                version: (*version).to_owned(),
            })
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = BUILTINS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        names.dedup();
        names
    }
}

fn major_of(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_name_id_and_full_name() {
        for name in ["CmdLine", "cmdline", "d9bafed4-0b18-4f58-968d-86655b4d2ce9", "ms.tasks.CmdLine"] {
            assert_eq!(BuiltinTasks.resolve(name, 2).map(|task| task.id), Some(CMD_LINE), "{name}");
        }
        assert_eq!(BuiltinTasks.resolve("CmdLine", 9), None);
        assert_eq!(BuiltinTasks.resolve("NoSuchTask", 1), None);
    }
}
