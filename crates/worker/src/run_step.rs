//! Runs one part of a step: condition, timeout, cancellation, retries, result (`StepsRunner.cs`).

use std::time::Duration;

use dayfly_client::describe;
use dayfly_mask::Masker;
use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::CancelReason;
use dayfly_protocol::timeline::{TimelineRecord, TimelineRecordState};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;

use crate::context::{JobContext, Pending, Said, StepContext, lock};
use crate::initialize::{Entry, set_step_variables, unset_step_variables};
use crate::steps::{self, StepError};

/// The most attempts beyond the first (`TaskRunner.cs`).
const MAX_RETRIES: i32 = 10;

/// Runs a part and merges its result into the job's.
pub(crate) async fn run(entry: &Entry) {
    let context = &entry.context;
    let job = &context.job;
    context.record.start();
    for warning in job.change_variables(crate::variables::Variables::recalculate) {
        context.warning(&warning).await;
    }
    // Looked at once: a cancellation that comes later is noticed while the part runs, and its condition asked
    // again.
    let was_cancelled = job.cancel.is_cancelled();
    if was_cancelled && job.result() != Some(TaskResult::Canceled) {
        job.set_result(TaskResult::Canceled);
    }
    context.debug(&format!("Evaluating condition for step: '{}'", entry.display_name)).await;
    match verdict(entry) {
        Ok((false, trace)) => {
            const SKIPPED: &str = "Skipping step due to condition evaluation.";
            context.output(SKIPPED).await;
            context.output(&trace).await;
            context.record.finish(TaskResult::Skipped, Some(SKIPPED.to_owned())).await;
            return;
        }
        Ok((true, trace)) => {
            context.debug(&trace).await;
            run_with_headers(entry, was_cancelled).await;
        }
        Err(message) => {
            context.error(&message).await;
            context.set_result(Some(TaskResult::Failed));
        }
    }
    let result = context.result().unwrap_or(TaskResult::Succeeded);
    finish_details(context);
    context.record.finish(result, context.result_code()).await;
    if matches!(result, TaskResult::SucceededWithIssues | TaskResult::Failed) {
        job.set_result(TaskResult::merge(job.result(), result));
    }
}

/// Whether the part runs, and why. Once the time is up nothing does.
fn verdict(entry: &Entry) -> Result<(bool, String), String> {
    let job = &entry.context.job;
    if job.must_stop() {
        return Ok((false, "The job is being stopped.".to_owned()));
    }
    entry.condition.evaluate(job).map(|verdict| (verdict.holds, verdict.trace))
}

async fn run_with_headers(entry: &Entry, was_cancelled: bool) {
    let context = &entry.context;
    context.section(&format!("Starting: {}", entry.display_name)).await;
    set_step_variables(entry);
    let outcome = supervise(entry, was_cancelled).await;
    unset_step_variables(&context.job);
    match outcome {
        Ok(()) => {}
        Err(Stopped::TimedOut) => {
            context.error("The task has timed out.").await;
            context.set_result(Some(TaskResult::Failed));
        }
        Err(Stopped::Canceled) => {
            context.error(&StepError::Canceled.to_string()).await;
            context.set_result(Some(TaskResult::Canceled));
        }
    }
    wait_for_pending(context).await;
    if let Some(of_commands) = context.command_result() {
        context.merge_result(of_commands);
    }
    if context.result() == Some(TaskResult::Failed) && entry.step.continue_on_error {
        context.set_result(Some(TaskResult::SucceededWithIssues));
    }
    context.section(&format!("Finishing: {}", entry.display_name)).await;
}

/// Why a part was stopped.
enum Stopped {
    TimedOut,
    Canceled,
}

/// Runs the attempts while it watches the step's time and the job's cancellation.
async fn supervise(entry: &Entry, was_cancelled: bool) -> Result<(), Stopped> {
    let context = &entry.context;
    let job = &context.job;
    let attempts = attempts(entry);
    tokio::pin!(attempts);
    let timeout = entry.timeout().unwrap_or(Duration::MAX);
    let timer = tokio::time::sleep(timeout);
    tokio::pin!(timer);
    // A job that was cancelled before the part began has been taken into account by its condition.
    let mut cancel_seen = was_cancelled;
    let mut flush_seen = false;
    let mut timed_out = false;
    // What there is to say is written beside the attempts: a full disk or a slow service must not keep a step
    // from being ended.
    let mut lines = FuturesOrdered::<BoxFuture<'_, ()>>::new();
    let outcome = loop {
        tokio::select! {
            outcome = &mut attempts => break outcome,
            Some(()) = lines.next() => {}
            () = &mut timer, if !timed_out && entry.timeout().is_some() => {
                timed_out = !context.cancel.is_cancelled();
                context.cancel.cancel();
            }
            () = job.cancel.cancelled(), if !cancel_seen => {
                cancel_seen = true;
                job.set_result(TaskResult::Canceled);
                let holds = holds_after_cancel(entry);
                if !matches!(holds, Ok(true)) {
                    context.cancel.cancel();
                }
                lines.push_back(Box::pin(tell_of_cancellation(entry, holds)));
            }
            () = job.flush.cancelled(), if !flush_seen => {
                flush_seen = true;
                context.cancel.cancel();
                lines.push_back(Box::pin(context.error("Step cancelled due to worker timeout")));
            }
        }
    };
    while lines.next().await.is_some() {}
    match outcome {
        Ok(()) => Ok(()),
        Err(()) if timed_out => Err(Stopped::TimedOut),
        Err(()) => Err(Stopped::Canceled),
    }
}

