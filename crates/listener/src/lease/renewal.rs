//! When a job's lock is renewed, and when it is lost: pure decisions over values and `now`, after
//! `JobDispatcher.RenewJobRequestAsync`.

use std::time::Duration;

use dayfly_client::random_pause;
use tokio::time::Instant;

use crate::timings::Timings;

/// What a try to renew the lock came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The service renewed the lock; it holds for this much longer, when the service said so.
    Renewed { valid_for: Option<Duration> },
    /// The call failed, but may succeed later (not before `retry_after`, when the service said so).
    Failed { retry_after: Option<Duration> },
    /// The service no longer knows the job, or no longer lets us have it.
    Refused,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Renew again at this moment.
    At(Instant),
    /// The lock is lost: the job is no longer ours.
    Lost,
}

/// The renewals of one job's lock.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// When the lock runs out; `None` until the first renewal has succeeded.
    locked_until: Option<Instant>,
    failures: u32,
}

impl Renewal {
    /// No renewal has been tried yet.
    pub(crate) fn new() -> Self {
        Self { locked_until: None, failures: 0 }
    }

    /// The lock is ours since before our time. How long it holds is not known until it is renewed, so it is
    /// fought for from now on.
    pub(crate) fn resumed(now: Instant) -> Self {
        Self { locked_until: Some(now), failures: 0 }
    }

    /// True once a renewal has succeeded: only then may the worker start.
    pub(crate) fn is_held(&self) -> bool {
        self.locked_until.is_some()
    }

    /// True when the last try failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Takes in what a try came to and says what is next.
    pub(crate) fn after(&mut self, attempt: Attempt, now: Instant, timings: &Timings) -> Next {
        match attempt {
            Attempt::Refused => Next::Lost,
            Attempt::Renewed { valid_for } => {
                self.failures = 0;
                // A service that names no lock time is taken to hold the lock until the next renewal is due.
                let valid_for = valid_for.unwrap_or(timings.renew_interval);
                self.locked_until = Some(now + valid_for);
                // A lock shorter than twice our interval is renewed at half time, so that one failed try does
                // not lose it. The floor is for a service whose clock is behind ours: its locks seem to be
                // over at once.
                Next::At(now + (valid_for / 2).clamp(timings.renew_interval / 60, timings.renew_interval))
            }
            Attempt::Failed { retry_after } => {
                self.failures += 1;
                let pause = match self.locked_until {
                    None if self.failures > timings.first_renewal_retries => return Next::Lost,
                    None => random_pause(timings.first_renewal_pause / 10, timings.first_renewal_pause),
                    Some(_) if self.failures > 5 => {
                        random_pause(timings.renewal_pause * 3, timings.renewal_pause * 6)
                    }
                    Some(_) => random_pause(timings.renewal_pause, timings.renewal_pause * 3),
                };
                let next = now + pause.max(retry_after.unwrap_or_default());
                match self.locked_until {
                    Some(until) if now >= until + timings.renewal_grace => Next::Lost,
                    // The last try is made at the very end, not skipped because the pause reaches past it.
                    Some(until) => Next::At(next.min(until + timings.renewal_grace)),
                    None => Next::At(next),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Attempt = Attempt::Failed { retry_after: None };

    fn renewed(seconds: u64) -> Attempt {
        Attempt::Renewed { valid_for: Some(Duration::from_secs(seconds)) }
    }

    fn pause(next: Next, now: Instant) -> Duration {
        match next {
            Next::At(at) => at - now,
            Next::Lost => panic!("the lock is lost"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_lock_is_renewed_every_sixty_seconds() {
        let (mut renewal, timings, now) = (Renewal::new(), Timings::default(), Instant::now());
        assert!(!renewal.is_held());
        assert_eq!(pause(renewal.after(renewed(600), now, &timings), now), Duration::from_secs(60));
        assert!(renewal.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lock_is_renewed_at_half_time() {
        let (mut renewal, timings, now) = (Renewal::new(), Timings::default(), Instant::now());
        assert_eq!(pause(renewal.after(renewed(30), now, &timings), now), Duration::from_secs(15));
        // A lock time in the past must not make us spin.
        assert_eq!(pause(renewal.after(renewed(0), now, &timings), now), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_renewal_is_given_up_after_five_retries() {
        let (mut renewal, timings, now) = (Renewal::new(), Timings::default(), Instant::now());
        for _ in 0..5 {
            let pause = pause(renewal.after(FAILED, now, &timings), now);
            assert!(pause >= Duration::from_secs(1) && pause <= Duration::from_secs(10), "{pause:?}");
        }
        assert_eq!(renewal.after(FAILED, now, &timings), Next::Lost);
        assert!(!renewal.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_lock_is_fought_for_until_five_minutes_after_it_ran_out() {
        let (mut renewal, timings, start) = (Renewal::new(), Timings::default(), Instant::now());
        renewal.after(renewed(600), start, &timings);
        let end = start + Duration::from_secs(900);
        let (mut now, mut tries) = (start, 0);
        while let Next::At(at) = renewal.after(FAILED, now, &timings) {
            let pause = at - now;
            let longest = if tries < 5 { 15 } else { 30 };
            assert!(pause <= Duration::from_secs(longest), "pause {pause:?} after {tries} tries");
            now = at;
            tries += 1;
        }
        assert_eq!(now, end, "the last try is at the very end");
        assert!(tries > 25, "only {tries} tries");
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_in_between_starts_the_count_anew() {
        let (mut renewal, timings, now) = (Renewal::new(), Timings::default(), Instant::now());
        for _ in 0..20 {
            renewal.after(FAILED, now, &Timings { first_renewal_retries: 100, ..timings.clone() });
        }
        renewal.after(renewed(600), now, &timings);
        assert!(pause(renewal.after(FAILED, now, &timings), now) <= Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_it_at_once_and_retry_after_is_honoured() {
        let (mut renewal, timings, now) = (Renewal::new(), Timings::default(), Instant::now());
        renewal.after(renewed(600), now, &timings);
        let wait = Duration::from_secs(90);
        assert_eq!(
            pause(renewal.after(Attempt::Failed { retry_after: Some(wait) }, now, &timings), now),
            wait
        );
        assert_eq!(renewal.after(Attempt::Refused, now, &timings), Next::Lost);
    }
}
