//! Timelines: the tree of records a run consists of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::wire_enum;
use crate::logs::TaskLogReference;
use crate::{DateTime, RecordId, TaskResult, TimelineId};

wire_enum! {
    /// How far a record has come.
    pub enum TimelineRecordState {
        /// Not begun.
        Pending = 0,
        /// Under way.
        InProgress = 1,
        /// Ended.
        Completed = 2,
    }
}

/// How many issues of one kind a record carries; its counts go on (`ExecutionContext.cs`).
pub const MOST_ISSUES: usize = 10;

wire_enum! {
    /// The kind of an issue.
    pub enum IssueType {
        /// An error.
        Error = 1,
        /// A warning.
        Warning = 2,
    }
}

/// A timeline with its records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeline {
    /// Its id.
    pub id: TimelineId,
    /// Grows with each change.
    pub change_id: i32,
    /// Its records, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<TimelineRecord>,
}

/// One record: a stage, phase, job or task. In a PATCH, members that are `None` (or empty) stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimelineRecord {
    /// Its id; a step's and a job's own id.
    pub id: RecordId,
    /// The record above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<RecordId>,
    /// `Stage`, `Phase`, `Job`, `Task` or `Checkpoint`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub record_type: Option<String>,
    /// What people read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name in the YAML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_name: Option<String>,
    /// The dotted path of names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<DateTime>,
    /// What it does now, from `task.setprogress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_operation: Option<String>,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_complete: Option<i32>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TimelineRecordState>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Text beside the result, such as why a step was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_code: Option<String>,
    /// The timeline's change this came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<i32>,
    /// When it was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<DateTime>,
    /// The agent's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_name: Option<String>,
    /// Its place among its siblings, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<i32>,
    /// Its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<TaskLogReference>,
    /// The timeline of its details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<TimelineReference>,
    /// How many errors there were, also those past the list's bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_count: Option<i32>,
    /// How many warnings there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning_count: Option<i32>,
    /// The first errors and warnings, ten each at the most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<Issue>,
    /// Output variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableValue>,
    /// The attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The task it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskReference>,
}

impl TimelineRecord {
    /// Takes over what `change` says of the same record (`JobServerQueue.cs`, `MergeTimelineRecords`):
    /// members that it has replace, a list of issues replaces when it is not empty, variables are added or
    /// replaced one by one. Change number and time of change stay.
    pub fn merge(&mut self, change: Self) {
        let Self {
            id: _,
            parent_id,
            record_type,
            name,
            ref_name,
            identifier,
            start_time,
            finish_time,
            current_operation,
            percent_complete,
            state,
            result,
            result_code,
            change_id: _,
            last_modified: _,
            worker_name,
            order,
            log,
            details,
            error_count,
            warning_count,
            issues,
            variables,
            attempt,
            task,
        } = change;
        fn set<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        set(&mut self.parent_id, parent_id);
        set(&mut self.record_type, record_type);
        set(&mut self.name, name);
        set(&mut self.ref_name, ref_name);
        set(&mut self.identifier, identifier);
        set(&mut self.start_time, start_time);
        set(&mut self.finish_time, finish_time);
        set(&mut self.current_operation, current_operation);
        set(&mut self.percent_complete, percent_complete);
        set(&mut self.state, state);
        set(&mut self.result, result);
        set(&mut self.result_code, result_code);
        set(&mut self.worker_name, worker_name);
        set(&mut self.order, order);
        set(&mut self.log, log);
        set(&mut self.details, details);
        set(&mut self.error_count, error_count);
        set(&mut self.warning_count, warning_count);
        set(&mut self.attempt, attempt);
        set(&mut self.task, task);
        if !issues.is_empty() {
            self.issues = issues;
        }
        self.variables.extend(variables);
    }
}

/// A timeline by id only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimelineReference {
    /// Its id.
    pub id: TimelineId,
    /// Grows with each change.
    pub change_id: i32,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// An error or a warning of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// Error or warning; an error when it does not say.
    #[serde(rename = "type", default = "error_when_absent")]
    pub issue_type: IssueType,
    /// `General` or `Code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What happened.
    #[serde(default)]
    pub message: String,
    /// `sourcepath`, `linenumber`, `columnnumber`, `code`, `logFileLineNumber`, `type`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

fn error_when_absent() -> IssueType {
    IssueType::Error
}

/// Which task a record runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskReference {
    /// The task.
    pub id: crate::TaskId,
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: String,
}

/// A variable's value, and whether it is secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VariableValue {
    /// The value.
    pub value: Option<String>,
    /// Whether it must be masked and kept out of environments.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_secret: bool,
    /// Whether steps may not change it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_read_only: bool,
}

impl VariableValue {
    /// A plain variable.
    pub fn public(value: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A variable the service sets and steps may not change.
    pub fn read_only(value: impl Into<String>) -> Self {
        Self { is_read_only: true, ..Self::public(value) }
    }

    /// A secret.
    pub fn secret(value: impl Into<String>) -> Self {
        Self { is_secret: true, ..Self::public(value) }
    }
}

impl std::fmt::Debug for VariableValue {
    /// A secret's value is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value: &dyn std::fmt::Debug = if self.is_secret { &"***" } else { &self.value };
        f.debug_struct("VariableValue")
            .field("value", value)
            .field("is_read_only", &self.is_read_only)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_what_it_names_and_nothing_else() {
        let issue = |message: &str| Issue {
            issue_type: IssueType::Error,
            category: None,
            message: message.to_owned(),
            data: BTreeMap::new(),
        };
        let variables = |name: &str, value: &str| [(name.to_owned(), VariableValue::public(value))].into();
        let mut record = TimelineRecord {
            name: Some("Build".to_owned()),
            state: Some(TimelineRecordState::InProgress),
            change_id: Some(3),
            issues: vec![issue("one"), issue("two")],
            variables: variables("a", "1"),
            ..TimelineRecord::default()
        };
        let before = record.clone();
        record.merge(TimelineRecord { change_id: Some(9), ..TimelineRecord::default() });
        assert_eq!(record, before);
        record.merge(TimelineRecord {
            state: Some(TimelineRecordState::Completed),
            result: Some(TaskResult::Failed),
            issues: vec![issue("three")],
            variables: variables("b", "2"),
            ..TimelineRecord::default()
        });
        record.merge(TimelineRecord { variables: variables("a", "3"), ..TimelineRecord::default() });
        let mut all: BTreeMap<_, _> = variables("a", "3");
        all.extend::<BTreeMap<_, _>>(variables("b", "2"));
        let expected = TimelineRecord {
            state: Some(TimelineRecordState::Completed),
            result: Some(TaskResult::Failed),
            issues: vec![issue("three")],
            variables: all,
            ..before
        };
        assert_eq!(record, expected);
    }
}
