//! Sessions of agents and their messages.
//!
//! A message stays in its session's queue, and every poll sees it, until it is deleted: an agent has two
//! polls open on one session, and what the keep-alive poll receives it throws away (`MessageListener.cs`). A
//! job counts as received once its message was deleted or its lock renewed; before that, the end of the
//! session puts it back into the pool's queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dayfly_protocol::crypto::SessionKey;
use dayfly_protocol::message::{
    AGENT_REFRESH, AgentRefreshMessage, JOB_CANCELLATION, JOB_METADATA_UPDATE, JobCancelMessage,
    JobMetadataMessage, PIPELINE_AGENT_JOB_REQUEST,
};
use dayfly_protocol::session::TaskAgentSession;
use dayfly_protocol::{AgentId, MessageId, PoolId, RequestId, SessionId, TimeSpan};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;
use tokio::sync::Notify;
use uuid::Uuid;

use super::agents::{check_capabilities, check_description};
use super::deadlines::Deadline;
use super::{Error, Result, State, check_text};
use crate::clock::after;
use crate::events::{Event, Place};

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    pool: PoolId,
    agent: AgentId,
    owner_name: String,
    /// None means that messages are plain.
    key: Option<SessionKey>,
    messages: VecDeque<Message>,
    /// When the last poll ended.
    last_seen: Timestamp,
    /// How many polls are open.
    polls: usize,
    /// Wakes the polls: there is a message, or the session has ended.
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Message {
    id: MessageId,
    kind: &'static str,
    body: Arc<SecretString>,
    /// The request, when it is a job.
    request: Option<RequestId>,
}

/// A message on its way to an agent.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) id: MessageId,
    pub(crate) kind: &'static str,
    pub(crate) body: Arc<SecretString>,
    pub(crate) key: Option<SessionKey>,
}

/// The sessions by id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: HashMap<SessionId, Session>,
    /// Polls open in all sessions.
    polls: usize,
    last_message: i64,
}

impl Sessions {
    fn get_mut(&mut self, pool: PoolId, id: SessionId) -> Result<&mut Session> {
        self.sessions.get_mut(&id).filter(|session| session.pool == pool).ok_or(Error::SessionExpired(id))
    }

    /// The agent of a session.
    pub(crate) fn agent(&self, pool: PoolId, id: SessionId) -> Option<AgentId> {
        self.sessions.get(&id).filter(|session| session.pool == pool).map(|session| session.agent)
    }

    /// Whether there is such a session.
    pub(crate) fn is_open(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// How many polls are open.
    pub(crate) fn open_polls(&self) -> usize {
        self.polls
    }
}

impl State {
    /// Opens a session for an agent; its capabilities are replaced by those it brings. Refused while it has
    /// one.
    pub(crate) fn create_session(
        &mut self,
        pool: PoolId,
        wanted: TaskAgentSession,
        key: Option<SessionKey>,
        now: Timestamp,
    ) -> Result<SessionId> {
        let agent_id = wanted.agent.id;
        check_capabilities(wanted.system_capabilities.as_ref())?;
        check_text("the session's owner", &wanted.owner_name)?;
        check_description(wanted.agent.version.as_deref(), wanted.agent.os_description.as_deref())?;
        let agent = self.agent(pool, agent_id)?;
        if let Some(session) = agent.session.and_then(|id| self.sessions.sessions.get(&id)) {
            return Err(Error::SessionConflict {
                agent: agent.name.clone(),
                owner: session.owner_name.clone(),
            });
        }
        let id = SessionId(Uuid::new_v4());
        let session = Session {
            id,
            pool,
            agent: agent_id,
            owner_name: wanted.owner_name,
            key,
            messages: VecDeque::new(),
            last_seen: now,
            polls: 0,
            wake: Arc::new(Notify::new()),
        };
        self.sessions.sessions.insert(id, session);
        self.deadlines.set(after(now, self.rules.session_timeout), Deadline::Session(id));
        let agent = self.agent_mut(pool, agent_id)?;
        agent.session = Some(id);
        agent.status_changed_on = now;
        if let Some(capabilities) = wanted.system_capabilities {
            agent.system_capabilities = capabilities;
        }
        agent.version = wanted.agent.version.or(agent.version.take());
        agent.os_description = wanted.agent.os_description.or(agent.os_description.take());
        let active = agent.active;
        self.tell_presence(pool, agent_id);
        self.remind_of_cancellation(id, active);
        self.reconsider_agent(pool, agent_id, now);
        Ok(id)
    }

