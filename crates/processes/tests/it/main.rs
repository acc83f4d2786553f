//! Tests with real processes.

mod kill;
mod orphans;

use std::time::{Duration, Instant};

/// Far longer than anything here takes; a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);

fn is_alive(id: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

fn wait_until_gone(id: i32) {
    let limit = Instant::now() + PATIENCE;
    while is_alive(id) {
        assert!(Instant::now() < limit, "process {id} is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}
