//! A set at work: its listener takes jobs, its agents come and go as they are needed, and its status says so.

use std::{mem, time::Duration};

use dayfly_client::{Backoff, RetryPolicy, describe};
use dayfly_listener::{
    AgentEnd, AgentSet as Listener, Event, EventStream, NextEvent, Phase, Registrar, Wanted,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, OptionFuture},
};
use tokio::{
    sync::watch,
    time::{Instant, interval},
};

use super::{
    crew::Crew,
    roster::{Hired, Roster, chosen, hire},
    set::Set,
    status::Finding,
    template,
    trouble::Trouble,
};
use crate::{
    api::AgentSet,
    executor::PodExecutor,
    login::{LoginError, Way},
    ownership::Fence,
};

/// How soon it is looked again what a set needs.
const LOOK: Duration = Duration::from_secs(1);

/// How soon the cluster is asked again about pods that it refused.
const CHECK_AGAIN: Duration = Duration::from_secs(30);

/// How often it is looked whether the connection still says what the agents were started with.
const WAY: Duration = Duration::from_secs(30);

/// How many agents are registered one after the other before they come online.
const BATCH: usize = 20;

/// Pauses between two tries to register agents.
const RETRY: RetryPolicy = RetryPolicy::endless(Duration::from_secs(1), Duration::from_secs(60));

/// How the work of a set ended.
pub(super) enum Outcome {
    /// Its agents are done: it is deleted, or not ours any more.
    Ended,
    /// It was let go of, to go on with what the connection says now.
    Released,
    /// Its agents are done where they are registered, and are to be registered elsewhere.
    Moved,
}

/// What goes on while a set is ours.
pub(super) struct Shift<'a> {
    set: &'a mut Set,
    roster: &'a mut Roster,
    executor: PodExecutor,
    /// What the listener is to do.
    orders: watch::Sender<Wanted>,
    crew: Crew,
    hiring: Option<BoxFuture<'static, Hired>>,
    /// Why there are no more agents, when they are tried again, and how often that went wrong.
    trouble: Option<Finding>,
    not_before: Instant,
    backoff: Backoff,
    /// The pods that the cluster is being asked about, and since when.
    checking: Option<BoxFuture<'static, Option<Finding>>>,
    checked: Instant,
    /// How the agents reach the service, what the connection says of that now, and when it was looked.
    way: Way,
    looking: Option<BoxFuture<'static, Result<Way, LoginError>>>,
    looked: Instant,
    /// What the shift ends with, once its agents have.
    outcome: Outcome,
}

impl<'a> Shift<'a> {
    pub(super) fn new(
        set: &'a mut Set,
        roster: &'a mut Roster,
        executor: PodExecutor,
        orders: watch::Sender<Wanted>,
        way: Way,
    ) -> Self {
        let mut shift = Self {
            set,
            roster,
            executor,
            orders,
            crew: Crew::new(),
            hiring: None,
            trouble: None,
            not_before: Instant::now(),
            backoff: Backoff::default(),
            checking: None,
            checked: Instant::now(),
            way,
            looking: None,
            looked: Instant::now(),
            outcome: Outcome::Ended,
        };
        shift.check_template();
        shift
    }

