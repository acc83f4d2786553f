//! The last part of a lease: what a worker's end means, and how the service comes to know it.

use dayfly_client::{describe, pause_around};
use dayfly_mask::Masker;
use dayfly_protocol::{LogId, TaskResult};
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Event, Lease, LeaseEnd, Stage,
    console::{Console, Writer},
};
use crate::{
    events::Event as SetEvent,
    executor::{Ending, WorkerExit},
    lease::cancellation::{Cancellation, StopReason},
    lease::report::{Delivery, Report},
    notes::{Note, Progress},
    store::{Change, Reported, Stage as Recorded, Verdict},
};

/// How often a job gets another place after the first. A job that was handed over never does.
const MOST_PLACES_AGAIN: u32 = 3;

impl Lease {
    pub(super) fn worker_ended(&mut self, exit: WorkerExit) {
        tracing::debug!(
            request = %self.label.request, ?exit.result, ?exit.reported, ?exit.ending,
            "a worker ended"
        );
        let exit = match self.place_again(exit) {
            Ok(()) => return,
            Err(exit) => exit,
        };
        match self.stage {
            Stage::Taking | Stage::Recording | Stage::Deleting => self.early_exit = Some(exit),
            // Its place was given up, or its result is on its way already.
            Stage::Reporting => {}
            Stage::Open => {
                let was_lost = self.cancellation.reason() == Some(StopReason::LockLost);
                if was_lost && exit.reported != Reported::Yes {
                    if self.is_loss_untold {
                        self.warn_of_loss();
                    }
                    return self.report_nothing();
                }
                let verdict = verdict(exit, &self.cancellation, &Masker::of_job(&self.job.message));
                self.deliver(verdict);
            }
        }
    }

    /// Plans another place in the stead of one whose worker ended before it had the job. Gives the exit back
    /// if there is to be no other: the job was handed over or is stopped, there were enough of them, or it
    /// would go the same way.
    fn place_again(&mut self, exit: WorkerExit) -> Result<(), WorkerExit> {
        let Ending::Ended(ending) = &exit.ending else { return Err(exit) };
        let is_wanted = self.stage != Stage::Reporting && self.cancellation.reason().is_none();
        if self.hand_over.is_taken() || !is_wanted || self.places_again == MOST_PLACES_AGAIN {
            return Err(exit);
        }
        self.places_again += 1;
        self.tell_progress(Progress::Noted(Note {
            word: "another-worker",
            text: format!(
                "The worker ended before it had the job: {ending}. Starting another one ({} of \
                 {MOST_PLACES_AGAIN}).",
                self.places_again
            ),
            advice: None,
            is_problem: false,
        }));
        let pause = pause_around(self.agent.set.timings.retry_first);
        self.work.push(Box::pin(async move {
            sleep(pause).await;
            Event::PlaceDue
        }));
        Ok(())
    }

    /// Makes another place, unless the job was stopped meanwhile.
    pub(super) fn place_if_wanted(&mut self) {
        if self.stage != Stage::Reporting && self.cancellation.reason().is_none() {
            self.place(None);
        }
    }

    /// No worker had the job when it was stopped, and none will.
    pub(super) fn called_back(&mut self, reason: StopReason) {
        match reason {
            StopReason::LockLost => self.report_nothing(),
            StopReason::Cancelled => self.report(TaskResult::Canceled, None),
            StopReason::AgentShutdown => {
                let text = "The agent was shut down before the job began.".to_owned();
                self.report(TaskResult::Canceled, Some(text));
            }
        }
    }

    pub(super) fn report(&mut self, result: TaskResult, reason: Option<String>) {
        self.deliver(Verdict { result, reported: Reported::No, reason });
    }

    /// The job is not ours any more: no result is reported. It may have one, from a worker that went on while
    /// there was no listener.
    fn report_nothing(&mut self) {
        self.stage = Stage::Reporting;
        let report = self.report_on_job();
        self.work.push(Box::pin(async move { Event::Delivered(report.look_up().await) }));
    }

