//! When an agent may call again: whatever its polls are answered with, it polls no more often in the long run
//! than one that waits in vain at a service that does not hold its polls. Only work is fetched at once.

use std::time::Duration;

use dayfly_client::{Backoff, RetryPolicy, random_pause};
use tokio::time::Instant;

use crate::timings::Timings;

/// How many messages that are no jobs may follow each other at once: a job has one or two cancellations, and
/// a few changes of pace by people who look on.
const NOTICES_AT_ONCE: u32 = 8;

/// The pace of one agent's calls.
#[derive(Debug, Default)]
pub(super) struct Pace {
    backoff: Backoff,
    not_before: Option<Instant>,
    /// When the notices so far would all have come if they had come evenly.
    notices_until: Option<Instant>,
}

impl Pace {
    /// When the next call may be made; at once when absent.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// The next call may be made now.
    pub(super) fn at_once(&mut self) {
        self.not_before = None;
    }

    /// The next call waits for this long.
    pub(super) fn after(&mut self, pause: Duration) {
        self.not_before = Some(Instant::now() + pause);
    }

    /// A poll brought work.
    pub(super) fn work(&mut self) {
        self.backoff.succeeded();
        self.at_once();
    }

    /// A poll brought nothing, after this time. The service holds polls for 50 s; one that does not hold them
    /// is asked as often as the official agent asks it (5 to 15 s, `MessageListener.cs`).
    pub(super) fn nothing(&mut self, took: Duration, timings: &Timings) {
        self.backoff.succeeded();
        let pause = random_pause(timings.empty_poll_pause, timings.empty_poll_pause * 3);
        self.after(pause.saturating_sub(took));
    }

    /// A poll brought a message that is no job. A few of them are taken one after the other, more of them one
    /// at a time.
    pub(super) fn notice(&mut self, timings: &Timings) {
        let (now, interval) = (Instant::now(), timings.empty_poll_pause * 2);
        let until = self.notices_until.map_or(now, |until| until.max(now)) + interval;
        self.notices_until = Some(until);
        self.after(until.saturating_duration_since(now + interval * NOTICES_AT_ONCE));
    }

    /// A call failed, or a poll brought something that is of no use. Returns the pause before the next one.
    pub(super) fn failed(&mut self, timings: &Timings, retry_after: Option<Duration>) -> Duration {
        let pause =
            self.backoff.after_failure(&RetryPolicy::endless(timings.retry_first, timings.retry_limit));
        let pause = pause.max(retry_after.unwrap_or_default());
        self.after(pause);
        pause
    }

    /// Something was lost that can be made anew at once: the first time. If it is lost again before a poll
    /// has done any good, it counts as a failure, and this returns false.
    pub(super) fn may_make_anew(&mut self) -> bool {
        let is_first = self.backoff.failures() == 0;
        if is_first {
            self.backoff.count();
            self.at_once();
        }
        is_first
    }

    /// Failures since a poll last did any good.
    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many polls an agent makes in ten minutes, if each is answered after `took` and `answered` says
    /// with what.
    async fn polls(took: Duration, mut answered: impl FnMut(&mut Pace, u32, &Timings)) -> u32 {
        let (timings, mut pace) = (Timings::default(), Pace::default());
        let end = Instant::now() + Duration::from_secs(600);
        let mut polls = 0;
        while Instant::now() < end {
            polls += 1;
            tokio::time::sleep(took).await;
            answered(&mut pace, polls, &timings);
            if let Some(at) = pace.not_before() {
                tokio::time::sleep_until(at).await;
            }
        }
        polls
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_makes_an_agent_poll_more_often_than_waiting_in_vain_does() {
        let quick = Duration::from_millis(2);
        // One every 5 to 15 s.
        let healthy = polls(quick, |pace, _, timings| pace.nothing(quick, timings)).await;
        assert!((40..=120).contains(&healthy), "{healthy}");
        let held = Duration::from_secs(50);
        assert_eq!(polls(held, |pace, _, timings| pace.nothing(held, timings)).await, 12);
        for short in [500, 2_000, 4_000, 14_000].map(Duration::from_millis) {
            let polls = polls(short, |pace, _, timings| pace.nothing(short, timings)).await;
            assert!(polls <= 120, "{polls} of {short:?}");
        }
        type Answer = fn(&mut Pace, u32, &Timings);
        let answers: [(&str, Answer); 6] = [
            ("failures", |pace, _, timings| {
                pace.failed(timings, None);
            }),
            ("failures with a pause of no time", |pace, _, timings| {
                pace.failed(timings, Some(Duration::ZERO));
            }),
            ("sessions that are lost at once", |pace, _, timings| {
                if !pace.may_make_anew() {
                    pace.failed(timings, None);
                }
            }),
            ("notices", |pace, _, timings| pace.notice(timings)),
            ("failures and notices in turn", |pace, number, timings| match number % 2 {
                0 => pace.notice(timings),
                _ => {
                    pace.failed(timings, None);
                }
            }),
            ("failures and empty answers in turn", |pace, number, timings| match number % 2 {
                0 => pace.nothing(Duration::from_millis(2), timings),
                _ => {
                    pace.failed(timings, None);
                }
            }),
        ];
        for (what, answer) in answers {
            let polls = polls(quick, answer).await;
            assert!(polls <= 120, "{polls} polls by {what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_and_a_few_notices_are_fetched_at_once() {
        let (timings, mut pace) = (Timings::default(), Pace::default());
        for _ in 0..NOTICES_AT_ONCE {
            pace.notice(&timings);
            assert!(pace.not_before().is_none_or(|at| at <= Instant::now()));
        }
        pace.notice(&timings);
        assert_eq!(pace.not_before(), Some(Instant::now() + timings.empty_poll_pause * 2));
        pace.work();
        assert_eq!(pace.not_before(), None);
        tokio::time::advance(timings.empty_poll_pause * 4).await;
        pace.notice(&timings);
        assert!(pace.not_before().is_none_or(|at| at <= Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_is_made_anew_at_once_but_not_twice() {
        let (timings, mut pace) = (Timings::default(), Pace::default());
        assert!(pace.may_make_anew());
        assert!(!pace.may_make_anew());
        pace.nothing(Duration::from_secs(50), &timings);
        assert!(pace.may_make_anew(), "a poll has done good since");
    }
}
