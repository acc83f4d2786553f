//! Where the emulator takes the time from: the system's clock, or one that a test turns by hand.
//!
//! State never reads a clock: its functions take `now`. Only the edges (request handlers and the task which
//! ends what has expired) ask this type.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// The longest single sleep on the system clock, so that a step of the wall clock is noticed in time.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A source of time. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(watch::Sender<Timestamp>),
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock which stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(watch::Sender::new(start)))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Moves a manual clock forward by `by` and wakes everything that waited for a time now past. A system
    /// clock cannot be moved and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.send_modify(|now| *now = after(*now, by));
        }
    }

    /// Waits until the clock shows `deadline` or later. Safe to drop at any time.
    pub(crate) async fn sleep_until(&self, deadline: Timestamp) {
        match &self.0 {
            Source::System => loop {
                let Some(left) = until(Timestamp::now(), deadline) else { return };
                tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
            },
            Source::Manual(now) => {
                // The sender lives in `self`, so waiting cannot fail for a closed channel.
                let _ = now.subscribe().wait_for(|now| *now >= deadline).await;
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// `time` plus `by`, or the last representable time.
pub(crate) fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long it is from `now` to `deadline`; `None` when it has come.
fn until(now: Timestamp, deadline: Timestamp) -> Option<Duration> {
    Duration::try_from(deadline.duration_since(now)).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_sleepers_when_it_passes_their_deadline() {
        let start = Timestamp::UNIX_EPOCH;
        let clock = Clock::manual(start);
        let deadline = after(start, Duration::from_secs(60));
        let sleeper = clock.sleep_until(deadline);
        tokio::pin!(sleeper);
        clock.advance(Duration::from_secs(59));
        assert!(futures::poll!(sleeper.as_mut()).is_pending());
        clock.advance(Duration::from_secs(1));
        tokio::time::timeout(Duration::from_secs(10), sleeper).await.expect("the deadline has come");
        assert_eq!(clock.now(), deadline);
    }

    #[test]
    fn adding_beyond_the_end_of_time_stays_at_the_end() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }
}
