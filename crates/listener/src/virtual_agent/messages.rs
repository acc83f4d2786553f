//! What comes by the poll: jobs, cancellations, changes of pace, wishes. Each message is deleted once it was handled; those that stay in the queue
//! are jobs that are not taken yet, and cancellations that may be theirs.

use std::time::Duration;

use dayfly_client::{describe, random_pause};
use dayfly_protocol::{
    MessageId,
    crypto::{self, SecretBytes, SessionKey},
    json,
    message::{
        AGENT_REFRESH, AgentRefreshMessage, JOB_CANCELLATION, JOB_METADATA_UPDATE, JobCancelMessage,
        JobMetadataMessage, PIPELINE_AGENT_JOB_REQUEST, TaskAgentMessage,
    },
};
use tokio::time::{Instant, timeout};

use super::VirtualAgent;
use crate::{backoff, events::AgentEnd, lease::Order};

/// How many messages in a row may be undecipherable until the agent gives up: each time it makes a new session, with a new key.
const UNREADABLE_MESSAGES: u32 = 3;

impl VirtualAgent {
    /// The last poll brought nothing.
    pub(super) fn received_nothing(&mut self, took: Duration) {
        let timings = &self.context.set.timings;
        self.not_before = (took < timings.empty_poll_floor)
            .then(|| Instant::now() + random_pause(timings.empty_poll_pause, timings.empty_poll_pause * 3));
    }

    pub(super) async fn received(&mut self, message: TaskAgentMessage) {
        self.not_before = None;
        let body = match self.open_message(&message) {
            Ok(body) => body,
            Err(error) => return self.unreadable(&message, &error).await,
        };
        self.unreadable_messages = 0;
        self.last_message_id =
            Some(self.last_message_id.map_or(message.message_id, |last| last.max(message.message_id)));
        let is = |kind: &str| message.message_type.eq_ignore_ascii_case(kind);
        if is(PIPELINE_AGENT_JOB_REQUEST) {
            return self.job_received(message.message_id, body.expose()).await;
        }
        if is(JOB_CANCELLATION) {
            if self.cancellation_received(body.expose()) == Handled::Later {
                return;
            }
        } else if is(JOB_METADATA_UPDATE) {
            self.metadata_received(body.expose());
        } else if is(AGENT_REFRESH) {
            let version = json::from_slice::<AgentRefreshMessage>(body.expose())
                .ok()
                .and_then(|refresh| refresh.target_version)
                .unwrap_or_default();
            self.context.warn(format!("the service asks for agent version {version}; Dayfly never updates itself, so update it if jobs demand that version"));
        } else {
            self.context.warn(format!("a message of the unknown type `{}` is ignored", message.message_type));
        }
        self.delete_message(message.message_id).await;
    }

    fn open_message(&self, message: &TaskAgentMessage) -> Result<SecretBytes, crypto::Error> {
        // The key is unwrapped for every message, as the official agent does it: messages are rare.
        let key = match &self.session_key {
            Some(wire) => SessionKey::from_wire(wire, &self.key)?,
            None => None,
        };
        crypto::open_message(key.as_ref(), message)
    }

    /// A new session has a new key, and the message comes again; if that does not help, nothing will.
    async fn unreadable(&mut self, message: &TaskAgentMessage, error: &crypto::Error) {
        self.unreadable_messages += 1;
        let text = format!("message {} could not be decrypted: {}", message.message_id, describe(error));
        if self.unreadable_messages >= UNREADABLE_MESSAGES {
            self.end_with(AgentEnd::Failed(format!(
                "{text}; the agent's key is not the one it was registered with, so replace the agent"
            )));
            return;
        }
        self.context.warn(text);
        self.delete_session().await;
        self.not_before = Some(Instant::now() + backoff::around(self.context.set.timings.retry_first));
    }

    fn cancellation_received(&mut self, body: &[u8]) -> Handled {
        let cancel = match json::from_slice::<JobCancelMessage>(body) {
            Ok(cancel) => cancel,
            Err(error) => {
                self.context.warn(format!("a cancellation could not be read: {}", describe(&error)));
                return Handled::Now;
            }
        };
        if let Some(current) = self.current.as_ref().filter(|current| current.job == cancel.job_id) {
            current.order(Order::Cancel(cancel.timeout.0));
            return Handled::Now;
        }
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.message.job_id == cancel.job_id)
        {
            waiting.cancelled = Some(cancel.timeout.0);
        }
        if self.leaves_jobs_in_the_queue() {
            // It may be of one of those, and must come again with it (`Agent.cs` leaves it too).
            self.has_passed_over = true;
            return Handled::Later;
        }
        tracing::info!(agent = %self.context.name, job = %cancel.job_id, "a cancellation of a job that does not run here is ignored");
        Handled::Now
    }

    fn metadata_received(&self, body: &[u8]) {
        let Ok(metadata) = json::from_slice::<JobMetadataMessage>(body) else {
            return tracing::warn!(agent = %self.context.name, "a metadata update could not be read");
        };
        let pace = metadata.post_lines_frequency_millis.and_then(|pace| u64::try_from(pace).ok());
        if let (Some(current), Some(pace)) =
            (self.current.as_ref().filter(|current| current.job == metadata.job_id), pace)
        {
            current.order(Order::Metadata(pace));
        }
    }

    pub(super) async fn delete_message(&mut self, message: MessageId) {
        let Some(session) = self.context.session() else { return };
        let answer =
            timeout(self.context.set.timings.call, self.context.service.delete_message(session, message))
                .await;
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(agent = %self.context.name, %message, error = describe(&error), "a message could not be deleted")
            }
            Err(_) => {
                tracing::warn!(agent = %self.context.name, %message, "a message could not be deleted in time")
            }
        }
    }
}

/// Whether a message is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// It can be deleted.
    Now,
    /// It stays in the queue.
    Later,
}