    /// Tells subscribers whether an agent is online.
    fn tell_presence(&self, pool: PoolId, agent: AgentId) {
        let (Ok(home), Ok(agent)) = (self.pools.get(pool), self.agent(pool, agent)) else { return };
        let (pool, agent, is_online) = (home.name.clone(), agent.name.clone(), agent.session.is_some());
        self.hub.send(Event::AgentChanged { pool, agent, is_online }, Place::default());
    }

    /// An agent which comes back with a job is told again that it was cancelled.
    fn remind_of_cancellation(&mut self, session: SessionId, active: Option<RequestId>) {
        let Some(request) = active.and_then(|id| self.requests.get(id)) else { return };
        if let Some(cancellation) = request.cancelled {
            let body = JobCancelMessage { job_id: request.job, timeout: TimeSpan(cancellation.timeout) };
            self.push_message(session, JOB_CANCELLATION, &body);
        }
    }

    /// Closes a session. What its agent has not received goes back into the queue.
    pub(crate) fn end_session(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.sessions.sessions.remove(&id) else { return };
        session.wake.notify_waiters();
        self.forget_deadline();
        if let Ok(agent) = self.agent_mut(session.pool, session.agent) {
            agent.session = None;
            agent.status_changed_on = now;
        }
        self.tell_presence(session.pool, session.agent);
        self.reconsider_agent(session.pool, session.agent, now);
        for request in session.messages.iter().filter_map(|message| message.request) {
            let is_assigned = self.requests.get(request).is_some_and(|request| {
                request.receive_time.is_none() && request.result.is_none() && request.agent.is_some()
            });
            if is_assigned {
                self.requeue(request, now);
            }
        }
    }

    /// Closes a session by its agent's wish.
    pub(crate) fn delete_session(&mut self, pool: PoolId, id: SessionId, now: Timestamp) -> Result<()> {
        self.sessions.get_mut(pool, id)?;
        self.end_session(id, now);
        Ok(())
    }

    /// Closes all sessions, as an outage of the service does; returns how many there were.
    pub(crate) fn end_all_sessions(&mut self, now: Timestamp) -> usize {
        let ids: Vec<_> = self.sessions.sessions.keys().copied().collect();
        for id in &ids {
            self.end_session(*id, now);
        }
        ids.len()
    }

    /// Closes a session whose agent has not polled for too long.
    pub(crate) fn expire_session(&mut self, id: SessionId, now: Timestamp) {
        let timeout = self.rules.session_timeout;
        let Some(session) = self.sessions.sessions.get_mut(&id) else { return };
        if session.polls > 0 {
            session.last_seen = now;
        }
        let end = after(session.last_seen, timeout);
        if end > now {
            self.deadlines.set(end, Deadline::Session(id));
        } else {
            self.end_session(id, now);
        }
    }

    /// Begins a poll; returns what wakes it.
    pub(crate) fn begin_poll(&mut self, pool: PoolId, id: SessionId, now: Timestamp) -> Result<Arc<Notify>> {
        let session = self.sessions.get_mut(pool, id)?;
        session.polls += 1;
        session.last_seen = now;
        let wake = Arc::clone(&session.wake);
        self.sessions.polls += 1;
        Ok(wake)
    }

    /// Ends a poll, however it came out.
    pub(crate) fn end_poll(&mut self, id: SessionId, now: Timestamp) {
        self.sessions.polls = self.sessions.polls.saturating_sub(1);
        if let Some(session) = self.sessions.sessions.get_mut(&id) {
            session.polls = session.polls.saturating_sub(1);
            session.last_seen = now;
        }
    }

