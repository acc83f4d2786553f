//! The steps by which a job is stopped, and when each is due: pure decisions, after
//! `JobDispatcher.WorkerDispatcher.Cancel`.
//!
//! The worker is asked to cancel at once, told to flush its logs shortly before the timeout, and killed a
//! while after it. The service and the operator may both ask; the earlier end wins, and no step is ever taken
//! twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::timings::Timings;

/// Longest timeout that is believed (`JobDispatcher.cs`: 35,790 minutes).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(35_790 * 60);

/// Who wants the job to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The service: somebody cancelled the run, or the job's time is over.
    Cancelled,
    /// The agent is being shut down.
    AgentShutdown,
    /// The lock on the job was lost: the service has given the job up.
    LockLost,
}

/// A step that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask the worker to cancel its job.
    Ask,
    /// Tell the worker to bring its logs to safety.
    FlushLogs,
    /// Kill the worker and all it has started.
    Kill,
}

/// The stopping of one job, from the first request for it to the kill.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    reason: Option<StopReason>,
    asked: bool,
    /// The end of the timeout, as the worker is told it.
    ends_at: Option<Instant>,
    flush_at: Option<Instant>,
    kill_at: Option<Instant>,
    killed: bool,
}

impl Cancellation {
    /// Why the job is being stopped, if it is.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason
    }

    /// How long the job has before its logs are flushed and it is killed, as the worker is told it.
    pub(crate) fn time_left(&self, now: Instant) -> Duration {
        self.ends_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// True once the kill was due.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed
    }

    /// A request of the service with its timeout, which is lengthened to the official minimum.
    pub(crate) fn request(&mut self, reason: StopReason, timeout: Duration, now: Instant, timings: &Timings) {
        let timeout = timeout.clamp(timings.cancel_minimum, LONGEST_TIMEOUT.max(timings.cancel_minimum));
        let ends_at = now + timeout;
        let flush_at = now + timeout.saturating_sub(timings.flush_before);
        self.schedule(reason, [flush_at, ends_at, ends_at + timings.kill_after]);
    }

    /// A hard deadline: the worker is killed at `kill_at` and told to flush its logs at half of the time
    /// left.
    pub(crate) fn deadline(&mut self, reason: StopReason, kill_at: Instant, now: Instant) {
        self.schedule(reason, [now + kill_at.saturating_duration_since(now) / 2, kill_at, kill_at]);
    }

    fn schedule(&mut self, reason: StopReason, [flush_at, ends_at, kill_at]: [Instant; 3]) {
        self.reason.get_or_insert(reason);
        if self.kill_at.is_none_or(|at| kill_at < at) {
            self.kill_at = Some(kill_at);
            self.ends_at = Some(ends_at);
            // A flush that was already due stays done.
            self.flush_at = self.flush_at.map(|at| at.min(flush_at)).or((!self.asked).then_some(flush_at));
        }
    }

    /// The next moment at which [`Cancellation::due`] has something; `None` when nothing is planned.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.killed { None } else { self.flush_at.or(self.kill_at) }
    }

    /// The step that is due at `now`, each once. `Ask` comes first, whatever the time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Step> {
        let kill_at = self.kill_at?;
        if !self.asked {
            self.asked = true;
            return Some(Step::Ask);
        }
        if !self.killed && now >= kill_at {
            self.killed = true;
            self.flush_at = None;
            return Some(Step::Kill);
        }
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush_at = None;
            return Some(Step::FlushLogs);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the ladder to its end and returns each step with its time in seconds.
    fn steps(cancellation: &mut Cancellation, start: Instant) -> Vec<(u64, Step)> {
        let (mut now, mut steps) = (start, Vec::new());
        loop {
            while let Some(step) = cancellation.due(now) {
                steps.push(((now - start).as_secs(), step));
            }
            match cancellation.next() {
                Some(next) => now = next,
                None => return steps,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn five_minutes_are_flushed_fifteen_seconds_before_and_killed_a_minute_after() {
        let (mut cancellation, now) = (Cancellation::default(), Instant::now());
        cancellation.request(StopReason::Cancelled, Duration::from_secs(300), now, &Timings::default());
        assert_eq!(
            steps(&mut cancellation, now),
            [(0, Step::Ask), (285, Step::FlushLogs), (360, Step::Kill)]
        );
        assert!(cancellation.is_killed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_gets_at_least_a_minute() {
        let (mut cancellation, now) = (Cancellation::default(), Instant::now());
        cancellation.request(StopReason::Cancelled, Duration::ZERO, now, &Timings::default());
        assert_eq!(steps(&mut cancellation, now), [(0, Step::Ask), (45, Step::FlushLogs), (120, Step::Kill)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_end_wins_and_the_first_reason_stays() {
        let (mut cancellation, now) = (Cancellation::default(), Instant::now());
        cancellation.request(StopReason::Cancelled, Duration::from_secs(300), now, &Timings::default());
        assert_eq!(cancellation.due(now), Some(Step::Ask));
        cancellation.deadline(StopReason::AgentShutdown, now + Duration::from_secs(20), now);
        cancellation.request(StopReason::LockLost, Duration::from_secs(600), now, &Timings::default());
        assert_eq!(steps(&mut cancellation, now), [(10, Step::FlushLogs), (20, Step::Kill)]);
        assert_eq!(cancellation.reason(), Some(StopReason::Cancelled));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_all_reason_does_not_overflow() {
        let (mut cancellation, now) = (Cancellation::default(), Instant::now());
        cancellation.request(StopReason::Cancelled, Duration::MAX, now, &Timings::default());
        assert_eq!(cancellation.due(now), Some(Step::Ask));
        assert_eq!(cancellation.next(), Some(now + LONGEST_TIMEOUT - Duration::from_secs(15)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_due_before_anybody_asked() {
        let mut cancellation = Cancellation::default();
        assert_eq!(cancellation.due(Instant::now()), None);
        assert_eq!(cancellation.next(), None);
    }
}
