//! Logs, console lines and attachments of a plan.

use serde::{Deserialize, Serialize};

use crate::{DateTime, LogId, RecordId, TimelineId};

/// A log of a plan (`TaskLog`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskLog {
    /// Its number in the plan; 0 in the request that makes it.
    pub id: LogId,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// `logs\<record id>`.
    pub path: String,
    /// How many lines it has.
    pub line_count: i64,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_on: Option<DateTime>,
    /// When it last grew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_changed_on: Option<DateTime>,
}

/// A log as a record refers to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskLogReference {
    /// Its number in the plan.
    pub id: LogId,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// Console lines (`TimelineRecordFeedLinesWrapper`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FeedLines {
    /// How many.
    pub count: usize,
    /// The lines.
    pub value: Vec<String>,
    /// The step they belong to; the address names the job's record.
    pub step_id: RecordId,
    /// The number of the first line within the step, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_line: Option<i64>,
}

/// A file attached to a record (`TaskAttachment`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAttachment {
    /// Its type, such as [`ATTACHMENT_SUMMARY`].
    #[serde(rename = "type")]
    pub attachment_type: String,
    /// Its name.
    pub name: String,
    /// The timeline.
    pub timeline_id: TimelineId,
    /// The record.
    pub record_id: RecordId,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_on: Option<DateTime>,
}

/// Type of Markdown summaries.
pub const ATTACHMENT_SUMMARY: &str = "DistributedTask.Core.Summary";
/// Type of plain files.
pub const ATTACHMENT_FILE: &str = "DistributedTask.Core.FileAttachment";
