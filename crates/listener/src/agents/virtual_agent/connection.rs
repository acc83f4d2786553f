//! How an agent stays online: sessions and polls, what their failures mean, and how it comes back after being
//! deleted.

use std::{sync::Arc, time::Duration};

use dayfly_client::{Error as ClientError, ErrorKind, describe, pause_around};
use dayfly_protocol::{SessionId, crypto::AgentKey, session::TaskAgentSession};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Event, Refusal, VirtualAgent};
use crate::{
    agents::outage::Outage,
    agents::registration::{RegisteredAgent, Registrar},
    context::{AgentContext, SetContext},
    events::{AgentEnd, Event as SetEvent},
    failures::{AgentFailure, RegistrationError},
    service::{AgentService, Meaning, meaning},
    store::{Registration, SavedSession, StoreError},
};

/// How often it is tried to register a deleted agent again.
const RECOVERY_TRIES: u32 = 5;

/// How long the first poll of a session of an earlier listener may be without an answer until it counts as
/// taken: a session that is no more is refused at once, and a poll of one that lasts without a message takes
/// nearly a minute.
const SETTLED: Duration = Duration::from_secs(3);

impl VirtualAgent {
    /// The next call to make.
    pub(super) fn network(&self) -> BoxFuture<'static, Event> {
        let (context, not_before) = (self.context.clone(), self.pace.not_before());
        if self.refusal.is_some() {
            let registrar = self.registrar.clone();
            return Box::pin(async move {
                wait_until(not_before).await;
                Event::Recovered(recover(&context, registrar).await)
            });
        }
        match context.session() {
            None if self.is_offline => Box::pin(std::future::pending()),
            None => {
                let (stale, registration) = (self.stale, self.registration.clone());
                Box::pin(async move {
                    wait_until(not_before).await;
                    connect(&context, stale, registration).await
                })
            }
            Some(session) => {
                let last = self.last_message_id;
                Box::pin(async move {
                    wait_until(not_before).await;
                    let begun = Instant::now();
                    let answer = context.service.next_message(session, last).await;
                    Event::Polled { answer, took: begun.elapsed() }
                })
            }
        }
    }

    /// When the call that is made now has told by its silence that the session is alive.
    pub(super) fn settles_at(&self) -> Instant {
        self.pace.not_before().unwrap_or_else(Instant::now).max(Instant::now()) + SETTLED
    }

    pub(super) fn connected(&mut self, answer: Result<TaskAgentSession, ClientError>) {
        match answer {
            Ok(session) => {
                let is_news = !self.outage.as_ref().is_some_and(Outage::is_kept_quiet);
                self.reached();
                self.conflict_since = None;
                self.stale = None;
                self.pace.at_once();
                self.registration.session = Some(saved(&session));
                self.session_key = session.encryption_key;
                self.context.set_session(Some(session.session_id));
                // Also what was deleted in vain comes again; jobs we have acted on are known by their
                // requests.
                self.poll_from_the_beginning();
                if self.online.is_some() {
                    self.came_online();
                } else if is_news {
                    self.context.set.events.send(SetEvent::Online { agent: self.context.name.clone() });
                }
            }
            Err(error) if meaning(&error) == Meaning::SessionHeld => self.conflict(error),
            Err(error) => self.failed(error),
        }
    }

    /// Says, once, that the agent is online.
    pub(super) fn came_online(&mut self) {
        if let Some(online) = self.online.take() {
            online.send_modify(|count| *count += 1);
            self.context.set.events.send(SetEvent::Online { agent: self.context.name.clone() });
        }
    }

    /// The service took a call.
    pub(super) fn reached(&mut self) {
        if self.outage.as_mut().is_some_and(|outage| outage.succeeded(Instant::now())) {
            self.context.set.events.send(SetEvent::Reconnected { agent: self.context.name.clone() });
        }
    }

    /// The service did not take a call, and trying again may help.
    pub(super) fn not_reached(&mut self, error: String, retry_after: Option<Duration>) {
        let pause = self.pace.failed(&self.context.set.timings, retry_after);
        tracing::debug!(agent = %self.context.name, error, ?pause, "a call of the message loop failed");
        if let Some(away) = Outage::failed(&mut self.outage, Instant::now()) {
            let agent = self.context.name.clone();
            self.context.set.events.send(SetEvent::Disconnected { agent, away, error });
        }
    }

    fn conflict(&mut self, error: ClientError) {
        // The one that we have taken over, and that the service does not let us use any more.
        if let Some(recorded) = self.registration.session.take() {
            tracing::info!(agent = %self.context.name, "the recorded session is in the way, deleting it");
            self.stale = Some(recorded.id);
            self.pace.at_once();
            return;
        }
        let (timings, owns_names) = (&self.context.set.timings, self.context.set.owns_names);
        let name = &self.context.name;
        let is_first = self.conflict_since.is_none();
        let since = *self.conflict_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= timings.conflict_limit {
            if owns_names {
                return self.not_reached(describe(&error), None);
            }
            let failure = AgentFailure::SessionHeld { name: name.clone(), source: Arc::new(error) };
            return self.end_with(AgentEnd::Failed(failure));
        }
        self.pace.after(pause_around(timings.conflict_retry));
        if is_first {
            let (holder, how_long) = match owns_names {
                true => ("left by a process that died", "trying until it has expired".to_owned()),
                false => (
                    "held by another process or left by one that died",
                    format!("trying for up to {} s to get one", timings.conflict_limit.as_secs()),
                ),
            };
            self.context.warn(format!("agent `{name}` still has a session, {holder}; {how_long}"));
        }
    }

    /// A call of the loop failed: recover, wait, or end.
    pub(super) fn failed(&mut self, error: ClientError) {
        let can_recover = self.registrar.is_some();
        match meaning(&error) {
            Meaning::SessionGone if self.context.session().is_some() => {
                tracing::info!(agent = %self.context.name, "the session has expired, making a new one");
                self.context.set_session(None);
                if !self.pace.may_make_anew() {
                    self.not_reached(describe(&error), error.retry_after());
                }
            }
            // An agent that was deleted is often known only by its login being refused.
            Meaning::AgentGone | Meaning::Never if can_recover && !self.is_stopping() => {
                let text = describe(&error);
                tracing::info!(
                    agent = %self.context.name, error = text,
                    "checking whether the agent was deleted"
                );
                self.context.set_session(None);
                if !self.pace.may_make_anew() {
                    self.not_reached(text, error.retry_after());
                }
                self.refusal = Some(Refusal { error: Arc::new(error), tries: 0 });
            }
            Meaning::AgentGone => self.end_with(AgentEnd::Deleted),
            Meaning::Revoked => self.end_with(AgentEnd::Revoked),
            Meaning::Never => {
                let (name, kind, source) = (self.context.name.clone(), error.kind(), Arc::new(error));
                self.end_with(AgentEnd::Failed(match kind {
                    ErrorKind::Unauthorized => AgentFailure::LoginRefused { name, source },
                    _ => AgentFailure::Refused { name, source },
                }));
            }
            Meaning::SessionGone
            | Meaning::SessionHeld
            | Meaning::JobGone
            | Meaning::Missing
            | Meaning::Again => self.not_reached(describe(&error), error.retry_after()),
        }
    }

    pub(super) fn recovered(&mut self, answer: Result<Option<RegisteredAgent>, RegistrationError>) {
        match answer {
            Ok(Some(agent)) => {
                self.refusal = None;
                self.context.warn(format!(
                    "agent `{}` was deleted from its pool and is registered again, with number {}",
                    agent.registration.name, agent.registration.id
                ));
                // A job in hand keeps the context it began with.
                self.registration = agent.registration.clone();
                (self.context, self.key) = open(agent, self.context.set.clone());
                self.pace.at_once();
            }
            Ok(None) => {
                // Looked for only after a refusal.
                if let Some(Refusal { error: source, .. }) = self.refusal.take() {
                    let name = self.context.name.clone();
                    self.end_with(AgentEnd::Failed(AgentFailure::LoginReplaced { name, source }));
                }
            }
            Err(error) => match &mut self.refusal {
                Some(refusal) if refusal.tries < RECOVERY_TRIES => {
                    refusal.tries += 1;
                    self.not_reached(describe(&error), None);
                }
                _ => {
                    let failure = AgentFailure::NotRegisteredAgain(Arc::new(error));
                    self.end_with(AgentEnd::Failed(failure));
                }
            },
        }
    }

    pub(super) async fn delete_session(&mut self) {
        let Some(session) = self.context.session() else { return };
        self.context.set_session(None);
        self.registration.session = None;
        // When a whole set ends, not all of its agents say so at once.
        let _permit = self.context.set.connecting.acquire().await;
        match timeout(self.context.set.timings.call, self.context.service.delete_session(session)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(
                    agent = %self.context.name, error = describe(&error),
                    "could not delete a session; it will expire"
                )
            }
            Err(_) => {
                tracing::info!(
                    agent = %self.context.name,
                    "could not delete a session in time; it will expire"
                )
            }
        }
        save(&self.context, self.registration.clone()).await;
    }
}

