//! Benchmarks of tasks in `dayfly run`: `cargo bench -p dayfly --bench tasks [-- NAME...]`.
//!
//! Each prints a figure, its ratio to the plain thing on the same machine, and the peak memory of the worker
//! and of `dayfly run`, which is the service at the same time. Nothing is asserted.

mod artifacts;
mod cache;
mod files;
mod node;
mod project;

/// A benchmark's name and what it does.
type Benchmark = (&'static str, fn() -> anyhow::Result<()>);

const BENCHMARKS: &[Benchmark] =
    &[("node", node::run), ("files", files::run), ("cache", cache::run), ("artifacts", artifacts::run)];

fn main() -> anyhow::Result<()> {
    // Cargo passes `--bench`; everything else names benchmarks.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for (name, run) in BENCHMARKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            project::say(&format!("== {name}"));
            run()?;
        }
    }
    Ok(())
}
