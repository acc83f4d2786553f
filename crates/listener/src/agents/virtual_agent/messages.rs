//! What comes by the poll: jobs, cancellations, changes of pace, wishes. Each message is deleted once it was
//! handled; those that stay in the queue are jobs that are not taken yet, and cancellations that may be
//! theirs.

use std::{sync::Arc, time::Duration};

use dayfly_client::describe;
use dayfly_protocol::{
    MessageId,
    crypto::{self, SecretBytes, SessionKey},
    json,
    message::{
        AGENT_REFRESH, AgentRefreshMessage, JOB_CANCELLATION, JOB_METADATA_UPDATE, JobCancelMessage,
        JobMetadataMessage, PIPELINE_AGENT_JOB_REQUEST, TaskAgentMessage,
    },
};
use tokio::time::timeout;

use super::VirtualAgent;
use crate::{context::AgentContext, events::AgentEnd, failures::AgentFailure, lease::Wanted, store::Change};

/// How many messages in a row may be undecipherable until the agent gives up: each time it makes a new
/// session, with a new key.
const UNREADABLE_MESSAGES: u32 = 3;

impl VirtualAgent {
    /// The last poll brought nothing.
    pub(super) fn received_nothing(&mut self, took: Duration) {
        self.pace.nothing(took, &self.context.set.timings);
    }

    pub(super) async fn received(&mut self, message: TaskAgentMessage) {
        let is_repeated = self.last_message_id.is_some_and(|last| message.message_id <= last);
        let body = match self.open_message(&message) {
            Ok(body) => body,
            Err(error) => return self.unreadable(&message, error).await,
        };
        self.unreadable_messages = 0;
        self.last_message_id =
            Some(self.last_message_id.map_or(message.message_id, |last| last.max(message.message_id)));
        let worth = self.opened(&message, body.expose()).await;
        // Acted on all the same: it may be one that could not be deleted.
        let worth = match is_repeated {
            true => Worth::Useless(format!("the service keeps sending message {}", message.message_id)),
            false => worth,
        };
        match worth {
            Worth::Work => {
                self.reached();
                self.pace.work();
            }
            Worth::Notice => {
                self.reached();
                self.pace.notice(&self.context.set.timings);
            }
            Worth::Useless(what) => self.useless(what),
        }
    }

    /// Acts on a message.
    async fn opened(&mut self, message: &TaskAgentMessage, body: &[u8]) -> Worth {
        let is = |kind: &str| message.message_type.eq_ignore_ascii_case(kind);
        let worth = if is(PIPELINE_AGENT_JOB_REQUEST) {
            return self.job_received(message.message_id, body).await;
        } else if is(JOB_CANCELLATION) {
            match self.cancellation_received(body).await {
                Ok(Handled::Now) => Worth::Notice,
                Ok(Handled::Later) => return Worth::Notice,
                Err(text) => Worth::Useless(text),
            }
        } else if is(JOB_METADATA_UPDATE) {
            self.metadata_received(body);
            Worth::Notice
        } else if is(AGENT_REFRESH) {
            self.refresh_received(body);
            Worth::Notice
        } else {
            let kind = excerpt(&message.message_type);
            let text = format!("ignored a message of unknown type `{kind}`");
            self.told.once(&self.context, &kind, text);
            Worth::Useless(format!("the service sends messages of unknown types, such as `{kind}`"))
        };
        self.delete_message(message.message_id).await;
        worth
    }