/// Makes a session and writes it down, if the agent is still ours. One that is in the way is deleted first.
async fn connect(context: &AgentContext, stale: Option<SessionId>, registration: Registration) -> Event {
    // Closed never: the semaphore lives as long as the set.
    let _permit = context.set.connecting.acquire().await;
    if let Err(StoreError::NotOurs) = context.set.registrations.check().await {
        return Event::Lost;
    }
    if let Some(stale) = stale
        && let Err(error) = context.service.delete_session(stale).await
    {
        tracing::debug!(
            agent = %context.name, error = describe(&error),
            "could not delete the session that is in the way"
        );
    }
    context.set_connecting(true);
    let event = match context.connect().await {
        Ok(session) => keep(context, session, registration).await,
        failed => Event::Connected(failed),
    };
    context.set_connecting(false);
    event
}

/// Writes a new session down before it is used: who takes over goes on with it.
async fn keep(context: &AgentContext, session: TaskAgentSession, mut registration: Registration) -> Event {
    registration.session = Some(saved(&session));
    if save(context, registration).await {
        return Event::Connected(Ok(session));
    }
    // Nobody will ever know of it, and it would be in the way.
    if let Err(error) = context.service.delete_session(session.session_id).await {
        tracing::info!(
            agent = %context.name, error = describe(&error),
            "could not delete a session that was not recorded; it will expire"
        );
    }
    Event::Lost
}

