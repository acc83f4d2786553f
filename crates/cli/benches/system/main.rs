//! Benchmarks of the whole: `cargo bench -p dayfly --bench system [-- NAME...]`.
//!
//! Each prints a figure and, where there is something to compare with on the same machine, a ratio. Nothing
//! is asserted.

mod burst;
mod idle;
mod machine;
mod start;
mod steps;

use std::time::Duration;

/// A benchmark's name and what it does.
type Benchmark = (&'static str, fn() -> anyhow::Result<()>);

const BENCHMARKS: &[Benchmark] =
    &[("start", start::run), ("steps", steps::run), ("burst", burst::run), ("idle", idle::run)];

fn main() -> anyhow::Result<()> {
    // Cargo passes `--bench`; everything else names benchmarks.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for (name, run) in BENCHMARKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            machine::say(&format!("== {name}"));
            run()?;
        }
    }
    Ok(())
}

/// The value below which `part` (0 to 1) of the samples lie.
fn percentile(samples: &mut [Duration], part: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
