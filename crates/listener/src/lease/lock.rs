//! The lock on a job request, which the lease holds by renewing it.

use std::time::Duration;

use dayfly_client::{ErrorKind, describe};
use dayfly_protocol::job_request::TaskAgentJobRequest;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Event, Lease, LeaseEnd, Stage,
    cancellation::StopReason,
    renewal::{Attempt, Next},
};
use crate::{
    failures::CallFailure,
    service::{Meaning, meaning},
};

/// What the service says of a request that is ours.
pub(super) struct Held {
    /// Until when the lock holds, if it says so.
    until: Option<Timestamp>,
    /// How long the job was in its queue, by its own clock.
    queued: Option<Duration>,
}

impl Held {
    fn of(request: &TaskAgentJobRequest) -> Self {
        let taken = request.assign_time.or(request.receive_time);
        let queued = taken.zip(request.queue_time).map(|(taken, queued)| taken.0.duration_since(queued.0));
        Self {
            until: request.locked_until.map(|until| until.0),
            queued: queued.and_then(|queued| Duration::try_from(queued).ok()),
        }
    }
}

impl Lease {
    pub(super) fn renew_at(&mut self, at: Instant) {
        self.work.push(Box::pin(async move {
            sleep_until(at).await;
            Event::RenewalDue
        }));
    }

    pub(super) fn start_renewal(&mut self) {
        self.is_renewing = true;
        let (service, request, limit) =
            (self.agent.service.clone(), self.label.request, self.agent.set.timings.call);
        self.work.push(Box::pin(async move {
            let answer = match timeout(limit, service.renew(request)).await {
                Ok(Ok(request)) => Ok(Held::of(&request)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(CallFailure::Late),
            };
            Event::Renewed(answer)
        }));
    }

    pub(super) fn renewed(&mut self, answer: Result<Held, CallFailure>) -> Option<LeaseEnd> {
        self.is_renewing = false;
        let was_held = self.renewal.is_held();
        let attempt = match &answer {
            Ok(held) => {
                self.queued = held.queued;
                Attempt::Renewed { valid_for: held.until.map(|until| valid_for(until, Timestamp::now())) }
            }
            Err(failure) => failed(failure, was_held),
        };
        if let Err(failure) = &answer {
            let error = describe(failure);
            let is_gone = was_held && attempt == Attempt::Refused;
            if is_gone || self.renewal.has_failed() {
                tracing::debug!(request = %self.label.request, error, "could not renew a job's lock");
            } else {
                tracing::warn!(request = %self.label.request, error, "could not renew a job's lock");
            }
        }
        if let Attempt::Renewed { valid_for: Some(valid_for) } = attempt {
            self.lock = valid_for;
        }
        match self.renewal.after(attempt, Instant::now(), &self.agent.set.timings) {
            Next::At(_) if !self.renewal.is_held() && self.is_shutting_down() => {
                return Some(self.not_taken(true));
            }
            Next::At(at) => self.renew_at(at),
            Next::Lost => return self.lock_lost(attempt == Attempt::Refused),
        }
        if !was_held && self.renewal.is_held() {
            self.stage = Stage::Recording;
            self.record();
        }
        None
    }

    pub(super) fn lock_lost(&mut self, is_refused: bool) -> Option<LeaseEnd> {
        match self.stage {
            Stage::Taking => return Some(self.not_taken(!is_refused)),
            // The worker's own report may have ended the job a moment ago; its exit, or the report's answer,
            // tells.
            Stage::Reporting => {}
            Stage::Recording | Stage::Deleting | Stage::Open => {
                if self.is_resumed && is_refused {
                    tracing::info!(request = %self.label.request, "a job that was taken up again is over");
                } else if is_refused && self.stage == Stage::Open {
                    // A worker that reports by itself ends a while after its job: it removes folders first.
                    // Whether the job was taken from it is known when it ends.
                    self.is_loss_untold = true;
                } else {
                    self.warn_of_loss();
                }
                self.cancel(StopReason::LockLost, self.agent.set.timings.zombie_grace);
            }
        }
        None
    }

    pub(super) fn warn_of_loss(&self) {
        let name = &self.label.name;
        self.warn(format!("the lock on job `{name}` was lost, so the job is cancelled here"));
    }
}

/// What a failed renewal means. A refusal is final as long as the job is not in our hands: trying again would
/// change nothing.
fn failed(failure: &CallFailure, was_held: bool) -> Attempt {
    let CallFailure::Service(error) = failure else { return Attempt::Failed { retry_after: None } };
    let is_refusal = matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::NotFound);
    if matches!(meaning(error), Meaning::JobGone) || (is_refusal && !was_held) {
        return Attempt::Refused;
    }
    Attempt::Failed { retry_after: error.retry_after() }
}

/// How long the lock still holds. Service and machine may disagree about the time; a lock in the past is not
/// believed to be already lost.
fn valid_for(locked_until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(locked_until.duration_since(now)).unwrap_or_default()
}