    /// The last poll did no good. One that does not is no more than that; several in a row are an outage.
    fn useless(&mut self, what: String) {
        if self.pace.failures() == 0 {
            self.pace.failed(&self.context.set.timings, None);
        } else {
            self.not_reached(what, None);
        }
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
    async fn unreadable(&mut self, message: &TaskAgentMessage, error: crypto::Error) {
        self.unreadable_messages += 1;
        if self.unreadable_messages >= UNREADABLE_MESSAGES {
            let failure = AgentFailure::Unreadable { message: message.message_id, source: Arc::new(error) };
            return self.end_with(AgentEnd::Failed(failure));
        }
        let text = format!("could not decrypt message {}: {}", message.message_id, describe(&error));
        self.told.once(&self.context, "undecryptable", text.clone());
        self.delete_session().await;
        self.useless(text);
    }

    async fn cancellation_received(&mut self, body: &[u8]) -> Result<Handled, String> {
        let cancel = match json::from_slice::<JobCancelMessage>(body) {
            Ok(cancel) => cancel,
            Err(error) => {
                let text = format!("could not read a cancellation: {}", describe(&error));
                self.told.once(&self.context, "unreadable cancellation", text.clone());
                return Err(text);
            }
        };
        let wanted = Wanted::now(cancel.timeout.0);
        if let Some(current) = self.current.as_ref().filter(|current| current.job == cancel.job_id) {
            current.wish(|wishes| wishes.cancel = Some(wanted));
            // The message is deleted, so who takes the job over must learn of it elsewhere.
            let change = Change::Cancelled(wanted.record());
            if let Err(error) = self.context.set.store.change(current.request, change).await {
                tracing::warn!(
                    agent = %self.context.name, error = describe(&error),
                    "could not record a cancellation, leaving it in the queue"
                );
                return Ok(Handled::Later);
            }
            return Ok(Handled::Now);
        }
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.message.job_id == cancel.job_id)
        {
            waiting.cancelled = Some(wanted);
        }
        if self.leaves_jobs_in_the_queue() {
            // It may be of one of those, and must come again with it (`Agent.cs` leaves it too).
            self.has_passed_over = true;
            return Ok(Handled::Later);
        }
        tracing::info!(
            agent = %self.context.name, job = %cancel.job_id,
            "ignored a cancellation of a job that does not run here"
        );
        Ok(Handled::Now)
    }

    /// Dayfly never updates itself.
    fn refresh_received(&mut self, body: &[u8]) {
        let version = json::from_slice::<AgentRefreshMessage>(body)
            .ok()
            .and_then(|refresh| refresh.target_version)
            .map(|version| excerpt(&version))
            .unwrap_or_default();
        let text = format!(
            "the service asks for agent version {version}; Dayfly never updates itself, so update it if \
             jobs demand that version"
        );
        self.told.once(&self.context, &format!("version {version}"), text);
    }

    fn metadata_received(&mut self, body: &[u8]) {
        let Ok(metadata) = json::from_slice::<JobMetadataMessage>(body) else {
            return self.told.once(
                &self.context,
                "unreadable metadata",
                "could not read an update of a job's metadata".to_owned(),
            );
        };
        let pace = metadata.post_lines_frequency_millis.and_then(|pace| u64::try_from(pace).ok());
        if let (Some(current), Some(pace)) =
            (self.current.as_ref().filter(|current| current.job == metadata.job_id), pace)
        {
            current.wish(|wishes| wishes.feed_interval_millis = Some(pace));
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
                tracing::warn!(
                    agent = %self.context.name, %message, error = describe(&error),
                    "could not delete a message"
                )
            }
            Err(_) => {
                tracing::warn!(agent = %self.context.name, %message, "could not delete a message in time")
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

/// What a message was good for, which says how soon the next poll may be.
#[derive(Debug)]
pub(super) enum Worth {
    /// A job that is taken: the next message is fetched at once.
    Work,
    /// Something to be noticed.
    Notice,
    /// Nothing, for this reason.
    Useless(String),
}

/// Of how many kinds of oddities an agent tells; a service that makes ever new ones is not given a line for
/// each.
const TOLD_KINDS: usize = 16;

/// What was told of odd messages: once for each kind. The log has all of them.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<Box<str>>);

impl Told {
    pub(super) fn once(&mut self, context: &AgentContext, kind: &str, text: String) {
        if self.0.len() >= TOLD_KINDS || self.0.iter().any(|told| **told == *kind) {
            return tracing::debug!(agent = %context.name, "{text}");
        }
        self.0.push(kind.into());
        context.warn(text);
    }
}

/// The longest text of the service that is repeated, in characters.
const LONGEST_EXCERPT: usize = 80;

/// A text of the service on one line, within bounds.
fn excerpt(text: &str) -> String {
    let mut excerpt: String =
        text.chars().filter(|letter| !letter.is_control()).take(LONGEST_EXCERPT).collect();
    if text.chars().nth(LONGEST_EXCERPT).is_some() {
        excerpt.push('…');
    }
    excerpt
}
