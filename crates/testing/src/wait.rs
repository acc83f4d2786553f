//! Waiting for what comes, and not for ever.

use std::time::Duration;

/// Far longer than anything takes that is waited for; a bound, not a measure. The longest is a session that
/// its listener did not come to record before it was killed: the service keeps it for five minutes.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What a future comes to, within [`PATIENCE`].
pub async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("in vain was waited until {what}"),
    }
}

/// Waits until something is there.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    bounded(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}
