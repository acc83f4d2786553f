//! What happens in the emulator, told to those who asked: a bounded queue with back-pressure, in order.
//!
//! Two kinds of events pass through it. The steps of a job's and a run's life are few and never wait. Console
//! lines, records and logs are many: a request which brings them first waits for a place (see `Hub::place`),
//! so a slow subscriber slows the workers down and nothing is lost or kept without bound.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_protocol::timeline::{TimelineRecord, VariableValue};
use dayfly_protocol::{BuildId, JobId, LogId, PlanId, RecordId, RequestId, TaskResult, TimelineId};
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A job of a plan came a step further.
    JobChanged(JobSignal),
    /// A run came a step further; see [`crate::runs::RunEvents`] for who wants to follow runs.
    RunChanged {
        /// The run.
        build: BuildId,
        /// Its plan.
        plan: PlanId,
        /// What happened.
        change: RunChange,
    },
    /// An agent opened a session, or its session ended.
    AgentChanged {
        /// The pool's name.
        pool: String,
        /// The agent's name.
        agent: String,
        /// Whether it has a session now.
        is_online: bool,
    },
    /// Records of a timeline were made or changed; they are given as they are now.
    RecordsChanged {
        /// The plan.
        plan: PlanId,
        /// The timeline.
        timeline: TimelineId,
        /// The records.
        records: Arc<[TimelineRecord]>,
    },
    /// Console lines of a step.
    Lines {
        /// The plan.
        plan: PlanId,
        /// The job.
        job: JobId,
        /// The step's record.
        record: RecordId,
        /// The number of the first line within the step, from 1, when the worker said it.
        start_line: Option<i64>,
        /// The lines.
        lines: Arc<[String]>,
    },
    /// A log grew.
    LogAppended {
        /// The plan.
        plan: PlanId,
        /// The log.
        log: LogId,
        /// How many lines it has now.
        lines: i64,
    },
}

/// A step in the life of a job.
#[derive(Clone, Debug)]
pub struct JobSignal {
    /// The plan.
    pub plan: PlanId,
    /// The job.
    pub job: JobId,
    /// The request it was queued as.
    pub request: RequestId,
    /// What happened.
    pub change: JobChange,
}

/// What happened to a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JobChange {
    /// It waits for an agent (again, when its agent was lost before it took the job).
    Queued,
    /// An agent was chosen.
    Assigned {
        /// The agent's name.
        agent: String,
    },
    /// The agent has taken it.
    Started {
        /// The agent's name.
        agent: String,
    },
    /// It ended. Said once for each job.
    Completed {
        /// How.
        result: TaskResult,
        /// Output variables of its steps, as `step.variable`.
        outputs: BTreeMap<String, VariableValue>,
        /// The agent's name, when there was one.
        agent: Option<String>,
        /// How the emulator came to know.
        reason: CompletionReason,
    },
}

/// A step in the life of a run, as the emulator's own events carry it. [`RunEvent`](crate::runs::RunEvent)
/// has the same for those outside, with the records and lines between.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the `RunEvent` of the same name, without the run")]
#[non_exhaustive]
pub enum RunChange {
    Started {
        pipeline: String,
        number: String,
    },
    NumberChanged {
        number: String,
    },
    StageStarted {
        stage: String,
        display_name: String,
    },
    StageCompleted {
        stage: String,
        display_name: String,
        result: TaskResult,
        reason: Option<String>,
    },
    JobQueued {
        job: JobOfRun,
    },
    JobStarted {
        job: JobOfRun,
        agent: String,
    },
    JobCompleted {
        job: JobOfRun,
        result: TaskResult,
        started: Option<Timestamp>,
        finished: Timestamp,
        reason: Option<String>,
    },
    ValidationPending {
        validation: PendingValidation,
    },
    ValidationWithdrawn {
        id: Uuid,
    },
    Completed {
        number: String,
        result: TaskResult,
    },
}

