//! `task.json`: what a task is, what it takes, and how it runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The parts of a task, each with handlers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before all steps.
    PreJob,
    /// In its turn.
    Execution,
    /// After all steps, whatever happened.
    PostJob,
}

/// What runs a part of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// Node.js of this version.
    Node(u32),
    /// PowerShell.
    PowerShell,
    /// A program of the machine.
    Process,
}

/// The handlers that can run on this system, the one that is preferred at first (`TaskManager.cs`). On Linux
/// Microsoft's agent has only those of Node.
const HANDLERS: [(&str, Runner); 7] = [
    ("Node24", Runner::Node(24)),
    ("Node20_1", Runner::Node(20)),
    ("Node16", Runner::Node(16)),
    ("Node10", Runner::Node(10)),
    ("Node", Runner::Node(6)),
    ("PowerShell3", Runner::PowerShell),
    ("Process", Runner::Process),
];

/// A task's definition. What is not known here is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) friendly_name: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) help_url: String,
    pub(crate) help_mark_down: String,
    #[serde(deserialize_with = "version")]
    pub(crate) version: String,
    pub(crate) minimum_agent_version: String,
    pub(crate) inputs: Vec<Input>,
    pub(crate) restrictions: Option<Restrictions>,
    prejobexecution: BTreeMap<String, Value>,
    execution: BTreeMap<String, Value>,
    postjobexecution: BTreeMap<String, Value>,
}

/// An input.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Input {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "text")]
    pub(crate) default_value: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) required: bool,
    /// When it is asked for; always if that is empty.
    pub(crate) visible_rule: String,
}

impl Input {
    /// Whether relative values are completed by the repository's folder.
    pub(crate) fn is_path(&self) -> bool {
        self.kind.eq_ignore_ascii_case("filePath")
    }

    /// Whether its value names a service connection.
    pub(crate) fn is_connection(&self) -> bool {
        self.kind.to_ascii_lowercase().starts_with("connectedservice")
    }

    /// Whether its value names a secure file.
    pub(crate) fn is_secure_file(&self) -> bool {
        self.kind.eq_ignore_ascii_case("secureFile")
    }
}

/// What a task's logging commands may do.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Restrictions {
    pub(crate) commands: Option<Commands>,
    pub(crate) settable_variables: Option<Settable>,
}

/// Which commands.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Commands {
    mode: String,
}

impl Commands {
    /// Only harmless ones.
    pub(crate) fn is_restricted(&self) -> bool {
        self.mode.eq_ignore_ascii_case("restricted")
    }
}

/// Which variables it may set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settable {
    pub(crate) allowed: Vec<String>,
}

/// How a part of a task runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handler<'a> {
    /// Its name in the manifest.
    pub(crate) name: &'static str,
    pub(crate) runner: Runner,
    data: &'a Value,
}

impl<'a> Handler<'a> {
    /// What the manifest says of it under a name, in any case; else nothing.
    pub(crate) fn field(&self, name: &str) -> &'a str {
        let fields = self.data.as_object().into_iter().flatten();
        let mut texts = fields.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        texts.find_map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

impl Manifest {
    fn handlers(&self, stage: Stage) -> &BTreeMap<String, Value> {
        match stage {
            Stage::PreJob => &self.prejobexecution,
            Stage::Execution => &self.execution,
            Stage::PostJob => &self.postjobexecution,
        }
    }

    /// Whether the task has something to do then.
    pub(crate) fn has(&self, stage: Stage) -> bool {
        !self.handlers(stage).is_empty()
    }

    /// The ways to run a part of it that this system may have, the preferred one at first.
    pub(crate) fn runnable(&self, stage: Stage) -> Vec<Handler<'_>> {
        let handlers = self.handlers(stage);
        let known = HANDLERS.iter().filter_map(|(name, runner)| {
            let (_, data) = handlers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some(Handler { name, runner: *runner, data })
        });
        known.filter(|handler| !handler.field("target").is_empty()).collect()
    }

    /// The names of the handlers of a part, for messages.
    pub(crate) fn handler_names(&self, stage: Stage) -> Vec<&str> {
        self.handlers(stage).keys().map(String::as_str).collect()
    }
}

/// `{ "Major": 1, "Minor": "2", "Patch": 3 }`, with names in any case and numbers as text or not.
fn version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let parts = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let part = |name: &str| {
        let found = parts.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or_else(|| "0".to_owned(), |(_, value)| plain(value))
    };
    Ok(format!("{}.{}.{}", part("major"), part("minor"), part("patch")))
}

/// Text, or what stands for it: some manifests have numbers and booleans as defaults.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(plain(&Value::deserialize(deserializer)?))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::json;
    use serde_json::json;

    use super::*;

    fn manifest(value: Value) -> Manifest {
        json::from_str(&value.to_string()).expect("it is a manifest")
    }

    #[test]
    fn handlers_come_in_the_order_of_the_agent() {
        let task = manifest(json!({
            "execution": {
                "PowerShell3": { "target": "a.ps1" },
                "Node10": { "target": "old.js" },
                "Node24": { "target": "" },
                "node20_1": { "target": "new.js", "argumentFormat": "", "WorkingDirectory": "there" },
                "Maths": { "target": "a.m" },
            },
            "postjobexecution": { "AzurePowerShell": { "target": "b.ps1" } },
            "prejobexecution": null,
            "unknown": [1],
        }));
        let handlers = task.runnable(Stage::Execution);
        let names: Vec<_> = handlers.iter().map(|handler| handler.name).collect();
        assert_eq!(names, ["Node20_1", "Node10", "PowerShell3"]);
        assert_eq!(handlers[0].runner, Runner::Node(20));
        assert_eq!((handlers[0].field("target"), handlers[0].field("workingDirectory")), ("new.js", "there"));
        assert_eq!(handlers[1].field("workingDirectory"), "");
        assert!(task.has(Stage::PostJob) && task.runnable(Stage::PostJob).is_empty());
        assert_eq!(task.handler_names(Stage::PostJob), ["AzurePowerShell"]);
        assert!(!task.has(Stage::PreJob));
    }

    #[test]
    fn versions_and_defaults_are_read_as_people_write_them() {
        let task = manifest(json!({
            "version": { "Major": "2", "minor": 1, "Patch": 0 },
            "inputs": [{ "name": "a", "type": "boolean", "defaultValue": true }, { "name": "b", "type": "filePath" }],
        }));
        assert_eq!(task.version, "2.1.0");
        assert_eq!(task.inputs[0].default_value, "true");
        assert!(task.inputs[1].is_path());
    }
}