/// What is written down of a session.
fn saved(session: &TaskAgentSession) -> SavedSession {
    SavedSession { id: session.session_id, key: session.encryption_key.clone() }
}

/// Writes down what the agent is now. False if it is not ours any more.
async fn save(context: &AgentContext, registration: Registration) -> bool {
    match context.set.registrations.save(registration).await {
        Ok(()) => true,
        Err(StoreError::NotOurs) => false,
        Err(error) => {
            context.warn(format!(
                "{}; if this agent dies, the next one may have to wait for its session to expire",
                describe(&error)
            ));
            true
        }
    }
}

/// Makes an agent's context out of its registration.
pub(super) fn open(agent: RegisteredAgent, set: Arc<SetContext>) -> (Arc<AgentContext>, Arc<AgentKey>) {
    let key = agent.key.clone();
    let service = AgentService::new(agent.connection, set.pool);
    let Registration { name, id, .. } = agent.registration;
    (Arc::new(AgentContext::new(id, Arc::from(name), service, set)), key)
}

/// Looks whether the agent is still registered, and registers it again if not.
async fn recover(
    context: &AgentContext,
    registrar: Option<Arc<Registrar>>,
) -> Result<Option<RegisteredAgent>, RegistrationError> {
    let Some(registrar) = registrar else { return Ok(None) };
    let _permit = context.set.connecting.acquire().await;
    registrar.recover(context.id, context.name.clone()).await
}

async fn wait_until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
