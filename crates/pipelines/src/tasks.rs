//! Tasks: from `Name@2` in a file to an id and an exact version.

mod in_box;

use dayfly_protocol::task::CHECKOUT;
use uuid::Uuid;

use crate::plan::TaskReference;
use crate::schema::closest;
use in_box::IN_BOX;

/// The version of `Checkout`.
pub const CHECKOUT_VERSION: &str = "1.0.0";

/// Knows which tasks exist.
pub trait TaskCatalog {
    /// The task that a file calls `name@major`. `name` is a task's name (any case), `publisher.extension.name`, or an
    /// id in text form. `None`: no such task, or no such major version.
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference>;

    /// Names of tasks that exist, for suggestions in messages.
    fn names(&self) -> Vec<String>;
}

/// The tasks that every organization has, known without a service. Which of them can run is the worker's business.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltinTasks;

/// The tasks that every organization has, and any others: those of extensions, which nobody knows without the organization. A name
/// that is all but one of the former is taken for a slip.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyTasks;

impl TaskCatalog for AnyTasks {
    fn resolve(&self, name: &str, major: u32) -> Option<TaskReference> {
        let known = self.names();
        // Also the right name of a version that is not there.
        let is_slip = || closest(name, known.iter().map(String::as_str)).is_some();
        BuiltinTasks.resolve(name, major).or_else(|| (!is_slip()).then(|| of_an_extension(name, major)))
    }

    fn names(&self) -> Vec<String> {
        BuiltinTasks.names()
    }
}

/// A task of which no more is known than how files call it.
fn of_an_extension(name: &str, major: u32) -> TaskReference {
    let id = Uuid::try_parse(name).unwrap_or_else(|_| {
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
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            CHECKOUT_TASK.iter().chain(IN_BOX).map(|(name, _, _)| (*name).to_owned()).collect();
        names.dedup();
        names
    }
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
    fn tasks_of_extensions_are_taken_as_they_are_called_but_slips_are_not() {
        let task = AnyTasks.resolve("SonarQubePrepare", 5).unwrap();
        assert_eq!((task.name.as_str(), task.version.as_str()), ("SonarQubePrepare", "5.0.0"));
        assert_eq!(AnyTasks.resolve("sonarqubeprepare", 6).unwrap().id, task.id, "one task in any case");
        assert_ne!(AnyTasks.resolve("publisher.extension.task", 5).unwrap().id, task.id);
        assert_eq!(AnyTasks.resolve("cmdline", 2), BuiltinTasks.resolve("CmdLine", 2));
        assert_eq!(AnyTasks.resolve("CmdLin", 2), None);
        assert_eq!(AnyTasks.resolve("CmdLine", 9), None);
    }
}
