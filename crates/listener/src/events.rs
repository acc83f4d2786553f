//! What a set of virtual agents tells its user interface. Bounded: who reads too slowly is told how much was
//! missed, and nobody waits for them.

use std::{sync::Arc, time::Duration};

use dayfly_protocol::{
    AgentId, BuildId, JobId, RequestId, TaskResult, channel::StepStarted, job::AgentJobRequestMessage,
};
use tokio::sync::broadcast;

use crate::{failures::AgentFailure, notes::Note};

/// How many events are kept for a slow reader.
const KEPT_EVENTS: usize = 4096;

/// Something happened to a virtual agent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An agent was registered (or adopted).
    Registered {
        /// Its name.
        agent: Arc<str>,
        /// Its number in the pool.
        id: AgentId,
        /// How many are registered now.
        done: usize,
        /// How many there shall be.
        total: usize,
    },
    /// An agent has a session and waits for jobs.
    Online {
        /// Its name.
        agent: Arc<str>,
    },
    /// The service does not answer as it should; the agent goes on trying. Said when it begins, and ever more
    /// seldom while it lasts.
    Disconnected {
        /// The agent's name.
        agent: Arc<str>,
        /// For how long already; zero when it begins.
        away: Duration,
        /// Why the last call failed, with the causes.
        error: String,
    },
    /// The service answers again.
    Reconnected {
        /// The agent's name.
        agent: Arc<str>,
    },
    /// A job was accepted: its lock is held and its message gone from the queue.
    JobAccepted {
        /// The agent's name.
        agent: Arc<str>,
        /// The job.
        job: JobLabel,
        /// How long it was in the service's queue, if the service says so.
        queued: Option<Duration>,
    },
    /// A job that was accepted before our time is taken up again.
    JobResumed {
        /// The agent's name.
        agent: Arc<str>,
        /// The job.
        job: JobLabel,
    },
    /// The job's worker runs.
    JobStarted {
        /// The agent's name.
        agent: Arc<str>,
        /// The job.
        job: JobLabel,
    },
    /// A step of a job began.
    StepStarted {
        /// The agent's name.
        agent: Arc<str>,
        /// The job.
        job: JobLabel,
        /// Which one.
        step: StepStarted,
    },
    /// Something is to be said of the place where a job runs, or is to run.
    Noted {
        /// The agent's name.
        agent: Arc<str>,
        /// The job.
        job: JobLabel,
        /// What.
        note: Note,
    },
    /// A job is over, and the service has its result.
    JobFinished {
        /// The agent's name.
        agent: Arc<str>,
        /// The job.
        job: JobLabel,
        /// The result; `None` when the service does not say which one it has.
        result: Option<TaskResult>,
        /// Why it ended so, when the job's own log does not say it.
        reason: Option<String>,
    },
    /// Something went wrong that the set goes on from.
    Warning {
        /// The agent's name.
        agent: Arc<str>,
        /// What, with its causes.
        message: String,
    },
    /// An agent has ended; its session is deleted if that was possible.
    Ended {
        /// Its name.
        agent: Arc<str>,
        /// Why.
        end: AgentEnd,
    },
}

/// Which job an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLabel {
    /// Its request in the pool.
    pub request: RequestId,
    /// The job.
    pub id: JobId,
    /// Its run, when the message names one.
    pub build: Option<BuildId>,
    /// Its display name.
    pub name: Arc<str>,
}

impl JobLabel {
    pub(crate) fn of(message: &AgentJobRequestMessage) -> Self {
        let build = message.variables.iter().find(|(name, _)| name.eq_ignore_ascii_case("build.buildId"));
        let name = match message.job_display_name.as_str() {
            "" => &message.job_name,
            name => name,
        };
        Self {
            request: message.request_id,
            id: message.job_id,
            build: build.and_then(|(_, id)| id.value.as_deref()?.trim().parse().ok()).map(BuildId),
            name: Arc::from(name),
        }
    }
}

/// Why a virtual agent ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AgentEnd {
    /// The set was drained or stopped.
    Stopped,
    /// It was to run one job only, and has.
    Once,
    /// Its login was revoked by the service: a clean end.
    Revoked,
    /// It was let go, with its session and its job, for somebody else to go on with.
    Released,
    /// It was deleted from the pool, and we may not register it again.
    Deleted,
    /// It could not go on.
    Failed(AgentFailure),
}

/// Where events go out.
#[derive(Debug, Clone)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(KEPT_EVENTS))
    }

    pub(crate) fn send(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.0.send(event);
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream(self.0.subscribe())
    }
}

/// The events from the subscription on.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Event>);

/// What comes next in an [`EventStream`].
#[derive(Debug, Clone)]
pub enum Next {
    /// An event.
    Event(Event),
    /// So many events were missed, since they were not read in time.
    Missed(u64),
    /// The set has ended.
    Closed,
}

impl EventStream {
    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> Next {
        match self.0.recv().await {
            Ok(event) => Next::Event(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Next::Missed(missed),
            Err(broadcast::error::RecvError::Closed) => Next::Closed,
        }
    }
}