    /// Goes on until the set is deleted or lost, its connection leads elsewhere, or the controller ends.
    pub(super) async fn work(
        mut self,
        listener: Listener,
        mut events: EventStream,
        fence: &Fence,
    ) -> Result<Outcome, Trouble> {
        let (stop, stopper) = (self.set.stop(), listener.stopper());
        let mut ending = std::pin::pin!(listener.wait());
        let mut look = interval(LOOK);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    stopper.release();
                }
                () = fence.lost(), if !is_stopping => {
                    is_stopping = true;
                    stopper.release();
                }
                summary = &mut ending => {
                    if !fence.is_held() {
                        return Err(Trouble::Lost);
                    }
                    if is_stopping || self.set.is_deleted() || matches!(self.outcome, Outcome::Moved) {
                        return Ok(self.outcome);
                    }
                    let failures: Vec<_> = summary.failures.iter().map(|(_, why)| why.as_str()).collect();
                    return Err(Trouble::Ended(failures.join("; ")));
                }
                event = events.next() => if let NextEvent::Event(event) = event {
                    self.note(&event).await?;
                },
                changed = self.set.changed() => self.take_change(changed),
                hired = OptionFuture::from(self.hiring.as_mut()), if self.hiring.is_some() => {
                    self.hiring = None;
                    if let Some(hired) = hired {
                        self.take_in(hired).await?;
                    }
                }
                found = OptionFuture::from(self.checking.as_mut()), if self.checking.is_some() => {
                    self.checking = None;
                    if let Some(Some(found)) = found {
                        self.set.template = Some(found);
                    }
                }
                found = OptionFuture::from(self.looking.as_mut()), if self.looking.is_some() => {
                    self.looking = None;
                    if let Some(Ok(way)) = found {
                        self.compare(&way);
                    }
                    if matches!(self.outcome, Outcome::Released) && !is_stopping {
                        is_stopping = true;
                        stopper.release();
                    }
                }
                _ = look.tick() => self.look().await,
            }
        }
    }

    /// Takes in what the listener tells.
    async fn note(&mut self, event: &Event) -> Result<(), Trouble> {
        self.crew.note(event, Instant::now());
        self.set.tell_watcher(event);
        log(self.set.name(), event);
        // Somebody took it out of the pool: it is registered anew.
        if let Event::Ended { agent, end: AgentEnd::Deleted | AgentEnd::Revoked } = event {
            self.roster.set.agents.retain(|registered| *registered.name != **agent);
            self.save_roster().await?;
        }
        Ok(())
    }

    async fn save_roster(&mut self) -> Result<(), Trouble> {
        let Roster { registrations, set, key, .. } = &*self.roster;
        Ok(registrations.register(set.clone(), key).await?)
    }

    /// The object of the set changed, or is gone.
    fn take_change(&mut self, is_there: bool) {
        self.executor.change(self.set.object().spec.clone());
        if !is_there || self.set.is_deleted() {
            self.orders.send_modify(|wanted| wanted.phase = Phase::Drain);
        }
        self.check_template();
    }

    /// What the connection says now beside what the agents were started with.
    fn compare(&mut self, way: &Way) {
        let is_elsewhere = way.url != self.way.url;
        if is_elsewhere {
            tracing::info!(set = self.set.name(), "the agents move to {} when their jobs are done", way.url);
            self.outcome = Outcome::Moved;
        } else if *way != self.way {
            tracing::info!(set = self.set.name(), "the agents take up new certificates or another proxy");
            self.outcome = Outcome::Released;
        }
    }

    /// Has the cluster asked whether it takes the pods that are made from now on.
    fn check_template(&mut self) {
        if !self.set.is_deleted() {
            let (client, namespace, name) = self.set.place();
            let (spec, facts) = (self.set.object().spec.clone(), self.executor.facts());
            self.checking = Some(template::check(client, namespace, name, spec, facts).boxed());
            self.checked = Instant::now();
        }
    }

    /// Agents were registered, or not.
    async fn take_in(&mut self, hired: Hired) -> Result<(), Trouble> {
        if !hired.agents.is_empty() {
            self.roster.set.agents.extend(hired.agents);
            self.save_roster().await?;
        }
        if !hired.foreign.is_empty() {
            let names = hired.foreign.join(", ");
            tracing::warn!(set = self.set.name(), "agents of others have these names: {names}");
            self.roster.foreign.extend(hired.foreign);
        }
        self.trouble = hired.trouble.map(|trouble| {
            let message = describe(&trouble);
            tracing::warn!(set = self.set.name(), "could not register agents: {message}");
            Finding::ready(false, trouble.reason(), message)
        });
        match self.trouble {
            Some(_) => self.not_before = Instant::now() + self.backoff.after_failure(&RETRY),
            None => self.backoff.succeeded(),
        }
        Ok(())
    }

    /// Brings as many agents online as are needed, and says how things are.
    async fn look(&mut self) {
        let (object, now) = (self.set.object(), Instant::now());
        let waiting = object.spec.max_pending_jobs.map(|most| (most, self.crew.stuck(now)));
        let is_full = waiting.is_some_and(|(most, waiting)| waiting >= usize::from(most));
        let level = self.crew.wanted(&object.spec.agents, is_full, now);
        let phase = self.phase(&object);
        // It may be the cluster that was wrong: a new namespace has no service account for a moment.
        if self.is_invalid() && self.checking.is_none() && now - self.checked >= CHECK_AGAIN {
            self.check_template();
        }
        if self.looking.is_none() && now - self.looked >= WAY && matches!(self.outcome, Outcome::Ended) {
            self.looking = Some(self.set.look_for_way());
            self.looked = now;
        }
        let agents = chosen(&self.roster.set.agents, &self.crew, level);
        self.orders.send_if_modified(|wanted| {
            let now = Wanted { agents, phase };
            mem::replace(wanted, now.clone()) != now
        });
        if self.hiring.is_none() && phase == Phase::Run && now >= self.not_before {
            self.hiring = self.hire(&object, level).await;
        }
        let invalid = self.set.template.as_ref().filter(|found| !found.holds);
        let invalid = invalid.map(|found| Finding::ready(false, "TemplateInvalid", found.message.clone()));
        let full = waiting.filter(|_| is_full).map(|(_, waiting)| {
            let text = format!(
                "idle agents are offline until the cluster has room for the jobs that wait for it: {waiting}"
            );
            Finding::ready(true, "Full", text)
        });
        let found = invalid.or_else(|| self.trouble.clone()).or(full);
        let moving = matches!(self.outcome, Outcome::Moved) && !self.set.is_deleted();
        let moving = moving.then(|| {
            let text = "running jobs end, then the agents are registered where the connection leads now";
            Finding::ready(false, "Moving", text.to_owned())
        });
        let readiness = moving.or(found).unwrap_or_else(|| readiness(&self.crew, phase));
        let counts = [self.crew.online(), self.crew.running(), self.crew.pending()];
        self.set.report(counts, readiness).await;
    }

    fn is_invalid(&self) -> bool {
        self.set.template.as_ref().is_some_and(|found| !found.holds)
    }

    /// A set whose pods the cluster refuses takes no jobs, so that they stay in the queue instead of failing.
    fn phase(&self, object: &AgentSet) -> Phase {
        let is_leaving =
            object.metadata.deletion_timestamp.is_some() || matches!(self.outcome, Outcome::Moved);
        match (is_leaving, object.spec.paused || self.is_invalid()) {
            (true, _) => Phase::Drain,
            (false, true) => Phase::Pause,
            (false, false) => Phase::Run,
        }
    }

    /// Registers the next agents of a set that has fewer than it needs.
    async fn hire(&mut self, object: &AgentSet, level: usize) -> Option<BoxFuture<'static, Hired>> {
        let missing = level.saturating_sub(self.roster.set.agents.len()).min(BATCH);
        if missing == 0 {
            return None;
        }
        let prefix = object.spec.agents.name_prefix.as_deref().unwrap_or(self.set.name());
        let names = self.roster.free_names(prefix, missing);
        let registrar: Result<Registrar, Trouble> = self.set.registrar(object, self.roster).await;
        Some(async move { hire(registrar, names).await }.boxed())
    }
}

