//! From a queued run to its first step's process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dayfly_emulator::runs::RunEvent;

use crate::machine::{self, say};
use crate::{milliseconds, percentile};

const RUNS: usize = 200;

pub(crate) fn run() -> anyhow::Result<()> {
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_dayfly"))?.len();
    say(&format!("size of the binary (bench profile): {:.1} MiB", binary as f64 / 1024.0 / 1024.0));
    let folder = tempfile::tempdir()?;
    let bare = machine::bare_process(folder.path())?;
    say(&format!("bare bash process, started and ended: p50 {}", milliseconds(bare)));
    worker_start(bare)?;
    machine::runtime()?.block_on(queued_to_first_step(folder.path(), bare))
}

/// From starting the worker's process to its first word on the job channel.
fn worker_start(bare: Duration) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = worker.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        samples.push(begun.elapsed());
        anyhow::ensure!(line.contains("ready"), "the worker said {line:?}");
        worker.kill()?;
        worker.wait()?;
    }
    let p50 = percentile(&mut samples, 0.5);
    say(&format!(
        "worker started and ready: p50 {}, {:.1} x a bare process",
        milliseconds(p50),
        p50.as_secs_f64() / bare.as_secs_f64()
    ));
    Ok(())
}

async fn queued_to_first_step(folder: &std::path::Path, bare: Duration) -> anyhow::Result<()> {
    let emulator = machine::emulator(folder).await?;
    let set = machine::agents(emulator.url(), 1, folder).await?;
    let plan = machine::plan("steps:\n- checkout: none\n- bash: echo \"at $EPOCHREALTIME\"\n")?;
    let mut events = emulator.run_events();
    let mut samples = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..RUNS {
        let queued = machine::now();
        emulator.queue_run(machine::request(&plan, folder)).await?;
        while let Some(event) = events.next().await {
            match event {
                RunEvent::Lines { lines, .. } => {
                    let moments = lines.iter().filter_map(|line| machine::moment(line));
                    samples.extend(moments.map(|at| at.saturating_sub(queued)));
                }
                RunEvent::RunCompleted { .. } => break,
                _ => {}
            }
        }
        whole.push(machine::now().saturating_sub(queued));
    }
    anyhow::ensure!(samples.len() == RUNS, "{} of {RUNS} steps said when they began", samples.len());
    let (p50, p99) = (percentile(&mut samples, 0.5), percentile(&mut samples, 0.99));
    say(&format!(
        "queued -> first step's process: p50 {}, p99 {}, p50 is {:.1} x a bare process",
        milliseconds(p50),
        milliseconds(p99),
        p50.as_secs_f64() / bare.as_secs_f64()
    ));
    say(&format!(
        "queued -> run completed (one step): p50 {}, p99 {}",
        milliseconds(percentile(&mut whole, 0.5)),
        milliseconds(percentile(&mut whole, 0.99))
    ));
    set.drain();
    set.wait().await;
    emulator.stop().await;
    Ok(())
}
