//! What is told of an outage: its beginning, ever more seldom that it goes on, and its end. The log has every failure.

use std::time::Duration;

use tokio::time::Instant;

/// The first reminder comes after this; each later one when the outage has lasted twice as long.
const FIRST_REMINDER: Duration = Duration::from_secs(60);

/// An outage that goes on.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    remind_at: Instant,
}

impl Outage {
    /// It begins, and is told.
    pub(crate) fn begin(now: Instant) -> Self {
        Self { since: now, remind_at: now + FIRST_REMINDER }
    }

    /// How long it has lasted, if it is time to say so again.
    pub(crate) fn reminder(&mut self, now: Instant) -> Option<Duration> {
        let away = now.saturating_duration_since(self.since);
        (now >= self.remind_at).then(|| {
            self.remind_at = now + away;
            away
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reminders_become_rare() {
        let start = Instant::now();
        let mut outage = Outage::begin(start);
        let told: Vec<u64> = (1..=7200)
            .filter_map(|second| outage.reminder(start + Duration::from_secs(second)))
            .map(|away| away.as_secs())
            .collect();
        assert_eq!(told, [60, 120, 240, 480, 960, 1920, 3840]);
    }
}