fn readiness(crew: &Crew, phase: Phase) -> Finding {
    let (is_ready, reason, message) = match (phase, crew.online()) {
        (Phase::Pause, _) => (false, "Paused", "the set is paused".to_owned()),
        (Phase::Drain, _) => {
            (false, "Deleting", "running jobs end, then the agents leave the pool".to_owned())
        }
        (_, 0) => (false, "Connecting", "no agent is online yet".to_owned()),
        (_, 1) => (true, "Online", "1 agent is online".to_owned()),
        (_, online) => (true, "Online", format!("{online} agents are online")),
    };
    Finding::ready(is_ready, reason, message)
}

/// The controller's own log, with what names the job.
fn log(set: &str, event: &Event) {
    match event {
        Event::JobAccepted { agent, job, .. } => {
            let (request, id) = (job.request, job.id);
            tracing::info!(set, %agent, %request, job = %id, "accepted the job {}", job.name);
        }
        Event::JobStarted { agent, job } => {
            tracing::info!(set, %agent, request = %job.request, job = %job.id, "the job {} runs", job.name);
        }
        Event::Noted { agent, job, note } => {
            tracing::info!(set, %agent, request = %job.request, word = note.word, "{}", note.text);
        }
        Event::JobFinished { agent, job, result, reason } => {
            let (request, id) = (job.request, job.id);
            tracing::info!(set, %agent, %request, job = %id, ?result, reason, "the job {} is over", job.name);
        }
        Event::Warning { agent, message } => tracing::warn!(set, %agent, "{message}"),
        Event::Ended { agent, end } => tracing::info!(set, %agent, ?end, "an agent has ended"),
        _ => {}
    }
}
