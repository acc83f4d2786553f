//! Tasks: from `Name@2` in a file to an id and an exact version.

mod in_box;

use dayfly_protocol::task::CHECKOUT;
use uuid::Uuid;

use crate::plan::TaskReference;
use in_box::{IN_BOX, OLDER};

/// The version of `Checkout`.
pub const CHECKOUT_VERSION: &str = "1.0.0";

/// Knows which tasks exist.
pub trait TaskCatalog {
    /// The task that a file calls `name@major`. `name` is a task's name (any case),
    /// `publisher.extension.name`, or an id in text form. `None`: no such task, or no such major version.
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference>;

    /// Names of tasks that exist, for suggestions in messages.
    fn names(&self) -> Vec<String>;

    /// The newest major version of a task, for suggestions in messages.
    fn newest(&self, name: &str) -> Option<u32> {
        BuiltinTasks::newest_major(name)
    }

    /// Whether a task that [`resolve`](Self::resolve) answers is known to exist, and not only taken for
    /// granted.
    fn is_certain(&self, name: &str, major: u32) -> bool {
        let _ = (name, major);
        true
    }
}

/// The tasks that every organization has, known without a service. Which of them can run is the worker's
/// business.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltinTasks;

/// The tasks that every organization has, and any others: those of extensions, and versions that came or went
/// since, which nobody knows without the organization. The service looks names up exactly, so a likeness says
/// nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyTasks;

impl TaskCatalog for AnyTasks {
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference> {
        BuiltinTasks.resolve(name, major).or_else(|| Some(of_an_extension(name, major)))
    }

    fn names(&self) -> Vec<String> {
        BuiltinTasks.names()
    }

    fn is_certain(&self, name: &str, major: u32) -> bool {
        BuiltinTasks.resolve(name, major).is_some()
    }
}

/// A task of which no more is known than how files call it. All versions of a task have one id.
fn of_an_extension(name: &str, major: u32) -> TaskReference {
    let own = || IN_BOX.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name)).map(|(_, id, _)| *id);
    let id = Uuid::try_parse(name).ok().or_else(own).unwrap_or_else(|| {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("task:{}", name.to_lowercase()).as_bytes())
    });
    TaskReference { id, name: name.to_owned(), version: format!("{major}.0.0") }
}

/// `Checkout` lives in the agent and is in no list of tasks.
const CHECKOUT_TASK: &[(&str, Uuid, &str)] = &[("Checkout", CHECKOUT, CHECKOUT_VERSION)];

impl TaskCatalog for BuiltinTasks {
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference> {
        let id = Uuid::try_parse(name).ok();
        CHECKOUT_TASK
            .iter()
            .chain(IN_BOX)
            .find(|(known, known_id, version)| {
                (id == Some(*known_id) || known.eq_ignore_ascii_case(name))
                    && major_of(version) == Some(major)
            })
            .map(|(name, id, version)| TaskReference {
                id: *id,
                name: (*name).to_owned(),
                version: (*version).to_owned(),
            })
            .or_else(|| older(name, major))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            CHECKOUT_TASK.iter().chain(IN_BOX).map(|(name, _, _)| (*name).to_owned()).collect();
        names.dedup();
        names
    }
}

/// An older major version of a task that is in the list.
fn older(name: &str, major: u32) -> Option<TaskReference> {
    let id = Uuid::try_parse(name).ok();
    let (name, id, _) = IN_BOX
        .iter()
        .find(|(known, known_id, _)| id == Some(*known_id) || known.eq_ignore_ascii_case(name))?;
    OLDER.contains(&(*name, major)).then(|| TaskReference {
        id: *id,
        name: (*name).to_owned(),
        version: format!("{major}.0.0"),
    })
}

impl BuiltinTasks {
    fn newest_major(name: &str) -> Option<u32> {
        let versions = CHECKOUT_TASK.iter().chain(IN_BOX);
        versions
            .filter(|(known, _, _)| known.eq_ignore_ascii_case(name))
            .filter_map(|(_, _, version)| major_of(version))
            .max()
    }
}

