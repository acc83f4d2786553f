//! How long the end of a job's reports may take, which may become less while they end.

use std::future::pending;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The time [`super::Reporter::finish`] has; made of a [`Duration`] when nothing can shorten it.
#[derive(Debug, Clone)]
pub struct Deadline {
    patient: Duration,
    hurry: Option<(CancellationToken, Duration)>,
}

impl Deadline {
    /// `patient` as long as nobody is in a hurry; at most `hurried` from the moment that `hurry` is
    /// cancelled.
    pub fn hurried_by(hurry: CancellationToken, patient: Duration, hurried: Duration) -> Deadline {
        Deadline { patient, hurry: Some((hurry, hurried)) }
    }

    /// The time begins to run.
    pub(super) fn begin(self) -> Countdown {
        Countdown { deadline: self, begin: Instant::now(), hurried_at: OnceLock::new() }
    }
}

impl From<Duration> for Deadline {
    fn from(patient: Duration) -> Deadline {
        Deadline { patient, hurry: None }
    }
}

/// A deadline whose time runs.
pub(super) struct Countdown {
    deadline: Deadline,
    begin: Instant,
    hurried_at: OnceLock<Instant>,
}

impl Countdown {
    /// Waits until the part of the time is over which `part` makes of the whole.
    pub(super) async fn reached(&self, part: impl Fn(Duration) -> Duration) {
        let hurried = async {
            let Some((hurry, hurried)) = &self.deadline.hurry else { return pending().await };
            hurry.cancelled().await;
            let begin = *self.hurried_at.get_or_init(Instant::now);
            sleep_until(begin + part(*hurried)).await;
        };
        tokio::select! {
            () = sleep_until(self.begin + part(self.deadline.patient)) => {}
            () = hurried => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hurry_shortens_what_is_left_and_never_lengthens_it() {
        let hurry = CancellationToken::new();
        let seconds = Duration::from_secs;
        let deadline = Deadline::hurried_by(hurry.clone(), seconds(300), seconds(40));
        let (first, second) = (deadline.clone().begin(), deadline.begin());
        let begin = Instant::now();
        tokio::join!(first.reached(|all| all / 2), async {
            tokio::time::sleep(seconds(10)).await;
            hurry.cancel();
        });
        assert_eq!(begin.elapsed(), seconds(30), "half of forty seconds from the hurry on");
        first.reached(|all| all).await;
        assert_eq!(begin.elapsed(), seconds(50), "the rest of the same forty seconds");
        tokio::time::sleep(seconds(245)).await;
        second.reached(|all| all).await;
        assert_eq!(begin.elapsed(), seconds(300), "the patient end comes first");
    }
}