/// Whether the running part may go on now that the job is cancelled; the error is the condition's.
fn holds_after_cancel(entry: &Entry) -> Result<bool, String> {
    let job = &entry.context.job;
    if job.cancel_reason() == Some(CancelReason::LockLost) {
        return Ok(false);
    }
    entry.condition.evaluate(job).map(|verdict| verdict.holds)
}

async fn tell_of_cancellation(entry: &Entry, holds: Result<bool, String>) {
    let context = &entry.context;
    context
        .debug(&format!("Re-evaluate condition on job cancellation for step: '{}'.", entry.display_name))
        .await;
    if let Err(message) = &holds {
        context.error(message).await;
    }
    if !matches!(holds, Ok(true)) {
        context.error("The Operation will be canceled. The next steps may not contain expected logs.").await;
    }
}

/// Runs the part, again if it failed and may be retried. `Err` if it was stopped.
async fn attempts(entry: &Entry) -> Result<(), ()> {
    let context = &entry.context;
    let mut retries = entry.step.retry_count_on_task_failure;
    if retries > MAX_RETRIES {
        context
            .warning(&format!(
                "The maximum allowed number of attempts is {MAX_RETRIES} but got {retries}. Retry attempts \
                    count will be decreased to {MAX_RETRIES}."
            ))
            .await;
        retries = MAX_RETRIES;
    }
    if let Some(reason) = forbidden(entry) {
        context.set_result(Some(TaskResult::Skipped));
        context.set_result_code(&reason);
        context.output(&reason).await;
        return Ok(());
    }
    let mut attempt = 0;
    loop {
        match steps::run(context, &entry.step, entry.part).await {
            Ok(result) => context.merge_result(result),
            Err(StepError::Canceled) => return Err(()),
            Err(error) => {
                context.error(&error.to_string()).await;
                tracing::debug!(error = describe(&error), "a step failed");
                context.merge_result(TaskResult::Failed);
            }
        }
        if context.result() != Some(TaskResult::Failed) || attempt >= retries {
            return Ok(());
        }
        // One, four, nine, ... seconds (`RetryHelper.ExponentialDelay`).
        let pause = Duration::from_secs(u64::from((attempt + 1).unsigned_abs()).pow(2));
        attempt += 1;
        context.begin_anew();
        context
            .warning(&format!(
                "RetryHelper encountered task failure, will retry (attempt #: {attempt} out of {retries}) \
                    after {} ms",
                pause.as_millis()
            ))
            .await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.cancel.cancelled() => return Err(()),
        }
    }
}

/// Why a decorator's step must not run: inputs it took over from another step hold secrets
/// (`TaskDecoratorManager.cs`).
fn forbidden(entry: &Entry) -> Option<String> {
    const PREFIXES: [&str; 2] = ["__system_pretargettask_", "__system_posttargettask_"];
    let name = entry.step.name.as_deref()?.to_ascii_lowercase();
    if !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let job: &JobContext = &entry.context.job;
    let secret: Vec<&str> = entry
        .step
        .inputs
        .iter()
        .filter(|(name, value)| {
            name.to_ascii_lowercase().starts_with("target_")
                && is_masked(&job.masker, &steps::expand(job, value))
        })
        .map(|(name, _)| name.as_str())
        .collect();
    (!secret.is_empty()).then(|| {
        format!(
            "Task is trying to access the following inputs of a target task which contain secrets:\n{}\nIt \
                is not allowed to pass inputs that contain secrets to the tasks injected by decorators.",
            secret.join("\n")
        )
    })
}

fn is_masked(masker: &Masker, text: &str) -> bool {
    masker.mask(text) != text
}

/// Waits for what logging commands started, and writes what it has to say.
async fn wait_for_pending(context: &StepContext) {
    for Pending { name, work } in context.take_pending() {
        context.section(&format!("Async Command Start: {name}")).await;
        let outcome = tokio::select! {
            outcome = work => Some(outcome),
            () = context.job.flush.cancelled() => None,
        };
        let (said, failure) = match outcome {
            Some(Ok(Ok(said))) => (said, None),
            Some(Ok(Err(failure))) => (failure.said, Some((failure.message, TaskResult::Failed))),
            Some(Err(error)) => {
                (Vec::new(), Some((format!("{name} ended unexpectedly: {error}"), TaskResult::Failed)))
            }
            None => (Vec::new(), Some((StepError::Canceled.to_string(), TaskResult::Canceled))),
        };
        for said in &said {
            match said {
                Said::Line(line) => context.output(line).await,
                Said::Warning(warning) => context.warning(warning).await,
            }
        }
        context.section(&format!("Async Command End: {name}")).await;
        if let Some((message, result)) = failure {
            context.error(&message).await;
            context.fail_command(result);
        }
    }
}

/// Ends the records of the step's details which it left open.
fn finish_details(context: &StepContext) {
    let Some((timeline, records)) = lock(&context.details).open() else { return };
    for id in records {
        let record = TimelineRecord {
            id,
            state: Some(TimelineRecordState::Completed),
            percent_complete: Some(100),
            ..TimelineRecord::default()
        };
        context.job.reporter.detail(&context.record, timeline, record);
    }
}