    fn report_on_job(&self) -> Report {
        let set = &self.agent.set;
        Report {
            agent: self.agent.service.clone(),
            job: self.agent.service.job(&self.job.message, &set.server_url, set.is_once),
            message: self.job.message.clone(),
            timings: set.timings.clone(),
        }
    }

    /// Writes the verdict down, and then sends it.
    pub(super) fn deliver(&mut self, verdict: Verdict) {
        self.stage = Stage::Reporting;
        self.reason.clone_from(&verdict.reason);
        let (store, request) = (self.agent.set.store.clone(), self.label.request);
        self.work.push(Box::pin(async move {
            let change = Change::Stage(Recorded::Reporting(verdict.clone()));
            Event::VerdictRecorded(store.change(request, change).await, verdict)
        }));
    }

    /// Sends the verdict, after all that is still to be said: then the job's token is void.
    pub(super) fn send(&mut self, verdict: Verdict) {
        let mut writer = match std::mem::take(&mut self.console) {
            Console::Busy => {
                self.console = Console::Busy;
                self.waiting = Some(verdict);
                return;
            }
            Console::Idle(writer) => Some(writer),
            Console::Silent => None,
        };
        self.prepared.get_or_insert(verdict.result);
        if let Some(writer) = &mut writer {
            writer.take(&mut self.notes, self.prepared);
        }
        let report = self.report_on_job();
        self.work.push(Box::pin(async move {
            if let Some(writer) = writer {
                writer.write().await;
            }
            Event::Delivered(report.deliver(verdict).await)
        }));
    }

    // ---- what is said of how the worker is prepared ----

    /// Who says it, if the job's message holds what is needed for that.
    pub(super) fn writer(&self, log: Option<LogId>) -> Console {
        let set = &self.agent.set;
        let Some(job) = self.agent.service.job(&self.job.message, &set.server_url, set.is_once) else {
            return Console::Silent;
        };
        let id = (self.label.request, self.label.id);
        Console::Idle(Box::new(Writer::new(job, set.store.clone(), id, log, set.timings.call)))
    }

    fn note(&mut self, note: &Note) {
        self.notes.add(note, Timestamp::now());
        if matches!(self.console, Console::Silent) {
            self.console = self.writer(None);
        }
        self.tell();
    }

    /// Nothing more is to be said: the worker is there, or will not come.
    pub(super) fn is_prepared(&mut self, result: TaskResult) {
        self.prepared = Some(result);
        self.tell();
    }

    /// Says what is to be said, unless something is being said just now.
    fn tell(&mut self) {
        let mut writer = match std::mem::take(&mut self.console) {
            Console::Idle(writer) if writer.has_words(&self.notes, self.prepared) => writer,
            console => {
                self.console = console;
                return;
            }
        };
        self.console = Console::Busy;
        writer.take(&mut self.notes, self.prepared);
        self.work.push(Box::pin(async move { Event::Told(Box::new(writer.write().await)) }));
    }

    pub(super) fn told(&mut self, writer: Box<Writer>) {
        self.console = Console::Idle(writer);
        match self.waiting.take() {
            Some(verdict) => self.send(verdict),
            None => self.tell(),
        }
    }

    /// The service knows all it will know from us; so the job needs no record any more.
    pub(super) fn close(&mut self, delivery: Delivery) {
        let (store, request) = (self.agent.set.store.clone(), self.label.request);
        self.work.push(Box::pin(async move {
            if let Err(error) = store.close(request).await {
                let error = describe(&error);
                tracing::warn!(%request, error, "could not remove the record of a job that is over");
            }
            Event::Closed(delivery)
        }));
    }

