//! Attachments of timeline records: what is known of them; they are in files.

use std::path::PathBuf;

use dayfly_protocol::logs::TaskAttachment;
use dayfly_protocol::{PlanId, RecordId, TimelineId};
use jiff::Timestamp;

use super::{Error, Result, State, check_text};
use crate::stores::disk::Reserved;

/// What names an attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttachmentKey {
    pub(crate) timeline: TimelineId,
    pub(crate) record: RecordId,
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// An attachment.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) created_on: Timestamp,
    pub(crate) file: PathBuf,
    /// Its bytes, as long as it is there.
    pub(crate) _on_disk: Reserved,
}

impl AttachmentKey {
    pub(crate) fn to_wire(&self, attachment: &Attachment) -> TaskAttachment {
        TaskAttachment {
            attachment_type: self.kind.clone(),
            name: self.name.clone(),
            timeline_id: self.timeline,
            record_id: self.record,
            created_on: Some(attachment.created_on.into()),
        }
    }
}

impl State {
    /// Reserves a place for an attachment of so many bytes; returns the file to write.
    pub(crate) fn begin_attachment(
        &self,
        plan: PlanId,
        key: &AttachmentKey,
        bytes: u64,
    ) -> Result<(PathBuf, Reserved)> {
        check_text("the attachment's type", &key.kind)?;
        check_text("the attachment's name", &key.name)?;
        let limit = self.rules.limits.attachments_per_plan;
        let entry = self.plans.get(plan)?;
        entry.timeline(key.timeline)?;
        if !entry.attachments.contains_key(key) && entry.attachments.len() >= limit {
            return Err(Error::LimitReached { what: "attachments in this plan", limit: limit as u64 });
        }
        let file = entry.folder.join(format!("attachment-{}", uuid::Uuid::new_v4()));
        Ok((file, self.disk.reserve(bytes)?))
    }

    /// The attachment is in its file. Returns the one it replaces.
    pub(crate) fn end_attachment(
        &mut self,
        plan: PlanId,
        key: AttachmentKey,
        attachment: Attachment,
    ) -> Result<Option<Attachment>> {
        Ok(self.plan_written(plan)?.attachments.insert(key, attachment))
    }
}
