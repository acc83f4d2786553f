//! What is told of an outage: its beginning, ever more seldom that it goes on, and its end. The log has every
//! failure.

use std::time::Duration;

use tokio::time::Instant;

/// The first reminder comes after this; each later one when the outage has lasted twice as long.
const FIRST_REMINDER: Duration = Duration::from_secs(60);

/// An outage is over for good when nothing has failed for so long. What fails before belongs to it: a service
/// that comes and goes is not told each time.
const CALM: Duration = Duration::from_secs(120);

/// An outage.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    /// When the latest run of failures began.
    failing_since: Instant,
    remind_at: Instant,
    /// Whether the last that was told is that the service is away.
    is_told: bool,
    calm_since: Option<Instant>,
}

impl Outage {
    /// It begins, and is told.
    fn begin(now: Instant) -> Self {
        Self {
            since: now,
            failing_since: now,
            remind_at: now + FIRST_REMINDER,
            is_told: true,
            calm_since: None,
        }
    }

    /// Something failed. If that is to be told: for how long things have failed already.
    pub(crate) fn failed(outage: &mut Option<Self>, now: Instant) -> Option<Duration> {
        match outage {
            Some(outage) if !outage.is_over(now) => outage.goes_on(now),
            _ => {
                *outage = Some(Self::begin(now));
                Some(Duration::ZERO)
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.calm_since.is_some_and(|calm| now.saturating_duration_since(calm) >= CALM)
    }

    fn goes_on(&mut self, now: Instant) -> Option<Duration> {
        if self.calm_since.take().is_some() {
            self.failing_since = now;
        }
        let away = now.saturating_duration_since(self.failing_since);
        let is_news = !self.is_told && away >= FIRST_REMINDER;
        (is_news || now >= self.remind_at).then(|| {
            self.remind_at = now + now.saturating_duration_since(self.since).max(FIRST_REMINDER);
            self.is_told = true;
            away
        })
    }

    /// Something succeeded. Returns whether that is to be told.
    pub(crate) fn succeeded(&mut self, now: Instant) -> bool {
        self.calm_since.get_or_insert(now);
        std::mem::take(&mut self.is_told)
    }

    /// Whether it goes on without having been told.
    pub(crate) fn is_kept_quiet(&self) -> bool {
        self.calm_since.is_none() && !self.is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn reminders_become_rare() {
        let start = Instant::now();
        let mut outage = None;
        let told: Vec<u64> = (0..=7200)
            .filter_map(|second| Outage::failed(&mut outage, start + seconds(second)))
            .map(|away| away.as_secs())
            .collect();
        assert_eq!(told, [0, 60, 120, 240, 480, 960, 1920, 3840]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_comes_and_goes_is_told_ever_more_seldom() {
        let start = Instant::now();
        let mut outage = None;
        let mut told = Vec::new();
        for second in (0..7200).step_by(10) {
            if Outage::failed(&mut outage, start + seconds(second)).is_some() {
                told.push(("away", second));
            }
            if outage.as_mut().is_some_and(|outage| outage.succeeded(start + seconds(second + 5))) {
                told.push(("back", second + 5));
            }
        }
        let expected = [0, 60, 120, 240, 480, 960, 1920, 3840].map(|at| [("away", at), ("back", at + 5)]);
        assert_eq!(told, expected.concat());
        assert_eq!(
            Outage::failed(&mut outage, start + seconds(7195) + CALM),
            Some(Duration::ZERO),
            "a new one after a time of calm"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_stays_away_after_coming_and_going_is_told_in_time() {
        let start = Instant::now();
        let mut outage = None;
        for second in (0..1000).step_by(10) {
            Outage::failed(&mut outage, start + seconds(second));
            outage.as_mut().expect("it goes on").succeeded(start + seconds(second + 5));
        }
        let told: Vec<u64> = (1000..1200)
            .filter_map(|second| Outage::failed(&mut outage, start + seconds(second)))
            .map(|away| away.as_secs())
            .collect();
        assert_eq!(told, [60]);
    }
}