/// A validation (`ManualValidation`) that waits for somebody's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingValidation {
    /// What the answer names.
    pub id: Uuid,
    /// The run.
    pub build: BuildId,
    /// The job that waits.
    pub job: JobOfRun,
    /// What the person is to look at, masked; may be empty.
    pub instructions: String,
}

/// A job, as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOfRun {
    /// The job's id, also that of its record.
    pub id: JobId,
    /// `stage.job` or `stage.job.leg`.
    pub identifier: String,
    /// What people read.
    pub display_name: String,
    /// Name of its stage.
    pub stage: String,
}

/// How the emulator came to know that a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompletionReason {
    /// The worker said so (event `JobCompleted`).
    Event,
    /// The listener said so (the request was finished by PATCH or DELETE).
    Request,
    /// It was cancelled before an agent had it.
    CanceledInQueue,
    /// The lock on its request ran out.
    LockLost,
    /// It was cancelled, and did not end in the time it had for that.
    CancelTimeout,
}

/// The queue between the state and the subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    queue: Mutex<Queue>,
    ready: Notify,
    places: Arc<Semaphore>,
    /// How many events a subscriber may have waiting.
    subscriber_capacity: usize,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<(Event, Place)>,
    subscribers: Vec<mpsc::Sender<Event>>,
}

/// A place for one event of the many kind. Without subscribers none is needed.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Given back when the event was delivered.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Hub {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::default(),
            ready: Notify::new(),
            places: Arc::new(Semaphore::new(capacity)),
            subscriber_capacity: capacity,
        }
    }

    /// All events from now on. They stop when the receiver is dropped.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(self.subscriber_capacity);
        self.lock().subscribers.push(sender);
        receiver
    }

    /// Waits for a place for an event of the many kind. To be called before the state is locked.
    pub(crate) async fn place(&self) -> Place {
        if self.lock().subscribers.is_empty() {
            return Place::default();
        }
        // The semaphore is never closed, so acquiring cannot fail.
        Place { _permit: Arc::clone(&self.places).acquire_owned().await.ok() }
    }

    /// Appends an event.
    pub(crate) fn send(&self, event: Event, place: Place) {
        let mut queue = self.lock();
        if !queue.subscribers.is_empty() {
            queue.events.push_back((event, place));
            drop(queue);
            self.ready.notify_one();
        }
    }

    /// Carries events to the subscribers until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                let next = self.lock().events.pop_front();
                match next {
                    Some((event, _place)) => self.deliver(event).await,
                    None => self.ready.notified().await,
                }
            }
        })
        .await;
    }

    async fn deliver(&self, event: Event) {
        let subscribers = self.lock().subscribers.clone();
        let mut gone = false;
        for subscriber in &subscribers {
            gone |= subscriber.send(event.clone()).await.is_err();
        }
        if gone {
            self.lock().subscribers.retain(|subscriber| !subscriber.is_closed());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn appended(lines: i64) -> Event {
        Event::LogAppended { plan: PlanId::default(), log: LogId(1), lines }
    }

    #[tokio::test]
    async fn slow_subscriber_makes_senders_wait_and_gets_all_in_order() {
        let hub = Arc::new(Hub::new(2));
        let stop = CancellationToken::new();
        let mut events = hub.subscribe();
        let pump = tokio::spawn({
            let (hub, stop) = (Arc::clone(&hub), stop.clone());
            async move { hub.run(stop).await }
        });
        let sender = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move {
                for lines in 0..20 {
                    let place = hub.place().await;
                    hub.send(appended(lines), place);
                }
            }
        });
        for expected in 0..20 {
            let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
            assert!(matches!(event, Event::LogAppended { lines, .. } if lines == expected));
        }
        sender.await.unwrap();
        stop.cancel();
        pump.await.unwrap();
    }

    #[tokio::test]
    async fn without_subscribers_nothing_is_kept() {
        let hub = Hub::new(1);
        for lines in 0..10 {
            hub.send(appended(lines), hub.place().await);
        }
        assert!(hub.lock().events.is_empty());
        drop(hub.subscribe());
        hub.send(appended(1), hub.place().await);
        assert_eq!(hub.lock().events.len(), 1);
    }
}
