//! 1,000 jobs queued at once on 50 agents, each with a worker process of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use dayfly_emulator::runs::RunEvent;
use dayfly_protocol::TaskResult;

use crate::machine::{self, say};

const JOBS: usize = 1_000;
const JOBS_PER_STAGE: usize = 250;
const AGENTS: usize = 50;

pub(crate) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    machine::runtime()?.block_on(burst(folder.path()))
}

async fn burst(folder: &std::path::Path) -> anyhow::Result<()> {
    let emulator = machine::emulator(folder).await?;
    let set = machine::agents(emulator.url(), AGENTS, folder).await?;
    // A stage may hold 256 jobs, so the jobs are spread over stages which wait for nothing.
    let mut yaml = String::from("stages:\n");
    for stage in 0..JOBS / JOBS_PER_STAGE {
        let _ = writeln!(yaml, "- stage: s{stage}\n  dependsOn: []\n  jobs:");
        for job in 0..JOBS_PER_STAGE {
            let _ = writeln!(
                yaml,
                "  - job: j{job}\n    steps: [{{ checkout: none }}, {{ bash: echo ran $SYSTEM_JOBID }}]"
            );
        }
    }
    let plan = machine::plan(&yaml)?;
    let mut events = emulator.run_events();
    let begun = Instant::now();
    emulator.queue_run(machine::request(&plan, folder)).await?;
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    let mut succeeded = 0;
    while let Some(event) = events.next().await {
        match event {
            RunEvent::Lines { lines, .. } => {
                for id in lines.iter().filter_map(|line| line.strip_prefix("ran ")) {
                    *ran.entry(id.to_owned()).or_default() += 1;
                }
            }
            RunEvent::JobCompleted { result: TaskResult::Succeeded, .. } => succeeded += 1,
            RunEvent::RunCompleted { .. } => break,
            _ => {}
        }
    }
    let took = begun.elapsed();
    let once = ran.values().filter(|times| **times == 1).count();
    say(&format!(
        "{JOBS} jobs on {AGENTS} agents: {:.1} s, {:.0} jobs/s; {succeeded} succeeded, {once} ran exactly once",
        took.as_secs_f64(),
        JOBS as f64 / took.as_secs_f64()
    ));
    set.drain();
    set.wait().await;
    emulator.stop().await;
    Ok(())
}
