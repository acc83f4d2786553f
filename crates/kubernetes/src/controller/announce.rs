//! Kubernetes events about Dayfly's objects: what `kubectl describe` shows of their past.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::status::Finding;
use crate::cluster::bounded;

/// Longest text of an event, in bytes (the API server's own limit is 1 KiB).
const LONGEST_NOTE: usize = 1000;

/// Writes events.
pub(crate) struct Announcer(Recorder);

impl Announcer {
    /// One that signs as this controller.
    pub(crate) fn new(client: Client, holder: &str) -> Self {
        let reporter = Reporter { controller: "dayfly".to_owned(), instance: Some(holder.to_owned()) };
        Self(Recorder::new(client, reporter))
    }

    /// Tells what was found of an object. Nothing depends on it.
    pub(super) async fn tell(&self, object: &ObjectReference, finding: &Finding) {
        let mut note = finding.message.clone();
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            type_: if finding.is_bad() { EventType::Warning } else { EventType::Normal },
            reason: finding.reason.to_owned(),
            note: Some(note),
            action: finding.aspect.to_owned(),
            secondary: None,
        };
        if let Err(error) = bounded(self.0.publish(&event, object)).await {
            tracing::info!(%error, "could not write an event");
        }
    }
}
