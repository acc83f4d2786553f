//! Logs of a plan: what is known of them; their text is in files.

use std::path::PathBuf;
use std::sync::Arc;

use dayfly_protocol::logs::TaskLog;
use dayfly_protocol::{DateTime, LogId, PlanId};
use jiff::Timestamp;

use super::{Error, Result, State, check_text};
use crate::events::{Event, Place};
use crate::stores::disk::Reserved;

/// A log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    /// As its maker calls it: `logs\<record>`.
    pub(crate) path: String,
    pub(crate) created_on: Timestamp,
    pub(crate) changed_on: Timestamp,
    /// Line ends so far.
    line_ends: i64,
    /// Whether text follows the last line end.
    has_open_line: bool,
    pub(crate) file: PathBuf,
    /// Held while a block is written, so that blocks of two requests do not mix.
    writer: Arc<tokio::sync::Mutex<()>>,
}

impl Log {
    /// What whoever appends holds.
    pub(crate) fn writer(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.writer)
    }

    pub(crate) fn line_count(&self) -> i64 {
        self.line_ends + i64::from(self.has_open_line)
    }

    pub(crate) fn to_wire(&self) -> TaskLog {
        TaskLog {
            id: self.id,
            location: None,
            path: self.path.clone(),
            line_count: self.line_count(),
            created_on: Some(DateTime(self.created_on)),
            last_changed_on: Some(DateTime(self.changed_on)),
        }
    }
}

/// A block that was written to a log's file.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) line_ends: usize,
    /// Whether text follows its last line end; none for an empty block.
    pub(crate) has_open_line: Option<bool>,
    pub(crate) on_disk: Reserved,
}

impl State {
    /// Makes an empty log.
    pub(crate) fn create_log(&mut self, plan: PlanId, path: String, now: Timestamp) -> Result<TaskLog> {
        check_text("the log's path", &path)?;
        let limit = self.rules.limits.logs_per_plan;
        let plan = self.plans.get_mut(plan)?;
        if plan.logs.len() >= limit {
            return Err(Error::LimitReached { what: "logs in this plan", limit: limit as u64 });
        }
        let id = LogId(plan.logs.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let log = Log {
            id,
            path,
            created_on: now,
            changed_on: now,
            line_ends: 0,
            has_open_line: false,
            file: plan.folder.join(format!("log-{id}")),
            writer: Arc::default(),
        };
        let wire = log.to_wire();
        plan.logs.insert(id, log);
        Ok(wire)
    }

    /// Begins to append a block of so many bytes; returns the file to write.
    pub(crate) fn begin_append(&self, plan: PlanId, log: LogId, bytes: u64) -> Result<(PathBuf, Reserved)> {
        let file = self.plans.get(plan)?.log(log)?.file.clone();
        Ok((file, self.disk.reserve(bytes)?))
    }

    /// The block is in the file.
    pub(crate) fn end_append(
        &mut self,
        plan: PlanId,
        log: LogId,
        block: Appended,
        now: Timestamp,
        place: Place,
    ) -> Result<TaskLog> {
        let of = self.plan_written(plan)?;
        let entry = of.logs.get_mut(&log).ok_or(Error::LogNotFound(log))?;
        entry.line_ends += i64::try_from(block.line_ends).unwrap_or(i64::MAX);
        entry.has_open_line = block.has_open_line.unwrap_or(entry.has_open_line);
        entry.changed_on = now;
        of.log_bytes.absorb(block.on_disk);
        let wire = entry.to_wire();
        self.hub.send(Event::LogAppended { plan, log, lines: wire.line_count }, place);
        Ok(wire)
    }
}
