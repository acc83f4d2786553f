//! From a queued run to its first step's process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dayfly_emulator::runs::RunEvent;
use dayfly_listener::{Event, EventStream, NextEvent};

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

/// From starting the worker's process to its first frame on the job channel.
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
        anyhow::ensure!(line.contains("hello"), "the worker said {line:?}");
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
    let mut agent = set.events();
    let mut stages = Stages::default();
    for _ in 0..RUNS {
        let queued = machine::now();
        emulator.queue_run(machine::request(&plan, folder)).await?;
        let mut is_reported = false;
        while let Some(event) = events.next().await {
            let since = machine::now().saturating_sub(queued);
            match event {
                RunEvent::JobStarted { .. } => stages.taken.push(since),
                // The first record of a step: the job's own is made by the service.
                RunEvent::Record { record, .. }
                    if record.record_type.as_deref() == Some("Task") && !is_reported =>
                {
                    is_reported = true;
                    stages.reported.push(since);
                }
                RunEvent::Lines { lines, .. } => {
                    let moments = lines.iter().filter_map(|line| machine::moment(line));
                    stages.step.extend(moments.map(|at| at.saturating_sub(queued)));
                }
                RunEvent::RunCompleted { .. } => break,
                _ => {}
            }
        }
        stages.completed.push(machine::now().saturating_sub(queued));
        // Jobs come to an agent that waits for one.
        until_finished(&mut agent).await?;
        stages.waits_again.push(machine::now().saturating_sub(queued));
    }
    stages.say(bare)?;
    set.drain();
    set.wait().await;
    emulator.stop().await;
    Ok(())
}

async fn until_finished(agent: &mut EventStream) -> anyhow::Result<()> {
    loop {
        match agent.next().await {
            NextEvent::Event(Event::JobFinished { .. }) => return Ok(()),
            NextEvent::Event(_) | NextEvent::Missed(_) => {}
            NextEvent::Closed => anyhow::bail!("the agent ended before its job"),
        }
    }
}

/// Times since the run was queued, one for each run.
#[derive(Default)]
struct Stages {
    /// The agent has renewed the job's lock.
    taken: Vec<Duration>,
    /// The worker's first report has come.
    reported: Vec<Duration>,
    /// The first step's process runs.
    step: Vec<Duration>,
    /// The run has its result.
    completed: Vec<Duration>,
    /// The worker has ended, and what it left is cleared away.
    waits_again: Vec<Duration>,
}

impl Stages {
    fn say(mut self, bare: Duration) -> anyhow::Result<()> {
        let count = self.step.len();
        anyhow::ensure!(count == RUNS, "{count} of {RUNS} steps said when they began");
        let ratio = percentile(&mut self.step, 0.5).as_secs_f64() / bare.as_secs_f64();
        for (name, samples, note) in [
            ("job taken by its agent", &mut self.taken, String::new()),
            ("worker's first report", &mut self.reported, String::new()),
            ("first step's process", &mut self.step, format!(", p50 is {ratio:.1} x a bare process")),
            ("run completed (one step)", &mut self.completed, String::new()),
            ("agent waits again", &mut self.waits_again, String::new()),
        ] {
            let (p50, p99) = (percentile(samples, 0.5), percentile(samples, 0.99));
            say(&format!("queued -> {name}: p50 {}, p99 {}{note}", milliseconds(p50), milliseconds(p99)));
        }
        Ok(())
    }
}
