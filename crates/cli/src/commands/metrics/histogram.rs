//! How long things took, for Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

/// The upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 12] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// Counts of durations up to each bound.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Each duration counts in the first bucket that holds it.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    pub(super) fn observe(&mut self, took: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
        if let Some(place) = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound) {
            self.buckets[place] += 1;
        }
    }

    /// Adds its samples; `label` is one label with its value, or nothing.
    pub(super) fn write(&self, text: &mut String, name: &str, label: &str) {
        let comma = if label.is_empty() { "" } else { "," };
        let mut below = 0;
        // Writing to a string does not fail.
        for (bound, count) in BOUNDS.iter().zip(self.buckets) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {}", self.count);
        let braces = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        let _ = writeln!(text, "{name}_sum{braces} {}", self.sum.as_secs_f64());
        let _ = writeln!(text, "{name}_count{braces} {}", self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_all_that_is_below_their_bound() {
        let mut histogram = Histogram::default();
        for milliseconds in [250, 700, 4_000, 7_200_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x_seconds", "stage=\"created\"");
        for line in [
            "x_seconds_bucket{stage=\"created\",le=\"0.25\"} 1",
            "x_seconds_bucket{stage=\"created\",le=\"1\"} 2",
            "x_seconds_bucket{stage=\"created\",le=\"3600\"} 3",
            "x_seconds_bucket{stage=\"created\",le=\"+Inf\"} 4",
            "x_seconds_sum{stage=\"created\"} 7204.95",
            "x_seconds_count{stage=\"created\"} 4",
        ] {
            assert!(text.lines().any(|known| known == line), "no {line} in {text}");
        }
    }
}