/// Where a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunsOn {
    /// On an agent, which nearly all do.
    Agent,
    /// In the service itself.
    Server,
}

/// The tasks that the service runs itself (`runsOn` is `Server` or `ServerGate` in their task.json).
const ON_SERVER: &[&str] = &[
    "AzureFunction",
    "AzureMonitor",
    "AzurePolicyCheckGate",
    "Delay",
    "InvokeRESTAPI",
    "ManualIntervention",
    "ManualValidation",
    "PublishToAzureServiceBus",
    "queryWorkItems",
];

/// Where a task runs. `None`: it is not in the list of tasks that every organization has.
pub(crate) fn runs_on(task: Uuid) -> Option<RunsOn> {
    let (name, _, _) = CHECKOUT_TASK.iter().chain(IN_BOX).find(|(_, id, _)| *id == task)?;
    Some(if ON_SERVER.contains(name) { RunsOn::Server } else { RunsOn::Agent })
}

fn major_of(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::task::{BASH, CMD_LINE, POWERSHELL};

    use super::*;

    #[test]
    fn the_shortcuts_are_in_the_list() {
        let shortcuts = [
            ("CmdLine", 2, CMD_LINE),
            ("Bash", 3, BASH),
            ("PowerShell", 2, POWERSHELL),
            ("Checkout", 1, CHECKOUT),
        ];
        for (name, major, id) in shortcuts {
            assert_eq!(BuiltinTasks.resolve(name, major).map(|task| task.id), Some(id), "{name}");
        }
    }

    #[test]
    fn finds_by_name_and_id() {
        for name in ["CmdLine", "cmdline", "d9bafed4-0b18-4f58-968d-86655b4d2ce9"] {
            assert_eq!(BuiltinTasks.resolve(name, 2).map(|task| task.id), Some(CMD_LINE), "{name}");
        }
        assert_eq!(BuiltinTasks.resolve("CmdLine", 9), None);
        assert_eq!(BuiltinTasks.resolve("NoSuchTask", 1), None);
        assert_eq!(BuiltinTasks.resolve("publisher.extension.CmdLine", 2), None, "another publisher's task");
    }

    #[test]
    fn tasks_of_extensions_are_taken_as_they_are_called() {
        let task = AnyTasks.resolve("SonarQubePrepare", 5).unwrap();
        assert_eq!((task.name.as_str(), task.version.as_str()), ("SonarQubePrepare", "5.0.0"));
        assert_eq!(AnyTasks.resolve("sonarqubeprepare", 6).unwrap().id, task.id, "one task in any case");
        assert_ne!(AnyTasks.resolve("publisher.extension.task", 5).unwrap().id, task.id);
        assert_eq!(AnyTasks.resolve("cmdline", 2), BuiltinTasks.resolve("CmdLine", 2));
        for (name, major) in [("CmdLin", 2), ("S3Upload", 1), ("YarnInstaller", 3)] {
            assert!(AnyTasks.resolve(name, major).is_some(), "{name}@{major}");
            assert!(!AnyTasks.is_certain(name, major), "{name}@{major}");
        }
        let unknown = AnyTasks.resolve("CmdLine", 9).unwrap();
        assert_eq!((unknown.id, unknown.version.as_str()), (CMD_LINE, "9.0.0"));
    }

    #[test]
    fn older_versions_are_known() {
        for (name, major) in OLDER {
            let task = BuiltinTasks.resolve(name, *major).unwrap();
            assert!(IN_BOX.iter().any(|(known, id, _)| known == name && *id == task.id), "{name}");
            assert!(BuiltinTasks.newest(name) > Some(*major), "{name}");
        }
        assert_eq!(BuiltinTasks.newest("usedotnet"), Some(2));
    }
}