    pub(super) fn finish(&mut self, delivery: Delivery) -> LeaseEnd {
        // The service abandons a job whose lock runs out; one that changed hands may have ended before.
        let abandoned = (!self.is_resumed).then_some(TaskResult::Abandoned);
        let was_lost = self.cancellation.reason() == Some(StopReason::LockLost);
        let (result, reason) = match delivery {
            Delivery::Known(result) => (Some(result), self.reason.take()),
            Delivery::Gone => (abandoned.filter(|_| was_lost), self.reason.take()),
            Delivery::Failed(failure) => {
                let (name, failure) = (&self.label.name, describe(&failure));
                self.warn(format!(
                    "could not report the result of job `{name}`; the service will end it when its lock \
                     expires: {failure}"
                ));
                (abandoned, Some(failure))
            }
        };
        self.agent.set.events.send(SetEvent::JobFinished {
            agent: self.agent.name.clone(),
            job: self.label.clone(),
            result,
            reason,
        });
        LeaseEnd::Finished
    }

    /// Lets go of the job. Nothing is told to anybody, and nothing killed that can go on without us.
    pub(super) fn released(&mut self) -> LeaseEnd {
        tracing::info!(request = %self.label.request, "a job was let go");
        self.running = None;
        LeaseEnd::Released
    }

    pub(super) fn tell_progress(&mut self, progress: Progress) {
        let (agent, job) = (self.agent.name.clone(), self.label.clone());
        let event = match progress {
            Progress::Claimed => {
                self.is_prepared(TaskResult::Succeeded);
                SetEvent::JobStarted { agent, job }
            }
            Progress::Step(step) => SetEvent::StepStarted { agent, job, step },
            Progress::Warning(message) => {
                SetEvent::Warning { agent, message: format!("job `{}`: {message}", self.label.name) }
            }
            Progress::ContainerLost(lost) => {
                if let Some(running) = &self.running {
                    running.lose(lost);
                }
                return;
            }
            Progress::Noted(note) => {
                // The log is the worker's once it has the job.
                match &self.running {
                    Some(running) if self.hand_over.is_taken() => running.remark(&note),
                    _ if self.prepared.is_none() => self.note(&note),
                    _ => {}
                }
                SetEvent::Noted { agent, job, note }
            }
        };
        self.agent.set.events.send(event);
    }

    pub(super) fn warn(&self, message: String) {
        self.agent.warn(message);
    }
}

/// What a worker's end means for its job.
fn verdict(exit: WorkerExit, cancellation: &Cancellation, masker: &Masker) -> Verdict {
    if let Some(result) = exit.result {
        return Verdict { result, reported: exit.reported, reason: None };
    }
    let last_lines = || {
        let lines = exit.last_lines.iter().map(|line| masker.mask(line)).collect::<Vec<_>>().join("\n");
        if lines.is_empty() { lines } else { format!(" The last it said:\n{lines}") }
    };
    let ending = match &exit.ending {
        Ending::NotStarted(why) => {
            let reason = format!("Could not start the worker of this job: {why}{}", last_lines());
            return Verdict { result: TaskResult::Failed, reported: Reported::No, reason: Some(reason) };
        }
        Ending::Ended(ending) => ending,
    };
    let (result, mut reason) = match (cancellation.reason(), cancellation.is_killed()) {
        (Some(StopReason::AgentShutdown), true) => {
            (TaskResult::Canceled, "The agent was shut down, and the job did not end in time.".to_owned())
        }
        (Some(_), true) => {
            (TaskResult::Canceled, "The job was cancelled, and did not end in time.".to_owned())
        }
        (Some(_), false) => {
            (TaskResult::Canceled, format!("The job was cancelled, and its worker died: {ending}."))
        }
        (None, _) => (TaskResult::Failed, format!("The worker of this job died: {ending}.")),
    };
    if !cancellation.is_killed() {
        reason.push_str(&last_lines());
    }
    // The word that it reports may have been lost with the worker, so the service is asked in any case.
    Verdict { result, reported: Reported::Perhaps, reason: Some(reason) }
}