    /// The first message after `last`, if there is one.
    pub(crate) fn next_message(
        &mut self,
        pool: PoolId,
        id: SessionId,
        last: Option<MessageId>,
    ) -> Result<Option<Delivery>> {
        let session = self.sessions.get_mut(pool, id)?;
        let message = session.messages.iter().find(|message| last.is_none_or(|last| message.id > last));
        Ok(message.map(|message| Delivery {
            id: message.id,
            kind: message.kind,
            body: Arc::clone(&message.body),
            key: session.key.clone(),
        }))
    }

    /// Deletes a message, which tells that the agent has it. Deleting one that is gone changes nothing.
    pub(crate) fn delete_message(
        &mut self,
        pool: PoolId,
        session: SessionId,
        id: MessageId,
        now: Timestamp,
    ) -> Result<()> {
        let session = self.sessions.get_mut(pool, session)?;
        let Some(place) = session.messages.iter().position(|message| message.id == id) else { return Ok(()) };
        let request = session.messages.remove(place).and_then(|message| message.request);
        if let Some(request) = request {
            self.receive(request, now);
        }
        Ok(())
    }

    pub(crate) fn push_job_message(
        &mut self,
        session: SessionId,
        request: RequestId,
        body: Arc<SecretString>,
    ) {
        self.push(session, PIPELINE_AGENT_JOB_REQUEST, body, Some(request));
    }

    /// Takes the job's message back. A message that was deleted before is none.
    pub(crate) fn withdraw_job_message(&mut self, pool: PoolId, agent: AgentId, request: RequestId) {
        let session = self.agent(pool, agent).ok().and_then(|agent| agent.session);
        if let Some(session) = session.and_then(|id| self.sessions.sessions.get_mut(&id)) {
            session.messages.retain(|message| message.request != Some(request));
        }
    }

    /// Sends the agent of a request a cancellation, if it has a session.
    pub(crate) fn push_cancellation(&mut self, pool: PoolId, agent: AgentId, body: &JobCancelMessage) {
        if let Some(session) = self.agent(pool, agent).ok().and_then(|agent| agent.session) {
            self.push_message(session, JOB_CANCELLATION, body);
        }
    }

    /// Tells the agent of a job at what pace console lines are wanted.
    pub(crate) fn push_metadata(&mut self, pool: PoolId, agent: AgentId, body: &JobMetadataMessage) {
        if let Some(session) = self.agent(pool, agent).ok().and_then(|agent| agent.session) {
            self.push_message(session, JOB_METADATA_UPDATE, body);
        }
    }

    /// Asks an agent to update itself.
    pub(crate) fn push_refresh(
        &mut self,
        pool: PoolId,
        agent: AgentId,
        body: &AgentRefreshMessage,
    ) -> Result<()> {
        if let Some(session) = self.agent(pool, agent)?.session {
            self.push_message(session, AGENT_REFRESH, body);
        }
        Ok(())
    }

    fn push_message<T: Serialize>(&mut self, session: SessionId, kind: &'static str, body: &T) {
        let text =
            serde_json::to_string(body).expect("small messages are plain structs and always serialize");
        self.push(session, kind, Arc::new(SecretString::from(text)), None);
    }

    fn push(
        &mut self,
        id: SessionId,
        kind: &'static str,
        body: Arc<SecretString>,
        request: Option<RequestId>,
    ) {
        let limit = self.rules.limits.messages_per_session;
        self.sessions.last_message += 1;
        let message = Message { id: MessageId(self.sessions.last_message), kind, body, request };
        let Some(session) = self.sessions.sessions.get_mut(&id) else { return };
        if session.messages.len() >= limit {
            // The oldest message that is no job goes: an agent that never deletes messages reads none of them
            // either.
            tracing::warn!(session = %session.id, limit, "session's message queue is full");
            if let Some(place) = session.messages.iter().position(|message| message.request.is_none()) {
                session.messages.remove(place);
            }
        }
        session.messages.push_back(message);
        session.wake.notify_waiters();
    }
}
