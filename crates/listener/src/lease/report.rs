//! Brings a job's result to the service, once: the last duty of a lease.
//!
//! With plans from version 8 on the worker reports by itself, and the listener steps in only when it did not.
//! Whether it did may be unknown (it died while reporting, or our own report got no answer): then the service
//! is asked before anything is said. The worker's way, with the job's token, is the listener's first choice;
//! if that token is refused although the job goes on, the agent's own is the second.

use std::sync::Arc;

use dayfly_client::{describe, pause_around};
use dayfly_protocol::{TaskResult, job::AgentJobRequestMessage, plan::WORKER_REPORTS_FROM_VERSION};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    failures::CallFailure,
    service::{AgentService, JobService, Meaning, meaning},
    store::{Reported, Verdict},
    timings::Timings,
};

/// How the service came to know.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// It has a result: ours, the worker's, or one of its own.
    Known(TaskResult),
    /// Nobody waits for a result any more, and the service does not say which one it has.
    Gone,
    /// It could not be told; its lock runs out, and the service ends the job by itself.
    Failed(CallFailure),
}

/// Everything needed to report on one job.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) agent: AgentService,
    pub(crate) job: Option<JobService>,
    pub(crate) message: Arc<AgentJobRequestMessage>,
    pub(crate) timings: Timings,
}

impl Report {
    /// Delivers a verdict; tries again until the limit of [`Timings::report_limit`].
    pub(crate) async fn deliver(self, verdict: Verdict) -> Delivery {
        if self.worker_reports() && verdict.reported == Reported::Yes {
            return Delivery::Known(verdict.result);
        }
        let Some(job) = self.job.as_ref() else {
            return Delivery::Failed(CallFailure::NoToken);
        };
        let limit = Instant::now() + self.timings.report_limit;
        let mut must_ask = verdict.reported != Reported::No;
        let told = Some(verdict.result).filter(|_| must_ask && verdict.reason.is_none());
        let mut reason = verdict.reason;
        let mut token_is_void = false;
        loop {
            let step = self.step(job, verdict.result, must_ask, &mut reason, &mut token_is_void);
            let failure = match step.await {
                Ok(Delivery::Gone) => return self.became(told).await,
                Ok(delivery) => return delivery,
                Err(failure) => failure,
            };
            // The report may have arrived though its answer did not.
            must_ask = true;
            if Instant::now() >= limit {
                return Delivery::Failed(failure);
            }
            tracing::info!(
                request = %self.message.request_id,
                error = describe(&failure),
                "could not report a job's result, trying again"
            );
            sleep(pause_around(self.timings.report_pause)).await;
        }
    }

    /// One try to deliver `result`. Each call has its own bound: a timeline that does not answer must not
    /// take the result's time.
    async fn step(
        &self,
        job: &JobService,
        result: TaskResult,
        must_ask: bool,
        reason: &mut Option<String>,
        token_is_void: &mut bool,
    ) -> Result<Delivery, CallFailure> {
        if must_ask && let Some(delivery) = self.in_time(self.ask()).await? {
            return Ok(delivery);
        }
        // The result matters more than its reason: one try, and on with it.
        if let Some(text) = reason.take()
            && let Err(error) = self.in_time(async { Ok(job.add_error(text).await?) }).await
        {
            let error = describe(&error);
            tracing::warn!(error, "could not write the reason of a job's end to its record");
        }
        self.in_time(async {
            if !self.worker_reports() || *token_is_void {
                let answer = self.agent.finish(self.message.request_id, result).await;
                return self.judge(answer, result);
            }
            match job.complete(result).await {
                // The job's token is void from the end of the job on, but perhaps not only then.
                Err(error) if matches!(meaning(&error), Meaning::Never | Meaning::Revoked) => {
                    *token_is_void = true;
                    Err(error.into())
                }
                answer => self.judge(answer, result),
            }
        })
        .await
    }

    fn worker_reports(&self) -> bool {
        self.message.plan.version >= WORKER_REPORTS_FROM_VERSION
    }

    /// What became of a job that is not ours any more. Nothing is reported.
    pub(crate) async fn look_up(self) -> Delivery {
        self.became(None).await
    }

    /// Bounds one call.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, CallFailure>>) -> Result<T, CallFailure> {
        timeout(self.timings.call, call).await.unwrap_or(Err(CallFailure::Late))
    }

    /// What became of a job that is over. An earlier report may have ended it, whose answer was lost: then
    /// its result is known. `told` is what the worker was about to report.
    async fn became(&self, told: Option<TaskResult>) -> Delivery {
        match self.in_time(self.ask()).await {
            Ok(Some(Delivery::Gone) | None) | Err(_) => told.map_or(Delivery::Gone, Delivery::Known),
            Ok(Some(delivery)) => delivery,
        }
    }

    /// Asks the service for the job's result.
    async fn ask(&self) -> Result<Option<Delivery>, CallFailure> {
        match self.agent.request(self.message.request_id).await {
            Ok(request) => Ok(request.result.map(Delivery::Known)),
            Err(error) => match meaning(&error) {
                Meaning::JobGone | Meaning::Missing => Ok(Some(Delivery::Gone)),
                // The agent may not ask any more, but the job's own token may still report.
                Meaning::AgentGone | Meaning::Revoked | Meaning::Never => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    fn judge(&self, answer: dayfly_client::Result<()>, result: TaskResult) -> Result<Delivery, CallFailure> {
        match answer {
            Ok(()) => Ok(Delivery::Known(result)),
            Err(error) => match meaning(&error) {
                // The plan or the job is gone, or the agent may not say any more what became of it.
                Meaning::JobGone
                | Meaning::Missing
                | Meaning::Never
                | Meaning::Revoked
                | Meaning::AgentGone => {
                    tracing::info!(
                        request = %self.message.request_id, error = describe(&error),
                        "a job was over before its result was reported"
                    );
                    Ok(Delivery::Gone)
                }
                Meaning::Again | Meaning::SessionGone | Meaning::SessionHeld => Err(error.into()),
            },
        }
    }
}
