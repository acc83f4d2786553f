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

/// Node handlers, the one that is taken first at first (`TaskManager.cs`).
const NODE_HANDLERS: [(&str, u32); 5] =
    [("Node24", 24), ("Node20_1", 20), ("Node16", 16), ("Node10", 10), ("Node", 6)];

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
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    /// Its name in the manifest.
    pub(crate) name: &'static str,
    /// The version of Node that it was made for.
    pub(crate) node: u32,
    /// The script, relative to the package.
    pub(crate) target: String,
    /// Where it runs; none: in the package.
    pub(crate) working_directory: Option<String>,
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

    /// How a part of it runs here; none if it has handlers for other systems only.
    pub(crate) fn handler(&self, stage: Stage) -> Option<Handler> {
        let handlers = self.handlers(stage);
        NODE_HANDLERS.iter().find_map(|(name, node)| {
            let (_, data) = handlers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            let field =
                |field: &str| data.get(field)?.as_str().map(str::to_owned).filter(|text| !text.is_empty());
            Some(Handler {
                name,
                node: *node,
                target: field("target")?,
                working_directory: field("workingDirectory"),
            })
        })
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
    use serde_json::json;

    use super::*;

    fn manifest(value: Value) -> Manifest {
        serde_json::from_value(value).expect("it is a manifest")
    }

    #[test]
    fn the_newest_node_handler_is_taken() {
        let task = manifest(json!({
            "execution": {
                "PowerShell3": { "target": "a.ps1" },
                "Node10": { "target": "old.js" },
                "node20_1": { "target": "new.js", "argumentFormat": "", "workingDirectory": "" },
            },
            "postjobexecution": { "PowerShell3": { "target": "b.ps1" } },
            "unknown": [1],
        }));
        let handler = task.handler(Stage::Execution).expect("it has one");
        assert_eq!((handler.name, handler.node, handler.target.as_str()), ("Node20_1", 20, "new.js"));
        assert_eq!(handler.working_directory, None);
        assert!(task.has(Stage::PostJob) && task.handler(Stage::PostJob).is_none());
        assert_eq!(task.handler_names(Stage::PostJob), ["PowerShell3"]);
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
